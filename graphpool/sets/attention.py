"""Attention between the elements of bags and a few vectors per bag, without padding, and a layer made of it.

Scores take room for each element and head; nothing grows with the square of a bag.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_divides, check_one_of
from graphpool.nn import LayerNorm, affine, may_be_folded_by_size, reset
from graphpool.ops import segment_matmul, segment_outer, segment_softmax, segment_softmax_sum
from graphpool.segments import Segments

SCALES = ("head", "full")


def element_scores(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """Scores ``[E, M, H]`` of elements ``[E, D]`` for queries ``[M, D]``."""
    queries = scale * query.unflatten(-1, (heads, -1))
    return torch.einsum("ehd,mhd->emh", key.unflatten(-1, (heads, -1)), queries)


def weighted_values(
    score: Tensor, value: Tensor, segments: Segments, weight: Tensor | None = None
) -> Tensor:
    """Softmax-weighted sums of the values: scores ``[E, M, H]``, values ``[E, D]``; ``[S, M, D]``."""
    count, heads = score.size(1), score.size(2)
    if count < 4:
        parts = [
            segment_softmax_sum(score[:, m].contiguous(), value, segments, weight)
            for m in range(count)
        ]
        return torch.stack(parts, dim=1)
    # Many queries: one product of matrices per bag and head, instead of a pass for each query.
    share = segment_softmax(score, segments, weight)
    blocks = by_head(value, heads)
    return side_by_side(
        [segment_outer(a, v, segments) for a, v in zip(share.unbind(-1), blocks, strict=True)]
    )


def by_head(x: Tensor, heads: int) -> Sequence[Tensor]:
    """The channels of each head."""
    # Split, not sliced: the derivative of a slice is an array of zeros as large as the whole. That of a split
    # is a copy, which a single head does without.
    return x.split(x.size(-1) // heads, dim=-1) if heads > 1 else (x,)


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """What :func:`by_head` took apart, put together."""
    return torch.cat(list(parts), dim=-1) if len(parts) > 1 else parts[0]


class _Residual(torch.nn.Module):
    """What follows attention in a MAB: ``LN(O + relu(W O))`` of ``O = LN(Q + A V)``."""

    def __init__(self, channels: int, layer_norm: bool) -> None:
        super().__init__()
        self.out = torch.nn.Linear(channels, channels)
        self.norm0 = LayerNorm(channels) if layer_norm else torch.nn.Identity()
        self.norm1 = LayerNorm(channels) if layer_norm else torch.nn.Identity()

    def forward(self, query: Tensor, attended: Tensor) -> Tensor:
        o = self.norm0(query + attended)
        return self.norm1(o + affine(self.out, o, relu=True))


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


class OverElements(_Attention):
    """MAB(vectors, bag): the same vectors ``[M, D]`` attend to the elements ``[E, D]`` of every bag, and give
    ``[S, M, D]``."""

    def forward(
        self, vectors: Tensor, x: Tensor, segments: Segments, weight: Tensor | None
    ) -> Tensor:
        q = self.query(vectors)
        if self._folds(q.size(0), x, segments):
            attended = self._folded(q, x, segments, weight)
        else:
            score = element_scores(q, affine(self.key, x), self.heads, self.scale)
            attended = weighted_values(score, affine(self.value, x), segments, weight)
        return self.residual(q, attended.view(-1, *q.shape))

    def _folds(self, count: int, x: Tensor, segments: Segments) -> bool:
        """Whether it takes fewer products to project vectors and pooled elements than all elements."""
        if not may_be_folded_by_size(self.key, self.value):
            return False
        (size, width), pooled = x.shape, segments.num_segments * count
        return 2 * size * count * self.heads + pooled * width <= 2 * size * (width + count)

    def _folded(self, q: Tensor, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        """``<q, K x> = <K^T q, x>``, and ``sum a (V x) = V sum a x``."""
        split = (self.heads, -1)
        key, value = self.key.weight.unflatten(0, split), self.value.weight.unflatten(0, split)
        queries = self.scale * q.unflatten(-1, split)
        offset = (queries * self.key.bias.unflatten(0, split)).sum(-1).flatten()
        matrix = torch.einsum("mhd,hdc->mhc", queries, key).flatten(0, 1)
        score = torch.nn.functional.linear(x, matrix, offset)
        pooled = weighted_values(score.unsqueeze(-1), x, segments, weight)
        pooled = pooled.unflatten(1, (-1, self.heads))
        return torch.einsum("smhc,hdc->smhd", pooled, value).flatten(-2) + self.value.bias


class ToSegment(_Attention):
    """MAB(bag, vectors): each element ``[E, D]`` attends to the vectors ``[S, M, D]`` of its bag, and gives
    ``[E, D]``."""

    def forward(self, x: Tensor, vectors: Tensor, segments: Segments) -> Tensor:
        q, outputs = affine(self.query, x), []
        read = (q, affine(self.key, vectors), affine(self.value, vectors))
        parts = (by_head(t, self.heads) for t in read)
        for query, key, value in zip(*parts, strict=True):
            score = segment_matmul(query, (self.scale * key.mT).contiguous(), segments)
            outputs.append(segment_matmul(score.softmax(-1), value.contiguous(), segments))
        return self.residual(q, side_by_side(outputs))


def check_heads(channels: int | None, heads: int, scale: str) -> int:
    heads = as_count(heads, "heads")
    check_one_of(scale, "scale", SCALES)
    if channels is not None and channels > 0:
        check_divides(heads, "heads", channels)
    return heads


class ISAB(torch.nn.Module):
    r"""Induced set attention, from elements to elements:
    :math:`\mathrm{MAB}(X, \mathrm{MAB}(I, X))` with ``num_inducing`` learned vectors :math:`I`.

    All elements of a bag see one another through the vectors, at a cost linear in the bag. See
    :class:`graphpool.aggr.PMA` for the formula of a MAB and the arguments.

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
        channels = as_count(channels, "channels")
        heads = check_heads(channels, heads, scale)
        num_inducing = as_count(num_inducing, "num_inducing")
        self.inducing = torch.nn.Parameter(torch.empty(num_inducing, channels))
        self.gather = OverElements(channels, heads, layer_norm, scale)
        self.scatter = ToSegment(channels, heads, layer_norm, scale)
        torch.nn.init.xavier_uniform_(self.inducing)

    def reset_parameters(self) -> None:
        """Restores the initial parameters."""
        torch.nn.init.xavier_uniform_(self.inducing)
        reset(self.gather, self.scatter)

    def forward(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """Maps elements ``[E, C]`` to ``[E, C]``."""
        return self.scatter(x, self.gather(self.inducing, x, segments, weight), segments)
