"""The two building blocks of PointNet++, with any pool."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool.ops.neighbors.interpolation import interpolate
from graphpool.ops.neighbors.sampling import fps
from graphpool.ops.neighbors.search import Groups, knn_groups, radius
from graphpool.points.inputs import (
    absolute,
    check_features,
    check_positions,
    check_resolution,
    cloud_segments,
    parameter_dtype,
)
from graphpool.points.pooling import Pool, dense_blocks
from graphpool.segments import Segments


class SetAbstraction(torch.nn.Module):
    r"""Samples centres and pools a perceptron over their neighbourhoods (Qi et al., PointNet++, 2017).

    .. math:: x_c' = \mathrm{pool}_{j \in N(c)} \; h([x_j, (p_j - p_c) / r])

    Args:
        in_channels: Width of the features, 0 if there are none.
        widths: Widths of the perceptron ``h``.
        ratio: Fraction of the points that become centres, in (0, 1].
        radius: Radius of a neighbourhood; ``None`` takes the ``k`` nearest (and ``r = 1``).
        k: Number of neighbours, or their largest number within the radius.
        pool: Whatever :func:`graphpool.aggr.resolve` takes, such as ``"max+mean"``.
        order: Which neighbours remain where more than ``k`` lie within the radius: ``"nearest"`` or
            ``"random"``.
        start: First pick; see :func:`graphpool.ops.neighbors.fps`.

    Example:
        >>> layer = SetAbstraction(0, (16, 32), ratio=0.5, radius=0.4, k=8, pool="softmax").eval()
        >>> x, pos, clouds = layer(None, torch.rand(20, 3), Segments(ptr=torch.tensor([0, 12, 20])))
        >>> x.shape, clouds.counts.tolist()
        (torch.Size([10, 32]), [6, 4])
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, ...],
        ratio: float = 0.5,
        radius: float | None = None,
        k: int = 32,
        pool: Any = "max",
        order: str = "nearest",
        start: int | str = 0,
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("`widths` must not be empty.")
        if radius is not None and not radius > 0:
            raise ValueError(f"`radius` must be > 0 or None; got {radius}.")
        self.ratio, self.radius, self.k, self.order, self.start = ratio, radius, k, order, start
        self.in_channels, self.out_channels = in_channels, widths[-1]
        self.network = dense_blocks([in_channels + 3, *widths])
        self.pool = Pool(pool, widths[-1])

    def forward(
        self, x: Tensor | None, pos: Tensor, segments: Segments
    ) -> tuple[Tensor, Tensor, Segments]:
        """Features, positions and clouds of the centres.

        Args:
            x: ``[N, in_channels]``, or ``None`` if that is 0.
            pos: ``[N, 3]``.
            segments: The cloud of each point.

        Raises:
            ValueError: Sizes do not fit; both numbers are named.
        """
        check_positions(pos)
        check_features(x, pos.size(0), self.in_channels)
        centre = fps(pos, segments, ratio=self.ratio, start=self.start)
        centre_pos = pos.index_select(0, centre)
        clouds = Segments(index=segments.index[centre], num_segments=segments.num_segments)
        groups = self._groups(pos, centre_pos, segments, clouds)
        dtype = parameter_dtype(self.network)
        if self.radius is None and dtype != pos.dtype:
            check_resolution(pos, segments, dtype)
        offset = pos.index_select(0, groups.index)
        offset = offset - centre_pos.index_select(0, groups.segments.index)
        elements = (offset / (self.radius or 1.0)).to(dtype)
        if x is not None:
            elements = torch.cat([x.to(dtype).index_select(0, groups.index), elements], 1)
        return self.pool(self.network(elements), groups.segments), centre_pos, clouds

    def _groups(
        self, pos: Tensor, centre_pos: Tensor, segments: Segments, clouds: Segments
    ) -> Groups:
        if self.radius is None:
            return knn_groups(pos, self.k, centre_pos, segments, clouds)
        return radius(
            pos, self.radius, centre_pos, segments, clouds,
            max_neighbors=self.k, order=self.order,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, radius={self.radius}, k={self.k}"


class GlobalAbstraction(torch.nn.Module):
    """A perceptron on every point with its coordinates, pooled over the cloud.

    Args:
        in_channels: Width of the features, 0 if there are none.
        widths: Widths of the perceptron.
        pool: Whatever :func:`graphpool.aggr.resolve` takes, such as ``"max+mean"``.

    Example:
        >>> layer = GlobalAbstraction(4, (8,), pool="mean").eval()
        >>> layer(torch.rand(5, 4), torch.rand(5, 3), Segments(ptr=torch.tensor([0, 5]))).shape
        torch.Size([1, 8])
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], pool: Any = "max") -> None:
        super().__init__()
        if not widths:
            raise ValueError("`widths` must not be empty.")
        self.network = dense_blocks([in_channels + 3, *widths])
        self.pool = Pool(pool, widths[-1])
        self.in_channels, self.out_channels = in_channels, widths[-1]

    def forward(self, x: Tensor | None, pos: Tensor, segments: Segments) -> Tensor:
        """Features of the clouds.

        Args:
            x: ``[N, in_channels]``, or ``None`` if that is 0.
            pos: ``[N, 3]``.
            segments: The cloud of each point.

        Raises:
            ValueError: Sizes do not fit, or a cloud lies too far from the origin for the precision of the
                network.
        """
        check_positions(pos)
        check_features(x, pos.size(0), self.in_channels)
        segments = cloud_segments(pos.size(0), segments, None, None, pos.device)
        dtype = parameter_dtype(self.network)
        elements = absolute(pos, segments, dtype)
        if x is not None:
            elements = torch.cat([x.to(dtype), elements], 1)
        return self.pool(self.network(elements), segments)


class FeaturePropagation(torch.nn.Module):
    """Carries coarse features to finer points, and a perceptron over both (Qi et al., PointNet++, 2017).

    Args:
        in_channels: Width of the coarse features.
        skip_channels: Width of the features that the finer points have, 0 if there are none.
        widths: Widths of the perceptron.
        k: Coarse points that a fine one is interpolated from.

    Example:
        >>> layer = FeaturePropagation(8, 0, (16,)).eval()
        >>> coarse, fine = Segments(ptr=torch.tensor([0, 3])), Segments(ptr=torch.tensor([0, 9]))
        >>> layer(torch.rand(3, 8), torch.rand(3, 3), coarse, None, torch.rand(9, 3), fine).shape
        torch.Size([9, 16])
    """

    def __init__(
        self, in_channels: int, skip_channels: int, widths: tuple[int, ...], k: int = 3
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("`widths` must not be empty.")
        self.k, self.in_channels, self.skip_channels = k, in_channels, skip_channels
        self.out_channels = widths[-1]
        self.network = dense_blocks([in_channels + skip_channels, *widths])

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        segments: Segments,
        skip: Tensor | None,
        fine_pos: Tensor,
        fine_segments: Segments,
    ) -> Tensor:
        """Features of the fine points.

        Args:
            x: Coarse features ``[N, in_channels]``.
            pos: Coarse points ``[N, 3]``.
            segments: Their clouds.
            skip: Features of the fine points ``[M, skip_channels]``, or ``None`` if that is 0.
            fine_pos: Fine points ``[M, 3]``.
            fine_segments: Their clouds.

        Raises:
            ValueError: Sizes do not fit; both numbers are named.
        """
        check_positions(pos)
        check_positions(fine_pos, "fine_pos")
        check_features(x, pos.size(0), self.in_channels)
        check_features(skip, fine_pos.size(0), self.skip_channels, "skip")
        dtype = parameter_dtype(self.network)
        x = x.to(dtype)
        carried = interpolate(x, pos, fine_pos, segments, fine_segments, k=self.k)
        return self.network(carried if skip is None else torch.cat([carried, skip.to(dtype)], 1))
