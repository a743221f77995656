"""Sum, mean, extrema, moments and product of each bag."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count
from graphpool.ops import reference as composed
from graphpool.ops.dispatch import fused
from graphpool.ops.inputs import Gather, align, check_elements, gathered, working, working_weight
from graphpool.segments import Segments

MOMENTS = ("sum", "mean", "var", "std", "min", "max")


def segment_sum(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Sum of each bag: :math:`y_s = \sum_{e \in s} w_e x_e`.

    Args:
        x: Elements ``[E, ...]``, floating point or integer. Half precision is summed in float32.
        segments: The bags.
        weight: Weight of each element ``[E]``, of any sign; 1 if absent.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``, read in place.

    Returns:
        ``[S, ...]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit.

    Example:
        >>> segments = Segments(index=torch.tensor([0, 0, 2]), num_segments=3)
        >>> segment_sum(torch.tensor([1.0, 2.0, 5.0]), segments)
        tensor([3., 0., 5.])
    """
    check_elements(x, segments, weight, gather, integers=True, signed_weight=True)
    if kernel := fused("segment_sum", x, weight):
        return kernel(x, segments, weight, gather)
    x = gathered(x, gather)
    y = composed.segment_sum(working(x), segments, working_weight(weight, x))
    return y.to(x.dtype)


def segment_mean(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Mean of each bag: :math:`y_s = \sum_{e \in s} w_e x_e / \sum_{e \in s} w_e`.

    Arguments, result and errors as in :func:`segment_sum`, but floating point only and ``weight >= 0``.

    Example:
        >>> segments = Segments(index=torch.tensor([0, 0, 2]), num_segments=3)
        >>> segment_mean(torch.tensor([1.0, 2.0, 5.0]), segments, weight=torch.tensor([3, 1, 1]))
        tensor([1.2500, 0.0000, 5.0000])
    """
    check_elements(x, segments, weight, gather)
    if kernel := fused("segment_mean", x, weight):
        return kernel(x, segments, weight, gather)
    x = gathered(x, gather)
    y = composed.segment_mean(working(x), segments, working_weight(weight, x))
    return y.to(x.dtype)


def segment_max(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Largest element of each bag: :math:`y_s = \max_{e \in s} x_e`, per channel.

    Elements that attain the maximum share its derivative equally. A NaN makes its own bag and channel
    NaN. Elements of weight 0 do not take part; other weights change nothing. Arguments, result and
    errors as in :func:`segment_sum`, but ``weight >= 0``.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2, 2]))
        >>> segment_max(torch.tensor([[1.0, -2.0], [0.0, -1.0]]), segments)
        tensor([[ 1., -1.],
                [ 0.,  0.]])
    """
    return _extremum(x, segments, weight, gather, largest=True)


def segment_min(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Smallest element of each bag: :math:`y_s = \min_{e \in s} x_e`, per channel.

    Everything else as in :func:`segment_max`.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2, 2]))
        >>> segment_min(torch.tensor([3, 2]), segments)
        tensor([2, 0])
    """
    return _extremum(x, segments, weight, gather, largest=False)


def segment_var(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Biased variance of each bag: :math:`\sum w_e (x_e - \bar x)^2 / \sum w_e`.

    Computed from deviations, so that a large common offset does no harm. Arguments, result and errors
    as in :func:`segment_mean`.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 3]))
        >>> segment_var(torch.tensor([4096.0, 4097.0, 4098.0]), segments)
        tensor([0.6667])
    """
    return segment_moments(x, segments, ("var",), weight, gather)[0]


def segment_std(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Standard deviation of each bag, the square root of :func:`segment_var`.

    Where all elements are equal it is 0, and so is its derivative (the true one is infinite).

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2, 3]))
        >>> segment_std(torch.tensor([1.0, 3.0, 7.0]), segments)
        tensor([1., 0.])
    """
    return segment_moments(x, segments, ("std",), weight, gather)[0]


def segment_moments(
    x: Tensor,
    segments: Segments,
    moments: Sequence[str],
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> tuple[Tensor, ...]:
    """Several of sum, mean, var, std, min and max in one pass over the elements.

    Args:
        x: Elements ``[E, ...]``, floating point.
        segments: The bags.
        moments: Names out of ``"sum", "mean", "var", "std", "min", "max"``; one may come twice.
        weight: As in :func:`segment_mean`.
        gather: As in :func:`segment_sum`.

    Returns:
        One tensor ``[S, ...]`` for each name, in that order.

    Raises:
        ValueError: A name is unknown, or sizes do not fit.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 3]))
        >>> segment_moments(torch.tensor([1.0, 2.0, 6.0]), segments, ("mean", "max"))
        (tensor([3.]), tensor([6.]))
    """
    check_elements(x, segments, weight, gather)
    if isinstance(moments, str) or any(name not in MOMENTS for name in moments):
        raise ValueError(
            f"`moments` must be a sequence of names out of {MOMENTS}; got {moments!r}."
        )
    if kernel := fused("segment_moments", x, weight):
        return kernel(x, segments, tuple(moments), weight, gather)
    x = gathered(x, gather)
    elements, w = working(x), working_weight(weight, x)
    return tuple(
        composed.segment_moment(name, elements, segments, w).to(x.dtype) for name in moments
    )


def segment_standardized_moments(
    x: Tensor,
    segments: Segments,
    order: int = 4,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    eps: float = 1e-6,
) -> Tensor:
    r"""Mean, standard deviation, skewness, kurtosis, and so on to any order:
    :math:`m_k / (m_2 + \varepsilon)^{k/2}` from the third on, with the central moments
    :math:`m_k = \sum w_e (x_e - \bar x)^k / \sum w_e`.

    Computed from deviations, so that a large common offset does no harm. Arguments and errors as in
    :func:`segment_mean`, and:

    Args:
        order: The highest moment, at least 1.
        eps: :math:`\varepsilon`, positive: a variance well below it counts as none.

    Returns:
        ``[S, order, ...]``, the means first.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 4]))
        >>> segment_standardized_moments(torch.tensor([0.0, 0.0, 0.0, 4.0]), segments).round(decimals=3)
        tensor([[1.0000, 1.7320, 1.1550, 2.3330]])
    """
    check_elements(x, segments, weight, gather)
    order = as_count(order, "order")
    if not 0 < eps < math.inf:
        raise ValueError(f"`eps` must be positive and finite; got {eps!r}.")
    if kernel := fused("segment_standardized_moments", x, weight):
        return kernel(x, segments, order, weight, gather, eps)
    x = gathered(x, gather)
    elements, w = working(x), working_weight(weight, x)
    return composed.segment_standardized_moments(elements, segments, order, eps, w).to(x.dtype)


def _extremum(
    x: Tensor,
    segments: Segments,
    weight: Tensor | None,
    gather: Gather | None,
    largest: bool,
) -> Tensor:
    check_elements(x, segments, weight, gather, integers=True)
    if kernel := fused("segment_max" if largest else "segment_min", x):
        return kernel(x, segments, None if weight is None else weight.detach(), gather)
    # No arithmetic on the values, so half precision needs no wider type.
    x = gathered(x, gather)
    if weight is not None:
        weight = weight.detach().to(x.dtype if x.is_floating_point() else weight.dtype)
    return composed.segment_extremum(x, segments, weight, largest)


def segment_product(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Product of each bag: :math:`y_s = \prod_{e \in s} x_e^{w_e}`.

    Only multiplications, in steps that double what is covered, so that zeros and signs are exact and the
    derivative, the product of the others, is right at 0 as well.

    Args:
        x: Elements ``[E, ...]``, floating point or integer. Half precision is multiplied in float32.
        segments: The bags.
        weight: Non-negative weight of each element ``[E]``, its exponent; a negative element to the power of
            a weight that is no whole number is NaN. No derivative with respect to it.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ...]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit, or a weight is negative.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2, 2]))
        >>> segment_product(torch.tensor([3.0, -2.0]), segments)
        tensor([-6.,  0.])
    """
    check_elements(x, segments, weight, gather, integers=True)
    dtype, x = x.dtype, working(gathered(x, gather))
    n = segments.counts
    if weight is not None:
        x = x ** align(weight.detach().to(x.dtype), x)
        n = n.new_zeros(n.shape).index_add(0, segments.index, (weight != 0).long())
    if x.size(0) == 0:
        return x.new_zeros(segments.num_segments, *x.shape[1:]).to(dtype) + 0 * x.sum().to(dtype)
    x, bags = segments.sort_elements(x), Segments(ptr=segments.ptr, num_elements=x.size(0))
    place = torch.arange(x.size(0), device=x.device) - bags.ptr[bags.index]
    # How long the longest bag is must not be looked at everywhere; steps beyond it change nothing.
    known = _debug.values_are_checked(x.device)
    longest = int(segments.counts.max()) if known and segments.num_segments else x.size(0)
    step = 1
    while step < longest:
        before = torch.cat([torch.ones_like(x[:step]), x[:-step]])
        x = x * torch.where(align(place >= step, x), before, 1)
        step *= 2
    last = x.index_select(0, (bags.ptr[1:] - 1).clamp(min=0))
    return torch.where(align(n == 0, last), 0, last).to(dtype)
