"""One stage of the Point-NN encoder: neighbours normalised, encoded, weighed, and pooled."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._compiled import parallel_for
from graphpool.ops import fused_is_allowed, standard_deviation
from graphpool.ops.neighbors.clouds import full_precision
from graphpool.ops.neighbors.trees import balanced
from graphpool.points.encoding import adapted, anchors, bells, encoding_matrix, frequencies
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
    from graphpool.points.stage_kernels import stage

    pos = centred(level)
    m = _moments(pos, x, level)
    omega = frequencies(2 * x.size(1), alpha, beta)
    return _run(stage, pos, x, level, *_both_scales(m, x, shared), omega)


def run_bell_stage(x: Tensor, level: Level, sigma: float, adapt: bool, shared: bool) -> Tensor:
    """:func:`run_stage` with bells of the width ``sigma``, which may ``adapt``; channels in order."""
    width = 2 * x.size(1)
    if stage_is_fused(level.pos, x):
        from graphpool.ops.neighbors.cpu.bells import bell_stage

        pos = level.pos.detach().contiguous()
        m = _moments(pos, x, level)
        sigmas, blend = torch.full_like(m[:, 0], sigma), m.new_empty(0)
        if adapt:
            sigmas, blend = adapted(_spread(m[:, 0], m[:, 3:6], m[:, 6:], shared), sigma)
        where = (*_both_scales(m, x, shared), *anchors(width), sigmas, blend)
        return _run(bell_stage, pos, x, level, *where)
    spread = spread_of_axes(level, shared)[level.centre_segments.index] if adapt else None

    def encode(u: Tensor, rows: slice) -> Tensor:
        return bells(u, width, sigma, None if spread is None else spread[rows])

    with full_precision(x):
        return composed_stage(x, level, encode, shared)


def _moments(pos: Tensor, x: Tensor, level: Level) -> Tensor:
    """``[B, 9]`` in float64: see :func:`graphpool.points.stage_kernels.moments`."""
    from graphpool.points.stage_kernels import moments

    out = torch.empty(level.segments.num_segments, 9, dtype=torch.float64)
    groups = (level.centre_segments.ptr, level.centre, level.neighbor)
    args = [v.numpy() for v in (pos, x.contiguous(), *groups, out)]
    parallel_for(lambda *chunk: moments(*args, *chunk), _chunks(x, level))
    return out


def _chunks(x: Tensor, level: Level) -> list[tuple[int, int]]:
    pairs = level.centre_segments.ptr * level.neighbor.size(1)
    return balanced((pairs * x.size(1)).numpy(), 1 << 17)


def _both_scales(m: Tensor, x: Tensor, shared: bool) -> tuple[Tensor, Tensor]:
    """Of the differences of ``x``, in its precision, and of those of the points, in float64."""
    scale_x = _scale(m[:, 0] * x.size(1), m[:, 1], m[:, 2], shared).to(x.dtype)
    return scale_x, _scale(m[:, 0] * 3, m[:, 3:6].sum(1), m[:, 6:].sum(1), shared)


def _run(
    kernel: Callable[..., None], pos: Tensor, x: Tensor, level: Level, *rest: Tensor
) -> Tensor:
    out = x.new_empty(len(level.centre), 2 * x.size(1))
    groups = (level.segments.ptr, level.centre_segments.ptr, level.centre, level.neighbor)
    args = [v.numpy() for v in (pos, x.contiguous(), *groups, *rest, out)]
    parallel_for(lambda *chunk: kernel(*args, *chunk), _chunks(x, level))
    return out


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
    return _spread(sums[:, 0], sums[:, 1:4], sums[:, 4:], shared)


def _spread(count: Tensor, total: Tensor, squares: Tensor, shared: bool) -> Tensor:
    """:func:`spread_of_axes` from the sums ``[B, 3]`` along the axes."""
    # The scale is that of all three axes together, which :func:`scales` finds, too.
    scale = _scale(3 * count, total.sum(1), squares.sum(1), shared)
    axes = [1 / _scale(count, total[:, a], squares[:, a], shared) - EPS for a in range(3)]
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
