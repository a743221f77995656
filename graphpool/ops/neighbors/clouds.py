"""Points of several clouds, checked and brought into the order of their clouds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpool._debug import is_exporting
from graphpool.segments import Segments


@dataclass(frozen=True, eq=False)
class Clouds:
    """Points in the order of their clouds.

    Args:
        points: ``[N, D]``, float32 or float64.
        ptr: Offsets of the clouds, ``[B + 1]``.
        perm: The original position of each point, or ``None`` if nothing had to be moved.
    """

    points: Tensor
    ptr: Tensor
    perm: Tensor | None

    @property
    def counts(self) -> Tensor:
        return self.ptr[1:] - self.ptr[:-1]

    @property
    def num_clouds(self) -> int:
        return self.ptr.numel() - 1

    @property
    def cloud(self) -> Tensor:
        """The cloud of each point, ``[N]``."""
        clouds = torch.arange(self.num_clouds, device=self.ptr.device)
        return clouds.repeat_interleave(self.counts, output_size=self.points.size(0))

    def original(self, index: Tensor) -> Tensor:
        """Positions before the points were moved; -1 stays -1."""
        if self.perm is None or self.perm.numel() == 0:
            return index
        return torch.where(index < 0, index, self.perm[index.clamp_min(0)])


def as_clouds(points: Tensor, segments: Segments | None, name: str, segments_name: str) -> Clouds:
    """Checks ``points`` ``[N, D]`` and sorts them by cloud (stable, so ties keep their meaning)."""
    refuse_export()
    if not isinstance(points, Tensor):
        raise TypeError(f"`{name}` must be a tensor [N, D]; got {type(points).__name__}.")
    if points.dim() != 2 or points.size(1) == 0:
        raise ValueError(f"`{name}` must have shape [N, D] with D >= 1; got {tuple(points.shape)}.")
    if not points.is_floating_point():
        raise TypeError(f"`{name}` must be of a floating dtype; got {points.dtype}.")
    points = points.detach()
    if points.dtype not in (torch.float32, torch.float64):
        points = points.float()
    check_coordinates(points, name)
    size = points.size(0)
    if segments is None:
        ptr = torch.tensor([0, size], device=points.device)
        return Clouds(points.contiguous(), ptr, None)
    if not isinstance(segments, Segments):
        raise TypeError(
            f"`{segments_name}` must be a graphpool.Segments, such as "
            f"Segments(index=batch, num_segments=...); got {type(segments).__name__}."
        )
    if segments.num_elements != size:
        raise ValueError(
            f"`{segments_name}` has {segments.num_elements} elements, but `{name}` has {size} points."
        )
    if segments.device != points.device:
        raise ValueError(
            f"`{segments_name}` is on {segments.device}, but `{name}` is on {points.device}."
        )
    return Clouds(segments.sort_elements(points).contiguous(), segments.ptr, segments.perm)


def refuse_export() -> None:
    """Which points are picked and who their neighbours are depends on values, also in its size."""
    if is_exporting():
        raise NotImplementedError(
            "torch.export cannot carry sampling and searches of points: what they find depends on the "
            "coordinates, and so does how much they find. torch.compile works, with graph breaks; to export, "
            "search outside and export the part of the network that follows."
        )


def largest_coordinate(points: Tensor) -> float:
    """Up to where squared distances are finite; the sum of more than 80 squares needs more room."""
    largest = 1e18 if points.dtype == torch.float32 else 1e150
    return largest / max(points.size(1) / 80, 1) ** 0.5


def check_coordinates(points: Tensor, name: str) -> None:
    """Squared distances must be finite: coordinates are, and stay below 1e18 (float32), 1e150 (float64).

    In more than 80 coordinates the bounds are lower, so that the sum of their squares is finite, too.
    """
    largest = largest_coordinate(points)
    if not points.numel():
        return
    low, high = (float(value) for value in points.detach().aminmax())
    # False for NaN, which the extremes pass on.
    if -largest <= low and high <= largest:
        return
    row, column = (int(v) for v in (~(points.abs() <= largest)).nonzero()[0])
    raise ValueError(
        f"`{name}` must be finite and within +-{largest:g}, so that squared distances are finite; "
        f"got {float(points[row, column])} at point {row}, coordinate {column}."
    )


def check_same_clouds(points: Clouds, queries: Clouds) -> None:
    if points.num_clouds != queries.num_clouds:
        raise ValueError(
            f"`segments` describes {points.num_clouds} clouds, but `query_segments` describes "
            f"{queries.num_clouds}; they must be the same clouds."
        )
    if points.points.size(1) != queries.points.size(1):
        raise ValueError(
            f"`queries` must have {points.points.size(1)} coordinates like `points`; "
            f"got {queries.points.size(1)}."
        )
    if points.points.dtype != queries.points.dtype:
        raise TypeError(
            f"`queries` must have the dtype of `points`, {points.points.dtype}; "
            f"got {queries.points.dtype}."
        )


def unit_vectors(x: Tensor, name: str) -> Tensor:
    """Rows of length 1 in float64; multiples of a row become the same row, and zeros stay zeros."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`{name}` must be a floating point tensor [N, D]; got {got}.")
    if x.dim() != 2:
        raise ValueError(f"`{name}` must have shape [N, D]; got {tuple(x.shape)}.")
    bad = ~x.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(f"`{name}` must be finite; row {int(bad.nonzero()[0])} is not.")
    exact = x.detach().double()
    largest = exact.abs().amax(1, keepdim=True) if x.size(1) else exact.new_zeros(len(x), 1)
    # Twice: the squares of what is short (or long) would vanish (or overflow) before the root is taken.
    exact = exact / largest.masked_fill(largest == 0, 1.0)
    length = exact.norm(dim=1, keepdim=True)
    return exact / length.masked_fill(length == 0, 1.0)


def full_precision(x: Tensor) -> torch.autocast:
    """Keeps autocast out: distances, angles and similarities do not survive half precision."""
    return torch.autocast(x.device.type, enabled=False)
