"""Point-PN: the skeleton of Point-NN with a few trained linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphpool import ops
from graphpool._arguments import as_count, check_one_of
from graphpool._recorded import savable
from graphpool.ops.neighbors.clouds import full_precision
from graphpool.ops.neighbors.search import Groups, dense_groups
from graphpool.points.encoding import encoding_matrix
from graphpool.points.hierarchy import Level, build_levels
from graphpool.points.inputs import (
    absolute,
    check_features,
    parameter_dtype,
    sorted_clouds,
)
from graphpool.points.pooling import Pool, choose_norm, dense_block, head
from graphpool.points.stages import scales
from graphpool.segments import Segments

_GEOMETRIES = ("std", "group_max")


@savable
class PointPN(torch.nn.Module):
    r"""Point-PN (Zhang et al., *Parameter is Not All You Need*, CVPR 2023), with any pool.

    Every stage halves the cloud and pools the neighbours ``j`` of each remaining point ``c``:

    .. math::
        f_j = \mathrm{ReLU}(\mathrm{BN}(W [x_j, x_c])), \quad e_j = \mathrm{PosE}(\Delta p_j), \quad
        x_c' = \mathrm{pool}_j \; \mathrm{res}\bigl((f_j + e_j) \odot e_j\bigr)

    where ``res`` are residual bottlenecks. With the defaults it has 768,508 parameters for 40 classes;
    for 15 classes, ``in_channels=4`` and ``geometry="group_max"``, the variant for scanned objects, it has
    762,119.

    Args:
        num_classes: Number of classes.
        in_channels: 3 for coordinates alone; more with features such as the height.
        pool: The pool over neighbours: whatever :func:`graphpool.aggr.resolve` takes.
        readout: The pool over the points that remain at the end.
        channels: Width after the embedding.
        widths: Factor by which each stage widens. The widths that result must be multiples of 6.
        blocks: Residual bottlenecks of each stage.
        k: Neighbours per centre. A level with fewer points uses all of them.
        alpha: Base of the frequency ladder.
        beta: The highest frequency.
        geometry: How differences of coordinates are scaled: ``"std"``, by their standard deviation, or
            ``"group_max"``, per neighbourhood and axis by the largest (a flat axis stays 0).
        statistics: For ``"std"``: over each ``"cloud"``, or over the ``"batch"`` as in the released code.
        dropout: Dropout of the classifier.
        start: First pick of the sampling; see :func:`graphpool.ops.neighbors.fps`.
        norm: ``"batch"``, or ``"layer"``, which has no running statistics that could lag behind the weights.

    Shape:
        ``pos`` ``[N, 3]``, ``x`` ``[N, in_channels - 3]`` or ``None``, clouds as in
        :class:`graphpool.points.PointNN`. Result: logits ``[B, num_classes]``.

    Example:
        >>> model = PointPN(num_classes=5, k=8, pool="gnp").eval()
        >>> model(torch.rand(64, 3), batch=torch.arange(2).repeat_interleave(32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        pool: Any = "max+mean",
        readout: Any = "max+mean",
        channels: int = 36,
        widths: tuple[int, ...] = (2, 2, 2, 1),
        blocks: tuple[int, ...] = (2, 1, 1, 1),
        k: int = 40,
        alpha: float = 1000.0,
        beta: float = 100.0,
        geometry: str = "std",
        statistics: str = "cloud",
        dropout: float = 0.5,
        start: int | str = 0,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks) or not widths:
            raise ValueError(
                f"`widths` and `blocks` must have one entry per stage; got {len(widths)} and "
                f"{len(blocks)}."
            )
        check_one_of(geometry, "geometry", _GEOMETRIES)
        check_one_of(statistics, "statistics", ("cloud", "batch"))
        if in_channels < 3:
            raise ValueError(f"`in_channels` counts the coordinates: >= 3; got {in_channels}.")
        self.k = as_count(k, "k")
        self.in_channels, self.start = in_channels, start
        self.geometry, self.statistics = geometry, statistics
        self.embed = dense_block(in_channels, channels)
        stages = []
        for factor, depth in zip(widths, blocks, strict=True):
            stages.append(_Stage(channels, channels * factor, depth, pool, alpha, beta))
            channels *= factor
        self.stages = torch.nn.ModuleList(stages)
        self.readout = Pool(readout, channels)
        self.head = head(channels, (512, 256), num_classes, dropout)
        choose_norm(self, norm)

    def forward(
        self,
        pos: Tensor,
        batch: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Logits of the clouds; arguments as in :meth:`graphpool.points.PointNN.forward`.

        Raises:
            ValueError: ``x`` does not fit ``in_channels`` or the number of points, a coordinate is not
                finite, or a cloud lies too far from the origin for the precision of the network.
        """
        pos, segments, perm = sorted_clouds(pos, batch, ptr, batch_size)
        check_features(x, pos.size(0), self.in_channels - 3)
        dtype = parameter_dtype(self.embed)
        features = absolute(pos, segments, dtype)
        if x is not None:
            x = x if perm is None else x.index_select(0, perm)
            features = torch.cat([features, x.to(dtype)], 1)
        h = self.embed(features)
        levels = build_levels(pos.detach(), segments, len(self.stages), self.k, self.start)
        for stage, level in zip(self.stages, levels, strict=True):
            groups = dense_groups(level.neighbor, level.neighbor)
            h = stage(h, level, groups, self._offsets(level, groups))
        return self.head(self.readout(h, levels[-1].centre_segments))

    def _offsets(self, level: Level, groups: Groups) -> Tensor:
        """Scaled differences of the coordinates, ``[E, 3]``."""
        query = groups.segments.index
        offset = level.pos.index_select(0, groups.index)
        offset = offset - level.centre_pos.index_select(0, query)
        if self.geometry == "std":
            scale = scales(level.pos, level, self.statistics == "batch").to(offset.dtype)
            return offset * scale.index_select(0, level.centre_segments.index[query])[:, None]
        largest = ops.segment_max(offset.abs(), groups.segments)
        return offset / largest.masked_fill(largest == 0, 1.0).index_select(0, query)


class _Stage(torch.nn.Module):
    def __init__(
        self, in_channels: int, channels: int, blocks: int, pool: Any, alpha: float, beta: float
    ) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(2 * in_channels, channels, bias=False)
        self.norm = torch.nn.BatchNorm1d(channels)
        self.blocks = torch.nn.Sequential(*[_Bottleneck(channels) for _ in range(blocks)])
        self.pool = Pool(pool, channels)
        matrix, phase = encoding_matrix(channels, alpha, beta, layout="blocked")
        self.register_buffer("matrix", matrix.float(), persistent=False)
        self.register_buffer("phase", phase.float(), persistent=False)

    def forward(self, x: Tensor, level: Level, groups: Groups, offset: Tensor) -> Tensor:
        # W [x_j, x_c] is computed once per point and per centre, not once per pair.
        w_neighbor, w_centre = self.mix.weight.chunk(2, 1)
        neighbor = (x @ w_neighbor.T).index_select(0, groups.index)
        centre = (x.index_select(0, level.centre) @ w_centre.T).index_select(
            0, groups.segments.index
        )
        f = F.relu(self.norm(neighbor + centre))
        with torch.no_grad(), full_precision(offset):
            e = (
                offset @ self.get_buffer("matrix").to(offset) + self.get_buffer("phase").to(offset)
            ).sin_()
        e = e.to(x.dtype)
        return self.pool(self.blocks((f + e) * e), groups.segments)


class _Bottleneck(torch.nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(
            dense_block(channels, channels // 2, bias=True),
            torch.nn.Linear(channels // 2, channels),
            torch.nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.inner(x))
