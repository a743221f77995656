"""What point networks take: positions, clouds and features, checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool import ops
from graphpool.ops.neighbors.clouds import check_coordinates, refuse_export
from graphpool.segments import Segments

# Absolute coordinates may lose this share of the extent of their cloud to rounding.
_TOLERANCE = 1e-4


def check_positions(pos: Tensor, name: str = "pos") -> None:
    """Positions are floating point and ``[N, 3]``; a transposed cloud is not three points."""
    refuse_export()
    if not isinstance(pos, Tensor) or not pos.is_floating_point():
        got = pos.dtype if isinstance(pos, Tensor) else type(pos).__name__
        raise TypeError(f"`{name}` must be a floating point tensor [N, 3]; got {got}.")
    if pos.dim() != 2 or pos.size(1) != 3:
        hint = "; pass its transpose, one point per row" if pos.dim() == 2 and len(pos) == 3 else ""
        raise ValueError(f"`{name}` must have shape [N, 3]; got {tuple(pos.shape)}{hint}.")


def check_features(x: Tensor | None, rows: int, channels: int, name: str = "x") -> None:
    """Features are ``[rows, channels]``, or absent where ``channels`` is 0."""
    if x is None and channels == 0:
        return
    if x is not None and (not isinstance(x, Tensor) or not x.is_floating_point()):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"`{name}` must be a floating point tensor [{rows}, {channels}]; got {kind}."
        )
    if x is None or x.shape != (rows, channels):
        got = "none" if x is None else f"shape {tuple(x.shape)}"
        raise ValueError(
            f"Expected {channels} features for each of {rows} points in `{name}`; got {got}."
        )


def check_per_point(values: Tensor, rows: int, name: str) -> None:
    """Labels are integers, one for each of the points."""
    if not isinstance(values, Tensor) or values.is_floating_point() or values.dtype == torch.bool:
        got = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"`{name}` must be a tensor of integers ({rows},); got {got}.")
    if values.shape != (rows,):
        raise ValueError(f"`{name}` must have shape ({rows},); got {tuple(values.shape)}.")


def cloud_segments(
    count: int,
    batch: Tensor | Segments | None,
    ptr: Tensor | None,
    batch_size: int | None,
    device: torch.device,
) -> Segments:
    """The clouds of ``count`` points, from the arguments that PyG's modules take.

    Only a ``batch`` tensor without ``batch_size`` leaves their number open: it is the largest entry plus
    one, as in PyG, without empty clouds at the end.
    """
    if batch is not None and ptr is not None:
        raise ValueError("Pass `batch` or `ptr`, not both.")
    if isinstance(batch, Segments):
        segments = batch
    elif batch is not None:
        if batch_size is None:
            batch_size = int(batch.max()) + 1 if batch.numel() else 0
        segments = Segments(index=batch, num_segments=batch_size)
    elif ptr is not None:
        segments = Segments(ptr=ptr)
    else:
        segments = Segments(ptr=torch.tensor([0, count], device=device))
    if batch_size is not None and batch_size != segments.num_segments:
        raise ValueError(
            f"`batch_size` is {batch_size}, but `batch` or `ptr` describes {segments.num_segments} clouds."
        )
    if segments.num_elements != count:
        raise ValueError(
            f"`batch` or `ptr` describes {segments.num_elements} points, but `pos` has {count}."
        )
    return segments


def sorted_clouds(
    pos: Tensor,
    batch: Tensor | Segments | None,
    ptr: Tensor | None,
    batch_size: int | None,
) -> tuple[Tensor, Segments, Tensor | None]:
    """Checked points in the order of their clouds, those clouds, and how the points were moved."""
    check_positions(pos)
    if pos.dtype not in (torch.float32, torch.float64):
        pos = pos.float()
    check_coordinates(pos, "pos")
    segments = cloud_segments(pos.size(0), batch, ptr, batch_size, pos.device)
    return segments.sort_elements(pos), Segments(ptr=segments.ptr), segments.perm


def parameter_dtype(module: torch.nn.Module) -> torch.dtype:
    """The dtype in which a network computes."""
    return next(module.parameters()).dtype


def absolute(pos: Tensor, segments: Segments, dtype: torch.dtype) -> Tensor:
    """Positions as features of a network that computes in ``dtype``.

    Raises:
        ValueError: A cloud lies so far from the origin for its size, or is so small, that ``dtype`` (or
            float32, where that is finer) cannot tell its points apart.
    """
    check_resolution(pos, segments, dtype, torch.finfo(_at_least_float(dtype)).eps)
    return pos.to(dtype)


def _at_least_float(dtype: torch.dtype) -> torch.dtype:
    # Half precision is what its user asked for; nothing is expected of it beyond float32's bounds.
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_resolution(pos: Tensor, segments: Segments, dtype: torch.dtype, eps: float = 0.0) -> None:
    """Raises where steps of ``eps`` of the coordinates, or the smallest number, are large for a cloud."""
    precision = torch.finfo(_at_least_float(dtype))
    low, high = ops.segment_moments(pos.detach(), segments, ("min", "max"))
    extent = (high - low).amax(1)
    largest = torch.maximum(low.abs(), high.abs()).amax(1)
    step = (largest * eps).clamp_min(precision.tiny * precision.eps)
    lost = (step > _TOLERANCE * extent) & (extent > 0)
    if bool(lost.any()):
        c = int(lost.nonzero()[0])
        raise ValueError(
            f"`pos`: cloud {c} has coordinates of {float(largest[c]):.4g}, but an extent of only "
            f"{float(extent[c]):.3g}, and the network computes in {dtype}, in steps of "
            f"{float(step[c]):.1g} there. Take the offset away first, in float64, for example "
            f"by graphpool.points.transforms.Normalize, which keeps it and the scale."
        )


def one_hot(category: Any, segments: Segments, classes: int, dtype: torch.dtype) -> Tensor:
    """The category of each point's cloud, ``[N, classes]``."""
    if category is None:
        raise ValueError(
            f"`category` must have shape ({segments.num_segments},), one per cloud; got none."
        )
    check_per_point(category, segments.num_segments, "category")
    if category.numel() and not (int(category.min()) >= 0 and int(category.max()) < classes):
        raise ValueError(
            f"`category` must lie in [0, {classes}); got values from {int(category.min())} to "
            f"{int(category.max())}."
        )
    hot = torch.nn.functional.one_hot(category.long(), classes).to(dtype)
    return hot.index_select(0, segments.index)
