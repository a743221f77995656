"""One stage of the Point-NN encoder: neighbours normalised, encoded, weighed, and pooled."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from graphpool import _debug
from graphpool._compiled import parallel_for
from graphpool.ops import fused_is_allowed, standard_deviation
from graphpool.ops.neighbors.clouds import full_precision
from graphpool.ops.neighbors.trees import balanced
from graphpool.points.encoding import encoding_matrix, frequencies
from graphpool.points.hierarchy import Level

EPS = 1e-5
_CHUNK = 1 << 22


def stage_is_fused(pos: Tensor, x: Tensor) -> bool:
    """Whether the fused kernel can run a stage: on the CPU, in float32, without derivatives."""
    differentiable = _debug.inside_transform() or (
        torch.is_grad_enabled() and (pos.requires_grad or x.requires_grad)
    )
    return (
        pos.device.type == "cpu"
        and pos.dtype == torch.float32
        and not differentiable
        and fused_is_allowed()
    )


def run_stage(x: Tensor, level: Level, alpha: float, beta: float, shared: bool) -> Tensor:
    """``[N, C]`` to ``[M, 2 C]``, before the activation.

    Args:
        x: Features of the points, channels apart by parity as :func:`apart` leaves them.
        level: The centres and their neighbours.
        alpha: Base of the frequency ladder.
        beta: Highest frequency.
        shared: Whether the scales of the differences are computed over all clouds together.
    """
    if stage_is_fused(level.pos, x):
        return _fused(x, level, alpha, beta, shared)
    matrix, phase = (v.to(x) for v in encoding_matrix(2 * x.size(1), alpha, beta))
    with full_precision(x):
        return apart(
            composed_stage(together(x), level, lambda u, _: torch.sin(u @ matrix + phase), shared)
        )


def apart(x: Tensor) -> Tensor:
    """Channels by parity: the even ones (which meet sines), then the odd ones (cosines)."""
    return torch.cat([x[:, 0::2], x[:, 1::2]], 1)


def together(x: Tensor) -> Tensor:
    """Undoes :func:`apart`."""
    half = x.size(1) // 2
    return torch.stack([x[:, :half], x[:, half:]], 2).flatten(1)


def _scale(count: Tensor, total: Tensor, squares: Tensor, shared: bool) -> Tensor:
    """``1 / (std + 1e-5)`` per cloud, of all entries of its differences; unbiased, in float64."""
    if shared:
        count, total, squares = (v.sum().expand_as(v) for v in (count, total, squares))
    # A single entry has no spread: its difference is 0, and 0 stays 0 at any scale.
    variance = (squares - total.square() / count.clamp_min(1)) / (count - 1).clamp_min(1)
    return 1 / (standard_deviation(variance.clamp_min(0)) + EPS)


def _fused(x: Tensor, level: Level, alpha: float, beta: float, shared: bool) -> Tensor:
    from graphpool.points import stage_kernels as cpu_pointnn

    ptr, centre_ptr = level.segments.ptr.numpy(), level.centre_segments.ptr.numpy()
    features, channels = x.contiguous().numpy(), x.size(1)
    pos = centred(level).numpy()
    centre, neighbor = level.centre.numpy(), level.neighbor.numpy()
    work = centre_ptr * neighbor.shape[1] * channels
    chunks = balanced(work, 1 << 17)
    sums = np.empty((level.segments.num_segments, 5))
    groups = (centre_ptr, centre, neighbor)
    parallel_for(lambda *chunk: cpu_pointnn.moments(pos, features, *groups, sums, *chunk), chunks)
    m = torch.from_numpy(sums)
    scale_x = _scale(m[:, 0] * channels, m[:, 1], m[:, 2], shared).float().numpy()
    scale_pos = _scale(m[:, 0] * 3, m[:, 3], m[:, 4], shared).numpy()
    omega = frequencies(2 * channels, alpha, beta).numpy()
    out = np.empty((len(centre), 2 * channels), np.float32)
    args = (pos, features, ptr, *groups, scale_x, scale_pos, omega, out)
    parallel_for(lambda *chunk: cpu_pointnn.stage(*args, *chunk), chunks)
    return torch.from_numpy(out)


def centred(level: Level) -> Tensor:
    """Points relative to the first of their cloud: differences are the same, their angles smaller."""
    pos = level.pos.detach()
    return pos - pos[level.segments.ptr[level.segments.index]]


def differences(x: Tensor, level: Level, rows: slice) -> tuple[Tensor, Tensor]:
    """``x`` of the neighbours minus ``x`` of their centre, ``[m, k, C]``, and which neighbours exist."""
    neighbor = level.neighbor[rows]
    found = neighbor >= 0
    near = x.index_select(0, neighbor.clamp_min(0).flatten()).view(*neighbor.shape, -1)
    return near - x.index_select(0, level.centre[rows])[:, None], found


def scales(x: Tensor, level: Level, shared: bool) -> Tensor:
    """``1 / (std + 1e-5)`` of the differences of ``x`` per cloud, ``[B]`` in float64."""
    clouds = level.centre_segments
    sums = x.new_zeros(clouds.num_segments, 3, dtype=torch.float64)
    for rows in chunks_of(level, x.size(1)):
        difference, found = differences(x, level, rows)
        difference = difference.double() * found[..., None]
        flat = torch.stack(
            [found.sum(1) * x.size(1), difference.sum((1, 2)), difference.square().sum((1, 2))], 1
        )
        sums = sums.index_add(0, clouds.index[rows], flat.double())
    return _scale(sums[:, 0], sums[:, 1], sums[:, 2], shared)


def chunks_of(level: Level, channels: int) -> list[slice]:
    """Ranges of centres whose neighbours' features take a bounded amount of memory."""
    count, k = level.neighbor.shape
    step = max(_CHUNK // (k * channels), 1)
    return [slice(low, min(low + step, count)) for low in range(0, count, step)]


def spread_of_axes(level: Level, shared: bool) -> Tensor:
    """The standard deviation of the scaled differences of points, the mean of the three axes, ``[B]``."""
    clouds = level.centre_segments
    sums = level.pos.new_zeros(clouds.num_segments, 7, dtype=torch.float64)
    for rows in chunks_of(level, 3):
        difference, found = differences(level.pos, level, rows)
        difference = difference.double() * found[..., None]
        flat = [found.sum(1, keepdim=True), difference.sum(1), difference.square().sum(1)]
        sums = sums.index_add(0, clouds.index[rows], torch.cat(flat, 1).double())
    count, total, squares = sums.split([1, 3, 3], 1)
    # The scale is that of all three axes together, which :func:`scales` finds, too.
    scale = _scale(3 * count[:, 0], total.sum(1), squares.sum(1), shared)
    axes = [1 / _scale(count[:, 0], total[:, a], squares[:, a], shared) - EPS for a in range(3)]
    return torch.stack(axes).mean(0) * scale


def composed_stage(
    x: Tensor, level: Level, encode: Callable[[Tensor, slice], Tensor], shared: bool
) -> Tensor:
    """A stage by plain operations, channels in order; ``encode(u, rows)`` gives the encodings ``[m, k, 2 C]``
    of the scaled differences ``[m, k, 3]`` of some centres."""
    cloud = level.centre_segments.index
    scale_x = scales(x, level, shared).to(x.dtype).index_select(0, cloud)
    scale_pos = scales(level.pos, level, shared).to(x.dtype).index_select(0, cloud)
    out = [x.new_empty(0, 2 * x.size(1))]
    for rows in chunks_of(level, 2 * x.size(1)):
        dx, found = differences(x, level, rows)
        du, _ = differences(level.pos, level, rows)
        e = encode(du * scale_pos[rows, None, None], rows)
        own = x.index_select(0, level.centre[rows])[:, None].expand_as(dx)
        w = (torch.cat([dx * scale_x[rows, None, None], own], 2) + e) * e
        missing = ~found[..., None]
        top = w.masked_fill(missing, -math.inf).amax(1)
        out.append(top + w.masked_fill(missing, 0).sum(1) / found.sum(1, keepdim=True))
    return torch.cat(out)
