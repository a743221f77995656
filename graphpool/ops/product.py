"""Product of each bag."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.inputs import Gather, align, check_elements, gathered, working
from graphpool.segments import Segments


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
