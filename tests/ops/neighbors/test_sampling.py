from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool import Segments, use_backend
from graphpool.ops.neighbors import fps, trees

BACKENDS = ("auto", "torch")


def naive(points: torch.Tensor, count: int, start: int = 0) -> list[int]:
    """Greedy sampling, one distance at a time; the lowest index wins ties, no index comes twice."""
    p = points.numpy()
    nearest = np.full(len(p), np.inf, p.dtype)
    picks: list[int] = []
    current = start
    for _ in range(count):
        picks.append(current)
        d = p - p[current]
        total = d[:, 0] * d[:, 0]
        for axis in range(1, d.shape[1]):
            total = total + d[:, axis] * d[:, axis]
        nearest = np.minimum(nearest, total)
        race = nearest.copy()
        race[picks] = -1
        current = int(race.argmax())
    return picks


def kinds(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=g, dtype=dtype)

    line = draw(200, 1) * torch.tensor([1.0, 2.0, -1.0], dtype=dtype)
    return {
        "random": draw(700, 3),
        "grid": torch.tensor(list(itertools.product(range(6), repeat=3)), dtype=dtype),
        "duplicates": torch.randint(0, 3, (150, 3), generator=g).to(dtype),
        "all equal": torch.ones(40, 3, dtype=dtype),
        "collinear": line,
        "huge offset": draw(300, 3) + 1e6,
        "large": draw(300, 3) * 1e5,
        "near the origin": draw(300, 3) * 1e-3,
        "plane": draw(300, 2),
        "one axis": draw(90, 1),
        "five axes": draw(90, 5),
        "tiny": draw(3, 3),
        "one": draw(1, 3),
    }


@cache
def naive_picks(kind: str, dtype: torch.dtype, start: int) -> list[int]:
    points = kinds(dtype)[kind]
    return naive(points, len(points), start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(kinds(torch.float32)))
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_naive_greedy_sampling_index_by_index(kind, dtype, backend):
    points = kinds(dtype)[kind]
    for start in {0, len(points) // 2}:
        with use_backend(backend):
            picks = fps(points, num_samples=len(points), start=start).tolist()
        assert picks == naive_picks(kind, dtype, start)
        assert sorted(picks) == list(range(len(points)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("leaf", [2, 3, 5, 11, 22, 44, 90, 400])
def test_every_depth_of_the_tree_gives_the_same_picks(leaf, dtype, monkeypatch):
    """Nine levels down to none: every number of children of the root, one to three levels of groups."""
    monkeypatch.setattr(trees, "SAMPLING_LEAF", leaf)
    for points in (kinds(dtype)["random"], kinds(dtype)["grid"], kinds(dtype)["duplicates"]):
        assert fps(points, num_samples=140).tolist() == naive(points, 140)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ragged_unsorted_clouds_are_sampled_one_by_one(backend):
    points, cloud = torch.randn(500, 3), torch.randint(0, 6, (500,))
    cloud[cloud == 3] = 2  # an empty cloud
    segments = Segments(index=cloud, num_segments=6)
    counts = (segments.counts // 2).tolist()
    with use_backend(backend):
        picks = fps(points, segments, num_samples=counts)
    expected = []
    for c in range(6):
        mine = (cloud == c).nonzero().squeeze(1)
        expected += mine[naive(points[mine], counts[c])].tolist() if counts[c] else []
    assert picks.tolist() == expected


def test_the_first_picks_are_the_smaller_sampling():
    points = torch.randint(0, 9, (400, 3)).float()
    many = fps(points, num_samples=300)
    assert torch.equal(fps(points, num_samples=70), many[:70])
    assert fps(points[many], num_samples=150).tolist() == list(range(150))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_clouds_give_the_same_picks_for_any_number_of_threads(threads):
    points = torch.randn(40_000, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = fps(points, num_samples=64)
        torch.set_num_threads(threads)
        assert torch.equal(fps(points, num_samples=64), expected)
    finally:
        torch.set_num_threads(before)
    assert expected.tolist() == naive(points, 64)


def test_starting_far_from_the_centroid_does_not_depend_on_the_order():
    points = torch.randint(0, 5, (200, 3)).float().unique(dim=0)
    segments = Segments(index=torch.arange(len(points)) % 2, num_segments=2)
    shuffle = torch.randperm(len(points))
    moved = Segments(index=segments.index[shuffle], num_segments=2)
    one = fps(points, segments, num_samples=1, start="centroid")
    two = fps(points[shuffle], moved, num_samples=1, start="centroid")
    assert torch.equal(points[one], points[shuffle][two])
    mean = points[0::2].double().mean(0)
    farthest = (points[0::2].double() - mean).norm(dim=1).max()
    assert torch.isclose((points[one[0]].double() - mean).norm(), farthest)


def test_random_starts_follow_the_generator_and_stay_in_their_cloud():
    points, segments = torch.randn(60, 3), Segments(ptr=torch.tensor([0, 10, 60]))
    seen = set()
    for seed in range(20):
        picks = [
            fps(points, segments, num_samples=1, start="random",
                generator=torch.Generator().manual_seed(seed))
            for _ in range(2)
        ]  # fmt: skip
        assert torch.equal(*picks)
        assert picks[0][0] < 10 <= picks[0][1]
        seen.add(int(picks[0][1]))
    assert len(seen) > 5


@pytest.mark.parametrize(("ratio", "count", "expected"), [(0.1, 30, 3), (0.25, 7, 2), (1.0, 5, 5)])
def test_ratio_is_the_exact_ceiling(ratio, count, expected):
    assert fps(torch.randn(count, 3), ratio=ratio).numel() == expected


def test_too_few_points_are_an_error_unless_told_otherwise():
    points, segments = torch.randn(7, 3), Segments(ptr=torch.tensor([0, 2, 7]))
    with pytest.raises(ValueError, match="cloud 0, which has 2"):
        fps(points, segments, num_samples=4)
    padded = fps(points, segments, num_samples=4, short="pad")
    assert padded[:4].tolist() == [0, 1, -1, -1]
    assert torch.equal(padded[4:], fps(points, segments, num_samples=[0, 4]))
    assert fps(points, segments, num_samples=4, short="repeat")[:4].tolist() == [0, 1, 0, 1]
    empty = Segments(ptr=torch.tensor([0, 0, 7]))
    assert fps(points, empty, num_samples=2, short="pad").tolist()[:2] == [-1, -1]
    with pytest.raises(ValueError, match="no pick to repeat"):
        fps(points, empty, num_samples=2, short="repeat")


def test_nothing_to_sample():
    assert fps(torch.empty(0, 3), num_samples=0).numel() == 0
    assert fps(torch.randn(5, 3), num_samples=0).numel() == 0
    assert fps(torch.empty(0, 3), Segments(ptr=torch.tensor([0, 0])), ratio=0.5).numel() == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e19])
def test_coordinates_must_be_finite(bad):
    points = torch.randn(5, 3)
    points[3, 1] = bad
    with pytest.raises(ValueError, match="point 3, coordinate 1"):
        fps(points, num_samples=2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "exactly one"),
        ({"num_samples": 2, "ratio": 0.5}, "exactly one"),
        ({"ratio": 0.0}, "`ratio` must lie in"),
        ({"ratio": 1.5}, "`ratio` must lie in"),
        ({"num_samples": -1}, ">= 0"),
        ({"num_samples": [1, 2]}, "one per cloud"),
        ({"num_samples": 2, "start": 9}, "within its cloud"),
        ({"num_samples": 2, "start": "middle"}, "'random' or 'centroid'"),
        ({"num_samples": 2, "short": "wrap"}, "`short` must be one of"),
        ({"num_samples": 2, "segments": Segments(ptr=torch.tensor([0, 3]))}, "has 3 elements"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fps(torch.randn(5, 3), **kwargs)


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match="floating"):
        fps(torch.zeros(5, 3, dtype=torch.long), num_samples=2)
    with pytest.raises(TypeError, match="Segments"):
        fps(torch.randn(5, 3), torch.zeros(5, dtype=torch.long), num_samples=2)
    with pytest.raises(TypeError, match="num_samples"):
        fps(torch.randn(5, 3), num_samples=2.5)


def test_half_precision_is_sampled_in_float32():
    points = torch.randn(100, 3).half()
    assert fps(points, num_samples=50).tolist() == naive(points.float(), 50)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=40),
    st.lists(st.integers(0, 3), min_size=40, max_size=40),
    st.data(),
)
def test_any_small_clouds_agree_between_the_paths(rows, cloud, data):
    points = torch.tensor(rows).float()
    segments = Segments(index=torch.tensor(cloud[: len(rows)]), num_segments=4)
    counts = [data.draw(st.integers(0, n)) for n in segments.counts.tolist()]
    fast = fps(points, segments, num_samples=counts)
    with use_backend("torch"):
        slow = fps(points, segments, num_samples=counts)
    assert torch.equal(fast, slow)
    assert fast.unique().numel() == fast.numel() == sum(counts)
