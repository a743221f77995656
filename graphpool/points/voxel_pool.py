"""Pooling of points by the cells of a grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphpool import aggr, ops
from graphpool.coarsen import Coarsened, Selection, reduce
from graphpool.ops.neighbors.voxel import Voxels, voxel_grid
from graphpool.points.inputs import check_features
from graphpool.points.pooling import Pool
from graphpool.segments import Segments


class Pooled(NamedTuple):
    """What :class:`VoxelPool` gives.

    Args:
        x: Features of the cells ``[V, channels]``.
        pos: Mean position of the points of each cell ``[V, D]``, which lies in the cell.
        segments: The clouds of the cells.
        voxels: The cells themselves, and which points lie in which.
    """

    x: Tensor
    pos: Tensor
    segments: Segments
    voxels: Voxels

    @property
    def coarsened(self) -> Coarsened:
        """The cells as coarse elements of the points, with the way back."""
        return Coarsened(self.x, Selection(self.voxels.segments, batch=self.segments))


class VoxelPool(torch.nn.Module):
    """Pools the points of every occupied cell of a grid.

    ``pool="dsvt"`` is the attention pool of DSVT (Wang et al., CVPR 2023): the maximum of a cell asks, and
    its points answer according to their features and their places in the cell, which are encoded by a
    perceptron of the position relative to the centre of the cell's points.

    Args:
        channels: Width of the features.
        size: Edge of a cell: one number, or one per axis; the grid is that of
            :func:`graphpool.ops.neighbors.voxel_grid`.
        pool: Whatever :func:`graphpool.aggr.resolve` takes, or ``"dsvt"``.
        heads: Heads of ``"dsvt"``, a divisor of ``channels``.

    Example:
        >>> layer = VoxelPool(16, size=0.5, pool="dsvt")
        >>> pooled = layer(torch.rand(20, 16), torch.rand(20, 3))
        >>> pooled.x.shape == (pooled.voxels.cells.size(0), 16)
        True
        >>> pooled.coarsened.lift(pooled.x).shape
        torch.Size([20, 16])
    """

    def __init__(
        self,
        channels: int,
        size: float | tuple[float, ...] | Tensor,
        pool: Any = "max",
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.with_positions = pool == "dsvt"
        if self.with_positions:
            pool = aggr.resolve("dsvt", channels=channels + 3, pos_dim=3, heads=heads)
        self.pool = Pool(pool, channels)

    def forward(self, x: Tensor, pos: Tensor, segments: Segments | None = None) -> Pooled:
        """Features, positions and clouds of the cells.

        Args:
            x: ``[N, channels]``.
            pos: ``[N, D]``. Means and places within a cell are computed in float64 relative to the
                cell, so that a far origin costs no digit.
            segments: The cloud of each point, in any order; one cloud if ``None``.

        Raises:
            ValueError: Sizes do not fit, or a coordinate is not finite.
        """
        check_features(x, pos.size(0), self.channels)
        if self.with_positions and pos.size(1) != 3:
            raise ValueError(f"`pool`='dsvt' needs `pos` [N, 3]; got {tuple(pos.shape)}.")
        voxels = voxel_grid(pos, self.size, segments)
        clouds = 1 if segments is None else segments.num_segments
        # Relative to a point of the cell: as exact far from the origin as near it.
        low, high = ops.segment_moments(pos.detach(), voxels.segments, ("min", "max"))
        place = pos.double() - low.double().index_select(0, voxels.segments.index)
        mean = (low.double() + ops.segment_mean(place, voxels.segments)).to(pos.dtype)
        # The last rounding of a mean may leave the points it is the mean of, and with them the cell.
        mean = mean + (mean.detach().clamp(low, high) - mean.detach())
        elements = torch.cat([place.to(x.dtype), x], 1) if self.with_positions else x
        pooled = self.pool.project(reduce(elements, Selection(voxels.segments), self.pool.aggr))
        cells = Segments(index=voxels.cloud, num_segments=clouds, is_sorted=True)
        return Pooled(pooled, mean, cells, voxels)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, size={self.size}"
