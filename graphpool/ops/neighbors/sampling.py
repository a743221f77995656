"""Farthest point sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import check_one_of
from graphpool.ops.neighbors import dense, paths, trees
from graphpool.ops.neighbors.clouds import Clouds, as_clouds
from graphpool.ops.neighbors.units import comparable
from graphpool.segments import Segments

_SHORT = ("error", "pad", "repeat")


@_debug.on_values
def fps(
    pos: Tensor,
    segments: Segments | None = None,
    num_samples: int | Sequence[int] | Tensor | None = None,
    ratio: float | None = None,
    start: int | Tensor | str = 0,
    generator: torch.Generator | None = None,
    *,
    short: str = "error",
) -> Tensor:
    r"""Farthest point sampling: each pick is the point farthest from all picks before it.

    .. math:: s_t = \arg\max_i \min_{u < t} \lVert p_i - p_{s_u} \rVert^2

    Exact, with ties going to the lowest position. A point is never picked twice: once every point
    coincides with a pick, the points not picked yet follow in ascending order. The first ``m`` picks are
    the sampling of size ``m``, so one call serves every level of a network.

    On the CPU and for up to three coordinates the distances live in a k-d tree, and only the parts of it
    that a pick can change are visited (after QuickFPS, Han et al. 2023): near-linear instead of
    :math:`O(nm)`. On CUDA one kernel makes all picks of a cloud: with the distances on chip for up to some
    ten thousand points, and in blocks with boxes, of which a pick skips most, beyond. Elsewhere it is one
    vectorised step per pick.

    Args:
        pos: Points ``[N, D]``, floating point, finite.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        num_samples: Picks per cloud: one number, or one per cloud.
        ratio: Instead of ``num_samples``: the fraction to pick, in (0, 1]. A cloud of ``n`` points gets
            ``ceil(ratio * n)``, computed in float64 and rounded to nine digits first.
        start: The first pick: a position within the cloud (or one per cloud, ``[B]``), ``"random"``, or
            ``"centroid"``, the point farthest from the mean (ties go to the smallest coordinates), which
            makes the picks independent of the order of the points.
        generator: Source of randomness for ``"random"``.
        short: What to do where a cloud has fewer points than ``num_samples``: raise an ``"error"``,
            ``"pad"`` with -1, or ``"repeat"`` the picks from the first on.

    Returns:
        Positions into ``pos`` in the order of the picks, cloud after cloud, int64.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A coordinate is not finite, a cloud has too few points, or an argument is out of range.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
        >>> fps(line, num_samples=3)
        tensor([0, 3, 2])
    """
    check_one_of(short, "short", _SHORT)
    (clouds,), _ = comparable(as_clouds(pos, segments, "pos", "segments"), name="pos")
    wanted = sample_counts(clouds.counts, num_samples, ratio)
    available = torch.minimum(wanted, clouds.counts)
    lacking = (available < wanted).nonzero()
    if lacking.numel():
        c = int(lacking[0])
        if short == "error":
            raise ValueError(
                f"`num_samples` asks for {int(wanted[c])} points of cloud {c}, which has "
                f"{int(clouds.counts[c])}; pass short='pad' or short='repeat' to allow it."
            )
        if short == "repeat" and bool((available[lacking] == 0).any()):
            raise ValueError(f"Cloud {c} has no points, so there is no pick to repeat.")
    first = _first_picks(clouds, start, generator)
    if trees.sampling_serves(clouds.points):
        picks = trees.fps(clouds, first, available)
    elif paths.on_triton("fps", clouds.points):
        picks = paths.kernels().fps(clouds, first, available)
    else:
        picks = dense.fps(clouds, first, available)
    if lacking.numel():
        picks = _lengthen(picks, available, wanted, repeat=short == "repeat")
    return clouds.original(picks)


def sample_counts(
    counts: Tensor, num_samples: int | Sequence[int] | Tensor | None, ratio: float | None
) -> Tensor:
    """How many points each cloud of ``counts`` ``[B]`` points is asked for, ``[B]``."""
    if (num_samples is None) == (ratio is None):
        raise ValueError("Pass exactly one of `num_samples` and `ratio`.")
    if ratio is not None:
        if not isinstance(ratio, (int, float)) or isinstance(ratio, bool):
            raise TypeError(f"`ratio` must be a number; got {type(ratio).__name__}.")
        if not (0 < ratio <= 1):
            raise ValueError(f"`ratio` must lie in (0, 1]; got {ratio}.")
        wanted = [math.ceil(round(ratio * n, 9)) for n in counts.tolist()]
        return torch.tensor(wanted, dtype=torch.long, device=counts.device)
    if isinstance(num_samples, int) and not isinstance(num_samples, bool):
        wanted_tensor = torch.full_like(counts, num_samples)
    else:
        wanted_tensor = torch.as_tensor(num_samples, device=counts.device)
        if wanted_tensor.is_floating_point() or wanted_tensor.dtype == torch.bool:
            raise TypeError("`num_samples` must be an int, or integers, one per cloud.")
        if wanted_tensor.shape != counts.shape:
            raise ValueError(
                f"`num_samples` must be one number or one per cloud, ({counts.numel()},); "
                f"got shape {tuple(wanted_tensor.shape)}."
            )
        wanted_tensor = wanted_tensor.long()
    if wanted_tensor.numel() and int(wanted_tensor.min()) < 0:
        raise ValueError(f"`num_samples` must be >= 0; got {int(wanted_tensor.min())}.")
    return wanted_tensor


def _first_picks(
    clouds: Clouds, start: int | Tensor | str, generator: torch.Generator | None
) -> Tensor:
    """The position of the first pick of each cloud."""
    counts, offsets = clouds.counts, clouds.ptr[:-1]
    if isinstance(start, str):
        if start == "random":
            device = counts.device if generator is None else generator.device
            u = torch.rand(counts.numel(), dtype=torch.float64, generator=generator, device=device)
            return offsets + (u.to(counts.device) * counts).long().clamp_max(counts - 1).clamp_min(
                0
            )
        if start == "centroid":
            return _farthest_from_centroid(clouds)
        raise ValueError(f"`start` must be a position, 'random' or 'centroid'; got {start!r}.")
    local = torch.as_tensor(start, device=counts.device)
    if local.is_floating_point() or local.dtype == torch.bool or local.dim() > 1:
        raise TypeError("`start` must be an int, integers [B], 'random' or 'centroid'.")
    local = local.long().expand(counts.shape) if local.dim() == 0 else local.long()
    if local.shape != counts.shape:
        raise ValueError(
            f"`start` must be one position or one per cloud, ({counts.numel()},); "
            f"got shape {tuple(local.shape)}."
        )
    outside = ((local < 0) | (local >= counts)) & (counts > 0)
    if bool(outside.any()):
        c = int(outside.nonzero()[0])
        raise ValueError(
            f"`start` must lie within its cloud; got {int(local[c])} for cloud {c} "
            f"of {int(counts[c])} points."
        )
    return offsets + local


def _farthest_from_centroid(clouds: Clouds) -> Tensor:
    points, cloud = clouds.points.double(), clouds.cloud
    size, columns = clouds.num_clouds, points.size(1)
    total = points.new_zeros(size, columns).index_add_(0, cloud, points)
    centre = total / clouds.counts.clamp_min(1)[:, None]
    away = (points - centre[cloud]).abs()
    largest = away.new_zeros(size).scatter_reduce_(0, cloud, away.amax(1), "amax")
    # Rounded, so that the order in which the mean is summed cannot break a tie; relative to the size of the
    # cloud, by a power of two, because float32 does not hold the squares of float64.
    unit = 2.0 ** torch.frexp(largest).exponent.double()
    distance = (away / unit[cloud, None]).square().sum(1).float()
    farthest = distance.new_full((size,), -1.0).scatter_reduce_(0, cloud, distance, "amax")
    tied = (distance == farthest[cloud]).nonzero().squeeze(1)
    for axis in range(columns):
        value = points[tied, axis]
        lowest = value.new_full((size,), torch.inf).scatter_reduce_(0, cloud[tied], value, "amin")
        tied = tied[value == lowest[cloud[tied]]]
    best = clouds.ptr[:-1].clone()
    return best.scatter_(0, cloud[tied].flip(0), tied.flip(0))


def _lengthen(picks: Tensor, available: Tensor, wanted: Tensor, repeat: bool) -> Tensor:
    """Fills up to ``wanted`` picks per cloud with -1 or, from the first on, the picks themselves."""
    cloud = torch.arange(wanted.numel(), device=picks.device).repeat_interleave(wanted)
    slot = torch.arange(cloud.numel(), device=picks.device) - (wanted.cumsum(0) - wanted)[cloud]
    count = available[cloud]
    if picks.numel() == 0:
        return slot.new_full(slot.shape, -1)
    within = slot % count.clamp_min(1) if repeat else slot.clamp_max((count - 1).clamp_min(0))
    source = (available.cumsum(0) - available)[cloud] + within
    filled = picks[source.clamp_max(picks.numel() - 1)]
    return filled if repeat else torch.where(slot < count, filled, -1)
