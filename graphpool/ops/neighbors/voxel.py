"""Cells of a regular grid as bags of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.neighbors.clouds import as_clouds
from graphpool.segments import Segments


class Voxels(NamedTuple):
    """The occupied cells of a grid.

    Args:
        segments: The cell of each point, in the order of the points.
        cells: ``[V, D]`` integer coordinates of each cell: it covers ``[cell, cell + 1) * size``.
        cloud: ``[V]`` the cloud of each cell.
    """

    segments: Segments
    cells: Tensor
    cloud: Tensor


def voxel_segments(
    pos: Tensor,
    size: float | Sequence[float] | Tensor,
    segments: Segments | None = None,
    origin: float | Sequence[float] | Tensor = 0.0,
) -> Segments:
    """Bags of the points that share a cloud and a cell; see :func:`voxel_grid`.

    Example:
        >>> voxel_segments(torch.tensor([[-0.1], [0.1], [0.9], [2.5]]), size=1.0).index
        tensor([0, 1, 1, 2])
    """
    return voxel_grid(pos, size, segments, origin).segments


@_debug.on_values
def voxel_grid(
    pos: Tensor,
    size: float | Sequence[float] | Tensor,
    segments: Segments | None = None,
    origin: float | Sequence[float] | Tensor = 0.0,
) -> Voxels:
    r"""The cell :math:`\lfloor (p - o) / s \rfloor` of each point, computed in float64.

    The grid is anchored at ``origin``, not at the points, so that a cell does not depend on what else is
    in the batch; negative coordinates are rounded down like all others.

    Args:
        pos: Points ``[N, D]``, floating point, finite.
        size: Edge of a cell: one number, or one per axis; > 0.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        origin: A corner of the grid: one number, or one per axis.

    Returns:
        :class:`Voxels`; only occupied cells, ascending by cloud, then by the first coordinate, and so on.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A coordinate is not finite, a size is not positive, or a cell does not fit in int64.

    Example:
        >>> voxel_grid(torch.tensor([[0.5, 0.5], [0.6, 0.4], [3.0, 0.0]]), size=1.0).cells.tolist()
        [[0, 0], [3, 0]]
    """
    as_clouds(pos, segments, "pos", "segments")
    axes = pos.size(1)
    edge = _per_axis(size, pos, "size")
    if not bool(((edge > 0) & edge.isfinite()).all()):
        raise ValueError(f"`size` must be positive and finite; got {edge.tolist()}.")
    corner = _per_axis(origin, pos, "origin")
    if not bool(corner.isfinite().all()):
        raise ValueError(f"`origin` must be finite; got {corner.tolist()}.")
    scaled = ((pos.detach().double() - corner) / edge).floor()
    if scaled.numel() and float(scaled.abs().max()) >= 2.0**62:
        raise ValueError("`size` is too small for these coordinates: a cell exceeds int64.")
    cell = scaled.long()
    cloud = torch.zeros_like(cell[:, 0]) if segments is None else segments.index
    rows = torch.cat([cloud[:, None], cell], 1)
    key = _linear(rows)
    if key is None:
        found, index = rows.unique(dim=0, return_inverse=True)
    else:
        unique, index = key.unique(return_inverse=True)
        found = rows.new_empty(unique.numel(), axes + 1)
        found[index] = rows
    bags = Segments(index=index, num_segments=found.size(0))
    return Voxels(bags, found[:, 1:], found[:, 0])


def _linear(rows: Tensor) -> Tensor | None:
    """One integer per row with the order of the rows, or ``None`` where it would not fit in int64."""
    if rows.size(0) == 0:
        return rows.new_zeros(0)
    low, high = rows.aminmax(dim=0)
    # One look at the device for all columns.
    extents = [b - a + 1 for a, b in torch.stack([low, high], 1).tolist()]
    key, cells = torch.zeros_like(rows[:, 0]), 1
    for column, extent in enumerate(extents):
        cells *= extent
        if cells >= 2**62:
            return None
        key = key * extent + (rows[:, column] - low[column])
    return key


def _per_axis(value: float | Sequence[float] | Tensor, pos: Tensor, name: str) -> Tensor:
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor, list, tuple)):
        raise TypeError(f"`{name}` must be a number or one per axis; got {type(value).__name__}.")
    out = torch.as_tensor(value, dtype=torch.float64, device=pos.device)
    if out.dim() > 1 or (out.dim() == 1 and out.numel() != pos.size(1)):
        raise ValueError(
            f"`{name}` must be one number or one per axis, ({pos.size(1)},); "
            f"got shape {tuple(out.shape)}."
        )
    return out.expand(pos.size(1))
