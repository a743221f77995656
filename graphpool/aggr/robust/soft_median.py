"""A mean of those that lie near the median."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.aggr.robust.trimmed_mean import TIES
from graphpool.aggr.rowwise import rowwise
from graphpool.ops import (
    segment_gather,
    segment_softmax,
    segment_softmax_sum,
    segment_trimmed_mean,
    standard_deviation,
    wide,
    working,
)
from graphpool.segments import Segments


@register("soft_median")
class SoftMedian(MatrixAggregation):
    r"""Soft median: elements are weighed by a softmax of how near they are to the median of each channel,

    .. math:: y_s = \sum_{e \in s} a_e x_e, \qquad
              a = \mathrm{softmax}_s(-d / T), \qquad d_e = \frac{1}{\sqrt C} |x_e - \mathrm{med}_s|_2

    ``T -> inf`` is the mean, ``T -> 0`` the element nearest to the median. Less than half of the bag, however
    far away, cannot carry the result off. Weights count in the median and in the softmax.

    Geisler et al., "Robustness of graph neural networks at scale", NeurIPS 2021 (which multiplies by the
    sum of the weights, and of two middle elements takes the lower, here their mean).

    Args:
        channels: See :class:`Aggregation`.
        temperature: :math:`T`, positive.

    Raises:
        ValueError: ``temperature`` is not positive.

    Example:
        >>> from graphpool import aggr
        >>> aggr.SoftMedian(temperature=0.5)(torch.tensor([[1.0], [2.0], [3.0], [1e6]]))
        tensor([[2.4049]])
    """

    complexity = "E C log E"
    exempt = {"ties": TIES}
    whole_bag = "an element of any rank may be needed, whatever comes later"

    def __init__(self, channels: int | None = None, *, temperature: float = 1.0) -> None:
        super().__init__(channels)
        if not 0 < temperature < math.inf:
            raise ValueError(f"`temperature` must be positive and finite; got {temperature}.")
        self.temperature = float(temperature)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return segment_softmax_sum(self._scores(x, segments, weight), x, segments, weight)

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, 1]`` of elements ``[E, C]``; each bag sums to 1."""
        return segment_softmax(self._scores(working(x), segments, weight), segments, weight)[
            :, None
        ]

    def _scores(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        middle = segment_trimmed_mean(x, segments, 0.5, weight)
        return rowwise(self._nearness, x, segment_gather(middle, segments))

    def _nearness(self, x: Tensor, middle: Tensor) -> Tensor:
        far = (x - middle) / self.temperature
        # What is infinitely far has no share, and a derivative of 0 by way of its distance.
        most = torch.finfo(far.dtype).max
        far = far.clamp(-most, most)
        # With derivative 0 for an element that is the median.
        return -standard_deviation(wide(far).square().mean(1)).to(far.dtype)
