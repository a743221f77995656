"""Pools with learned latent vectors: as a dictionary for the elements, and as queries to the layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_divides
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.pyg import merging_of
from graphpool.aggr.registry import register, resolve
from graphpool.nn import LayerNorm, l2_normalize, may_be_folded, reset
from graphpool.ops import segment_mean
from graphpool.segments import Segments
from graphpool.states import Mapped, Mergeable, Sums, Tensors, size_of


class _CrossAttention(torch.nn.Module):
    """Pre-norm attention with residual, and a gated feed-forward layer with residual."""

    def __init__(self, channels: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm = LayerNorm(channels)
        self.context_norm = LayerNorm(channels)
        self.query = torch.nn.Linear(channels, channels, bias=False)
        self.key = torch.nn.Linear(channels, channels, bias=False)
        self.value = torch.nn.Linear(channels, channels, bias=False)
        self.out = torch.nn.Linear(channels, channels, bias=False)
        self.norm = LayerNorm(channels)
        self.expand = torch.nn.Linear(channels, 2 * expansion * channels)
        self.contract = torch.nn.Linear(expansion * channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``x`` ``[..., M, C]`` attends to ``context`` ``[..., L, C]``."""
        hidden, x = self.halfway(x, context)
        return self.contract(hidden) + x

    def halfway(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layer takes, and what it adds to."""
        q, context = self.query_norm(x), self.context_norm(context)
        split = (self.heads, -1)
        k = self.key(context).unflatten(-1, split) * (x.size(-1) // self.heads) ** -0.5
        v = self.value(context).unflatten(-1, split)
        if self._folds(context):
            # <Q x, k> = <Q^T k, x>, and O sum a v = sum a (O v): two products as wide as the context.
            query, out = self.query.weight.unflatten(0, split), self.out.weight.unflatten(1, split)
            matrix = torch.einsum("lhd,hdc->hlc", k, query).flatten(0, 1)
            share = (
                torch.nn.functional.linear(q, matrix).unflatten(-1, (self.heads, -1)).softmax(-1)
            )
            x = share.flatten(-2) @ torch.einsum("lhd,chd->hlc", v, out).flatten(0, 1) + x
        else:
            q = self.query(q).unflatten(-1, split)
            score = torch.einsum("...mhd,...lhd->...hml", q, k)
            attended = torch.einsum("...hml,...lhd->...mhd", score.softmax(-1), v).flatten(-2)
            x = self.out(attended) + x
        value, gate = self.expand(self.norm(x)).chunk(2, dim=-1)
        return value * torch.nn.functional.gelu(gate), x

    def _folds(self, context: Tensor) -> bool:
        """Whether there is one context for all, and few vectors in it."""
        few = context.dim() == 2 and context.size(0) * (self.heads - 1) <= context.size(1)
        return few and may_be_folded(self.query, self.out)


@register("latent_attention")
class LatentAttention(MatrixAggregation):
    r"""Each element looks up a learned dictionary, then the mean is taken:

    .. math:: o_e = x_e + \mathrm{Att}(x_e, L, L), \qquad
              y_s = \frac{1}{n_s} \sum_{e \in s} \big(o_e + \mathrm{FF}(o_e)\big)

    with layer norms in front, ``num_latents`` vectors :math:`L` as keys and values, and a gated
    feed-forward layer (GEGLU). It is a Deep Set: elements do not see one another.

    Lee et al., "NV-Embed: improved techniques for training LLMs as generalist embedding models", ICLR
    2025 (512 latents, 8 heads).

    Args:
        channels: Number of channels ``C``.
        num_latents: Number of latent vectors.
        heads: Number of heads, a divisor of ``C``.
        l2: Divide the result by its length, as the paper does.

    Raises:
        ValueError: ``heads`` does not divide ``channels``, or a number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.LatentAttention(8, num_latents=4, heads=2)(torch.randn(5, 8)).shape
        torch.Size([1, 8])
    """

    learnable = True
    complexity = "E C^2 + M E C, M latents"
    bags_apart = True
    example_arguments = {"num_latents": 4, "heads": 2}

    def __init__(
        self, channels: int, *, num_latents: int = 32, heads: int = 1, l2: bool = False
    ) -> None:
        super().__init__(channels)
        self.num_latents = as_count(num_latents, "num_latents")
        self.heads = as_count(heads, "heads")
        self.l2 = l2

    def build(self, channels: int) -> None:
        check_divides(self.heads, "heads", channels)
        self.latents = torch.nn.Parameter(torch.empty(self.num_latents, channels))
        self.block = _CrossAttention(channels, self.heads)

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.latents)
        reset(self.block)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        if may_be_folded(self.block.contract):
            # The last layer is linear, as the mean is: it is enough to apply it to the mean.
            hidden, x = self.block.halfway(x, self.latents)
            pooled = segment_mean(hidden, segments, weight)
            y = self.block.contract(pooled) + segment_mean(x, segments, weight)
        else:
            y = segment_mean(self.block(x, self.latents), segments, weight)
        return l2_normalize(y) if self.l2 else y

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            return {"x": self.block(x.to(self._dtype(x)), self.latents)}

        def finish(sums: Tensors) -> Tensor:
            y = sums["x"] / size_of(sums, sums["x"])
            return l2_normalize(y) if self.l2 else y

        return Sums(finish, encode)


@register("layer_attention")
class LayerAttention(MatrixAggregation):
    r"""Pools what all layers of a network have to say: learned latent queries attend to one vector for
    each layer.

    The elements hold the states of ``num_layers`` layers side by side. Each layer is pooled over the bag,
    an embedding of the layer is added, the latents attend to the layers (with layer norms and a gated
    feed-forward layer), and their mean comes out. As a readout it is jumping knowledge::

        GraphModel(7, 64, 2, num_layers=3, jumping="cat",
                   readout=LayerAttention(3 * 64, num_layers=3))

    Tang, Yang, "Pooling and attention: what are effective designs for LLM-based embedding models?", 2024.

    Args:
        channels: Number of channels of all layers together.
        num_layers: Number of layers ``L``, a divisor of ``channels``.
        num_latents: Number of latent queries.
        heads: Number of heads, a divisor of ``channels / num_layers``.
        pool: What pools each layer over the bag: any name, class or module that keeps the width.
        l2: Divide the result by its length, as the paper does.

    Shapes:
        ``[E, ..., L * C]`` to ``[S, ..., C]``

    Raises:
        ValueError: ``num_layers`` does not divide ``channels``, ``heads`` not the width of a layer, or
            ``pool`` changes the width.

    Example:
        >>> from graphpool import aggr
        >>> states = [torch.randn(5, 8) for _ in range(3)]
        >>> aggr.LayerAttention(24, num_layers=3)(torch.cat(states, dim=-1)).shape
        torch.Size([1, 8])
    """

    learnable = True
    complexity = "E L C + S L M C, M latents"
    example_arguments = {"num_layers": 2, "num_latents": 3}

    def __init__(
        self,
        channels: int,
        *,
        num_layers: int = 1,
        num_latents: int = 8,
        heads: int = 1,
        pool: Any = "mean",
        l2: bool = False,
    ) -> None:
        super().__init__(channels)
        self.num_layers = as_count(num_layers, "num_layers")
        self.num_latents = as_count(num_latents, "num_latents")
        self.heads = as_count(heads, "heads")
        self.inner = pool
        self.l2 = l2

    def _check(self, channels: int) -> int:
        check_divides(self.num_layers, "num_layers", channels)
        width = channels // self.num_layers
        check_divides(self.heads, "heads", width)
        return width

    def build(self, channels: int) -> None:
        width = self._check(channels)
        self.inner_pool = resolve(self.inner, channels=channels)
        if getattr(self.inner_pool, "out_channels", None) not in (None, channels):
            raise ValueError(f"`pool` must keep the width of a layer; {self.inner!r} changes it.")
        self.layer = torch.nn.Parameter(torch.empty(self.num_layers, width))
        self.latents = torch.nn.Parameter(torch.empty(self.num_latents, width))
        self.block = _CrossAttention(width, self.heads)

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.layer)
        torch.nn.init.normal_(self.latents)
        reset(self.block, self.inner_pool)

    @property
    def out_channels(self) -> int | None:
        c = self.channels
        return c if c in (None, -1) else c // self.num_layers  # type: ignore[operator]

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return self._attend(self.inner_pool(x, segments, dim=0, weight=weight))

    def _attend(self, pooled: Tensor) -> Tensor:
        layers = pooled.unflatten(-1, (self.num_layers, -1)) + self.layer
        latents = self.latents.expand(layers.size(0), -1, -1)
        y = self.block(latents, layers).mean(1)
        return l2_normalize(y) if self.l2 else y

    def merging(self) -> Mergeable:
        def after(pooled: Tensor, sums: Tensors) -> Tensor:
            return self._attend(pooled.to(self.layer.dtype))

        return Mapped(merging_of(self.inner_pool), lambda x: x.to(self._dtype(x)), after)
