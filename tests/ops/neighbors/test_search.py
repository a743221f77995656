from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from graphpool import Segments, use_backend
from graphpool.ops.neighbors import knn, knn_groups, radius

BACKENDS = ("auto", "torch")


def naive_knn(points, k, queries, cloud, query_cloud, skip_self=False):
    """All distances in the dtype of the points, then one stable sort per query."""
    p, q = points.numpy(), queries.numpy()
    index = np.full((len(q), k), -1)
    squared = np.full((len(q), k), np.inf, p.dtype)
    for m in range(len(q)):
        mine = np.flatnonzero(cloud.numpy() == int(query_cloud[m]))
        if skip_self:
            mine = mine[mine != m]
        d = p[mine] - q[m]
        total = d[:, 0] * d[:, 0]
        for axis in range(1, d.shape[1]):
            total = total + d[:, axis] * d[:, axis]
        order = np.argsort(total, kind="stable")[:k]
        index[m, : len(order)] = mine[order]
        squared[m, : len(order)] = total[order]
    return torch.from_numpy(index), torch.from_numpy(squared)


CLOUDS = {
    "random": lambda g: torch.randn(300, 3, generator=g),
    "integers": lambda g: torch.randint(0, 4, (300, 3), generator=g).float(),
    "all equal": lambda g: torch.zeros(60, 3),
    "collinear": lambda g: torch.randn(200, 1, generator=g) * torch.tensor([1.0, -2.0, 0.5]),
    "offset": lambda g: torch.randn(300, 3, generator=g) + 1e4,
    "plane": lambda g: torch.randn(300, 2, generator=g),
    "tiny": lambda g: torch.randn(4, 3, generator=g),
}


@pytest.mark.parametrize("k", [1, 16, 40, 150])
@pytest.mark.parametrize("kind", list(CLOUDS))
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_all_distances_sorted(kind, k, backend):
    g = torch.Generator().manual_seed(k)
    points = CLOUDS[kind](g)
    cloud = torch.randint(0, 3, (len(points),), generator=g)
    segments = Segments(index=cloud, num_segments=3)
    queries = points[torch.randint(0, len(points), (50,), generator=g)] + 0.25
    query_cloud = torch.randint(0, 3, (50,), generator=g)
    with use_backend(backend):
        own = knn(points, k, segments=segments, exclude_self=True)
        other = knn(points, k, queries, segments, Segments(index=query_cloud, num_segments=3))
    for got, expected in (
        (own, naive_knn(points, k, points, cloud, cloud, skip_self=True)),
        (other, naive_knn(points, k, queries, cloud, query_cloud)),
    ):
        assert torch.equal(got.index, expected[0])
        assert torch.equal(got.squared_distance, expected[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_double_precision_agrees_with_scipy(backend):
    points = torch.randn(2000, 3, dtype=torch.float64) + 1e4
    with use_backend(backend):
        index, squared = knn(points, 40)
    distance, expected = cKDTree(points.numpy()).query(points.numpy(), 40)
    assert torch.equal(index, torch.from_numpy(expected))
    assert torch.allclose(squared.sqrt(), torch.from_numpy(distance))


def test_many_points_on_several_threads():
    points = torch.rand(30_000, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        index, squared = knn(points, 8, exclude_self=True)
        other, _ = knn(points, 8, queries=points[:20_000])
    finally:
        torch.set_num_threads(before)
    distance, _ = cKDTree(points.double().numpy()).query(points.double().numpy(), 9)
    assert torch.allclose(squared.sqrt().double(), torch.from_numpy(distance[:, 1:]), atol=1e-6)
    assert torch.equal(other[:, 0], torch.arange(20_000))


def test_duplicates_of_a_point_are_its_neighbours_but_not_itself():
    points = torch.zeros(5, 3)
    index, _ = knn(points, 10, exclude_self=True)
    for i, row in enumerate(index.tolist()):
        assert row[:4] == [j for j in range(5) if j != i]
        assert row[4:] == [-1] * 6


def test_clouds_that_are_empty_or_small_give_full_rows():
    points, segments = torch.randn(3, 3), Segments(ptr=torch.tensor([0, 0, 3]))
    index, squared = knn(
        points, 4, torch.zeros(2, 3), segments, Segments(ptr=torch.tensor([0, 1, 2]))
    )
    assert index[0].tolist() == [-1] * 4
    assert squared[0].tolist() == [math.inf] * 4
    assert index[1, 3] == -1
    assert knn(torch.empty(0, 3), 2).index.shape == (0, 2)
    assert knn(points, 2, torch.empty(0, 3)).index.shape == (0, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dilation_and_largest_distance(backend):
    points = torch.randn(100, 3)
    with use_backend(backend):
        all_of_them = knn(points, 12)
        assert torch.equal(knn(points, 4, dilation=3).index, all_of_them.index[:, ::3])
        index, squared = knn(points, 12, max_distance=0.5)
    near = all_of_them.squared_distance <= 0.25
    assert torch.equal(index, all_of_them.index.masked_fill(~near, -1))
    assert torch.equal(squared, all_of_them.squared_distance.masked_fill(~near, math.inf))


def test_many_coordinates_find_the_true_neighbours():
    points = torch.randn(400, 32) + 50
    index, squared = knn(points, 10, exclude_self=True)
    exact = torch.cdist(points.double(), points.double()).fill_diagonal_(math.inf)
    distance, expected = exact.topk(10, largest=False)
    assert torch.equal(index, expected)
    assert torch.allclose(squared.double(), distance.square(), rtol=1e-5)


def test_cosine():
    points = torch.randn(50, 5)
    index, distance = knn(points, 6, metric="cosine")
    unit = torch.nn.functional.normalize(points, dim=1)
    cosine, expected = (unit @ unit.T).topk(6)
    assert torch.equal(index, expected)
    assert torch.allclose(distance, 1 - cosine, atol=1e-6)
    with pytest.raises(ValueError, match="max_distance"):
        knn(points, 6, metric="cosine", max_distance=1.0)


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_radius_equals_a_comparison_of_all_pairs(backend, inclusive):
    g = torch.Generator().manual_seed(5)
    points = torch.randint(0, 6, (200, 3), generator=g).float()
    cloud = torch.randint(0, 3, (200,), generator=g)
    segments = Segments(index=cloud, num_segments=3)
    with use_backend(backend):
        groups = radius(points, 1.0, segments=segments, inclusive=inclusive)
    d = (points[:, None] - points[None]).square().sum(-1)
    close = ((d <= 1) if inclusive else (d < 1)) & (cloud[:, None] == cloud)
    assert torch.equal(groups.segments.counts, close.sum(1))
    for q in range(200):
        mine = groups.index[groups.segments.ptr[q] : groups.segments.ptr[q + 1]]
        order = d[q].masked_fill(~close[q], math.inf).sort(stable=True)[1]
        assert torch.equal(mine, order[: len(mine)])


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_radius_keeps_the_nearest(backend, inclusive):
    points = torch.randint(0, 6, (300, 3)).float()
    with use_backend(backend):
        every = radius(points, 2.0, inclusive=inclusive)
        few = radius(points, 2.0, max_neighbors=5, inclusive=inclusive)
    rank = torch.arange(every.index.numel()) - every.segments.ptr[every.segments.index]
    assert torch.equal(few.index, every.index[rank < 5])
    assert torch.equal(few.segments.counts, every.segments.counts.clamp_max(5))


def test_radius_draws_a_uniform_subset():
    points = torch.zeros(40, 3)
    hits = torch.zeros(40)
    for seed in range(200):
        g = torch.Generator().manual_seed(seed)
        groups = radius(points, 1.0, points[:1], max_neighbors=10, order="random", generator=g)
        assert groups.index.unique().numel() == 10
        hits[groups.index] += 1
    # 200 draws of 10 out of 40: mean 50, standard deviation about 6.1.
    assert hits.min() > 25
    assert hits.max() < 75


def test_radius_without_self_and_without_hits():
    points = torch.tensor([[0.0, 0, 0], [0, 0, 0], [9, 9, 9]])
    groups = radius(points, 0.0, exclude_self=True)
    assert groups.index.tolist() == [1, 0]
    assert groups.segments.counts.tolist() == [1, 1, 0]
    assert radius(torch.empty(0, 3), 1.0).index.numel() == 0


def test_uncapped_radius_graph_is_symmetric():
    edges = radius(torch.randn(150, 3), 0.7).edge_index
    forward = {tuple(e) for e in edges.T.tolist()}
    assert forward == {(b, a) for a, b in forward}


def test_groups_leave_out_what_is_missing():
    points, segments = torch.randn(6, 3), Segments(ptr=torch.tensor([0, 2, 6]))
    groups = knn_groups(points, 3, segments=segments)
    assert groups.segments.counts.tolist() == [2, 2, 3, 3, 3, 3]
    assert torch.equal(groups.edge_index[1], groups.segments.index)
    assert bool((groups.index >= 0).all())


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=0, max_size=40),
    st.lists(st.integers(0, 3), min_size=40, max_size=40),
    st.integers(1, 45),
    st.booleans(),
)
def test_any_small_clouds_agree_between_the_paths(rows, cloud, k, exclude_self):
    points = torch.tensor(rows).float().view(-1, 3)
    segments = Segments(index=torch.tensor(cloud[: len(rows)], dtype=torch.long), num_segments=4)
    fast = knn(points, k, segments=segments, exclude_self=exclude_self)
    with use_backend("torch"):
        slow = knn(points, k, segments=segments, exclude_self=exclude_self)
    assert torch.equal(fast.index, slow.index)
    assert torch.equal(fast.squared_distance, slow.squared_distance)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"k": 0}, ValueError, "`k` must be an int of at least 1"),
        ({"k": 2.0}, TypeError, "`k` must be an int"),
        ({"k": 1, "dilation": 0}, ValueError, "dilation"),
        ({"k": 1, "metric": "manhattan"}, ValueError, "metric"),
        ({"k": 1, "max_distance": -1.0}, ValueError, "max_distance"),
        ({"k": 1, "queries": torch.zeros(2, 2)}, ValueError, "3 coordinates"),
        ({"k": 1, "queries": torch.zeros(2, 3).double()}, TypeError, "dtype"),
        ({"k": 1, "queries": torch.zeros(2, 3), "exclude_self": True}, ValueError, "exclude_self"),
        ({"k": 1, "query_segments": Segments(ptr=torch.tensor([0]))}, ValueError, "needs `queries`"),
        (
            {"k": 1, "queries": torch.zeros(2, 3), "query_segments": Segments(ptr=torch.tensor([0, 1, 2]))},
            ValueError,
            "2; they must be the same",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        knn(torch.randn(5, 3), **kwargs)


def test_coordinates_must_be_finite():
    points = torch.randn(5, 3)
    points[2, 0] = torch.nan
    with pytest.raises(ValueError, match="`points` must be finite.*point 2"):
        knn(points, 2)
    with pytest.raises(ValueError, match="`queries` must be finite"):
        knn(torch.randn(5, 3), 2, points)
    with pytest.raises(ValueError, match="`order`"):
        radius(torch.randn(5, 3), 1.0, order="first")
