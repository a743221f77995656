"""How much each element accounts for."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.aggr.base import Aggregation, as_segments
from graphpool.segments import Segments


def contributions(
    aggr: Aggregation,
    x: Tensor,
    index: Tensor | Segments | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""How much of each pooled channel each element accounts for.

    Pools that weigh their elements (softmax, attention) give these weights, which sum to 1 over a bag.
    Every other pool gives

    .. math:: k_{e,c} = x_{e,c} \, \frac{\partial}{\partial x_{e,c}} \sum_{c'} y_{s(e),c'}

    which for a pool that works channel by channel and is homogeneous of degree one (sum, mean, maximum,
    minimum, GNP with ``shared=True``, power means) adds up to the output exactly, by Euler's theorem.

    Args:
        aggr: The pool.
        x: Elements ``[E, C]``, floating point.
        index: Bag of each element ``[E]``, or :class:`~graphpool.Segments`.
        ptr: CSR offsets instead.
        dim_size: The number of bags.
        weight: ``[E]``: how often each element counts.

    Returns:
        ``[E, C]``, without a gradient of its own.

    Example:
        >>> from graphpool import aggr
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> aggr.contributions(aggr.Mean(), x)
        tensor([[0.5000],
                [1.5000]])
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() != 2:
        raise TypeError("`x` must be a floating point tensor [E, C].")
    segments = as_segments(x, index, ptr, dim_size)
    if hasattr(aggr, "attention"):
        with torch.no_grad():
            return aggr.attention(x, segments, weight)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = aggr(x, segments, dim=0, weight=weight)
        (slope,) = torch.autograd.grad(y.sum(), x)
    return x.detach() * slope
