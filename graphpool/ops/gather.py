"""From bags back to their elements, and running totals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.dispatch import choose
from graphpool.ops.inputs import check_elements, working
from graphpool.ops.primitives import cumsum_of_segments, gather_segments
from graphpool.segments import Segments


def segment_gather(y: Tensor, segments: Segments) -> Tensor:
    """The row of each element's bag, :math:`x_e = y_{s(e)}`: the transpose of :func:`segment_sum`.

    Each is the derivative of the other.

    Args:
        y: One row per bag ``[S, ...]``.
        segments: The bags.

    Returns:
        ``[E, ...]`` in the dtype of ``y``.

    Raises:
        TypeError: ``y`` is not a tensor, or ``segments`` is not :class:`graphpool.Segments`.
        ValueError: ``y`` does not have one row per bag.

    Example:
        >>> segments = Segments(index=torch.tensor([0, 0, 2]), num_segments=3)
        >>> segment_gather(torch.tensor([1.0, 2.0, 3.0]), segments)
        tensor([1., 1., 3.])
    """
    if not isinstance(y, Tensor) or not isinstance(segments, Segments):
        raise TypeError(
            "`y` must be a tensor and `segments` graphpool.Segments; "
            f"got {type(y).__name__} and {type(segments).__name__}."
        )
    if y.dim() == 0 or y.size(0) != segments.num_segments:
        raise ValueError(
            f"`y` must have one row per bag, {segments.num_segments}; got shape {tuple(y.shape)}."
        )
    return gather_segments(y, segments)


def segment_cumsum(x: Tensor, segments: Segments) -> Tensor:
    """Running total of each bag, the element itself included, in the order in which elements come.

    Args:
        x: Elements ``[E, ...]``, floating point or integer. Half precision is summed in float32.
        segments: The bags.

    Returns:
        ``[E, ...]`` in the dtype of ``x``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit.

    Example:
        >>> segments = Segments(index=torch.tensor([0, 1, 0]), num_segments=2)
        >>> segment_cumsum(torch.tensor([1.0, 2.0, 5.0]), segments)
        tensor([1., 2., 6.])
    """
    check_elements(x, segments, integers=True)
    if choose("segment_cumsum", x).name == "numba" and not _debug.being_traced():
        return _RunningTotals.apply(working(x), segments, False).to(x.dtype)
    if segments.perm is None:
        return cumsum_of_segments(working(x), segments).to(x.dtype)
    bags = Segments(ptr=segments.ptr, num_elements=x.size(0))
    total = cumsum_of_segments(working(x)[segments.perm], bags)
    return torch.zeros_like(total).index_copy(0, segments.perm, total).to(x.dtype)


class _RunningTotals(torch.autograd.Function):
    """Up to each element, or from it on: the one is the derivative of the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments, backwards: bool) -> Tensor:
        from graphpool.ops.fused.common import flat  # here, because Numba takes a while to load
        from graphpool.ops.fused.cpu.share import running_totals

        ctx.segments, ctx.backwards = segments, backwards
        rows, out = flat(x.detach()), x.new_empty(x.shape)
        perm = segments.ptr[:0] if segments.perm is None else segments.perm
        where = (perm.numpy(), segments.ptr.numpy(), backwards)
        running_totals(rows.numpy(), *where, out.view(rows.shape).numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _RunningTotals.apply(grads[0], ctx.segments, not ctx.backwards), None, None
