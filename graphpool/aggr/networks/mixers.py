"""Pools made of layers that mix the elements of a bag by pooling."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.positions import check_pos_dim, feature_channels, split_positions
from graphpool.aggr.registry import register, resolve
from graphpool.ops.neighbors import knn_groups, voxel_segments
from graphpool.segments import Segments
from graphpool.sets.mixers import MixerBlock, PoNetMixer, PoolMixer


class _MixerPool(MatrixAggregation):
    """Blocks around a mixer, then a pool. With positions, elements see their neighbours."""

    learnable = True
    whole_bag = "its elements look at one another before they are pooled"
    complexity = "E C^2"
    example_arguments = {"num_layers": 1}

    def __init__(
        self, channels: int, *, num_layers: int, readout: Any, pos_dim: int, k: int
    ) -> None:
        super().__init__(channels)
        self.num_layers = as_count(num_layers, "num_layers")
        self.k = as_count(k, "k")
        self.pos_dim = check_pos_dim(self.channels, pos_dim)
        self.inner = readout

    @abstractmethod
    def make_mixer(self, channels: int) -> torch.nn.Module:
        """One mixer for the given width."""

    _project = False

    def build(self, channels: int) -> None:
        check_pos_dim(channels, self.pos_dim)
        width = channels - self.pos_dim
        self.blocks = torch.nn.ModuleList(
            MixerBlock(self.make_mixer(width), width, self._project) for _ in range(self.num_layers)
        )
        self.readout = resolve(self.inner, channels=width)

    @property
    def out_channels(self) -> int | None:
        inner = getattr(getattr(self, "readout", None), "out_channels", None)
        return inner or feature_channels(self.channels, self.pos_dim)

    @_debug.on_values
    def surroundings(
        self, position: Tensor, segments: Segments, weight: Tensor | None
    ) -> dict[str, Any]:
        """What the mixers are told about who is near to whom. Absent elements are near to nobody."""
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

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        position, x = split_positions(x, self.pos_dim)
        around = self.surroundings(position, segments, weight) if self.pos_dim else {}
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
        self.heads = as_count(heads, "heads")
        if pos_dim and (voxel is None or not voxel > 0):
            raise ValueError(f"`voxel`, the edge of a cell, must be positive; got {voxel!r}.")
        self.voxel = voxel

    def make_mixer(self, channels: int) -> torch.nn.Module:
        return PoNetMixer(channels, self.heads)

    def surroundings(
        self, position: Tensor, segments: Segments, weight: Tensor | None
    ) -> dict[str, Any]:
        around = super().surroundings(position, segments, weight)
        around["clusters"] = voxel_segments(position.detach(), self.voxel or 1.0, segments)
        return around
