"""The shape of a distribution, and a sum that keeps its spread."""

from __future__ import annotations

from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.ops import (
    Gather,
    segment_standardized_moments,
    segment_sum,
    working,
)
from graphpool.segments import Segments
from graphpool.states import Mergeable, Sums, size_of


@register("moments")
class Moments(Aggregation):
    r"""Mean, standard deviation, skewness and kurtosis per channel, side by side: with the central moments
    :math:`m_k = \frac{1}{n_s} \sum_{e \in s} (x_e - \bar x_s)^k`,

    .. math:: y_s = \Big[\bar x_s,\ \sqrt{m_2},\ \frac{m_3}{(m_2 + \varepsilon)^{3/2}},\
              \frac{m_4}{(m_2 + \varepsilon)^2}, \ldots\Big]

    and so on to any order. The kurtosis of a normal distribution is 3; elements that are all equal have
    skewness and kurtosis 0. Computed from deviations, so that a large common offset does no harm.

    Pearson, "Contributions to the mathematical theory of evolution II", Philosophical Transactions A, 1895.

    Args:
        channels: See :class:`Aggregation`.
        order: The highest moment, at least 1.
        eps: :math:`\varepsilon`, positive: a variance well below it counts as none.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., order * C]``; the means of all channels come first.

    Raises:
        ValueError: ``order`` is less than 1, or ``eps`` not positive.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Moments()(torch.tensor([[0.0], [0.0], [0.0], [4.0]])).round(decimals=3)
        tensor([[1.0000, 1.7320, 1.1550, 2.3330]])
    """

    supports_gather = True
    complexity = "K E C, K moments"
    whole_bag = "its higher moments need the mean of the bag first, which is a pass of its own"

    def __init__(self, channels: int | None = None, *, order: int = 4, eps: float = 1e-6) -> None:
        super().__init__(channels)
        self.order = as_count(order, "order")
        if not eps > 0:
            raise ValueError(f"`eps` must be positive; got {eps}.")
        self.eps = float(eps)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.order * self.channels

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        y = segment_standardized_moments(x, segments, self.order, weight, gather, self.eps)
        return y.movedim(1, -2).flatten(-2)


@register("variance_preserving")
class VariancePreserving(Aggregation):
    r"""Sum over the root of the size, :math:`y_s = \frac{1}{\sqrt{n_s}} \sum_{e \in s} x_e`.

    Independent elements of mean 0 and variance 1 give results of variance 1, whatever the size. With weights
    :math:`y_s = \sum w_e x_e / \sqrt{\sum w_e}`, so that a weight stands for copies.

    Schneckenreiter, Freinschlag, Sestak, Brandstetter, Klambauer, Mayr, "GNN-VPA: a variance-preserving
    aggregation strategy for graph neural networks", 2024.

    Example:
        >>> from graphpool import aggr
        >>> aggr.VariancePreserving()(torch.tensor([[1.0], [2.0], [3.0], [2.0]]))
        tensor([[4.]])
    """

    multiplicity_aware = True
    supports_gather = True

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        y = working(segment_sum(x, segments, weight, gather))
        return (y / segment_sizes(segments, weight, y).sqrt()).to(x.dtype)

    def merging(self) -> Mergeable:
        return Sums(lambda sums: sums["x"] / size_of(sums, sums["x"]).sqrt())
