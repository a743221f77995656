"""The CUDA path through torch-cluster, where it is installed and its answer is the defined one."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _optional
from graphpool.ops import backends
from graphpool.ops.neighbors import dense
from graphpool.ops.neighbors.clouds import Clouds

# torch-cluster's CUDA sampling starts from squared distances of 5e4, its search from 1e10 and with a
# fixed list of 100 neighbours; beyond these it would answer something else.
_LARGEST_FPS_DISTANCE = 5e4
_LARGEST_KNN_DISTANCE = 1e10
_LARGEST_K = 100


def _is_chosen(points: Tensor) -> bool:
    return points.is_cuda and backends.fused_is_allowed() and _optional.has("torch_cluster")


def _diameter(points: Tensor) -> float:
    """An upper bound of the squared distance between two points."""
    return float((points.amax(0) - points.amin(0)).square().sum())


def fps_serves(clouds: Clouds, first: Tensor) -> bool:
    """Whether torch-cluster would start where it is asked to and can tell the distances apart."""
    points = clouds.points
    return (
        _is_chosen(points)
        and points.size(0) > 0
        and bool((clouds.counts > 0).all())
        and bool((first == clouds.ptr[:-1]).all())
        and _diameter(points) < _LARGEST_FPS_DISTANCE
    )


def knn_serves(clouds: Clouds, queries: Clouds, k: int) -> bool:
    if not _is_chosen(clouds.points) or k >= _LARGEST_K or clouds.points.size(1) > 3:
        return False
    both = torch.cat([clouds.points, queries.points])
    return both.size(0) > 0 and _diameter(both) < _LARGEST_KNN_DISTANCE


def fps(clouds: Clouds, first: Tensor, samples: Tensor) -> Tensor:
    """As :func:`dense.fps`, to which it falls back where torch-cluster repeats coinciding points."""
    module = _optional.require("torch_cluster", purpose="farthest point sampling on CUDA")
    # Half a point below, so that its ceil(n * ratio) in float32 is exactly the wanted number.
    ratio = (samples.double() - 0.5) / clouds.counts
    picks = module.fps(clouds.points, clouds.cloud, ratio.float(), random_start=False)
    if picks.numel() != int(samples.sum()) or picks.unique().numel() != picks.numel():
        return dense.fps(clouds, first, samples)
    return picks


def knn(
    clouds: Clouds, queries: Clouds, k: int, exclude: Tensor | None, limit: float
) -> tuple[Tensor, Tensor]:
    """As :func:`dense.knn`; at the last rank, distances equal up to rounding may be resolved otherwise."""
    module = _optional.require("torch_cluster", purpose="the search of neighbours on CUDA")
    wanted = k if exclude is None else k + 1
    row, column = module.knn(clouds.points, queries.points, wanted, clouds.cloud, queries.cloud)
    count = queries.points.size(0)
    per_query = row.bincount(minlength=count)
    slot = torch.arange(row.numel(), device=row.device) - (per_query.cumsum(0) - per_query)[row]
    index = row.new_full((count, wanted), torch.iinfo(torch.long).max)
    index[row, slot] = column
    index = index.sort(1).values
    missing = index == torch.iinfo(torch.long).max
    found = index.masked_fill(missing, 0)
    difference = clouds.points[found] - queries.points[:, None]
    squared = difference[..., 0].square()
    for axis in range(1, difference.size(-1)):
        squared = squared + difference[..., axis].square()
    if exclude is not None:
        missing |= index == exclude[:, None]
    squared = squared.masked_fill(missing | (squared > limit), torch.inf)
    squared, order = squared.sort(dim=1, stable=True)
    index = index.gather(1, order).masked_fill(squared == torch.inf, -1)
    return index[:, :k], squared[:, :k]
