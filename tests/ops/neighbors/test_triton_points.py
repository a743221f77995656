"""The Triton kernels of samples and searches against the CPU kernels and brute force, bit by bit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="not tried: triton is not installed: pip install triton")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from graphpool import Segments, explain, use_backend  # noqa: E402
from graphpool.ops.dispatch import Path  # noqa: E402
from graphpool.ops.neighbors import (  # noqa: E402
    fps,
    interpolate,
    knn,
    knn_groups,
    paths,
    radius,
    trees,
    voxel_grid,
)
from graphpool.ops.neighbors.cuda import blocks as cuda_blocks  # noqa: E402
from graphpool.ops.neighbors.cuda import launch as cuda_launch  # noqa: E402


@pytest.fixture
def on_triton(triton_device, monkeypatch):
    """Runs functions of points on the Triton kernels, which sort small clouds of float32, too, by place."""
    used = []

    def choose(op, points, k=1):
        used.append(op)
        return Path("triton" if k <= paths.LARGEST_K else "torch", "the test says so")

    def run(function, *args, **options):
        narrow = any(isinstance(v, torch.Tensor) and v.dtype == torch.float32 for v in args)
        args = [v.to(triton_device) if hasattr(v, "to") else v for v in args]
        options = {n: v.to(triton_device) if hasattr(v, "to") else v for n, v in options.items()}
        with monkeypatch.context() as inside:
            inside.setattr(cuda_blocks, "_SORTED_FROM", 1 if narrow else 1 << 40)
            inside.setattr(paths, "choose", choose)
            inside.setattr(trees, "trees_serve", lambda points: False)
            inside.setattr(trees, "sampling_serves", lambda points: False)
            found = function(*args, **options)
        assert used
        used.clear()
        return found

    return run


def same(found, expected):
    """Bit by bit; of groups the three tensors."""
    if hasattr(found, "segments"):
        assert torch.equal(found.segments.ptr.cpu(), expected.segments.ptr)
        found = (found.index, found.squared_distance)
        expected = (expected.index, expected.squared_distance)
    if isinstance(found, torch.Tensor):
        found, expected = (found,), (expected,)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and torch.equal(a.cpu(), b)


def clouds(kind: str, dtype: torch.dtype) -> tuple[torch.Tensor, Segments]:
    """Four clouds in any order, of which one is empty and one has a single point."""
    g = torch.Generator().manual_seed(3)
    made = {
        "random": torch.randn(70, 3, generator=g, dtype=dtype),
        "grid": torch.tensor(list(itertools.product(range(4), repeat=3)), dtype=dtype),
        "all equal": torch.ones(30, 3, dtype=dtype),
        "collinear": torch.randn(40, 1, generator=g, dtype=dtype) * torch.tensor([1.0, 2.0, -1.0]),
        "far away": torch.randn(50, 3, generator=g, dtype=dtype) + 1e6,
        "plane": torch.randn(50, 2, generator=g, dtype=dtype),
        "line": torch.randint(0, 9, (40, 1), generator=g).to(dtype),
        "wide": torch.randn(40, 9, generator=g, dtype=dtype),
    }[kind].to(dtype)
    index = torch.randint(2, (len(made),), generator=g) * 2
    index[0] = 3
    # Not contiguous, as a column of something larger is.
    wide = torch.cat([made, made], 1)[:, : made.shape[1]]
    return wide, Segments(index=index, num_segments=4)


KINDS = ("random", "grid", "all equal", "collinear", "far away", "plane", "line", "wide")
kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@kinds
@dtypes
@pytest.mark.parametrize("memory", ["all on chip", "distances on chip", "in blocks"])
def test_samples(kind, dtype, memory, on_triton, monkeypatch):
    points, segments = clouds(kind, dtype)
    if memory != "all on chip":
        monkeypatch.setattr(cuda_launch, "_ALL_ON_CHIP", 0)
    if memory == "in blocks":
        monkeypatch.setattr(cuda_launch, "_DISTANCES_ON_CHIP", 0)
        monkeypatch.setattr(cuda_launch, "_SMALLEST", 8)
    # Some of one cloud, all of another.
    counts = segments.counts.clone()
    counts[0] = 7
    start = segments.counts // 2
    found = on_triton(fps, points, segments, num_samples=counts, start=start)
    same(found, fps(points, segments, num_samples=counts, start=start))


@kinds
@dtypes
def test_neighbours(kind, dtype, on_triton):
    points, segments = clouds(kind, dtype)
    k = 40 if kind == "grid" else 5
    same(
        on_triton(knn, points, k, segments=segments, exclude_self=True),
        knn(points, k, segments=segments, exclude_self=True),
    )
    queries = (points[:20] + points[:20].roll(1, 0)) / 2
    asked = Segments(index=torch.arange(20) % 4, num_segments=4)
    for k, limit in ((1, math.inf), (4, 1.5)):
        same(
            on_triton(knn, points, k, queries, segments, asked, max_distance=limit),
            knn(points, k, queries, segments, asked, max_distance=limit),
        )


@kinds
@dtypes
def test_within_a_radius(kind, dtype, on_triton):
    points, segments = clouds(kind, dtype)
    inclusive = dtype == torch.float32
    options = {"exclude_self": True} if inclusive else {"max_neighbors": 3}
    options = {"segments": segments, "inclusive": inclusive, **options}
    same(on_triton(radius, points, 1.0, **options), radius(points, 1.0, **options))
    queries, asked = points[:20], Segments(index=torch.arange(20) % 4, num_segments=4)
    same(
        on_triton(radius, points, 0.8, queries, segments, asked, inclusive=inclusive),
        radius(points, 0.8, queries, segments, asked, inclusive=inclusive),
    )


@pytest.mark.parametrize("kind", ["drawn", "ties across blocks"])
def test_only_blocks_without_a_neighbour_are_passed_over(kind, on_triton, monkeypatch):
    monkeypatch.setattr(cuda_launch, "_BLOCK", 8)
    points = torch.rand(60, 3, generator=torch.Generator().manual_seed(1))
    points = points if kind == "drawn" else (points * 5).round()
    same(on_triton(knn, points, 4, exclude_self=True), knn(points, 4, exclude_self=True))
    reach = 0.3 if kind == "drawn" else 1.0
    same(on_triton(radius, points, reach), radius(points, reach))


def test_neighbours_are_those_of_a_sort_of_all_distances(on_triton):
    points = torch.randint(0, 4, (70, 3)).float()
    index, squared = on_triton(knn, points, 20)
    p = points.numpy()
    d = ((p[:, None] - p[None]) ** 2).sum(-1)
    order = np.argsort(d, axis=1, kind="stable")[:, :20]
    assert index.tolist() == order.tolist()
    assert torch.equal(squared.cpu(), torch.from_numpy(np.take_along_axis(d, order, 1)))


def test_samples_are_those_of_a_loop(on_triton, monkeypatch):
    points = torch.randint(0, 4, (50, 3)).float()
    p, nearest, picks = points.numpy(), np.full(50, np.inf), [4]
    for _ in range(49):
        nearest = np.minimum(nearest, ((p - p[picks[-1]]) ** 2).sum(1))
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
    for on_chip in (1 << 16, 0):
        monkeypatch.setattr(cuda_launch, "_DISTANCES_ON_CHIP", on_chip)
        monkeypatch.setattr(cuda_launch, "_SMALLEST", 8)
        assert on_triton(fps, points, num_samples=50, start=4).tolist() == picks


def test_nothing_to_find(on_triton):
    none, few = torch.empty(0, 3), torch.randn(3, 3)
    empty = Segments(ptr=torch.tensor([0, 0, 3])), Segments(ptr=torch.tensor([0, 2, 2]))
    assert on_triton(fps, none, num_samples=0).shape == (0,)
    assert on_triton(fps, few, num_samples=0).shape == (0,)
    assert on_triton(knn, none, 2).index.shape == (0, 2)
    assert on_triton(knn, few, 2, none).index.shape == (0, 2)
    for function, value in ((knn, 2), (radius, 9.0)):
        found = on_triton(function, few, value, few[:2], *empty)
        same(found, function(few, value, few[:2], *empty))
    assert on_triton(radius, none, 1.0).index.shape == (0,)


def test_half_precision_is_searched_in_float32(on_triton):
    points = torch.randn(60, 3).half()
    same(on_triton(knn, points, 4), knn(points, 4))
    same(on_triton(fps, points, num_samples=20), fps(points, num_samples=20))


def test_more_neighbours_than_the_kernel_keeps(on_triton):
    points = torch.randn(150, 3)
    same(on_triton(knn, points, 140), knn(points, 140))


def test_what_is_made_of_searches(on_triton):
    """Groups, cosine, dilation, interpolation."""
    points, segments = clouds("random", torch.float32)
    same(
        on_triton(knn_groups, points, 9, segments=segments, dilation=2),
        knn_groups(points, 9, segments=segments, dilation=2),
    )
    same(on_triton(knn, points, 4, metric="cosine"), knn(points, 4, metric="cosine"))
    same(
        on_triton(radius, points, 0.9, segments=segments, max_neighbors=4),
        radius(points, 0.9, segments=segments, max_neighbors=4),
    )
    x = torch.randn(len(points), 4)
    found = on_triton(interpolate, x, points, points[:50] + 0.1)
    torch.testing.assert_close(found.cpu(), interpolate(x, points, points[:50] + 0.1))


def test_cells_on_the_device(device):
    pos, segments = clouds("random", torch.float32)
    expected = voxel_grid(pos, 0.5, segments)
    found = voxel_grid(pos.to(device), 0.5, segments.to(device))
    assert torch.equal(found.segments.index.cpu(), expected.segments.index)
    assert torch.equal(found.cells.cpu(), expected.cells)


@pytest.mark.parametrize("op", [fps, knn, knn_groups, radius, interpolate])
def test_points_on_cuda_go_to_these_kernels(op):
    with FakeTensorMode():
        points = torch.empty(20, 3, device="cuda")
    assert "fused CUDA kernel (Triton)" in explain(op, points)
    with use_backend("torch"):
        assert "plain PyTorch" in explain(op, points)
    assert paths.choose("knn", points, paths.LARGEST_K).name == "triton"
    assert "at most 128 neighbours" in paths.choose("knn", points, paths.LARGEST_K + 1).reason
    assert "fused CPU kernel (Numba)" in explain(op, torch.empty(20, 3))
    with FakeTensorMode():
        most = torch.empty(1 << 31, 1, device="cuda")
    assert "at most" in paths.choose("knn", most).reason


def test_samples_in_many_coordinates_take_plain_torch_on_the_cpu():
    assert "three coordinates" in explain(fps, torch.empty(20, 4))
    assert "Numba" in explain(knn, torch.empty(20, 4))
    assert math.isinf(knn(torch.zeros(1, 4), 2).squared_distance[0, 1])


@pytest.mark.slow
def test_in_the_interpreter(passes_interpreted):
    passes_interpreted(__file__, timeout=600)
