"""Features carried from coarse points to fine ones."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count
from graphpool.ops.moments import segment_sum
from graphpool.ops.neighbors.search import largest_cloud, search
from graphpool.segments import Segments


def interpolate(
    x: Tensor,
    pos: Tensor,
    queries: Tensor,
    segments: Segments | None = None,
    query_segments: Segments | None = None,
    *,
    k: int = 3,
    power: float = 2.0,
) -> Tensor:
    r"""Inverse-distance interpolation from the ``k`` nearest points.

    .. math:: y_q = \frac{\sum_j w_{qj} x_j}{\sum_j w_{qj}}, \qquad
              w_{qj} = \lVert p_q - p_j \rVert^{-power}

    A query on top of a point takes its features, the mean of them where several of the ``k`` lie there:
    the limit of the formula. No constant is added to the distances, so the unit of length does not
    matter. ``power=2`` is the exponent of PyG and of Point-NN, ``power=1`` that of PointNet++'s CUDA code;
    theirs keep the weights finite by constants between 1e-16 and 1e-8, which count where points are closer
    than about 1e-4. In a cloud of fewer than ``k`` points all of them are used.

    Args:
        x: Features ``[N, C]``, floating point.
        pos: Their points ``[N, D]``.
        queries: Where to interpolate, ``[M, D]``.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        query_segments: The cloud of each query, with the same number of clouds.
        k: Number of neighbours.
        power: The exponent of the distance, > 0.

    Returns:
        ``[M, C]``, differentiable in ``x``, and in ``pos`` and ``queries`` with the neighbours held fixed
        (a query on top of a point has no derivative with respect to positions, and gets 0).

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Sizes do not fit, or a query lies in a cloud without points.

    Example:
        >>> x, pos = torch.tensor([[0.0], [8.0]]), torch.tensor([[0.0], [4.0]])
        >>> interpolate(x, pos, torch.tensor([[2.0], [1.0], [0.0]]), k=2)
        tensor([[4.0000],
                [0.8000],
                [0.0000]])
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError("`x` must be a floating point tensor [N, C].")
    if x.dim() != 2 or x.size(0) != pos.size(0):
        raise ValueError(f"`x` must have shape [{pos.size(0)}, C]; got {tuple(x.shape)}.")
    if not power > 0:
        raise ValueError(f"`power` must be > 0; got {power}.")
    k = min(as_count(k, "k"), largest_cloud(pos, segments))
    # In whatever unit: the weights are the same in all.
    index, compared = search(pos, k, queries, segments, query_segments, False, in_own_unit=True)
    found = index >= 0
    if index.size(0) and not bool(found[:, 0].all()):
        query = int((~found[:, 0]).nonzero()[0])
        raise ValueError(f"`queries`: query {query} lies in a cloud without points.")
    # Not by indexing: on several threads its derivative is summed in any order.
    neighbor = torch.where(found, index, index[:, :1]).flatten()
    squared = compared
    if pos.requires_grad or queries.requires_grad or _debug.inside_transform():
        near = pos.index_select(0, neighbor).view(*index.shape, -1)
        squared = _squared(near - queries[:, None])
    nearest = squared[:, :1].detach()
    # Relative to the nearest, which cancels in the mean: a weight is at most 1 in any unit of length.
    on_top = compared[:, :1] == 0
    ratio = nearest.masked_fill(on_top, 1.0) / squared.masked_fill(on_top | ~found, 1.0)
    weight = torch.where(on_top, (compared == 0).to(ratio.dtype), ratio ** (power / 2))
    weight = weight.masked_fill(~found, 0.0)
    weight = weight / weight.sum(1, keepdim=True)
    # Rows are read in place, and one of weight 0 leaves no trace, whatever it holds.
    ptr = torch.arange(0, index.numel() + 1, index.size(1), device=index.device)
    return segment_sum(x, Segments(ptr=ptr), weight.flatten(), neighbor)


def _squared(offset: Tensor) -> Tensor:
    """Squared lengths ``[M, k]`` of ``[M, k, D]``, for each query in a unit of its own: about the distance of
    the nearest, so that neither they nor their derivatives underflow or overflow.
    """
    size = offset.detach().abs().amax(-1)
    exponent = torch.frexp(size).exponent.masked_fill(size == 0, -2000)
    # The farthest is at most 2^60 units away, whose square is a number.
    unit = torch.maximum(exponent[:, :1], exponent.amax(1, keepdim=True) - 60)[..., None]
    unit = unit.masked_fill(unit == -2000, 0)
    # In two steps, because the inverse of the smallest number is none.
    for step in (unit // 2, unit - unit // 2):
        offset = offset / 2.0 ** step.to(offset.dtype)
    return offset.square().sum(-1)
