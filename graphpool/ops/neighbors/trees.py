"""The CPU path: k-d trees over clouds, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool._compiled import parallel_for
from graphpool.ops import backends
from graphpool.ops.neighbors.clouds import Clouds

LEAF = 32
# A pick goes through most leaves that it reaches without a look at their points: larger ones pay.
SAMPLING_LEAF = 1024
_PARALLEL_POINTS = 8192


def trees_serve(points: Tensor) -> bool:
    """Whether the tree kernels can search among these points."""
    return points.device.type == "cpu" and backends.fused_is_allowed()


def sampling_serves(points: Tensor) -> bool:
    """Whether the tree kernels can sample these points: in up to three coordinates."""
    return trees_serve(points) and points.size(1) <= 3


@dataclass(frozen=True)
class Trees:
    """One k-d tree per cloud; see :mod:`graphpool.ops.neighbors.cpu.kdtree` for the layout.

    ``xyz`` and ``position`` are longer than the points by ``LEAF``: a whole leaf can be read anywhere.
    """

    xyz: np.ndarray
    position: np.ndarray
    box: np.ndarray
    base: np.ndarray
    depth: np.ndarray
    ptr: np.ndarray

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return (self.xyz, self.position, self.box, self.base, self.depth, self.ptr)


def axes(points: Tensor) -> np.ndarray:
    """``[A, N]`` coordinates, at least three: zeros for the axes that are absent."""
    out = np.zeros((max(points.size(1), 3), points.size(0)), points.numpy().dtype)
    out[: points.size(1)] = points.numpy().T
    return out


def build_trees(clouds: Clouds, leaf: int = LEAF) -> Trees:
    """Builds the trees, in parallel over clouds and over the subtrees of large ones."""
    from graphpool.ops.neighbors.cpu import kdtree as cpu_kdtree

    ptr = clouds.ptr.numpy()
    counts = np.diff(ptr)
    depth = np.ceil(np.log2(np.maximum(counts / leaf, 1))).astype(np.int64)
    base = np.zeros(len(depth), np.int64)
    base[1:] = np.cumsum(2 << depth)[:-1]
    source = axes(clouds.points)
    size = source.shape[1]
    trees = Trees(
        np.zeros((len(source), size + LEAF), source.dtype),
        np.zeros(size + LEAF, np.int32),
        np.empty((int((2 << depth).sum()), 2 * len(source)), source.dtype),
        base,
        depth,
        ptr,
    )
    keys = np.arange(size, dtype=np.uint64)
    shared = (source, keys, trees.xyz, trees.position, trees.box)
    threads = torch.get_num_threads()
    split = max(threads - 1, 0).bit_length() + 1
    is_large = counts > max(_PARALLEL_POINTS, leaf << (split + 1))
    large = np.flatnonzero(is_large)
    if threads == 1 or len(large) == 0 or len(large) >= 2 * threads:
        parallel_for(
            lambda low, high: cpu_kdtree.build_clouds(*shared, ptr, base, depth, low, high),
            balanced(ptr, _PARALLEL_POINTS),
        )
        return trees
    tasks: list[tuple[int, int, int]] = []
    for c in large:
        where = (trees.box, base[c], ptr[c], counts[c])
        cpu_kdtree.bound(source, ptr[c], ptr[c + 1], trees.box, base[c] + 1)
        cpu_kdtree.split_subtree(source, keys, *where, 1, 0, split)
        tasks += [(int(c), (1 << split) + j, split) for j in range(1 << split)]
    for c in np.flatnonzero(~is_large & (counts > 0)):
        cpu_kdtree.bound(source, ptr[c], ptr[c + 1], trees.box, base[c] + 1)
        tasks.append((int(c), 1, 0))

    def build(c: int, root: int, level: int) -> None:
        where = (trees.box, base[c], ptr[c], counts[c], root, level, depth[c])
        cpu_kdtree.split_subtree(source, keys, *where)
        cpu_kdtree.finish_subtree(source, keys, trees.xyz, trees.position, *where)

    parallel_for(build, tasks)
    for c in large:
        cpu_kdtree.join_boxes(trees.box, base[c], 1, 1 << split)
    return trees


def balanced(ptr: np.ndarray, at_least: int, pieces_per_thread: int = 4) -> list[tuple[int, int]]:
    """Ranges of bags with about the same number of elements, none below ``at_least`` if avoidable."""
    bags, total = len(ptr) - 1, int(ptr[-1])
    pieces = min(bags, pieces_per_thread * torch.get_num_threads(), max(total // at_least, 1))
    if torch.get_num_threads() == 1:
        pieces = min(pieces, 1)
    if pieces <= 1:
        return [(0, bags)] if bags else []
    cuts = np.searchsorted(ptr, np.linspace(0, total, pieces + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], cuts, [bags]]))
    return [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def rows(count: int, at_least: int) -> list[tuple[int, int]]:
    """Ranges of about the same length that cover ``count`` rows."""
    return balanced(np.arange(count + 1), at_least)


@torch.compiler.disable
def fps(clouds: Clouds, first: Tensor, samples: Tensor) -> Tensor:
    """Positions of the samples; ``first`` and ``samples`` are per cloud."""
    from graphpool.ops.neighbors.cpu import fps as cpu_fps

    trees = build_trees(clouds, leaf=SAMPLING_LEAF)
    out_ptr = np.zeros(len(trees.ptr), np.int64)
    np.cumsum(samples.numpy(), out=out_ptr[1:])
    out = np.empty(int(out_ptr[-1]), np.int64)
    start = first.numpy()
    bits = np.empty(0, np.int32 if trees.xyz.dtype == np.float32 else np.int64)

    def sample(low: int, high: int) -> None:
        cpu_fps.sample_clouds(
            trees.xyz, trees.position, trees.box, trees.base, trees.depth, trees.ptr,
            start, out_ptr, bits, out, low, high,
        )  # fmt: skip

    parallel_for(sample, balanced(trees.ptr, 2048))
    return torch.from_numpy(out)


def query_order(queries: Clouds, trees: Trees, same: bool) -> np.ndarray:
    """Neighbouring queries one after the other: they find their part of the tree in the cache."""
    count = queries.points.size(0)
    if same:
        return trees.position[:count]
    if count < 16384:
        return np.arange(count, dtype=np.int32)
    return build_trees(queries).position[:count]


def query_trees(queries: Clouds, points: int) -> Trees:
    """Trees over the queries, in leaves that are small where queries are few: their boxes are large."""
    leaf = 8 * LEAF * queries.points.size(0) // max(points, 1)
    return build_trees(queries, min(max(leaf, 2), LEAF))


@torch.compiler.disable
def knn(
    clouds: Clouds,
    queries: Clouds,
    k: int,
    exclude: Tensor | None,
    limit: float,
    ascending: bool,
    same: bool,
) -> tuple[Tensor, Tensor]:
    """Positions ``[M, k]`` (-1 where missing) and squared distances (inf), at most ``limit``."""
    kernels = _search_kernels(clouds)
    trees = build_trees(clouds)
    count = queries.points.size(0)
    bound = trees.xyz.dtype.type(limit)
    out_d, out_i = np.empty((count, k), trees.xyz.dtype), np.empty((count, k), np.int64)
    if kernels.__name__.endswith("wide"):
        order = query_order(queries, trees, same)
        where: tuple[np.ndarray, ...] = (axes(queries.points), queries.cloud.numpy(), order)
        chunks = rows(count, max(4096 // k, 16))
    else:
        asked = trees if same else query_trees(queries, clouds.points.size(0))
        where = asked.arguments
        chunks = rows(int((1 << asked.depth).sum()), max(4096 // (LEAF * k), 1))
    ends = (_exclusions(exclude, count), bound, k, ascending, out_d, out_i)
    parallel_for(
        lambda low, high: kernels.nearest(*trees.arguments, *where, *ends, low, high), chunks
    )
    return torch.from_numpy(out_i), torch.from_numpy(out_d)


@torch.compiler.disable
def within(
    clouds: Clouds,
    queries: Clouds,
    limit: float,
    inclusive: bool,
    exclude: Tensor | None,
    same: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets ``[M + 1]``, positions and squared distances of all points within ``limit``."""
    kernels = _search_kernels(clouds)
    trees = build_trees(clouds)
    count = queries.points.size(0)
    query_axes = axes(queries.points)
    order = query_order(queries, trees, same)
    cloud = queries.cloud.numpy()
    skip = _exclusions(exclude, count)
    offsets = np.zeros(count + 1, np.int64)
    bound = query_axes.dtype.type(limit)
    out_d, out_i = np.empty(0, query_axes.dtype), np.empty(0, np.int64)

    def find(counting: bool, low: int, high: int) -> None:
        kernels.within(
            *trees.arguments, query_axes, cloud, order, skip, bound, inclusive,
            offsets, counting, out_d, out_i, low, high,
        )  # fmt: skip

    chunks = rows(count, 256)
    parallel_for(find, [(True, *chunk) for chunk in chunks])
    np.cumsum(offsets, out=offsets)
    out_d = np.empty(int(offsets[-1]), query_axes.dtype)
    out_i = np.empty(int(offsets[-1]), np.int64)
    parallel_for(find, [(False, *chunk) for chunk in chunks])
    return torch.from_numpy(offsets), torch.from_numpy(out_i), torch.from_numpy(out_d)


def _search_kernels(clouds: Clouds) -> Any:
    from graphpool.ops.neighbors.cpu import knn as cpu_knn
    from graphpool.ops.neighbors.cpu import wide as cpu_wide

    return cpu_knn if clouds.points.size(1) <= 3 else cpu_wide


def _exclusions(exclude: Tensor | None, count: int) -> np.ndarray:
    return np.full(count, -1, np.int64) if exclude is None else exclude.numpy()
