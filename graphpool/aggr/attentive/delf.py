"""Attention by a positive score for each element."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.nn import l2_normalize
from graphpool.ops import align, segment_sum
from graphpool.segments import Segments
from graphpool.states import Mergeable, Sums, Tensors, size_of


@register("delf")
class DELF(MatrixAggregation):
    r"""Positive scores times directions, averaged:

    .. math:: y_s = \frac{1}{n_s} \sum_{e \in s} a_e \frac{x_e}{|x_e|}, \qquad
              a_e = \mathrm{softplus}(\mathrm{MLP}(x_e))

    The scores have no upper bound and are not normalised, so the length of the result says how much the
    bag has to tell. With ``normalize`` they are divided by their sum instead of the size.

    Noh, Araujo, Sim, Weyand, Han, "Large-scale image retrieval with attentive deep local features", ICCV
    2017 (without its batch norm, by which a bag would depend on others).

    Args:
        channels: Number of channels ``C``.
        hidden: Width of the score network; ``C`` if ``None``.
        normalize: Divide by the sum of the scores.

    Raises:
        ValueError: ``hidden`` is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.DELF(4, normalize=True)(torch.tensor([[3.0, 0.0, 4.0, 0.0]])).detach()
        tensor([[0.6000, 0.0000, 0.8000, 0.0000]])
    """

    learnable = True
    complexity = "E C^2"

    def __init__(
        self, channels: int, *, hidden: int | None = None, normalize: bool = False
    ) -> None:
        super().__init__(channels)
        self.hidden = None if hidden is None else as_count(hidden, "hidden")
        self.normalize = normalize

    def build(self, channels: int) -> None:
        hidden = self.hidden or channels
        self.network = torch.nn.Sequential(
            torch.nn.Linear(channels, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1)
        )

    def scores(self, x: Tensor) -> Tensor:
        """The score of each element, ``[..., C]`` to ``[...]``, positive."""
        return torch.nn.functional.softplus(self.network(x)).squeeze(-1)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        score = self.scores(x)
        # One factor for each element, not a normalised copy of it.
        y = segment_sum(score.unsqueeze(-1) * l2_normalize(x), segments, weight)
        if not self.normalize:
            return y / segment_sizes(segments, weight, y)
        total = segment_sum(score, segments, weight)
        return y / align(torch.where(total == 0, 1, total), y)

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            x = x.to(self._dtype(x))
            score = self.scores(x).unsqueeze(-1)
            return {"y": score * l2_normalize(x), "score": score}

        def finish(sums: Tensors) -> Tensor:
            total = sums["score"] if self.normalize else size_of(sums, sums["y"])
            return sums["y"] / torch.where(total == 0, 1, total)

        return Sums(finish, encode)
