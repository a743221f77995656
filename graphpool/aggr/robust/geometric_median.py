"""The point with the least sum of distances."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.aggr.robust.trimmed_mean import TIES
from graphpool.aggr.rowwise import rowwise
from graphpool.ops import segment_gather, segment_softmax_sum, segment_trimmed_mean, wide
from graphpool.segments import Segments


@register("geometric_median")
class GeometricMedian(MatrixAggregation):
    r"""Geometric median, the point with the least sum of distances to the elements, by Weiszfeld's steps:

    .. math:: y \leftarrow \frac{\sum_{e \in s} x_e / d_e}{\sum_{e \in s} 1 / d_e}, \qquad
              d_e = \sqrt{|x_e - y|^2 + \varepsilon^2}

    from the median of each channel. What it gives is the last step, and its derivative that of the steps as
    they were taken. On 50 normal points the error is about 1e-3 after 5 steps and 1e-5 after 10; it vanishes
    slowly where the result is an element or all elements lie on a line. It turns with the elements, as far as
    the steps have converged, and less than half of the bag, however far away, cannot carry it off.

    Weiszfeld, "Sur le point pour lequel la somme des distances de n points donnés est minimum", 1937; as a
    pool that resists outliers: Pillutla, Kakade, Harchaoui, "Robust aggregation for federated learning", IEEE
    Transactions on Signal Processing, 2022.

    Args:
        channels: See :class:`Aggregation`.
        steps: How many, at least 1; each keeps an array of the size of the elements for the backward pass.
        eps: :math:`\varepsilon`, positive: distances well below it count as equal.

    Raises:
        ValueError: ``steps`` is less than 1, or ``eps`` not positive.

    Example:
        >>> from graphpool import aggr
        >>> square = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]
        >>> aggr.GeometricMedian()(torch.tensor([*square, [1.0, 1e6]])).round(decimals=2)
        tensor([[1.0000, 1.6200]])
    """

    complexity = "E C log E + K E C, K steps"
    exempt = {"ties": TIES}
    whole_bag = "an element of any rank may be needed, whatever comes later"

    def __init__(self, channels: int | None = None, *, steps: int = 10, eps: float = 1e-3) -> None:
        super().__init__(channels)
        self.steps = as_count(steps, "steps")
        if not eps > 0:
            raise ValueError(f"`eps` must be positive; got {eps}.")
        self.eps = float(eps)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        y = segment_trimmed_mean(x, segments, 0.5, weight)
        for _ in range(self.steps):
            # Shares 1 / d as a softmax: no sum of weights to divide by, and none that overflows.
            score = rowwise(self._nearness, x, segment_gather(y, segments))
            y = segment_softmax_sum(score, x, segments, weight)
        return y

    def _nearness(self, x: Tensor, y: Tensor) -> Tensor:
        # What is infinitely far has no share, and a derivative of 0 by way of its distance.
        most = torch.finfo(x.dtype).max
        far = (x - y).clamp(-most, most)
        return -((wide(far).square().sum(1) + self.eps**2).log() / 2).to(far.dtype)
