"""Set Transformer: pooling by multi-head attention, behind induced set attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.nn import reset
from graphpool.ops import segment_softmax
from graphpool.segments import Segments
from graphpool.sets.attention import ISAB, OverElements, check_heads, element_scores
from graphpool.states import Exponential, Mergeable, Tensors


@register("pma")
class PMA(MatrixAggregation):
    r"""Pooling by multi-head attention: learned seeds attend to the bag,

    .. math:: O = \mathrm{LN}(Q + \mathrm{Att}(Q, K, V)), \qquad
              y_s = \mathrm{LN}(O + \mathrm{relu}(O W + b)), \qquad Q = S W_q

    with :math:`K, V` linear in the elements, one softmax over the bag for each seed and head, and no
    padding: bags may be of any length. An empty bag gives 0.

    Lee et al., "Set transformer", ICML 2019. The paper puts a row-wise network in front
    (``feed_forward=True``), its code does not.

    Args:
        channels: Number of channels ``C``.
        num_seeds: Number ``K`` of seeds, each of which gives one vector.
        heads: Number of heads, a divisor of ``C``.
        layer_norm: Apply the layer norms; the published results come without.
        feed_forward: Linear layer and ReLU on the elements first.
        scale: Scores are divided by the square root of the width of a head (``"head"``), or of all
            channels (``"full"``), as in the released code.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * C]``

    Raises:
        ValueError: ``heads`` does not divide ``channels``, or a number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.PMA(8, num_seeds=2, heads=4)(torch.randn(5, 8)).shape
        torch.Size([1, 16])
    """

    learnable = True
    complexity = "E C^2 + K E C"
    example_arguments = {"heads": 2, "num_seeds": 2}

    def __init__(
        self,
        channels: int,
        *,
        num_seeds: int = 1,
        heads: int = 1,
        layer_norm: bool = False,
        feed_forward: bool = False,
        scale: str = "head",
    ) -> None:
        super().__init__(channels)
        self.heads = check_heads(self.channels, heads, scale)
        self.num_seeds = as_count(num_seeds, "num_seeds")
        self.layer_norm = layer_norm
        self.feed_forward = feed_forward
        self.scale = scale

    def build(self, channels: int) -> None:
        check_heads(channels, self.heads, self.scale)
        self.seeds = torch.nn.Parameter(torch.empty(self.num_seeds, channels))
        self.attend = OverElements(channels, self.heads, self.layer_norm, self.scale)
        self.first: torch.nn.Module = torch.nn.Identity()
        if self.feed_forward:
            self.first = torch.nn.Sequential(torch.nn.Linear(channels, channels), torch.nn.ReLU())

    def reset_parameters(self) -> None:
        torch.nn.init.xavier_uniform_(self.seeds)
        reset(self.attend, self.first)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_seeds * self.channels

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return self.attend(self.seeds, self.first(x), segments, weight).flatten(1)

    def _scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[E, num_seeds, heads]`` and what they are scores of."""
        attend, x = self.attend, self.first(x.to(self._dtype(x)))
        query, key = attend.query(self.seeds), attend.key(x)
        return element_scores(query, key, attend.heads, attend.scale), x

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            score, x = self._scores(x)
            value = self.attend.value(x).unflatten(-1, (1, self.heads, -1))
            return {"score": score.unsqueeze(-1), "value": value}

        def finish(mean: Tensor, log: Tensor, sums: Tensors) -> Tensor:
            query = self.attend.query(self.seeds)
            return self.attend.residual(query, mean.flatten(2).to(query.dtype)).flatten(1)

        return Exponential(finish, lambda s: s["score"], lambda s: s["value"], encode)

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, num_seeds, heads]`` of elements ``[E, C]``; each bag, seed and head sums to 1."""
        return segment_softmax(self._scores(x)[0], segments, weight).to(x.dtype)


@register("isab", "set_transformer")
class SetTransformer(MatrixAggregation):
    r"""Layers of :class:`ISAB`, then :class:`PMA`: the elements look at one another before they are pooled.

    Lee et al., "Set transformer", ICML 2019.

    Args:
        channels: Number of channels ``C``.
        num_layers: Number of ISAB layers.
        num_inducing: Number of inducing vectors of each.
        num_seeds: Number ``K`` of vectors that come out.
        heads: Number of heads, a divisor of ``C``.
        layer_norm: Apply the layer norms.
        scale: See :class:`PMA`.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * C]``

    Raises:
        ValueError: ``heads`` does not divide ``channels``, or a number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.SetTransformer(8, heads=2)(torch.randn(5, 8)).shape
        torch.Size([1, 8])
    """

    learnable = True
    whole_bag = "its elements look at one another before they are pooled"
    complexity = "E C^2 + M E C, M inducing vectors"
    bags_apart = True
    example_arguments = {"num_inducing": 4, "heads": 2, "num_layers": 1}

    def __init__(
        self,
        channels: int,
        *,
        num_layers: int = 2,
        num_inducing: int = 16,
        num_seeds: int = 1,
        heads: int = 1,
        layer_norm: bool = False,
        scale: str = "head",
    ) -> None:
        super().__init__(channels)
        self.heads = check_heads(self.channels, heads, scale)
        self.num_layers = as_count(num_layers, "num_layers")
        self.num_inducing = as_count(num_inducing, "num_inducing")
        self.num_seeds = as_count(num_seeds, "num_seeds")
        self.layer_norm, self.scale = layer_norm, scale

    def build(self, channels: int) -> None:
        arguments: dict[str, Any] = {
            "heads": self.heads,
            "layer_norm": self.layer_norm,
            "scale": self.scale,
        }
        self.layers = torch.nn.ModuleList(
            ISAB(channels, self.num_inducing, **arguments) for _ in range(self.num_layers)
        )
        self.seeds = PMA(channels, num_seeds=self.num_seeds, **arguments)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_seeds * self.channels

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, segments, weight)
        return self.seeds.pool_matrix(x, segments, weight)
