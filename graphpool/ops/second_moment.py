"""Products of the matrices that the elements of each bag form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.blocks import Blocks, segment_blocks
from graphpool.ops.dispatch import choose
from graphpool.ops.inputs import align, check_elements, working
from graphpool.ops.moments import segment_mean
from graphpool.ops.primitives import gather_segments, sum_segments
from graphpool.ops.reference import sizes
from graphpool.segments import Segments


def segment_outer(x: Tensor, y: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    r"""Sum of outer products over each bag, :math:`\sum_{e \in s} w_e x_e y_e^\top`.

    Computed as one product of matrices per bag; outer products of single elements are never stored.

    Args:
        x: ``[E, P]``, floating point.
        y: ``[E, Q]``, floating point.
        segments: The bags.
        weight: Weight of each element ``[E]``.

    Returns:
        ``[S, P, Q]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Shapes do not fit.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
        >>> segment_outer(x, x, segments)
        tensor([[[2., 2.],
                 [2., 4.]]])
    """
    check_elements(x, segments, weight)
    check_elements(y, segments, name="y")
    if x.dim() != 2 or y.dim() != 2:
        raise ValueError(
            f"`x` and `y` must have two dimensions; got {tuple(x.shape)} and {tuple(y.shape)}."
        )
    # torch.compile cannot trace a function that is given one tensor twice.
    left, right = working(x), working(y.view_as(y))
    dtype = torch.promote_types(left.dtype, right.dtype)
    left = left.to(dtype) if weight is None else left.to(dtype) * align(weight.to(dtype), x)
    return _outer(left, right.to(dtype), segments).to(x.dtype)


def segment_matmul(x: Tensor, matrices: Tensor, segments: Segments) -> Tensor:
    r"""Multiplies each element by the matrix of its bag, :math:`y_e = x_e M_{s(e)}`.

    Args:
        x: ``[E, P]``, floating point.
        matrices: ``[S, P, Q]``, floating point.
        segments: The bags.

    Returns:
        ``[E, Q]`` in the dtype of ``x``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Shapes do not fit.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 1, 2]))
        >>> segment_matmul(torch.ones(2, 1), torch.tensor([[[3.0]], [[4.0]]]), segments)
        tensor([[3.],
                [4.]])
    """
    check_elements(x, segments)
    shape = (segments.num_segments, x.size(-1))
    if x.dim() != 2 or matrices.dim() != 3 or tuple(matrices.shape[:2]) != shape:
        raise ValueError(
            f"`matrices` must have shape ({shape[0]}, {shape[1]}, Q) for `x` of shape "
            f"{tuple(x.shape)}; got {tuple(matrices.shape)}."
        )
    left, right = working(x), working(matrices)
    dtype = torch.promote_types(left.dtype, right.dtype)
    return _matmul(left.to(dtype), right.to(dtype), segments).to(x.dtype)


def segment_second_moment(
    x: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    mean: bool = True,
    center: bool = False,
) -> Tensor:
    r"""Second moment of each bag, :math:`\frac{1}{n_s} \sum_{e \in s} x_e x_e^\top`.

    Args:
        x: Elements ``[E, C]``, floating point.
        segments: The bags.
        weight: Non-negative weight of each element ``[E]``.
        mean: Divide by the size of the bag, so that repeating the bag changes nothing.
        center: Subtract the mean of the bag first: the (biased) covariance.

    Returns:
        ``[S, C, C]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Shapes do not fit.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> x = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
        >>> segment_second_moment(x, segments, center=True)
        tensor([[[1., 1.],
                 [1., 1.]]])
    """
    check_elements(x, segments, weight)
    elements = working(x)
    w = None if weight is None else weight.to(elements.dtype)
    if center:
        # Twice: far from 0 the first mean is rounded by as much as the elements differ.
        for _ in range(2):
            elements = elements - gather_segments(segment_mean(elements, segments, w), segments)
    moment = segment_outer(elements, elements, segments, w)
    if mean:
        n = align(sizes(segments, w, elements.dtype), moment)
        moment = moment / torch.where(n == 0, 1, n)
    return moment.to(x.dtype)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Segments], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.segments = inputs[2]


def _by_column() -> bool:
    """Whether neither blocks, which follow from the sizes of the bags, nor functions of our own will do."""
    return _debug.being_traced() or _debug.inside_transform()


def _outer(x: Tensor, y: Tensor, segments: Segments) -> Tensor:
    # A transform differentiates what it sees, and sees plain operations only.
    compute = _outer_by_column if _by_column() else _Outer.apply
    return compute(x, y, segments)


def _matmul(x: Tensor, matrices: Tensor, segments: Segments) -> Tensor:
    compute = _matmul_by_column if _by_column() else _Matmul.apply
    return compute(x, matrices, segments)


def _outer_by_column(x: Tensor, y: Tensor, segments: Segments) -> Tensor:
    columns = [sum_segments(x * y[:, i : i + 1], segments) for i in range(y.size(1))]
    return torch.stack(columns, dim=2)


def _matmul_by_column(x: Tensor, matrices: Tensor, segments: Segments) -> Tensor:
    columns = [
        (x * gather_segments(matrices[:, :, i], segments)).sum(1) for i in range(matrices.size(2))
    ]
    return torch.stack(columns, dim=1)


def _by_kernel(name: str, x: Tensor, y: Tensor, segments: Segments) -> Tensor:
    from graphpool.ops.fused.cpu import products  # here, because Numba takes a while to load

    perm = segments.ptr[:0] if segments.perm is None else segments.perm
    arrays = (v.detach().numpy() for v in (x.contiguous(), y, segments.ptr, perm))
    return torch.from_numpy(getattr(products, name)(*arrays))


class _Outer(torch.autograd.Function):
    setup_context = staticmethod(_remember)

    @staticmethod
    def forward(x: Tensor, y: Tensor, segments: Segments) -> Tensor:
        if choose("segment_outer", x).name == "numba":
            return _by_kernel("outer", x, y.contiguous(), segments)
        out = x.new_zeros(segments.num_segments, x.size(1), y.size(1))
        with torch.autocast(x.device.type, enabled=False):
            for blocks in _blocks(segments, x.size(1), y.size(1)):
                product = blocks.take(x).mT @ blocks.take(y)
                bags, number = blocks.bags.unique_consecutive(return_counts=True)
                if bags.numel() < blocks.bags.numel():
                    # In order, where adding block by block would be left to chance on a GPU.
                    flat = product.flatten(1)
                    product = torch.segment_reduce(flat, "sum", lengths=number, unsafe=True)
                out.index_add_(0, bags, product.view(bags.numel(), *out.shape[1:]))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        g, needs = grads[0], ctx.needs_input_grad
        gx = _matmul(y, g.mT, ctx.segments) if needs[0] else None
        gy = _matmul(x, g, ctx.segments) if needs[1] else None
        return gx, gy, None


class _Matmul(torch.autograd.Function):
    setup_context = staticmethod(_remember)

    @staticmethod
    def forward(x: Tensor, matrices: Tensor, segments: Segments) -> Tensor:
        if choose("segment_matmul", x).name == "numba":
            stored = matrices if matrices.mT.is_contiguous() else matrices.contiguous()
            return _by_kernel("matmul", x, stored, segments)
        out = x.new_empty(x.size(0), matrices.size(2))
        with torch.autocast(x.device.type, enabled=False):
            for blocks in _blocks(segments, x.size(1), matrices.size(2)):
                # Rows do not mix, so what lies on free places may be multiplied, too.
                blocks.put(out, blocks.lay_out(x) @ matrices[blocks.bags])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, matrices = ctx.saved_tensors
        g, needs = grads[0], ctx.needs_input_grad
        gx = _matmul(g, matrices.mT, ctx.segments) if needs[0] else None
        gm = _outer(x, g, ctx.segments) if needs[1] else None
        return gx, gm, None


def _blocks(segments: Segments, p: int, q: int) -> Iterator[Blocks]:
    """Blocks no longer than about ``max(p, q)``: their products take no more room than the elements."""
    longest = 1 << (max(p, q, 8) - 1).bit_length()
    return segment_blocks(segments, p + q + p * q // longest, longest)
