"""Features carried from coarse points to fine ones."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.neighbors.search import knn
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
    eps: float = 1e-8,
) -> Tensor:
    r"""Inverse-distance interpolation from the ``k`` nearest points.

    .. math:: y_q = \frac{\sum_j w_{qj} x_j}{\sum_j w_{qj}}, \qquad
              w_{qj} = \frac{1}{\lVert p_q - p_j \rVert^{power} + \epsilon}

    ``power=2`` is the interpolant of PyG and of Point-NN, ``power=1`` that of PointNet++'s CUDA code. A
    query on top of a point takes its features up to a share of about ``eps``. In a cloud of fewer than
    ``k`` points all of them are used.

    Args:
        x: Features ``[N, C]``, floating point.
        pos: Their points ``[N, D]``.
        queries: Where to interpolate, ``[M, D]``.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        query_segments: The cloud of each query, with the same number of clouds.
        k: Number of neighbours.
        power: The exponent of the distance, > 0.
        eps: Keeps the weights finite, > 0.

    Returns:
        ``[M, C]``, differentiable in ``x``, and in ``pos`` and ``queries`` with the neighbours held fixed.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Sizes do not fit, or a query lies in a cloud without points.

    Example:
        >>> x, pos = torch.tensor([[0.0], [8.0]]), torch.tensor([[0.0], [4.0]])
        >>> interpolate(x, pos, torch.tensor([[2.0], [0.0]]), k=2).round(decimals=3)
        tensor([[4.], [0.]])
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError("`x` must be a floating point tensor [N, C].")
    if x.dim() != 2 or x.size(0) != pos.size(0):
        raise ValueError(f"`x` must have shape [{pos.size(0)}, C]; got {tuple(x.shape)}.")
    if not power > 0:
        raise ValueError(f"`power` must be > 0; got {power}.")
    if not eps > 0:
        raise ValueError(f"`eps` must be > 0; got {eps}.")
    index, squared = knn(pos, k, queries, segments, query_segments)
    found = index >= 0
    if index.size(0) and not bool(found[:, 0].all()):
        query = int((~found[:, 0]).nonzero()[0])
        raise ValueError(f"`queries`: query {query} lies in a cloud without points.")
    neighbor = index.clamp_min(0)
    if pos.requires_grad or queries.requires_grad or _debug.inside_transform():
        squared = (pos[neighbor] - queries[:, None]).square().sum(-1)
    safe = squared.masked_fill(~found, 1.0)
    # The root has an infinite slope at 0, which only a distance of exactly 0 reaches.
    raised = safe if power == 2 else safe.clamp_min(torch.finfo(safe.dtype).tiny) ** (power / 2)
    weight = (1 / (raised + eps)).masked_fill(~found, 0.0)
    weight = (weight / weight.sum(1, keepdim=True)).to(x.dtype)
    return torch.einsum("mk,mkc->mc", weight, x[neighbor])
