"""Pools over the cells of a spatial pyramid."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, check_one_of
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.positions import check_pos_dim, split_positions
from graphpool.aggr.registry import register
from graphpool.ops import (
    align,
    segment_gather,
    segment_max,
    segment_mean,
    segment_min,
    segment_quantile,
    segment_sum,
)
from graphpool.segments import Segments

_REDUCTIONS = {"max": segment_max, "mean": segment_mean, "sum": segment_sum}
CELLS = ("grid", "balanced")


@register("pyramid")
class Pyramid(MatrixAggregation):
    r"""Spatial pyramid: the bag is cut into ever smaller cells, and each cell is pooled for itself.

    Level ``l = 0, 1, ...`` cuts every axis into :math:`2^l` parts; the results of all cells of all levels
    are concatenated. The order of the elements does not matter, their directions do. Two kinds of cells:

    * ``"grid"``: equal boxes of the smallest axis-parallel box that holds the bag. An empty cell gives 0.
    * ``"balanced"``: each part is cut at its median (a k-d tree), axis after axis, so that cells hold equal
      numbers of elements, up to elements with equal coordinates, which stay together.

    Positions are the first ``pos_dim`` columns of ``x``; they get no gradient, because cells do not change
    with small moves. A bag with a position that is not finite gives NaN.

    He, Zhang, Ren, Sun, "Spatial pyramid pooling in deep convolutional networks", TPAMI 2015, for images.

    Args:
        channels: Number of channels, positions included.
        pos_dim: Number of columns of positions: 2 or 3, say.
        levels: Number of levels; the last has :math:`2^{(levels - 1)\, pos\_dim}` cells.
        reduce: ``"max"``, ``"mean"`` or ``"sum"``.
        width: Width of a linear map of the features, applied first; ``None`` for none.
        occupancy: Append to each cell a 1 if it holds anything, else 0.
        cells: ``"grid"`` or ``"balanced"``.

    Shapes:
        ``[E, ..., pos_dim + F]`` to ``[S, ..., cells * F]``, with ``width`` in place of ``F`` if given, one
        more with ``occupancy``; level by level, cell by cell, the first axis slowest.

    Raises:
        ValueError: ``channels`` leaves no feature beside the positions, or an argument is out of range.

    Example:
        >>> from graphpool import aggr
        >>> x = torch.tensor([[0.0, 0.0, 5.0], [1.0, 0.0, 7.0]])  # x, y, and one feature
        >>> aggr.Pyramid(3, pos_dim=2, levels=2)(x)
        tensor([[7., 5., 0., 7., 0.]])
    """

    learnable = True
    needs_positions = True
    whole_bag = "its cells follow from the extent of the bag, which is a pass of its own"
    complexity = "E C levels"
    example_arguments = {"pos_dim": 2, "levels": 2}
    empty_gives_zero = True

    def __init__(
        self,
        channels: int,
        *,
        pos_dim: int = 3,
        levels: int = 3,
        reduce: str = "max",
        width: int | None = None,
        occupancy: bool = False,
        cells: str = "grid",
    ) -> None:
        super().__init__(channels)
        self.pos_dim = check_pos_dim(self.channels, pos_dim, low=1)
        self.levels = as_count(levels, "levels")
        check_one_of(reduce, "reduce", _REDUCTIONS)
        check_one_of(cells, "cells", CELLS)
        self.reduce, self.cells, self.occupancy = reduce, cells, occupancy
        self.width = None if width is None else as_count(width, "width")

    @property
    def needs_channels(self) -> bool:
        return self.width is not None

    def build(self, channels: int) -> None:
        check_pos_dim(channels, self.pos_dim, low=1)
        if self.width is not None:
            self.narrow = torch.nn.Linear(channels - self.pos_dim, self.width)

    @property
    def num_cells(self) -> int:
        """Number of cells of all levels together."""
        return sum(2 ** (level * self.pos_dim) for level in range(self.levels))

    @property
    def out_channels(self) -> int | None:
        if self.channels in (None, -1):
            return self.channels
        features = self.width or self.channels - self.pos_dim  # type: ignore[operator]
        return self.num_cells * (features + self.occupancy)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        position, x = split_positions(x, self.pos_dim)
        position = position.detach()
        known = position.isfinite().all(1)
        bad = segment_sum((~known).long(), segments) > 0
        position = torch.where(known.unsqueeze(1), position, 0)
        if self.width is not None:
            x = self.narrow(x)
        parts = [
            self._pool_cells(x, index, cells, segments, weight).flatten(1)
            for index, cells in self._levels(position, segments, weight)
        ]
        y = torch.cat(parts, dim=1)
        if _debug.values_are_checked(y.device) and not bool(bad.any()):
            # The result is wide: not copied for nothing.
            return y
        return torch.where(bad.unsqueeze(1), torch.nan, y)

    def _pool_cells(
        self, x: Tensor, index: Tensor, cells: int, segments: Segments, weight: Tensor | None
    ) -> Tensor:
        bins = Segments(
            index=segments.index * cells + index, num_segments=segments.num_segments * cells
        )
        y = _REDUCTIONS[self.reduce](x, bins, weight)
        if self.occupancy:
            present = torch.ones_like(bins.index) if weight is None else (weight != 0).long()
            occupied = segment_sum(present, bins) > 0
            y = torch.cat([y, occupied.to(y.dtype).unsqueeze(1)], dim=1)
        return y.unflatten(0, (segments.num_segments, cells))

    def _levels(
        self, position: Tensor, segments: Segments, weight: Tensor | None
    ) -> list[tuple[Tensor, int]]:
        """For each level the cell of each element, and the number of cells."""
        if self.cells == "grid":
            return _grid_cells(position, segments, weight, self.levels)
        return _balanced_cells(position, segments, weight, self.levels)


def _grid_cells(
    position: Tensor, segments: Segments, weight: Tensor | None, levels: int
) -> list[tuple[Tensor, int]]:
    low = segment_min(position, segments, weight)
    extent = segment_max(position, segments, weight) - low
    extent = torch.where(extent > 0, extent, 1)
    # Elements of weight 0 may lie outside the box; they are pooled by no cell, whichever it is.
    unit = ((position - segment_gather(low, segments)) / segment_gather(extent, segments)).clamp(
        0, 1
    )
    found = []
    for level in range(levels):
        parts = 2**level
        along = (unit * parts).floor().long().clamp(max=parts - 1)
        index = torch.zeros_like(along[:, 0])
        for axis in range(position.size(1)):
            index = index * parts + along[:, axis]
        found.append((index, parts ** position.size(1)))
    return found


def _balanced_cells(
    position: Tensor, segments: Segments, weight: Tensor | None, levels: int
) -> list[tuple[Tensor, int]]:
    index, cells = torch.zeros_like(segments.index), 1
    found = [(index, cells)]
    for _ in range(1, levels):
        for axis in range(position.size(1)):
            bins = Segments(
                index=segments.index * cells + index, num_segments=segments.num_segments * cells
            )
            along = position[:, axis]
            median = segment_quantile(along, bins, 0.5, "lower", weight)
            beyond = along > segment_gather(align(median, along), bins)
            index, cells = index * 2 + beyond.long(), cells * 2
        found.append((index, cells))
    return found
