"""Layers that mix the elements of a bag by pooling, and the pools made of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from graphpool.aggr.flat import (
    FlatAggregation,
    LayerNorm,
    check_count,
    check_divides,
    perceptron,
    reset,
)
from graphpool.aggr.positions import check_positions, feature_channels, split_positions
from graphpool.aggr.registry import register, resolve
from graphpool.ops.kernels.primitives import bag_gather
from graphpool.ops.neighbors import knn_groups, voxel_segments
from graphpool.ops.reduce import segment_max, segment_mean
from graphpool.ops.softmax import segment_softmax_sum
from graphpool.segments import Segments


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
            return bag_gather(segment_mean(x, segments, weight), segments) - x
        source, around = neighborhoods(edge_index, x)
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
        channels = check_count(channels, "channels")
        self.heads = check_count(heads, "heads")
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
        summary = bag_gather(self._global(x, segments, weight), segments)
        pooled = bag_gather(segment_max(self.segment(x), clusters, weight), clusters)
        return (summary + pooled) * self.output(x) + self._local(x, edge_index, weight)

    def _global(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        query, key = segment_mean(self.query(x), segments, weight), self.key(x)
        split = (self.heads, -1)
        # Scores count up to a constant per bag; without the mean there is less to round.
        centred = key - bag_gather(segment_mean(key, segments, weight), segments)
        product = (centred * bag_gather(query, segments)).unflatten(-1, split).sum(-1)
        scale = (x.size(1) // self.heads) ** -0.5
        return segment_softmax_sum(scale * product, key, segments, weight)

    def _local(self, x: Tensor, edge_index: Tensor | None, weight: Tensor | None) -> Tensor:
        local = self.local(x)
        if edge_index is None:
            return local
        source, around = neighborhoods(edge_index, x)
        return segment_max(local[source], around, None if weight is None else weight[source])


def neighborhoods(edge_index: Tensor, x: Tensor) -> tuple[Tensor, Segments]:
    """The neighbours of each element, with the element itself first, and the bags that they form."""
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"`edge_index` must have shape [2, M]; got {tuple(edge_index.shape)}.")
    own = torch.arange(x.size(0), device=x.device)
    around = Segments(index=torch.cat([own, edge_index[1]]), num_segments=x.size(0))
    return torch.cat([own, edge_index[0]]), around


class _Block(torch.nn.Module):
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


class _MixerPool(FlatAggregation):
    """Blocks around a mixer, then a pool. With positions, elements see their neighbours."""

    learnable = True
    complexity = "E C^2"
    example_arguments = {"num_layers": 1}

    def __init__(
        self, channels: int, *, num_layers: int, readout: Any, pos_dim: int, k: int
    ) -> None:
        super().__init__(channels)
        self.num_layers = check_count(num_layers, "num_layers")
        self.k = check_count(k, "k")
        self.pos_dim = check_positions(self.channels, pos_dim)
        self.inner = readout

    @abstractmethod
    def make_mixer(self, channels: int) -> torch.nn.Module:
        """One mixer for the given width."""

    _project = False

    def build(self, channels: int) -> None:
        check_positions(channels, self.pos_dim)
        width = channels - self.pos_dim
        self.blocks = torch.nn.ModuleList(
            _Block(self.make_mixer(width), width, self._project) for _ in range(self.num_layers)
        )
        self.readout = resolve(self.inner, channels=width)

    def reset_parameters(self) -> None:
        reset(*self.children())

    @property
    def out_channels(self) -> int | None:
        inner = getattr(getattr(self, "readout", None), "out_channels", None)
        return inner or feature_channels(self.channels, self.pos_dim)

    def surroundings(
        self, position: Tensor, segments: Segments, weight: Tensor | None
    ) -> dict[str, Any]:
        """What the mixers are told about who is near to whom. Absent elements are near to nobody."""
        if not self.pos_dim:
            return {}
        position = position.detach()
        if weight is None:
            groups = knn_groups(position, self.k, segments=segments)
            return {"edge_index": torch.stack([groups.index, groups.segments.index])}
        here = weight.detach().nonzero().squeeze(1)
        bags = Segments(
            index=segments.index.index_select(0, here), num_segments=segments.num_segments
        )
        groups = knn_groups(position.index_select(0, here), self.k, segments=bags)
        return {"edge_index": here[torch.stack([groups.index, groups.segments.index])]}

    def pool_flat(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        position, x = split_positions(x, self.pos_dim)
        around = self.surroundings(position, segments, weight)
        for block in self.blocks:
            x = block(x, segments, weight, **around)
        return self.readout(x, segments, dim=0, weight=weight)


@register("poolformer")
class PoolFormer(_MixerPool):
    r"""Blocks of :class:`PoolMixer` and a perceptron, then a pool.

    .. math:: x \leftarrow x + \mathrm{mixer}(\mathrm{LN}(x)), \qquad
              x \leftarrow x + \mathrm{MLP}(\mathrm{LN}(x))

    Args:
        channels: Number of channels ``C``, positions included.
        num_layers: Number of blocks.
        readout: The pool at the end: any name, class or module.
        pos_dim: The first so many columns of ``x`` are positions, and elements mix with their ``k`` nearest
            neighbours; with 0 they mix with the whole bag.
        k: Number of neighbours, the element itself among them.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> from graphpool import aggr
        >>> aggr.PoolFormer(8)(torch.randn(5, 8)).shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        num_layers: int = 2,
        readout: Any = "mean",
        pos_dim: int = 0,
        k: int = 8,
    ) -> None:
        super().__init__(channels, num_layers=num_layers, readout=readout, pos_dim=pos_dim, k=k)

    def make_mixer(self, channels: int) -> torch.nn.Module:
        return PoolMixer()

    def extra_repr(self) -> str:
        return f"channels={self.channels}, num_layers={self.num_layers}, pos_dim={self.pos_dim}"


@register("ponet")
class PoNet(_MixerPool):
    r"""Blocks of :class:`PoNetMixer`, a linear map and a perceptron, then a pool.

    Args:
        channels: Number of channels ``C``, positions included.
        num_layers: Number of blocks.
        heads: Number of heads, a divisor of the ``C - pos_dim`` features.
        readout: The pool at the end: any name, class or module.
        pos_dim: The first so many columns of ``x`` are positions: clusters are then the cells of a grid,
            neighbours the ``k`` nearest. With 0 clusters are bags, and there are no neighbours.
        voxel: Edge of a cell; needed with positions.
        k: Number of neighbours, the element itself among them.

    Raises:
        ValueError: A number is out of range, or ``voxel`` is missing.

    Example:
        >>> from graphpool import aggr
        >>> aggr.PoNet(11, heads=2, pos_dim=3, voxel=0.5)(torch.randn(20, 11)).shape
        torch.Size([1, 8])
    """

    example_arguments = {"num_layers": 1, "heads": 2}
    _project = True

    def __init__(
        self,
        channels: int,
        *,
        num_layers: int = 2,
        heads: int = 1,
        readout: Any = "mean",
        pos_dim: int = 0,
        voxel: float | None = None,
        k: int = 8,
    ) -> None:
        super().__init__(channels, num_layers=num_layers, readout=readout, pos_dim=pos_dim, k=k)
        self.heads = check_count(heads, "heads")
        if pos_dim and (voxel is None or not voxel > 0):
            raise ValueError(f"`voxel`, the edge of a cell, must be positive; got {voxel!r}.")
        self.voxel = voxel

    def make_mixer(self, channels: int) -> torch.nn.Module:
        return PoNetMixer(channels, self.heads)

    def surroundings(
        self, position: Tensor, segments: Segments, weight: Tensor | None
    ) -> dict[str, Any]:
        around = super().surroundings(position, segments, weight)
        if around:
            around["clusters"] = voxel_segments(position.detach(), self.voxel or 1.0, segments)
        return around

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, num_layers={self.num_layers}, heads={self.heads}, "
            f"pos_dim={self.pos_dim}, voxel={self.voxel}"
        )
