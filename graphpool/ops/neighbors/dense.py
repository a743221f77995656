"""The path for any device and any number of coordinates: distances to all points, in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graphpool.ops.neighbors.clouds import Clouds, full_precision

_CHUNK = 1 << 22
# Up to here distances are sums of squared differences, beyond it a matrix product of centred points.
_DIRECT_COORDINATES = 8


def fps(clouds: Clouds, first: Tensor, samples: Tensor) -> Tensor:
    """Positions of the samples; ``first`` and ``samples`` are per cloud."""
    points, counts = clouds.points, clouds.counts
    device = points.device
    if samples.numel() == 0 or int(samples.max()) == 0:
        return torch.empty(0, dtype=torch.long, device=device)
    width, most = int(counts.max()), int(samples.max())
    slot = torch.arange(width, device=device)
    exists = slot < counts[:, None]
    padded = points[(clouds.ptr[:-1, None] + slot).clamp_max(points.size(0) - 1)]
    distance = torch.where(exists, torch.inf, -torch.inf).to(points.dtype)
    current = (first - clouds.ptr[:-1]).clamp(0, width - 1)
    picked = []
    for _ in range(most):
        picked.append(current)
        # A chosen point leaves the race for good, so that duplicates never return an index twice.
        distance.scatter_(1, current[:, None], -1.0)
        sample = padded.gather(1, current[:, None, None].expand(-1, 1, padded.size(2)))
        distance = torch.minimum(distance, _squared_distance(padded, sample))
        best = distance.amax(1, keepdim=True)
        current = torch.where(distance == best, slot, width - 1).amin(1)
    local = torch.stack(picked, 1) + clouds.ptr[:-1, None]
    return local[torch.arange(most, device=device) < samples[:, None]]


def knn(
    clouds: Clouds, queries: Clouds, k: int, exclude: Tensor | None, limit: float
) -> tuple[Tensor, Tensor]:
    """Positions ``[M, k]`` (-1 where missing) and squared distances (inf), at most ``limit``."""
    count = queries.points.size(0)
    index = torch.full((count, k), -1, dtype=torch.long, device=queries.points.device)
    squared = queries.points.new_full((count, k), torch.inf)
    for rows, start, distance in _distances(clouds, queries, exclude):
        distance = distance.masked_fill_(distance > limit, torch.inf)
        keep = min(k, distance.size(1))
        nearest = _lowest(distance, keep)
        d = distance.gather(1, nearest)
        if clouds.points.size(1) > _DIRECT_COORDINATES:
            exact = clouds.points[start + nearest] - queries.points[rows][:, None]
            d = torch.where(d == torch.inf, d, exact.square_().sum(-1))
        d, order = d.sort(dim=1, stable=True)
        nearest = nearest.gather(1, order) + start
        index[rows, :keep] = torch.where(d == torch.inf, -1, nearest)
        squared[rows, :keep] = d
    return index, squared


def within(
    clouds: Clouds, queries: Clouds, limit: float, inclusive: bool, exclude: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets ``[M + 1]``, positions and squared distances of all points within ``limit``."""
    device = queries.points.device
    counts = torch.zeros(queries.points.size(0), dtype=torch.long, device=device)
    found, distances = [], []
    for rows, start, distance in _distances(clouds, queries, exclude):
        close = distance <= limit if inclusive else distance < limit
        d, order = distance.masked_fill_(~close, torch.inf).sort(dim=1, stable=True)
        kept = d < torch.inf
        counts[rows] = kept.sum(1)
        found.append(order[kept] + start)
        distances.append(d[kept])
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    empty = torch.empty(0, dtype=torch.long, device=device)
    return offsets, torch.cat([empty, *found]), torch.cat([queries.points.new_empty(0), *distances])


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Summed in the order of the coordinates, as the kernels do: the same bits."""
    total = (a[..., 0] - b[..., 0]).square()
    for axis in range(1, a.size(-1)):
        total = total + (a[..., axis] - b[..., axis]).square()
    return total


def _distances(
    clouds: Clouds, queries: Clouds, exclude: Tensor | None
) -> Iterator[tuple[slice, int, Tensor]]:
    """Chunks of queries: their rows, where the points of their cloud start, all squared distances."""
    ptr, query_ptr = clouds.ptr.tolist(), queries.ptr.tolist()
    for c in range(clouds.num_clouds):
        start, end = ptr[c], ptr[c + 1]
        if start == end:
            continue
        points = clouds.points[start:end]
        step = max(_CHUNK // (end - start), 1)
        for low in range(query_ptr[c], query_ptr[c + 1], step):
            rows = slice(low, min(low + step, query_ptr[c + 1]))
            chunk = queries.points[rows]
            if points.size(1) <= _DIRECT_COORDINATES:
                distance = _squared_distance(chunk[:, None], points[None])
            else:
                centre = points.mean(0)
                a, b = chunk - centre, points - centre
                norms = a.square().sum(1, keepdim=True) + b.square().sum(1)
                with full_precision(a):
                    distance = torch.addmm(norms, a, b.T, alpha=-2).clamp_min_(0)
            if exclude is not None:
                own = exclude[rows] - start
                row = (own >= 0).nonzero().squeeze(1)
                distance[row, own[row]] = torch.inf
            yield rows, start, distance


def _lowest(distance: Tensor, k: int) -> Tensor:
    """Columns of the ``k`` smallest of each row in ascending order of column; ties go to the lowest."""
    if k == distance.size(1):
        return torch.arange(k, device=distance.device).expand_as(distance)
    threshold = distance.topk(k, dim=1, largest=False).values[:, -1:]
    below, level = distance < threshold, distance == threshold
    room = k - below.sum(1, keepdim=True)
    chosen = below | (level & (level.cumsum(1) <= room))
    return chosen.nonzero()[:, 1].view(distance.size(0), k)
