"""Clouds in any unit of length: atoms in metres, maps in light years, features of any size.

A power of two changes no bit of a coordinate, so that the answer in one unit is the answer in all. Where
magnitudes are mixed, fractions say what is right.
"""

from __future__ import annotations

import functools
from fractions import Fraction

import numpy as np
import pytest
import torch

from graphpool import Segments, use_backend
from graphpool.models import PointNet2Classifier
from graphpool.ops.neighbors import fps, interpolate, knn, knn_groups, radius, voxel_grid
from graphpool.points import FeaturePropagation, SetAbstraction, VoxelPool

BACKENDS = ("auto", "torch")
FLOAT, DOUBLE = torch.float32, torch.float64
#: Types, and exponents of units: squares vanish in all but the first, coordinates are subnormal in the last.
UNITS = [(FLOAT, -70), (FLOAT, -100), (FLOAT, -145), (DOUBLE, -530), (DOUBLE, -1070)]


def in_unit(x: torch.Tensor, dtype: torch.dtype, exponent: int) -> torch.Tensor:
    return torch.as_tensor(np.ldexp(x.double().numpy(), exponent)).to(dtype)


def integers(columns: int, count: int = 120, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-7, 8, (count, columns), generator=g).double()


def clouds(count: int = 120) -> Segments:
    return Segments(index=torch.arange(count) % 3, num_segments=3)


def exact_squares(points: torch.Tensor, queries: torch.Tensor) -> list[list[Fraction]]:
    p, q = ([[Fraction(v) for v in row] for row in x.tolist()] for x in (points, queries))
    return [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for x in p] for y in q]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("columns", [1, 3, 11])
@pytest.mark.parametrize(("dtype", "exponent"), UNITS)
class TestUnits:
    def test_nearest(self, dtype, exponent, columns, backend):
        plain, queries = integers(columns), integers(columns, 30, 1)
        asked = Segments(index=torch.arange(30) % 3, num_segments=3)
        with use_backend(backend):
            want = knn(plain, 40, queries, clouds(), asked)
            small, few = in_unit(plain, dtype, exponent), in_unit(queries, dtype, exponent)
            got = knn(small, 40, few, clouds(), asked)
            assert torch.equal(got.index, want.index)
            squared = np.ldexp(want.squared_distance.numpy(), 2 * exponent)
            assert torch.equal(got.squared_distance, torch.from_numpy(squared).to(dtype))
            reach = float(in_unit(torch.tensor(5.0), dtype, exponent))
            limited = knn(small, 40, few, clouds(), asked, max_distance=reach).index
            assert torch.equal(
                limited, knn(plain, 40, queries, clouds(), asked, max_distance=5.0).index
            )

    @pytest.mark.parametrize("inclusive", [True, False])
    def test_radius(self, dtype, exponent, columns, backend, inclusive):
        plain = integers(columns)
        small, r = (
            in_unit(plain, dtype, exponent),
            float(in_unit(torch.tensor(5.0), dtype, exponent)),
        )
        for kind in ({}, {"max_neighbors": 4}, {"exclude_self": True}):
            with use_backend(backend):
                want = radius(plain, 5.0, segments=clouds(), inclusive=inclusive, **kind)
                got = radius(small, r, segments=clouds(), inclusive=inclusive, **kind)
            assert torch.equal(got.edge_index, want.edge_index)

    @pytest.mark.parametrize("start", [0, "centroid"])
    def test_farthest_points(self, dtype, exponent, columns, backend, start):
        with use_backend(backend):
            want = fps(integers(columns), clouds(), 20, start=start)
            got = fps(in_unit(integers(columns), dtype, exponent), clouds(), 20, start=start)
        assert torch.equal(got, want)

    def test_interpolation_and_its_derivatives(self, dtype, exponent, columns, backend):
        x = torch.randn(120, 2, dtype=dtype, generator=torch.Generator().manual_seed(2))
        queries = integers(columns, 30, 1)
        results = []
        for e in (0, exponent):
            points = in_unit(integers(columns), dtype, e).requires_grad_()
            asked = in_unit(queries, dtype, e).requires_grad_()
            with use_backend(backend), torch.no_grad():
                plain = interpolate(x, points, asked, k=4)
            with use_backend(backend):
                value = interpolate(x, points, asked, k=4)
            torch.testing.assert_close(value, plain)
            (first,) = torch.autograd.grad(value.sum(), asked, create_graph=True)
            results.append((value.detach(), first.detach()))
        torch.testing.assert_close(results[1][0], results[0][0])
        if exponent in (-145, -1070):
            return  # The derivative exceeds all numbers.
        want = times(results[0][1], -exponent)
        torch.testing.assert_close(
            results[1][1], want, rtol=1e-4, atol=float(want.abs().max()) * 1e-5
        )


def times(x: torch.Tensor, exponent: int) -> torch.Tensor:
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.ldexp(x.numpy(), exponent))


@pytest.mark.parametrize(("dtype", "exponent"), [(FLOAT, -60), (DOUBLE, -480)])
def test_second_derivatives_of_interpolation(dtype, exponent):
    g = torch.Generator().manual_seed(3)
    x, pos, queries = (torch.randn(n, c, generator=g).double() for n, c in ((9, 1), (9, 3), (5, 3)))

    def second(dtype, e):
        asked = in_unit(queries, dtype, e).requires_grad_()
        value = interpolate(x.to(dtype), in_unit(pos, dtype, e), asked, k=3).sum()
        (first,) = torch.autograd.grad(value, asked, create_graph=True)
        # The sum of the first derivatives, in the small unit.
        (found,) = torch.autograd.grad((first * in_unit(torch.ones(5, 3), dtype, e)).sum(), asked)
        return found

    want = times(second(DOUBLE, 0), -exponent).to(dtype)
    torch.testing.assert_close(
        second(dtype, exponent), want, rtol=1e-3, atol=float(want.abs().max()) * 1e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        (FLOAT, (1e-25, 1.0)), (FLOAT, (1e-25, 1e12)), (FLOAT, (1e-38, 1.0)), (FLOAT, (1e-43, 1e17)),
        (DOUBLE, (1e-160, 1.0)), (DOUBLE, (1e-200, 1e60)), (DOUBLE, (1e-150, 1e130)),
    ],
)  # fmt: skip
class TestMixedSizes:
    """Clouds of different size in one batch, and in one cloud."""

    @staticmethod
    def points(dtype, sizes):
        plain = torch.cat([integers(3, 40, 5) * size for size in sizes])
        return plain.to(dtype)

    @staticmethod
    @functools.cache
    def squares(dtype, sizes):
        points = TestMixedSizes.points(dtype, sizes)
        return exact_squares(points, points)

    @pytest.mark.parametrize("together", [False, True])
    def test_nearest_farthest_and_within(self, dtype, sizes, backend, together):
        points = self.points(dtype, sizes)
        ptr = torch.tensor([0, 80] if together else [0, 40, 80])
        segments, squares = Segments(ptr=ptr), self.squares(dtype, sizes)
        cloud = segments.index.tolist()
        reach = Fraction(float(torch.tensor(4 * sizes[0], dtype=dtype)))
        with use_backend(backend):
            index = knn(points, 7, segments=segments).index.tolist()
            groups = radius(points, 4 * sizes[0], segments=segments)
            picks = fps(points, segments, 25).tolist()
        bags = groups.index.split(groups.segments.counts.tolist())
        near, limit = Fraction(1 - 1e-5), reach**2
        low, high = limit * near, limit / near
        for m, row in enumerate(squares):
            mine = [j for j in range(80) if cloud[j] == cloud[m]]
            want = sorted(mine, key=lambda j: (row[j], j))[:7]
            # Equal up to rounding may be ranked either way: it is the distances that must agree.
            for got, right in zip(index[m], want, strict=True):
                assert row[right] * near <= row[got] <= row[right] / near
            inside = {j for j in mine if row[j] <= limit}
            border = {j for j in mine if low <= row[j] <= high}
            assert set(bags[m].tolist()) ^ inside <= border
        for c in range(segments.num_segments):
            mine = [j for j in range(80) if cloud[j] == c]
            seen = picks[25 * c : 25 * c + 25]
            gap = {j: squares[j][seen[0]] for j in mine}
            for t in range(1, 25):
                gap = {j: min(gap[j], squares[j][seen[t - 1]]) for j in mine}
                assert gap[seen[t]] >= near * max(gap.values())

    def test_a_query_on_top_of_a_point_is_told_from_one_beside_it(self, dtype, sizes, backend):
        points = self.points(dtype, sizes).unique(dim=0)
        with use_backend(backend):
            x = torch.arange(len(points), dtype=dtype)[:, None]
            torch.testing.assert_close(interpolate(x, points, points), x)


def test_coordinates_that_no_unit_of_float64_holds_are_refused():
    points = torch.tensor([[1e-300], [2e-300], [1.0]], dtype=DOUBLE)
    for search in (lambda: knn(points, 1), lambda: radius(points, 1.0), lambda: fps(points, num_samples=2),
                   lambda: interpolate(points, points, points)):  # fmt: skip
        with pytest.raises(ValueError, match="no unit of length"):
            search()
    # What is nothing to a cosine does not stop it.
    unit = torch.tensor([[1.0, 1e-300], [1e-300, 1.0], [1.0, 2e-300]], dtype=DOUBLE)
    assert knn(unit, 1, metric="cosine").index.flatten().tolist() == [0, 1, 0]


def test_a_trace_among_features_stops_no_search():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 16, generator=g).relu()
    marked = x.clone()
    marked[3, 5], marked[7, 2] = 1e-42, 3e-40
    assert torch.equal(knn(marked, 9).index, knn(x, 9).index)


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE])
def test_a_point_on_the_query_lies_within_any_radius(dtype):
    points = torch.zeros(2, 3, dtype=dtype)
    for r in (1e-25, 1e-200, 5e-324):
        groups = radius(points, r, inclusive=False)
        assert groups.index.tolist() == [0, 1, 0, 1]


def test_the_centroid_is_that_of_large_clouds_too():
    points = integers(3, 50)
    want = fps(points, num_samples=1, start="centroid")
    for exponent in (70, 400, 490):
        large = in_unit(points, DOUBLE, exponent)
        assert torch.equal(fps(large, num_samples=1, start="centroid"), want)


@pytest.mark.parametrize(("dtype", "exponent"), UNITS)
def test_cells(dtype, exponent):
    points = integers(3)
    size = float(in_unit(torch.tensor(4.0), dtype, exponent))
    small = in_unit(points, dtype, exponent)
    assert torch.equal(voxel_grid(small, size).cells, voxel_grid(points, 4.0).cells)
    pooled = VoxelPool(2, size, "max")(torch.ones(120, 2), small)
    want = VoxelPool(2, 4.0, "max")(torch.ones(120, 2), points)
    if exponent > -140:
        torch.testing.assert_close(
            times(pooled.pos.double(), -exponent), want.pos, rtol=1e-5, atol=1e-5
        )


class TestNetworks:
    def test_layers_see_neighbours(self):
        pos, clouds = integers(3, 60).float() * 2.0**-90, Segments(ptr=torch.tensor([0, 60]))
        layer = SetAbstraction(0, (8,), 0.5, radius=4 * 2.0**-90, k=8).eval()
        same = SetAbstraction(0, (8,), 0.5, radius=4.0, k=8).eval()
        same.load_state_dict(layer.state_dict())
        got, want = layer(None, pos, clouds), same(None, pos * 2.0**90, clouds)
        torch.testing.assert_close(got[0], want[0])
        up = FeaturePropagation(8, 0, (4,)).eval()
        fine = pos + 2.0**-92
        torch.testing.assert_close(
            up(got[0], got[1], got[2], None, fine, clouds),
            up(want[0], want[1], want[2], None, fine * 2.0**90, clouds),
        )
        assert knn_groups(pos, 4).squared_distance.shape == (240,)

    @pytest.mark.parametrize("size", [1e-60, 1e-46])
    def test_positions_that_the_network_cannot_hold_are_refused(self, size):
        pos = integers(3, 60) * size
        with pytest.raises(ValueError, match="extent of only"):
            PointNet2Classifier(2, k=4, width=4, radii=(None, None)).eval()(pos)
        with pytest.raises(ValueError, match="extent of only"):
            SetAbstraction(0, (8,), 0.5, k=8).eval()(None, pos, Segments(ptr=torch.tensor([0, 60])))
