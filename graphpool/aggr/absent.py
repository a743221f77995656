"""Elements of weight 0, and bags that have no element."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops import Gather, align, segment_sum
from graphpool.segments import Segments


def some_may_be_absent(weight: Tensor) -> bool:
    """Whether a weight is 0; yes, where its values cannot be looked at."""
    return not _debug.values_are_checked(weight.device) or bool((weight == 0).any())


def absent_as_zero(x: Tensor, weight: Tensor, gather: Gather | None = None) -> Tensor:
    """``x`` with 0 in place of elements of weight 0, which are absent, whatever they hold; of rows that are
    read in place, those that no present element reads.

    A formula would multiply what they hold by 0, and so would its derivative; that is NaN for an infinity
    or a NaN. Where the weight itself is differentiated, finite elements stay: their values are the
    derivative by the weight.

    Args:
        x: Elements ``[E, ...]``, or rows.
        weight: ``[E]``.
        gather: The row of each element.

    Example:
        >>> absent_as_zero(torch.tensor([1.0, torch.nan]), torch.tensor([1, 0]))
        tensor([1., 0.])
    """
    absent = weight == 0
    if gather is not None:
        rows = gather.index if isinstance(gather, Segments) else gather
        present = torch.zeros(x.size(0), dtype=torch.long, device=x.device)
        absent = present.index_add(0, rows, (~absent).long()) == 0
    absent = align(absent, x)
    if weight.requires_grad or _debug.inside_transform():
        absent = absent & ~x.isfinite()
    return torch.where(absent, 0, x)


def segment_sizes(segments: Segments, weight: Tensor | None, like: Tensor) -> Tensor:
    """The size of each bag, 1 for an empty one, shaped to divide ``like`` ``[S, ...]``."""
    n = segments.counts if weight is None else segment_sum(weight.to(like.dtype), segments)
    return align(torch.where(n == 0, 1, n).to(like.dtype), like)


def fill_empty(
    y: Tensor, segments: Segments, weight: Tensor | None = None, value: float = 0.0
) -> Tensor:
    """``y`` with ``value`` for bags that have no element, or none whose weight is not 0."""
    n = segments.counts if weight is None else segment_sum((weight != 0).long(), segments)
    return torch.where(align(n == 0, y), value, y)
