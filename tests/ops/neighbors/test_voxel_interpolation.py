from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool import Segments, _optional, ops
from graphpool.ops.neighbors import interpolate, voxel_grid, voxel_segments


def test_voxels_match_a_dictionary_of_cells():
    pos, cloud = torch.randn(300, 3) * 3, torch.randint(0, 3, (300,))
    found = voxel_grid(pos, 0.7, Segments(index=cloud, num_segments=3))
    cells: dict[tuple[int, ...], list[int]] = {}
    for i in range(300):
        key = (int(cloud[i]), *(pos[i].double() / 0.7).floor().long().tolist())
        cells.setdefault(key, []).append(i)
    assert found.segments.num_segments == len(cells)
    for number, key in enumerate(sorted(cells)):
        assert (int(found.cloud[number]), *found.cells[number].tolist()) == key
        assert (found.segments.index == number).nonzero().squeeze(1).tolist() == cells[key]


def test_negative_coordinates_and_faces_of_cells_round_down():
    pos = torch.tensor([[-1.0], [-0.001], [0.0], [0.999], [1.0]])
    assert voxel_grid(pos, 1.0).cells.squeeze(1).tolist() == [-1, 0, 1]
    assert voxel_segments(pos, 1.0).index.tolist() == [0, 0, 1, 1, 2]


def test_moving_by_whole_cells_keeps_the_clusters():
    pos = torch.randn(200, 3)
    one = voxel_segments(pos, 0.5)
    two = voxel_segments(pos + torch.tensor([4.0, -8.0, 16.0]), 0.5)
    assert torch.equal(one.index, two.index)
    three = voxel_segments(pos.double() + 0.125, 0.5, origin=0.125)
    assert torch.equal(voxel_segments(pos.double(), 0.5).index, three.index)


def test_cells_too_many_for_one_integer_are_still_exact():
    pos = torch.tensor(
        [[0.0, 0, 0], [1e9, 1e9, 1e9], [0.2, 0.2, 0.2], [-1e9, 3, 3]], dtype=torch.float64
    )
    assert voxel_segments(pos, 0.5).index.tolist() == [1, 2, 1, 0]
    with pytest.raises(ValueError, match="exceeds int64"):
        voxel_segments(pos, 1e-12)


def test_anisotropic_cells_and_empty_clouds():
    pos = torch.tensor([[0.4, 0.4], [0.6, 0.4]])
    assert voxel_segments(pos, torch.tensor([1.0, 0.1])).num_segments == 1
    assert voxel_segments(pos, torch.tensor([0.5, 1.0])).num_segments == 2
    assert voxel_segments(torch.empty(0, 3), 1.0).num_segments == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": 0.0}, "`size` must be positive"),
        ({"size": torch.tensor([1.0, 2.0])}, "one per axis"),
        ({"size": 1.0, "origin": float("nan")}, "`origin` must be finite"),
    ],
)
def test_wrong_grids_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        voxel_grid(torch.randn(4, 3), **kwargs)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=30))
def test_points_share_a_cell_if_and_only_if_their_floors_agree(rows):
    pos = torch.tensor(rows, dtype=torch.float64)
    index, cell = voxel_segments(pos, 3.0).index, (pos / 3.0).floor()
    same = (cell[:, None] == cell).all(-1)
    assert torch.equal(index[:, None] == index, same)


@pytest.mark.needs("torch_cluster")
def test_interpolation_agrees_with_the_formula_of_pyg():
    module = _optional.require("torch_cluster", purpose="this test")
    pos, queries, x = torch.randn(60, 3), torch.randn(90, 3), torch.randn(60, 5)
    cloud, asked = torch.arange(60) // 30, torch.arange(90) // 45
    row, column = module.knn(pos, queries, 3, cloud, asked)
    weight = 1 / (pos[column] - queries[row]).square().sum(1, keepdim=True).clamp(min=1e-16)
    total = torch.zeros(90, 5).index_add_(0, row, weight * x[column])
    expected = total / torch.zeros(90, 1).index_add_(0, row, weight)
    clouds = (Segments(index=i, num_segments=2) for i in (cloud, asked))
    assert torch.allclose(interpolate(x, pos, queries, *clouds), expected, atol=1e-5)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_interpolation_follows_its_formula(power):
    pos, queries, x = (torch.randn(n, d, dtype=torch.float64) for n, d in ((9, 3), (6, 3), (9, 4)))
    out = interpolate(x, pos, queries, k=4, power=power)
    distance, index = torch.cdist(queries, pos).topk(4, largest=False)
    weight = distance**-power
    expected = (weight[..., None] * x[index]).sum(1) / weight.sum(1, keepdim=True)
    assert torch.allclose(out, expected)


def test_points_on_top_of_points_copy_them_and_constants_stay():
    pos = torch.randn(20, 3)
    x = torch.randn(20, 4)
    assert torch.allclose(interpolate(x, pos, pos), x, atol=1e-5)
    assert torch.allclose(interpolate(torch.ones(20, 2), pos, torch.randn(7, 3)), torch.ones(7, 2))
    assert torch.allclose(interpolate(x[:1], pos[:1], pos), x[:1].expand(20, 4))


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_interpolation_is_differentiable(power):
    pos, queries, x = (torch.randn(n, 3, dtype=torch.float64).requires_grad_() for n in (6, 4, 6))
    assert torch.autograd.gradcheck(
        lambda x, p, q: interpolate(x, p, q, k=3, power=power), (x, pos, queries)
    )


def test_a_coincident_point_has_a_finite_gradient():
    pos, x = torch.randn(6, 3).requires_grad_(), torch.randn(6, 2)
    interpolate(x, pos, pos.detach(), power=1.0).sum().backward()
    assert bool(pos.grad.isfinite().all())


def test_interpolation_needs_points_and_fitting_sizes():
    empty = Segments(ptr=torch.tensor([0, 0, 3])), Segments(ptr=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="query 0 lies in a cloud without points"):
        interpolate(torch.randn(3, 2), torch.randn(3, 3), torch.randn(2, 3), *empty)
    with pytest.raises(ValueError, match=r"\[3, C\]"):
        interpolate(torch.randn(4, 2), torch.randn(3, 3), torch.randn(2, 3))
    with pytest.raises(ValueError, match="power"):
        interpolate(torch.randn(3, 2), torch.randn(3, 3), torch.randn(2, 3), power=0)


def test_voxels_pool_with_any_op():
    pos = torch.rand(50, 3)
    clouds = voxel_segments(pos, 0.5)
    means = ops.segment_mean(pos, clouds)
    for v in range(clouds.num_segments):
        assert torch.allclose(means[v], pos[clouds.index == v].mean(0), atol=1e-6)


def test_a_neighbour_that_is_missing_leaves_no_trace():
    """The cloud of the query has one point; the first point of all, which is another's, holds nothing."""
    x = torch.tensor([[torch.nan, torch.inf], [1.0, 2.0], [3.0, 4.0]])
    clouds = Segments(ptr=torch.tensor([0, 2, 3])), Segments(ptr=torch.tensor([0, 0, 1]))
    found = interpolate(x, torch.rand(3, 3), torch.rand(1, 3), *clouds, k=2)
    assert found.tolist() == [[3.0, 4.0]]
