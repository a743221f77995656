"""Ops that put the elements of each bag in order."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count
from graphpool.ops.blocks import bag_argsort
from graphpool.ops.inputs import (
    Gather,
    align,
    check_elements,
    gathered,
    working,
)
from graphpool.ops.primitives import cumsum_of_segments, sum_segments
from graphpool.segments import Segments

INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def segment_sort(
    x: Tensor, segments: Segments, descending: bool = False, gather: Gather | None = None
) -> tuple[Tensor, Tensor]:
    """Sorts each channel of each bag; equal elements keep their order, NaN counts as the largest.

    Args:
        x: Elements ``[E, ...]``, floating point or integer.
        segments: The bags.
        descending: Largest first.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``(values, argsort)``, both ``[E, ...]`` in the order of the bags (:attr:`Segments.ptr`):
        ``values = x.gather(0, argsort)``, and with ``gather`` that of ``x[gather]``. Bags, not
        elements, come in the order of their index. The weights of the elements, where they have any,
        are ``weight[argsort]``.

    Example:
        >>> segments = Segments(index=torch.tensor([1, 0, 1]), num_segments=2)
        >>> segment_sort(torch.tensor([3.0, 2.0, 1.0]), segments)
        (tensor([2., 1., 3.]), tensor([1, 2, 0]))
    """
    check_elements(x, segments, gather=gather, integers=True)
    x = gathered(x, gather)
    plain = _debug.being_traced() or _debug.inside_transform()
    if plain or not x.numel():
        by_value = x.detach().argsort(dim=0, descending=descending, stable=True)
        bag = segments.index[by_value]
        order = by_value.gather(0, bag.argsort(dim=0, stable=True))
    else:
        # The same, bag by bag: sorting few elements many times is quicker.
        flat = x.detach().reshape(x.size(0), -1)
        order = bag_argsort(flat, segments, descending).view(x.shape)
    return x.gather(0, order), order


def segment_topk(
    x: Tensor,
    segments: Segments,
    k: int,
    largest: bool = True,
    fill: float = 0.0,
    gather: Gather | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest (or smallest) elements of each bag, per channel, best first.

    Args:
        x: Elements ``[E, ...]``, floating point or integer.
        segments: The bags.
        k: How many, at least 1: an integer of any type.
        largest: The largest, or the smallest.
        fill: Value of the places that a bag with fewer than ``k`` elements leaves free.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``(values, index)``, both ``[S, k, ...]``: ``index`` names the element each value comes from, and
        is -1 where there is none. Weights, which the op does not take, are ``weight[index]``.

    Raises:
        TypeError: ``k`` is not an integer.
        ValueError: ``k`` is less than 1, or ``fill`` no integer where ``x`` is one.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 3, 4]))
        >>> segment_topk(torch.tensor([1.0, 3.0, 2.0, 5.0]), segments, k=2)
        (tensor([[3., 2.],
                [5., 0.]]), tensor([[ 1,  2],
                [ 3, -1]]))
    """
    k = as_count(k, "k")
    if not x.is_floating_point() and not float(fill).is_integer():
        raise ValueError(f"`fill` must be an integer where `x` is {x.dtype}; got {fill}.")
    values, order = segment_sort(x, segments, descending=largest, gather=gather)
    elements = values.size(0)
    place = segments.ptr[:-1, None] + torch.arange(k, device=x.device)
    free = torch.arange(k, device=x.device) >= segments.counts[:, None]
    if elements == 0:
        shape = (segments.num_segments, k, *x.shape[1:])
        # Still a function of x, as in segment_quantile.
        none = sum_segments(values, segments).unsqueeze(1).expand(shape)
        return none + x.new_full((), fill), place.new_full(shape, -1)
    place = place.clamp(max=elements - 1)
    free = free.view(*free.shape, *[1] * (x.dim() - 1))
    return torch.where(free, x.new_full((), fill), values[place]), torch.where(
        free, -1, order[place]
    )


def segment_quantile(
    x: Tensor,
    segments: Segments,
    q: float,
    interpolation: str = "linear",
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    r"""Quantile of each bag and channel, as :func:`torch.quantile` defines it.

    With the elements sorted, the quantile lies at position :math:`q (n - 1)`, counted from 0; between
    two elements ``interpolation`` decides. Weights are frequencies: an element of weight :math:`w` takes
    up :math:`w` positions, and :math:`n = \sum w`. The derivative goes to the one or two elements that
    the result is made of. A NaN makes its bag and channel NaN.

    Args:
        x: Elements ``[E, ...]``, floating point.
        segments: The bags.
        q: Which quantile, in ``[0, 1]``.
        interpolation: ``"linear"``, ``"lower"``, ``"higher"``, ``"midpoint"`` or ``"nearest"``.
        weight: Non-negative weight of each element ``[E]``; no derivative with respect to it.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ...]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        ValueError: ``q`` or ``interpolation`` is out of range, or sizes do not fit.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 4]))
        >>> segment_quantile(torch.tensor([4.0, 1.0, 3.0, 2.0]), segments, 0.5)
        tensor([2.5000])
    """
    check_elements(x, segments, weight, gather)
    if not 0 <= q <= 1:
        raise ValueError(f"`q` must lie in [0, 1]; got {q}.")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"`interpolation` must be one of {INTERPOLATIONS}; got {interpolation!r}.")
    x = gathered(x, gather)
    if x.numel() == 0:
        # Still a function of x, so that a graph of empty bags can be differentiated.
        return sum_segments(x, segments)
    elements = working(x)
    values, order = segment_sort(elements, segments)
    if weight is None:
        low, high, fraction, n = _positions(elements, segments, q, interpolation)
    else:
        w = weight.detach().to(elements.dtype)[order]
        low, high, fraction, n = _weighted_positions(w, segments, q, interpolation)
    y = _mix(values.gather(0, low), values.gather(0, high), fraction)
    last = (segments.ptr[1:] - 1).clamp(min=0)
    nan = values[last].isnan() if weight is None else _has_nan(elements, segments, weight)
    y = torch.where(nan, torch.nan, y)
    return torch.where(align(n == 0, y) if n.dim() == 1 else n == 0, 0, y).to(x.dtype)


def segment_median(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    """Median of each bag and channel: the lower one of an even number, as :func:`torch.median`.

    ``segment_quantile(x, segments, 0.5, interpolation="lower")``.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 4]))
        >>> segment_median(torch.tensor([4.0, 1.0, 3.0, 2.0]), segments)
        tensor([2.])
    """
    return segment_quantile(x, segments, 0.5, "lower", weight, gather)


def _mix(low: Tensor, high: Tensor, fraction: Tensor) -> Tensor:
    # low + f * (high - low) would turn two equal infinities, or an unused one, into a NaN.
    exact = (fraction == 0) | (low == high)
    return torch.where(
        exact, low, torch.where(fraction == 1, high, torch.lerp(low, high, fraction))
    )


def _interpolate(position: Tensor, interpolation: str) -> tuple[Tensor, Tensor]:
    """Whole part of a position, and how far to go from there to the next one."""
    floor = position.floor()
    fraction = position - floor
    if interpolation == "lower":
        fraction = torch.zeros_like(fraction)
    elif interpolation == "higher":
        fraction = (fraction > 0).to(fraction.dtype)
    elif interpolation == "midpoint":
        fraction = torch.where(fraction > 0, 0.5, 0.0).to(fraction.dtype)
    elif interpolation == "nearest":
        fraction = position.round() - floor
    return floor, fraction


def _positions(
    x: Tensor, segments: Segments, q: float, interpolation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = segments.counts
    # In float64, so that q * (n - 1) is right for bags of any size.
    floor, fraction = _interpolate(q * (n - 1).clamp(min=0).double(), interpolation)
    low = segments.ptr[:-1] + floor.long()
    high = torch.minimum(low + 1, segments.ptr[1:] - 1)
    shape = (segments.num_segments, *x.shape[1:])
    limit = x.size(0) - 1
    low, high = (align(v.clamp(0, limit), x).expand(shape) for v in (low, high))
    return low, high, align(fraction.to(x.dtype), x), n


def _weighted_positions(
    w: Tensor, segments: Segments, q: float, interpolation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for weights ``w`` ``[E, ...]`` in sorted order, which differs from channel to channel."""
    bags = Segments(ptr=segments.ptr, num_elements=w.size(0))
    dtype, w = w.dtype, w.double()
    index = align(bags.index, w).expand_as(w)
    reach = cumsum_of_segments(w, bags)
    n = torch.where(align(bags.counts > 0, w), reach[(bags.ptr[1:] - 1).clamp(min=0)], 0)
    floor, fraction = _interpolate(q * (n - 1).clamp(min=0), interpolation)
    low = _first_beyond(reach, floor, index, bags)
    high = _first_beyond(reach, floor + 1, index, bags)
    return low, high, fraction.to(dtype), n


def _first_beyond(reach: Tensor, position: Tensor, index: Tensor, bags: Segments) -> Tensor:
    """First element of each bag whose running total exceeds ``position``; its last one if none does."""
    short = (reach <= position.gather(0, index)).long()
    first = align(bags.ptr[:-1], reach) + sum_segments(short, bags)
    last = align(bags.ptr[1:] - 1, reach)
    return torch.minimum(first, last).clamp(0, reach.size(0) - 1)


def _has_nan(x: Tensor, segments: Segments, weight: Tensor) -> Tensor:
    present = align(weight != 0, x)
    return sum_segments((x.isnan() & present).long(), segments) > 0
