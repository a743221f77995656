"""Elements in the order of their values, and some of them by their rank; bags in the order of an index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphpool import sorting
from graphpool.ops import order as composed
from graphpool.ops.fused.common import flat
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.ranks import order as cpu_order
from graphpool.ops.fused.cpu.ranks import sort as cpu_sort
from graphpool.ops.fused.fused_op import FusedOp, define, is_plain
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

_MIXES = ("linear", "midpoint")


def _levels(option: str) -> tuple[str, list[float]]:
    """Out of ``"linear 0x1p-2 0x1p-1"`` or ``"largest 3"``: how, and the quantiles or places."""
    how, *levels = option.split()
    if how in ("largest", "smallest"):
        return how, [float(place) for place in range(int(levels[0]))]
    return how, [float.fromhex(level) for level in levels]


def _pick_shapes(x: Tensor, option: str, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """What lies at each level, the one or two elements that it is made of, and the share of the second.

    Quantiles without a backward pass name no elements: writing them would take longer than all else.
    """
    how, levels = _levels(option)
    of_bags = (layout.bags, len(levels))
    mixes, channels = how in _MIXES, x.shape[1]
    index = (*of_bags, 1 + mixes, channels)
    if layout.bag_of is None and how not in ("largest", "smallest"):
        index, mixes = (0, 0, 0, channels), False
    return (*of_bags, channels), index, (*of_bags, channels) if mixes else (0, 0, channels)


def _rows(v: np.ndarray) -> np.ndarray:
    return v.reshape(-1, v.shape[-1]) if v.size else v.reshape(0, v.shape[-1])


def _pick_forward(x: np.ndarray, option: str, at: Arrays, *results: np.ndarray) -> None:
    how, levels = _levels(option)
    cpu_order.forward(x, how, np.array(levels), at, *map(_rows, results))


def _pick_backward(
    grad: np.ndarray,
    index: np.ndarray,
    share: np.ndarray,
    option: str,
    at: Arrays,
    grad_x: np.ndarray,
) -> None:
    start = np.arange(grad.shape[0] + 1) * grad.shape[1]
    cpu_order.backward(_rows(grad), _rows(index), _rows(share), start, at, grad_x)


def _pick_composed(x: Tensor, option: str, layout: Layout) -> Tensor:
    how, levels = _levels(option)
    return composed.pick(x, layout.segments(), how, levels, layout.weight)[0]


_pick = FusedOp(
    "segment_pick",
    "x[R,C]",
    "out index share",
    _pick_shapes,
    _pick_forward,
    _pick_backward,
    _pick_composed,
    reads="index share",
    options=("linear 0x1p-2 0x1.999p-1", "lower 0x1p-1", "largest 2"),
    indices="index",
    integers=True,
)


def _numbers(x: Tensor) -> Tensor:
    """Integers of every kind as int64."""
    return flat(x if x.is_floating_point() else x.long())


def _picked(
    x: Tensor,
    segments: Segments,
    option: str,
    weight: Tensor | None,
    gather: Gather | None,
) -> tuple[Tensor, Tensor]:
    """Values ``[S, K, ...]``, and their elements ``[S, K, 1 or 2, C]`` if there is a use for them."""
    values, index, _ = _pick.results((_numbers(x),), segments, weight, gather, option)
    return values.view(*values.shape[:2], *x.shape[1:]).to(x.dtype), index


@_pick.serves("segment_quantile")
def segment_quantile(
    x: Tensor,
    segments: Segments,
    q: float | Sequence[float] | Tensor,
    interpolation: str = "linear",
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    levels, alone = composed.as_levels(q)
    # A program that is traced for other levels, too, is bound to these by hex() alone.
    option = " ".join([interpolation, *(level.hex() for level in levels)])
    values, _ = _picked(x, segments, option, weight, gather)
    return values[:, 0] if alone else values


@_pick.serves("segment_median")
def segment_median(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    return segment_quantile(x, segments, 0.5, "lower", weight, gather)


@_pick.serves("segment_topk")
def segment_topk(
    x: Tensor,
    segments: Segments,
    k: int,
    largest: bool = True,
    fill: float = 0.0,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> tuple[Tensor, Tensor]:
    option = f"{'largest' if largest else 'smallest'} {k}"
    values, index = _picked(x, segments, option, weight, gather)
    return composed.filled(values, index[:, :, 0].view(values.shape), fill)


def _sort_shapes(x: Tensor, option: str, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """The elements in their order, and which they are."""
    shape = (layout.num_elements(x), x.shape[1])
    return shape, shape


def _sort_forward(
    x: np.ndarray, option: str, at: Arrays, values: np.ndarray, order: np.ndarray
) -> None:
    none = np.empty((0, x.shape[1]), x.dtype)
    cpu_order.forward(x, option, np.empty(0), at, values, order, none)


def _sort_backward(
    grad: np.ndarray, order: np.ndarray, option: str, at: Arrays, grad_x: np.ndarray
) -> None:
    none = np.empty((0, grad.shape[1]), grad.dtype)
    cpu_order.backward(grad, order, none, at.ptr, at, grad_x)


def _sort_composed(x: Tensor, option: str, layout: Layout) -> Tensor:
    return composed.sort(x, layout.segments(), option == "descending")[0]


_sort = FusedOp(
    "segment_sort",
    "x[R,C]",
    "values order",
    _sort_shapes,
    _sort_forward,
    _sort_backward,
    _sort_composed,
    reads="order",
    options=("ascending", "descending"),
    indices="order",
    integers=True,
)


@_sort.serves("segment_sort")
def segment_sort(
    x: Tensor, segments: Segments, descending: bool = False, gather: Gather | None = None
) -> tuple[Tensor, Tensor]:
    option = "descending" if descending else "ascending"
    values, order = _sort.results((_numbers(x),), segments, None, gather, option)
    shape = (order.shape[0], *x.shape[1:])
    return values.view(shape).to(x.dtype), order.view(shape)


def _index_on_cpu(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    """``(ptr, perm)`` of a stable sort of ``index`` ``[E]``, whose values lie in ``[0, bags)``."""
    ptr, perm = cpu_sort.counting_sort(index.contiguous().numpy(), bags)
    return torch.from_numpy(ptr), torch.from_numpy(perm)


def _index_on_cuda(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    ordered, perm = index.sort(stable=True)
    return torch.searchsorted(ordered, torch.arange(bags + 1, device=index.device)), perm


def _index_fake(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    return index.new_empty((bags + 1,)), torch.empty_like(index)


sort_index = define(
    "sort_index", "(Tensor index, SymInt bags) -> (Tensor, Tensor)", _index_on_cpu, _index_fake
)
sort_index.register_kernel("cuda")(_index_on_cuda)
sorting.use(lambda index, bags: (_index_on_cpu if is_plain((index,)) else sort_index)(index, bags))
