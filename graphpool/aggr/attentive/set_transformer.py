"""Set Transformer: pooling by multi-head attention, and induced set attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool.aggr.attentive.queries import attend_over_elements, attend_to_bag, element_scores
from graphpool.aggr.flat import FlatAggregation, LayerNorm, check_count, check_divides, reset
from graphpool.aggr.registry import register
from graphpool.ops import segment_softmax
from graphpool.segments import Segments

SCALES = ("head", "full")


class _Residual(torch.nn.Module):
    """What follows attention in a MAB: ``LN(O + relu(W O))`` of ``O = LN(Q + A V)``."""

    def __init__(self, channels: int, layer_norm: bool) -> None:
        super().__init__()
        self.out = torch.nn.Linear(channels, channels)
        self.norm0 = LayerNorm(channels) if layer_norm else torch.nn.Identity()
        self.norm1 = LayerNorm(channels) if layer_norm else torch.nn.Identity()

    def forward(self, query: Tensor, attended: Tensor) -> Tensor:
        o = self.norm0(query + attended)
        return self.norm1(o + self.out(o).relu())


class _Attention(torch.nn.Module):
    """The three projections of a MAB, its scale and its residual part."""

    def __init__(self, channels: int, heads: int, layer_norm: bool, scale: str) -> None:
        super().__init__()
        self.query = torch.nn.Linear(channels, channels)
        self.key = torch.nn.Linear(channels, channels)
        self.value = torch.nn.Linear(channels, channels)
        self.residual = _Residual(channels, layer_norm)
        self.heads = heads
        self.scale = (channels // heads if scale == "head" else channels) ** -0.5


class _OverElements(_Attention):
    """MAB(vectors, bag): the same vectors attend to the elements of every bag."""

    def forward(
        self, vectors: Tensor, x: Tensor, segments: Segments, weight: Tensor | None
    ) -> Tensor:
        q = self.query(vectors)
        attended = attend_over_elements(
            q, self.key(x), self.value(x), segments, self.heads, self.scale, weight
        )
        return self.residual(q, attended)


class _ToBag(_Attention):
    """MAB(bag, vectors): each element attends to the vectors of its bag."""

    def forward(self, x: Tensor, vectors: Tensor, segments: Segments) -> Tensor:
        q = self.query(x)
        attended = attend_to_bag(
            q, self.key(vectors), self.value(vectors), segments, self.heads, self.scale
        )
        return self.residual(q, attended)


def _check(channels: int | None, heads: int, scale: str) -> int:
    heads = check_count(heads, "heads")
    if scale not in SCALES:
        raise ValueError(f"`scale` must be one of {SCALES}; got {scale!r}.")
    if channels is not None and channels > 0:
        check_divides(heads, "heads", channels)
    return heads


@register("pma")
class PMA(FlatAggregation):
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
        self.heads = _check(self.channels, heads, scale)
        self.num_seeds = check_count(num_seeds, "num_seeds")
        self.layer_norm = layer_norm
        self.feed_forward = feed_forward
        self.scale = scale

    def build(self, channels: int) -> None:
        _check(channels, self.heads, self.scale)
        self.seeds = torch.nn.Parameter(torch.empty(self.num_seeds, channels))
        self.attend = _OverElements(channels, self.heads, self.layer_norm, self.scale)
        self.first: torch.nn.Module = torch.nn.Identity()
        if self.feed_forward:
            self.first = torch.nn.Sequential(torch.nn.Linear(channels, channels), torch.nn.ReLU())

    def reset_parameters(self) -> None:
        torch.nn.init.xavier_uniform_(self.seeds)
        reset(self.attend, self.first)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_seeds * self.channels

    def pool_flat(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return self.attend(self.seeds, self.first(x), segments, weight).flatten(1)

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, num_seeds, heads]`` of elements ``[E, C]``; each bag, seed and head sums to 1."""
        attend = self.attend
        key = attend.key(self.first(x.to(self._dtype(x))))
        score = element_scores(attend.query(self.seeds), key, attend.heads, attend.scale)
        return segment_softmax(score, segments, weight).to(x.dtype)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, num_seeds={self.num_seeds}, heads={self.heads}"


class ISAB(torch.nn.Module):
    r"""Induced set attention, from elements to elements:
    :math:`\mathrm{MAB}(X, \mathrm{MAB}(I, X))` with ``num_inducing`` learned vectors :math:`I`.

    All elements of a bag see one another through the vectors, at a cost linear in the bag. See
    :class:`PMA` for the formula of a MAB and the arguments.

    Lee et al., "Set transformer", ICML 2019.

    Args:
        channels: Number of channels ``C``.
        num_inducing: Number of inducing vectors.
        heads: Number of heads, a divisor of ``C``.
        layer_norm: Apply the layer norms.
        scale: ``"head"`` or ``"full"``.

    Raises:
        ValueError: ``heads`` does not divide ``channels``, or a number is less than 1.

    Example:
        >>> x, segments = torch.randn(5, 8), Segments(ptr=torch.tensor([0, 2, 5]))
        >>> ISAB(8, num_inducing=4, heads=2)(x, segments).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        channels: int,
        num_inducing: int = 16,
        heads: int = 1,
        layer_norm: bool = False,
        scale: str = "head",
    ) -> None:
        super().__init__()
        channels = check_count(channels, "channels")
        heads = _check(channels, heads, scale)
        num_inducing = check_count(num_inducing, "num_inducing")
        self.inducing = torch.nn.Parameter(torch.empty(num_inducing, channels))
        self.gather = _OverElements(channels, heads, layer_norm, scale)
        self.scatter = _ToBag(channels, heads, layer_norm, scale)
        torch.nn.init.xavier_uniform_(self.inducing)

    def reset_parameters(self) -> None:
        """Restores the initial parameters."""
        torch.nn.init.xavier_uniform_(self.inducing)
        reset(self.gather, self.scatter)

    def forward(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """Maps elements ``[E, C]`` to ``[E, C]``."""
        return self.scatter(x, self.gather(self.inducing, x, segments, weight), segments)


@register("isab", "set_transformer")
class SetTransformer(FlatAggregation):
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
    complexity = "E C^2 + M E C, M inducing vectors"
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
        self.heads = _check(self.channels, heads, scale)
        self.num_layers = check_count(num_layers, "num_layers")
        self.num_inducing = check_count(num_inducing, "num_inducing")
        self.num_seeds = check_count(num_seeds, "num_seeds")
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

    def reset_parameters(self) -> None:
        reset(*self.children())

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_seeds * self.channels

    def pool_flat(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, segments, weight)
        return self.seeds.pool_flat(x, segments, weight)

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, num_layers={self.num_layers}, "
            f"num_inducing={self.num_inducing}, num_seeds={self.num_seeds}, heads={self.heads}"
        )
