"""The path for any device and any number of coordinates: distances to all points, in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graphpool.ops.neighbors.clouds import Clouds, full_precision

_CHUNK = 1 << 22
# Beyond so many coordinates a matrix product finds out first which distances have to be computed.
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
    for rows, start, points, chunk, own in _chunks(clouds, queries, exclude):
        keep = min(k, len(points))
        column = _candidates(chunk, points, own, keep)
        distance = _distances(chunk, points, column)
        distance = distance.masked_fill_(_excluded(column, own) | (distance > limit), torch.inf)
        nearest = _lowest(distance, keep)
        d, order = distance.gather(1, nearest).sort(dim=1, stable=True)
        found = column.gather(1, nearest).gather(1, order) + start
        index[rows, :keep] = torch.where(d == torch.inf, -1, found)
        squared[rows, :keep] = d
    return index, squared


def within(
    clouds: Clouds, queries: Clouds, limit: float, inclusive: bool, exclude: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets ``[M + 1]``, positions and squared distances of all points within ``limit``."""
    device = queries.points.device
    counts = torch.zeros(queries.points.size(0), dtype=torch.long, device=device)
    found, distances = [], []
    for rows, start, points, chunk, own in _chunks(clouds, queries, exclude):
        column = _candidates(chunk, points, own, None, limit)
        distance = _distances(chunk, points, column)
        close = distance <= limit if inclusive else distance < limit
        distance = distance.masked_fill_(_excluded(column, own) | ~close, torch.inf)
        d, order = distance.sort(dim=1, stable=True)
        kept = d < torch.inf
        counts[rows] = kept.sum(1)
        found.append(column.gather(1, order)[kept] + start)
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


def _distances(queries: Tensor, points: Tensor, column: Tensor) -> Tensor:
    """Squared distances ``[m, c]`` to the points in ``column``, as :func:`_squared_distance`."""
    if column.size(1) == len(points):
        return _squared_distance(queries[:, None], points)
    total = queries.new_zeros(column.shape)
    for q, p in zip(queries.T, points.T.contiguous(), strict=True):
        total += (p.take(column) - q[:, None]).square_()
    return total


def _chunks(
    clouds: Clouds, queries: Clouds, exclude: Tensor | None
) -> Iterator[tuple[slice, int, Tensor, Tensor, Tensor | None]]:
    """Chunks of queries: their rows, where the points of their cloud start, those points, the queries
    themselves, and which of the points each of them leaves out."""
    ptr, query_ptr = clouds.ptr.tolist(), queries.ptr.tolist()
    for c in range(clouds.num_clouds):
        start, end = ptr[c], ptr[c + 1]
        if start == end:
            continue
        step = max(_CHUNK // (end - start), 1)
        for low in range(query_ptr[c], query_ptr[c + 1], step):
            rows = slice(low, min(low + step, query_ptr[c + 1]))
            own = None if exclude is None else exclude[rows] - start
            yield rows, start, clouds.points[start:end], queries.points[rows], own


def _excluded(column: Tensor, own: Tensor | None) -> Tensor:
    return (
        torch.zeros_like(column[:, :1], dtype=torch.bool) if own is None else column == own[:, None]
    )


def _candidates(
    queries: Tensor, points: Tensor, own: Tensor | None, k: int | None, limit: float = 0.0
) -> Tensor:
    """Columns ``[m, c]``, ascending, among which the ``k`` nearest are, or all points within ``limit``.

    A matrix product in float64 knows the squared distances up to ``slack``; what it cannot rule out is a
    candidate. ``share`` is what rounding may change in a distance as it is computed in the end.
    """
    everything = torch.arange(len(points), device=points.device).expand(len(queries), -1)
    axes = points.size(1)
    share = (axes + 2) * torch.finfo(points.dtype).eps
    if axes <= _DIRECT_COORDINATES or share > 0.5:
        return everything
    centre = points.double().mean(0)
    a, b = queries.double() - centre, points.double() - centre
    size_a, size_b = a.square().sum(1, keepdim=True), b.square().sum(1)
    with full_precision(a):
        estimate = torch.addmm(size_a + size_b, a, b.T, alpha=-2)
    slack = (
        (2 * axes + 8) * torch.finfo(torch.float64).eps * (size_a.sqrt() + size_b.max().sqrt()) ** 2
    )
    slack = slack + axes * torch.finfo(points.dtype).tiny
    if k is None:
        reach = torch.full_like(slack, limit)
    else:
        if own is not None:
            estimate.scatter_(1, own[:, None], torch.inf)
        reach = estimate.topk(k, dim=1, largest=False).values[:, -1:] + slack
    possible = estimate <= reach * ((1 + share) / (1 - share)) + slack
    most = int(possible.sum(1).max())
    if 2 * most > len(points):
        return everything
    return estimate.topk(most, dim=1, largest=False).indices.sort(1).values


def _lowest(distance: Tensor, k: int) -> Tensor:
    """Columns of the ``k`` smallest of each row in ascending order of column; ties go to the lowest."""
    if k == distance.size(1):
        return torch.arange(k, device=distance.device).expand_as(distance)
    threshold = distance.topk(k, dim=1, largest=False).values[:, -1:]
    below, level = distance < threshold, distance == threshold
    room = k - below.sum(1, keepdim=True)
    chosen = below | (level & (level.cumsum(1) <= room))
    return chosen.nonzero()[:, 1].view(distance.size(0), k)
