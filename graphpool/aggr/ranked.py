"""Elements of each bag in order, and the part of the bag that each of them takes up."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops import align, segment_cumsum, segment_gather, segment_sort, segment_sum
from graphpool.segments import Segments

TIES = "equal elements take up different parts of the order, so their derivatives differ"


def ranked(
    x: Tensor, segments: Segments, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Segments]:
    """The elements sorted per channel, where the share of the bag that each takes up ends, and the bags in
    whose order they come.

    With the weights of a bag divided by their sum, element ``i`` of the sorted bag reaches from
    ``w_1 + ... + w_(i-1)`` (:func:`begins`) to ``w_1 + ... + w_i``: the integral of a function of the
    quantiles is a sum over these. Ends are float64, ``[E, 1]`` without weights, which the order does not
    matter to.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> x, weight = torch.tensor([[5.0], [1.0]]), torch.tensor([1, 3])
        >>> values, end, bags = ranked(x, segments, weight)
        >>> values.T, begins(end, bags).T, end.T
        (tensor([[1., 5.]]), tensor([[0.0000, 0.7500]], dtype=torch.float64),
         tensor([[0.7500, 1.0000]], dtype=torch.float64))
    """
    values, order = segment_sort(x, segments)
    bags = in_order(segments, x)
    if weight is None:
        place = align(torch.arange(x.size(0), device=x.device) - bags.ptr[bags.index], x)
        size = align(bags.counts[bags.index], x)
        return values, (place + 1) / size.double(), bags
    # Whole numbers are added exactly, so that a weight is the same as so many copies to the last bit.
    w = weight.double()
    total = segment_sum(w, segments)
    total = torch.where(total == 0, 1, total)
    if not (w.requires_grad or _debug.inside_transform()):
        # So are all others, as whole numbers of steps, each bag with the step that befits its total.
        step = torch.exp2(total.log2().ceil() - 52)
        w, total = (w / segment_gather(step, segments)).round(), total / step
    end = segment_cumsum(w.index_select(0, order.flatten()).view_as(order), bags)
    return values, end / align(segment_gather(total, bags), x), bags


def in_order(segments: Segments, x: Tensor) -> Segments:
    """The bags of elements that come in the order of their bags."""
    plain = segments.perm is None
    return segments if plain else Segments(ptr=segments.ptr, num_elements=x.size(0))


def begins(end: Tensor, bags: Segments) -> Tensor:
    """Where the share of each element begins: where that of the one before it in the bag ends, or at 0."""
    first = torch.arange(end.size(0), device=end.device) == bags.ptr[bags.index]
    return torch.where(align(first, end), 0, torch.cat([end[:1], end[:-1]]))


def tabulated(segments: Segments, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The share and the end ``[T, 1]`` of :func:`ranked` for bags without weights, one row for each place in
    each size that occurs, and the row of each element ``[E]``; ``None`` where rows are the elements."""
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
    return (1 / size)[:, None], ((place + 1) / size)[:, None], rows


def weighted_median(x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    """The middle of each bag and channel, ``[S, ...]``: half of the weight lies on either side. Where an
    element ends exactly there, the mean of it and the next, so that a bag and its mirror image agree."""
    values, end, bags = ranked(x, segments, weight)
    begin = begins(end, bags)
    lower = (begin < 0.5) & (end >= 0.5)
    upper = (begin <= 0.5) & (end > 0.5)
    return share_sum(values, (lower.to(x.dtype) + upper) / 2, bags)


def share_sum(values: Tensor, share: Tensor, bags: Segments) -> Tensor:
    """``sum share values``: an infinity without a share adds nothing, a NaN stays."""
    left_out = (share == 0) & ~values.isnan()
    return segment_sum(torch.where(left_out, 0, share * values), bags)
