"""Integrals of the quantile function of each bag: sums over its elements in order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.dispatch import fused
from graphpool.ops.gather import segment_cumsum, segment_gather
from graphpool.ops.inputs import (
    Gather,
    align,
    channel_parameter,
    check_elements,
    gathered,
    working,
    working_weight,
)
from graphpool.ops.moments import segment_sum
from graphpool.ops.order import segment_sort
from graphpool.segments import Segments

NO_FREQUENCY = 1e-20
"""Stands for the frequency 0, and may be divided by."""


def segment_trimmed_mean(
    x: Tensor,
    segments: Segments,
    trim: float | Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    r"""Mean of what lies between the quantiles :math:`\alpha` and :math:`1 - \alpha` of each bag and channel:

    .. math:: y_s = \frac{1}{1 - 2 \alpha} \int_\alpha^{1 - \alpha} Q_s(u)\, du

    with :math:`Q_s` the quantile function, in which the elements take up parts of [0, 1] by their weights. At
    0 it is the mean, at 1/2, the limit, the element in the middle, or the mean of two of which one ends and
    one begins there. An infinity that is left out changes nothing; a NaN makes its bag and channel NaN. The
    derivative of equal elements goes by their order.

    Args:
        x: Elements ``[E, ..., C]``, floating point.
        segments: The bags.
        trim: :math:`\alpha`, in [0, 1/2], one or one per channel ``[C]``.
        weight: Non-negative weight of each element ``[E]``.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ..., C]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: ``trim`` is out of range, sizes do not fit, or a weight is negative.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 4]))
        >>> segment_trimmed_mean(torch.tensor([1.0, 2.0, 4.0, 1e6]), segments, trim=0.25)
        tensor([3.])
    """
    check_elements(x, segments, weight, gather)
    parameter = channel_parameter(trim, x, "trim")
    if _debug.values_are_checked(parameter.device):
        bad = ~((parameter >= 0) & (parameter <= 0.5))
        if bad.any():
            raise ValueError(
                f"`trim` must lie in [0, 1/2]; got {float(parameter[bad].flatten()[0])}."
            )
    return _ranked("segment_trimmed_mean", "trim", x, segments, parameter, weight, gather)


def segment_cosine(
    x: Tensor,
    segments: Segments,
    frequency: float | Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    r"""Cosine transform of the quantile function of each bag and channel,
    :math:`y_s = \int_0^1 Q_s(u) \cos(2 \pi f u)\, du`.

    Elements take up parts of [0, 1] by their weights, in the order of their values. At 0 it is the mean.

    Args:
        x: Elements ``[E, ..., C]``, floating point.
        segments: The bags.
        frequency: :math:`f`, one or one per channel ``[C]``.
        weight: Non-negative weight of each element ``[E]``.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ..., C]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit, or a weight is negative.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> segment_cosine(torch.tensor([[1.0], [3.0]]), segments, torch.tensor([0.5]))
        tensor([[-0.6366]])
    """
    check_elements(x, segments, weight, gather)
    parameter = channel_parameter(frequency, x, "frequency")
    return _ranked("segment_cosine", "cosine", x, segments, parameter, weight, gather)


def _ranked(
    name: str,
    kind: str,
    x: Tensor,
    segments: Segments,
    parameter: Tensor,
    weight: Tensor | None,
    gather: Gather | None,
) -> Tensor:
    if kernel := fused(name, x, weight):
        return kernel(x, segments, parameter, weight, gather)
    elements = working(gathered(x, gather))
    y = ranked_sum(elements, parameter, kind, segments, working_weight(weight, x))
    return y.to(x.dtype)


def ranked_sum(
    x: Tensor, parameter: Tensor, kind: str, segments: Segments, weight: Tensor | None
) -> Tensor:
    """Both by plain operations: elements times what the part of [0, 1] that each takes up is worth."""
    parameter = parameter.double()
    if weight is None:
        values, _ = segment_sort(x, segments)
        bags = in_order(segments, x)
        begin, end, rows = tabulated(segments, x)
        share = reach(end, parameter, kind) - reach(begin, parameter, kind)
        share = share if rows is None else share.index_select(0, rows)
    else:
        # An element of weight 0 is absent; where it is finite its value is the derivative by the weight.
        x = torch.where(align(weight == 0, x) & ~x.isfinite(), 0, x)
        values, end, bags = ranked(x, segments, weight)
        upto = reach(end, parameter, kind)
        first = torch.arange(x.size(0), device=x.device) == bags.ptr[bags.index]
        at_zero = reach(torch.zeros_like(end), parameter, kind)
        share = upto - torch.where(align(first, x), at_zero, torch.cat([upto[:1], upto[:-1]]))
    share = share.to(values.dtype)
    # An infinity without a share adds nothing, a NaN stays.
    left_out = (share == 0) & ~values.isnan()
    return segment_sum(torch.where(left_out, 0, share * values), bags)


def reach(u: Tensor, parameter: Tensor, kind: str) -> Tensor:
    """The integral, from 0 to ``u``, of what the quantile function is multiplied with."""
    if kind == "cosine":
        rate = 2 * math.pi * torch.where(parameter == 0, NO_FREQUENCY, parameter)
        return (rate * u).sin() / rate
    median = parameter == 0.5
    inside = u.maximum(parameter).minimum(1 - parameter)
    step = ((u >= 0.5).double() + (u > 0.5)) / 2
    return torch.where(median, step, inside / torch.where(median, 1, 1 - 2 * parameter))


def ranked(x: Tensor, segments: Segments, weight: Tensor) -> tuple[Tensor, Tensor, Segments]:
    """The elements sorted per channel, where the share of the bag that each takes up ends, and the bags in
    whose order they come.

    With the weights of a bag divided by their sum, element ``i`` of the sorted bag reaches from
    ``w_1 + ... + w_(i-1)`` to ``w_1 + ... + w_i``, in float64.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> values, end, bags = ranked(torch.tensor([[5.0], [1.0]]), segments, torch.tensor([1, 3]))
        >>> values.T, end.T
        (tensor([[1., 5.]]), tensor([[0.7500, 1.0000]], dtype=torch.float64))
    """
    values, order = segment_sort(x, segments)
    bags = in_order(segments, x)
    # Whole numbers are added exactly, so that a weight is the same as so many copies to the last bit.
    w = weight.double()
    total = segment_sum(w, segments)
    total = torch.where(total == 0, 1, total)
    if not (w.requires_grad or _debug.inside_transform()):
        # So are all others, as whole numbers of steps, each bag with the step that befits its total.
        step = torch.exp2(total.log2().ceil() - 52)
        w = (w / segment_gather(step, segments)).round()
        total = segment_sum(w, segments)
        total = torch.where(total == 0, 1, total)
    end = segment_cumsum(w.index_select(0, order.flatten()).view_as(order), bags)
    return values, end / align(segment_gather(total, bags), x), bags


def in_order(segments: Segments, x: Tensor) -> Segments:
    """The bags of elements that come in the order of their bags."""
    plain = segments.perm is None
    return segments if plain else Segments(ptr=segments.ptr, num_elements=x.size(0))


def tabulated(segments: Segments, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Where the share of an element of a bag without weights begins and ends, ``[T, 1, ...]``: one row for
    each place in each size that occurs, and the row of each element ``[E]``; ``None`` where rows are the
    elements."""
    bags = in_order(segments, x)
    rows = None
    if not (_debug.being_traced() or _debug.inside_transform()):
        sizes, kind = segments.counts.unique(return_inverse=True)
        table = Segments.from_counts(sizes)
        place = torch.arange(x.size(0), device=x.device)
        rows = place + (table.ptr[kind] - bags.ptr[:-1])[bags.index]
        bags = table
    place = torch.arange(bags.num_elements, device=x.device) - bags.ptr[bags.index]
    size = bags.counts[bags.index].double()
    return align(place / size, x), align((place + 1) / size, x), rows
