"""Scores of instances, each times an attention of its own, averaged."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.ops import segment_sum
from graphpool.segments import Segments
from graphpool.states import Mergeable, Sums, Tensors, size_of


@register("conjunctive")
class Conjunctive(MatrixAggregation):
    r"""Conjunctive pooling: every element is judged by a linear map, and counts for as much as its attention,

    .. math:: y_s = \frac{1}{n_s} \sum_{e \in s} a_e (A x_e + b), \qquad a_e = \sigma(u^\top \tanh(V x_e))

    The attention lies between 0 and 1 and is not divided by its sum: what a bag says grows with how many of
    its elements speak. With the classes as ``out_channels`` it is the whole classifier, and
    :meth:`instances` says what each element adds.

    Early et al., "Inherently interpretable time series classification via multiple instance learning", ICLR
    2024 (without dropout, and positions, which a set does not have).

    Args:
        channels: Number of channels ``C``.
        out_channels: Width of the linear map; ``C`` if ``None``.
        hidden: Width of the attention.

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> pool, x = aggr.Conjunctive(4, out_channels=2), torch.randn(5, 4)
        >>> torch.allclose(pool(x), pool.instances(x).mean(0, keepdim=True), atol=1e-6)
        True
    """

    learnable = True
    complexity = "E C H"
    example_arguments = {"hidden": 4}

    def __init__(self, channels: int, *, out_channels: int | None = None, hidden: int = 8) -> None:
        super().__init__(channels)
        self.width = None if out_channels is None else as_count(out_channels, "out_channels")
        self.hidden = as_count(hidden, "hidden")

    def build(self, channels: int) -> None:
        self.score = torch.nn.Sequential(
            torch.nn.Linear(channels, self.hidden),
            torch.nn.Tanh(),
            torch.nn.Linear(self.hidden, 1),
            torch.nn.Sigmoid(),
        )
        self.judge = torch.nn.Linear(channels, self.width or channels)

    @property
    def out_channels(self) -> int | None:
        return self.width or self.channels

    def instances(self, x: Tensor) -> Tensor:
        """What each element says, :math:`a_e (A x_e + b)`, ``[E, C]`` to ``[E, out_channels]``."""
        return self.score(x) * self.judge(x)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        a = self.score(x)
        total = segment_sum(torch.cat([a * x, a], dim=1), segments, weight)
        return self._judged(total / segment_sizes(segments, weight, total))

    def _judged(self, mean: Tensor) -> Tensor:
        # The map is linear: it is applied to bags, beside which the elements are many.
        weight, bias = self.judge.weight.to(mean.dtype), self.judge.bias.to(mean.dtype)
        return mean[:, :-1] @ weight.mT + mean[:, -1:] * bias

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            x = x.to(self._dtype(x))
            a = self.score(x)
            return {"x": torch.cat([a * x, a], dim=1)}

        return Sums(lambda sums: self._judged(sums["x"] / size_of(sums, sums["x"])), encode)
