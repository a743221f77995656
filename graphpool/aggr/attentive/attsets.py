"""Attention with a score for every feature of every element."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_one_of
from graphpool.aggr.base import Aggregation
from graphpool.aggr.matrix import few_bags_at_a_time
from graphpool.aggr.registry import register
from graphpool.nn import affine
from graphpool.ops import Gather, gathered, segment_softmax, segment_softmax_sum
from graphpool.segments import Segments
from graphpool.states import Exponential, Mergeable, Tensors

ACTIVATIONS = {None: torch.nn.Identity, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


@register("attsets")
class AttSets(Aggregation):
    r"""Attentional aggregation with a score for each feature of each element:

    .. math:: y_{s,c} = \sum_{e \in s} a_{e,c}\, x_{e,c}, \qquad
              a_{\cdot,c} = \mathrm{softmax}_s(g(x)_{\cdot,c}), \qquad g(x) = \sigma(x W + b)

    A bag of one element gives that element, whatever ``W``. ``W = 0`` is the mean; scores that grow with
    ``x`` lead to the maximum. The weights sum to 1, so the size of the bag is not seen.

    Yang, Wang, Markham, Trigoni, "Robust attentional aggregation of deep feature sets for multi-view 3D
    reconstruction", IJCV 2020.

    Args:
        channels: Number of channels ``C``.
        num_outputs: Number ``K`` of pooled vectors, each with scores of its own.
        activation: ``None`` (the paper's default), ``"tanh"`` or ``"relu"`` on the scores.
        return_weights: Return ``(y, weights)`` with weights ``[E, ..., K, C]``.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * C]``: elements may have dimensions between the first and the last
        (maps flattened to positions by channels), each of which gets scores of its own.

    Raises:
        ValueError: ``num_outputs`` is less than 1, or the activation is unknown.

    Example:
        >>> from graphpool import aggr
        >>> x = torch.randn(1, 8)
        >>> torch.equal(aggr.AttSets(8)(x), x)
        True
    """

    learnable = True
    supports_gather = True
    complexity = "E C^2"

    def __init__(
        self,
        channels: int,
        *,
        num_outputs: int = 1,
        activation: str | None = None,
        return_weights: bool = False,
    ) -> None:
        super().__init__(channels)
        check_one_of(activation, "activation", ACTIVATIONS)
        self.num_outputs = as_count(num_outputs, "num_outputs")
        self.activation = activation
        self.return_weights = return_weights

    def build(self, channels: int) -> None:
        self.score = torch.nn.Linear(channels, self.num_outputs * channels)

    def reset_parameters(self) -> None:
        torch.nn.init.xavier_uniform_(self.score.weight)
        torch.nn.init.zeros_(self.score.bias)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_outputs * self.channels

    def _scores(self, x: Tensor) -> list[Tensor]:
        score = ACTIVATIONS[self.activation]()(affine(self.score, x.to(self.score.weight.dtype)))
        return list(score.chunk(self.num_outputs, dim=-1))

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        if gather is None and not self.return_weights:
            return few_bags_at_a_time(
                self, lambda *part: self._pooled(*part)[0], x, segments, weight
            )
        y, scores = self._pooled(x, segments, weight, gather)
        if not self.return_weights:
            return y
        return y, torch.stack([segment_softmax(s, segments, weight) for s in scores], dim=-2)

    def _pooled(
        self, x: Tensor, segments: Segments, weight: Tensor | None, gather: Gather | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        # Elements that read the same row have the same scores: one product per row is enough.
        scores = [gathered(score, gather) for score in self._scores(x)]
        pooled = [segment_softmax_sum(score, x, segments, weight, gather) for score in scores]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1), scores

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            return {"x": x.unsqueeze(1), "score": torch.stack(self._scores(x), 1)}

        return Exponential(
            lambda mean, log, sums: mean.flatten(1), lambda s: s["score"], lambda s: s["x"], encode
        )

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, ..., C]``, averaged over the ``K`` outputs; each bag and channel sums to 1."""
        shares = [segment_softmax(score, segments, weight) for score in self._scores(x)]
        return torch.stack(shares).mean(0).to(x.dtype)
