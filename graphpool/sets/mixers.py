"""Layers that mix the elements of a bag by pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_divides
from graphpool.nn import LayerNorm, may_be_folded_by_size, perceptron
from graphpool.ops import (
    segment_gather,
    segment_matmul,
    segment_max,
    segment_mean,
    segment_softmax_sum,
)
from graphpool.segments import Segments
from graphpool.sets.attention import weighted_values


class PoolMixer(torch.nn.Module):
    r"""Token mixer of PoolFormer: the mean of the neighbours minus the element itself,
    :math:`y_e = \frac{1}{|N(e)|} \sum_{j \in N(e)} x_j - x_e`.

    The neighbours are the bag, or those that ``edge_index`` names (with the element itself among them). The
    subtraction makes up for the residual connection around the mixer.

    Yu et al., "MetaFormer is actually what you need for vision", CVPR 2022.

    Example:
        >>> x, segments = torch.tensor([[1.0], [3.0]]), Segments(ptr=torch.tensor([0, 2]))
        >>> PoolMixer()(x, segments)
        tensor([[ 1.],
                [-1.]])
    """

    def forward(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        edge_index: Tensor | None = None,
    ) -> Tensor:
        """Maps elements ``[E, C]`` to ``[E, C]``.

        Args:
            x: Elements.
            segments: The bags.
            weight: ``[E]``: how often each element counts.
            edge_index: ``[2, M]``, from the neighbours to the elements that see them.
        """
        if edge_index is None:
            return segment_gather(segment_mean(x, segments, weight), segments) - x
        source, around = _with_own(edge_index, x)
        return (
            segment_mean(
                x.index_select(0, source), around, None if weight is None else weight[source]
            )
            - x
        )


class PoNetMixer(torch.nn.Module):
    r"""Multi-granularity pooling in place of self-attention: each element sees its bag, its cluster and its
    neighbours,

    .. math:: y_e = (g_{s(e)} + s_{c(e)}) \circ o_e + l_e

    with five linear maps of the elements: :math:`o_e`; the attention
    :math:`g = \sum_e \mathrm{softmax}(\langle \bar q, k_e \rangle / \sqrt{d})\, k_e` of the mean query of
    the bag, per head; the maximum over a cluster; and the maximum over the neighbours and the element.
    All of it linear in the number of elements.

    Tan, Chen, Wang, Zhang, Ling, "PoNet: pooling network for efficient token mixing in long sequences",
    ICLR 2022, where clusters are sentences and neighbours the words before and after.

    Args:
        channels: Number of channels ``C``.
        heads: Number of heads of the attention, a divisor of ``C``.

    Raises:
        ValueError: ``heads`` does not divide ``channels``.

    Example:
        >>> x, segments = torch.randn(5, 8), Segments(ptr=torch.tensor([0, 2, 5]))
        >>> clusters = Segments(index=torch.tensor([0, 0, 1, 2, 1]), num_segments=3)
        >>> PoNetMixer(8)(x, segments, clusters=clusters).shape
        torch.Size([5, 8])
    """

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        channels = as_count(channels, "channels")
        self.heads = as_count(heads, "heads")
        check_divides(self.heads, "heads", channels)
        self.query, self.key, self.output, self.segment, self.local = (
            torch.nn.Linear(channels, channels) for _ in range(5)
        )

    def forward(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        edge_index: Tensor | None = None,
        clusters: Segments | None = None,
    ) -> Tensor:
        """Maps elements ``[E, C]`` to ``[E, C]``.

        Args:
            x: Elements.
            segments: The bags.
            weight: ``[E]``: how often each element counts.
            edge_index: ``[2, M]``, from the neighbours to the elements that see them; none if absent.
            clusters: The cluster of each element (voxels, faces, nodes of a coarser graph), each inside
                one bag; the whole bag if absent.
        """
        clusters = segments if clusters is None else clusters
        summary = segment_gather(self._global(x, segments, weight), segments)
        pooled = segment_gather(segment_max(self.segment(x), clusters, weight), clusters)
        return (summary + pooled) * self.output(x) + self._local(x, edge_index, weight)

    def _global(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        split, scale = (self.heads, -1), (x.size(1) // self.heads) ** -0.5
        if self._folds(x, segments):
            # Linear maps of means, and <q, K x> = <K^T q, x>: products for bags instead of elements.
            mean = segment_mean(x, segments, weight)
            query, back = self.query(mean).unflatten(-1, split), self.key.weight.unflatten(0, split)
            matrix = torch.einsum("shd,hdc->sch", scale * query, back)
            score = segment_matmul(x - segment_gather(mean, segments), matrix, segments)
            pooled = weighted_values(score.unsqueeze(-1), x, segments, weight)
            return torch.einsum("shc,hdc->shd", pooled, back).flatten(1) + self.key.bias
        query, key = segment_mean(self.query(x), segments, weight), self.key(x)
        # Scores count up to a constant per bag; without the mean there is less to round.
        centred = key - segment_gather(segment_mean(key, segments, weight), segments)
        product = (centred * segment_gather(query, segments)).unflatten(-1, split).sum(-1)
        return segment_softmax_sum(scale * product, key, segments, weight)

    def _folds(self, x: Tensor, segments: Segments) -> bool:
        if not may_be_folded_by_size(self.query, self.key):
            return False
        size, channels = x.shape
        return 3 * segments.num_segments * channels + 2 * size * self.heads <= 2 * size * channels

    def _local(self, x: Tensor, edge_index: Tensor | None, weight: Tensor | None) -> Tensor:
        local = self.local(x)
        if edge_index is None:
            return local
        source, around = _with_own(edge_index, x)
        return segment_max(local[source], around, None if weight is None else weight[source])


def _with_own(edge_index: Tensor, x: Tensor) -> tuple[Tensor, Segments]:
    """The neighbours of each element, with the element itself first, and the bags that they form."""
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"`edge_index` must have shape [2, M]; got {tuple(edge_index.shape)}.")
    own = torch.arange(x.size(0), device=x.device)
    around = Segments(index=torch.cat([own, edge_index[1]]), num_segments=x.size(0))
    return torch.cat([own, edge_index[0]]), around


class MixerBlock(torch.nn.Module):
    """A mixer and a perceptron, each behind a layer norm and with a residual connection."""

    def __init__(self, mixer: torch.nn.Module, channels: int, project: bool) -> None:
        super().__init__()
        self.norm0, self.norm1 = (LayerNorm(channels) for _ in range(2))
        self.mixer = mixer
        self.project = torch.nn.Linear(channels, channels) if project else torch.nn.Identity()
        self.mlp = perceptron(channels, 2 * channels, channels)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        x = x + self.project(self.mixer(self.norm0(x), *args, **kwargs))
        return x + self.mlp(self.norm1(x))
