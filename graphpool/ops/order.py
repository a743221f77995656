"""Ops that put the elements of each bag in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, check_one_of
from graphpool.ops.dispatch import fused
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
    if kernel := fused("segment_sort", x):
        return kernel(x, segments, descending, gather)
    return sort(gathered(x, gather), segments, descending)


def segment_topk(
    x: Tensor,
    segments: Segments,
    k: int,
    largest: bool = True,
    fill: float = 0.0,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest (or smallest) elements of each bag, per channel, best first.

    Of equal elements the first comes first, and NaN counts as the largest. Each value hands its derivative
    to the element that it is.

    Args:
        x: Elements ``[E, ...]``, floating point or integer.
        segments: The bags.
        k: How many, at least 1: an integer of any type.
        largest: The largest, or the smallest.
        fill: Value of the places that a bag with fewer than ``k`` elements leaves free.
        weight: Non-negative weight of each element ``[E]``: how many places it takes up. No derivative with
            respect to it.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``(values, index)``, both ``[S, k, ...]``: ``index`` names the element each value comes from, and
        is -1 where there is none.

    Raises:
        TypeError: ``k`` is not an integer.
        ValueError: ``k`` is less than 1, or ``fill`` no integer where ``x`` is one; sizes do not fit.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 3, 4]))
        >>> segment_topk(torch.tensor([1.0, 3.0, 2.0, 5.0]), segments, k=2)
        (tensor([[3., 2.],
                [5., 0.]]), tensor([[ 1,  2],
                [ 3, -1]]))
    """
    check_elements(x, segments, weight, gather, integers=True)
    k = as_count(k, "k")
    if not x.is_floating_point() and not float(fill).is_integer():
        raise ValueError(f"`fill` must be an integer where `x` is {x.dtype}; got {fill}.")
    if kernel := fused("segment_topk", x, weight):
        return kernel(x, segments, k, largest, fill, weight, gather)
    how = "largest" if largest else "smallest"
    values, index = pick(working(gathered(x, gather)), segments, how, range(k), weight)
    return filled(values.to(x.dtype), index, fill)


def segment_quantile(
    x: Tensor,
    segments: Segments,
    q: float | Sequence[float] | Tensor,
    interpolation: str = "linear",
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    r"""Quantile of each bag and channel, as :func:`torch.quantile` defines it, or several at once.

    With the elements sorted, the quantile lies at position :math:`q (n - 1)`, counted from 0; between
    two elements ``interpolation`` decides. Weights are frequencies: an element of weight :math:`w` takes
    up :math:`w` positions, and :math:`n = \sum w`. The derivative goes to the one or two elements that
    the result is made of: equal elements do not share it, but are told apart by their place, as if sorted by
    :func:`segment_sort`. A NaN makes its bag and channel NaN.

    Args:
        x: Elements ``[E, ...]``, floating point.
        segments: The bags.
        q: Which quantile, in ``[0, 1]``; or several, as a sequence or a tensor ``[K]``, for which the bags
            are sorted once. The values of a tensor are read; no derivative with respect to them.
        interpolation: ``"linear"``, ``"lower"``, ``"higher"``, ``"midpoint"`` or ``"nearest"``.
        weight: Non-negative weight of each element ``[E]``; no derivative with respect to it.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ...]`` in the dtype of ``x``; an empty bag gives 0. With several quantiles ``[S, K, ...]``: bags
        stay on dimension 0, where :func:`torch.quantile` puts the quantiles; ``movedim(1, 0)`` gives its
        layout.

    Raises:
        TypeError: ``q`` is neither a number, nor a sequence or tensor of numbers.
        ValueError: ``q`` or ``interpolation`` is out of range, or sizes do not fit; ``q`` is a tensor where
            the call is traced.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 4]))
        >>> x = torch.tensor([4.0, 1.0, 3.0, 2.0])
        >>> segment_quantile(x, segments, 0.5)
        tensor([2.5000])
        >>> segment_quantile(x, segments, [0.0, 0.5, 1.0])
        tensor([[1.0000, 2.5000, 4.0000]])
    """
    check_elements(x, segments, weight, gather)
    levels, alone = as_levels(q)
    check_one_of(interpolation, "interpolation", INTERPOLATIONS)
    if kernel := fused("segment_quantile", x, weight):
        return kernel(x, segments, q, interpolation, weight, gather)
    values, _ = pick(working(gathered(x, gather)), segments, interpolation, levels, weight)
    return (values[:, 0] if alone else values).to(x.dtype)


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


def as_levels(q: Any) -> tuple[list[float], bool]:
    """Quantiles as numbers, and whether it is one by itself."""
    if isinstance(q, Tensor) and (q.dim() > 1 or _debug.being_traced() or _debug.is_vectorized(q)):
        raise ValueError(
            "`q` must be a number, or several on one dimension, and numbers instead of a tensor where a "
            f"call is traced or vectorised; got a tensor of shape {tuple(q.shape)}."
        )
    if not isinstance(q, (int, float)) and hasattr(q, "tolist"):
        q = q.tolist()
    alone = isinstance(q, (int, float))
    try:
        if isinstance(q, str):
            raise TypeError
        levels = [float(v) for v in ([q] if alone else q)]
    except (TypeError, ValueError):
        raise TypeError(f"`q` must be a number or a sequence of numbers; got {q!r}.") from None
    if not levels or not all(0 <= v <= 1 for v in levels):
        raise ValueError(f"`q` must lie in [0, 1], one or several; got {q}.")
    return levels, alone


def filled(values: Tensor, index: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """``values`` with ``fill`` for 0 where ``index`` names no element."""
    return torch.where(index < 0, values.new_full((), fill), values) if fill else values, index


def sort(x: Tensor, segments: Segments, descending: bool) -> tuple[Tensor, Tensor]:
    """:func:`segment_sort` by plain operations: by value, and then by bag."""
    by_value = x.detach().argsort(dim=0, descending=descending, stable=True)
    order = by_value.gather(0, segments.index[by_value].argsort(dim=0, stable=True))
    return x.gather(0, order), order


def pick(
    x: Tensor,
    segments: Segments,
    how: str,
    levels: Sequence[float],
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Elements by their rank, by plain operations: values and the (lower) element of each, ``[S, K, ...]``.

    ``how`` is an interpolation, and ``levels`` are quantiles; or ``"largest"`` or ``"smallest"`` and places.
    """
    shape = (segments.num_segments, len(levels), *x.shape[1:])
    if x.numel() == 0:
        # Still a function of x, so that a graph of empty bags can be differentiated.
        none = sum_segments(x, segments).unsqueeze(1).expand(shape)
        return none, torch.full(shape, -1, device=x.device)
    values, order = sort(x, segments, how == "largest")
    ptr = segments.ptr
    first, last = (align(v, x).unsqueeze(1) for v in (ptr[:-1], ptr[1:] - 1))
    at = torch.tensor(levels, dtype=torch.double, device=x.device).view(-1, *[1] * (x.dim() - 1))
    if weight is None:
        # In float64, so that q * (n - 1) is right for bags of any size.
        n = align(segments.counts, x).unsqueeze(1).double()
    else:
        w = weight.detach().double()[order]
        bags = Segments(ptr=ptr, num_elements=x.size(0))
        reach = cumsum_of_segments(w, bags)
        n = torch.where(last >= first, reach[(ptr[1:] - 1).clamp(min=0)].unsqueeze(1), 0)
        index = align(bags.index, w).expand_as(w)

    def take(v: Tensor, rank: Tensor) -> Tensor:
        if weight is not None:  # the first whose running total exceeds it
            short = [reach <= r.gather(0, index) for r in rank.expand(shape).unbind(1)]
            rank = torch.stack([sum_segments(r.long(), bags) for r in short], 1)
        row = torch.minimum(first + rank.long(), last).clamp(0, x.size(0) - 1).expand(shape)
        return v.gather(0, row.flatten(0, 1)).view(shape)

    if how in ("largest", "smallest"):
        rank = at.expand(n.shape[0], *at.shape)
        free = rank >= n
        return torch.where(free, 0, take(values, rank)), torch.where(free, -1, take(order, rank))
    floor, fraction = _interpolate(at * (n - 1).clamp(min=0), how)
    y = _mix(take(values, floor), take(values, floor + 1), fraction.to(x.dtype))
    present = x.isnan() if weight is None else x.isnan() & align(weight != 0, x)
    nan = (sum_segments(present.long(), segments) > 0).unsqueeze(1)
    y = torch.where(n == 0, 0, torch.where(nan, torch.nan, y))
    return y, take(order, floor)


def _mix(low: Tensor, high: Tensor, fraction: Tensor) -> Tensor:
    # low + f * (high - low) would turn two equal infinities, or an unused one, into a NaN.
    exact = (fraction == 0) | (low == high)
    # What lies between may be finite, or infinite, where the difference is infinite.
    far = (high - low).isinf()
    between = torch.where(
        far, low * (1 - fraction) + high * fraction, torch.lerp(low, high, fraction)
    )
    return torch.where(exact, low, torch.where(fraction == 1, high, between))


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
