"""What people with point clouds of their own need: surveys, labels per point, few examples, odd units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from graphpool import Segments, plot, use_backend
from graphpool.models import (
    EdgeConvClassifier,
    PointNet2Classifier,
    PointNet2Segmenter,
    PointPN,
)
from graphpool.ops.neighbors import fps, interpolate, knn, knn_groups, radius, voxel_grid
from graphpool.points import (
    FeaturePropagation,
    GlobalAbstraction,
    MemoryBank,
    PartMemory,
    PointNN,
    PointNNSegmenter,
    SetAbstraction,
    VoxelPool,
    part_iou,
    position_encoding,
)
from graphpool.points.transforms import Drop, Normalize, Rotate, Sample

BACKENDS = ("auto", "torch")
SURVEY = torch.tensor([458_000.0, 5_428_000.0, 110.0], dtype=torch.float64)


def survey(count: int = 1024, extent=(2.0, 2.0, 5.0)) -> torch.Tensor:
    return SURVEY + torch.rand(count, 3, dtype=torch.float64) * torch.tensor(extent).double()


def networks(in_channels: int = 0) -> dict[str, torch.nn.Module]:
    small = {"in_channels": in_channels, "k": 6}
    return {
        "point-pn": PointPN(
            4, 3 + in_channels, channels=6, widths=(2, 2), blocks=(1, 1), k=6, dropout=0.0
        ),
        "classifier": PointNet2Classifier(4, width=8, radii=(None, None), dropout=0.0, **small),
        "segmenter": PointNet2Segmenter(4, width=8, radii=(None, None), dropout=0.0, **small),
        "edgeconv": EdgeConvClassifier(4, widths=(8, 8), dropout=0.0, **small),
    }


NETWORKS = list(networks())


# Samples of points


@pytest.mark.parametrize("transform", [Sample(5), Sample(5, random=False), Drop((0.5, 0.5))])
def test_whatever_belongs_to_a_point_goes_with_it(transform):
    number = torch.arange(10)
    data = Data(pos=torch.rand(10, 3), x=torch.rand(10, 3), y=number, category=torch.tensor([3]))
    data.before = number.float()[:, None].expand(10, 2)
    data["edge_of_sight"] = number.clone()
    data.array, data.names = number.numpy(), [f"p{i}" for i in range(10)]
    data.num_nodes = 10
    whole = data.clone()
    out = transform(data)
    kept = out.y
    assert len(kept) == 5
    assert torch.equal(out.pos, whole.pos[kept])
    assert torch.equal(out.x, whole.x[kept])
    assert torch.equal(out.before, whole.before[kept])
    assert torch.equal(out.edge_of_sight, kept)
    assert out.array.tolist() == kept.tolist()
    assert out.names == [f"p{i}" for i in kept.tolist()]
    assert out.category.tolist() == [3]
    assert out.num_nodes == 5
    assert torch.equal(whole.y, number)


def test_what_names_points_by_position_is_not_left_behind():
    pos = torch.rand(8, 3)
    for key, value in (("edge_index", [[0, 7], [7, 0]]), ("face", [[0], [6], [7]])):
        with pytest.raises(ValueError, match=f"`{key}` names points by position"):
            Sample(4)(Data(pos=pos, **{key: torch.tensor(value)}))
    both = Batch.from_data_list([Data(pos=pos), Data(pos=pos + 9)])
    for transform in (Sample(4), Drop(), Normalize()):
        with pytest.raises(ValueError, match="one cloud, not a Batch"):
            transform(both)


# Numbers of rows


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows", [19, 40])
def test_features_of_another_number_of_points_are_refused(name, rows):
    model = networks(3)[name]
    pos = torch.rand(20, 3)
    mixed = Segments(index=torch.arange(20) % 2, num_segments=2)
    for clouds in (None, mixed):
        with pytest.raises(ValueError, match=f"20 points in `x`; got shape \\({rows}, 3\\)"):
            model(pos, clouds, x=torch.rand(rows, 3))
        with pytest.raises(ValueError, match="Expected 3 features .* got none"):
            model(pos, clouds)
        with pytest.raises(ValueError, match=f"{rows} points, but `pos` has 20"):
            model(pos, torch.zeros(rows, dtype=torch.long), x=torch.rand(20, 3))
    with pytest.raises(TypeError, match="`x` must be a floating"):
        model(pos, x=torch.ones(20, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(3, 20\).*transpose"):
        model(pos.T, x=torch.rand(3, 3))


def test_layers_name_both_numbers_too():
    pos, other, clouds = torch.rand(20, 3), torch.rand(6, 3), Segments(ptr=torch.tensor([0, 20]))
    few, one = Segments(ptr=torch.tensor([0, 6])), torch.zeros(1, dtype=torch.long)
    wrong = {
        "20 points in `x`; got shape (40, 2)": [
            lambda: SetAbstraction(2, (4,))(torch.rand(40, 2), pos, clouds),
            lambda: GlobalAbstraction(2, (4,))(torch.rand(40, 2), pos, clouds),
            lambda: VoxelPool(2, 0.5)(torch.rand(40, 2), pos),
        ],
        "20 points in `skip`; got shape (40, 2)": [
            lambda: FeaturePropagation(5, 2, (4,))(
                torch.rand(6, 5), other, few, torch.rand(40, 2), pos, clouds
            )
        ],
        "6 points in `x`; got shape (7, 5)": [
            lambda: FeaturePropagation(5, 0, (4,))(torch.rand(7, 5), other, few, None, pos, clouds)
        ],
        "describes 6 points, but `pos` has 20": [
            lambda: GlobalAbstraction(0, (4,))(None, pos, few),
        ],
        "`segments` has 6 elements, but `pos` has 20": [
            lambda: SetAbstraction(0, (4,))(None, pos, few),
            lambda: VoxelPool(2, 0.5)(torch.rand(20, 2), pos, few),
        ],
        "`parts` must have shape (20,); got (40,)": [
            lambda: PartMemory(2).add(torch.rand(20, 4), one.expand(40), clouds, one),
            lambda: part_iou(one.expand(20), one.expand(40), clouds),
        ],
        "`predicted` must have shape (20,); got (40,)": [
            lambda: part_iou(one.expand(40), one.expand(20), clouds),
        ],
        "`categories` must have shape (1,); got (2,)": [
            lambda: PartMemory(2).add(torch.rand(20, 4), one.expand(20), clouds, one.expand(2)),
        ],
        "`features` must have shape [20, D]; got (19, 4)": [
            lambda: PartMemory(2).add(torch.rand(19, 4), one.expand(20), clouds, one),
        ],
        "`labels` has 3 rows, but `features` 2": [
            lambda: MemoryBank().fit(torch.eye(2), torch.arange(3)),
        ],
        "`category` must have shape (1,); got (2,)": [
            lambda: PointNet2Segmenter(2, num_categories=2)(pos, category=one.expand(2)),
        ],
    }
    for message, calls in wrong.items():
        for call in calls:
            with pytest.raises(ValueError) as caught:
                call()
            assert message in str(caught.value)
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        PointNet2Segmenter(2, num_categories=2)(pos, category=one + 2)


# Few examples


@pytest.mark.parametrize("vectors", [torch.eye(5), torch.randn(5, 40) * 0.05 + 1])
def test_one_example_of_each_class_is_found_again(vectors):
    bank = MemoryBank().fit(vectors, torch.arange(5))
    assert bank.predict(vectors).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="a class with at least two"):
        bank.leave_one_out()


def test_one_example_of_each_class_is_the_nearest_neighbour():
    g = torch.Generator().manual_seed(3)
    centres = torch.randn(5, 16, generator=g) + 4
    keys, queries = (
        centres.repeat(n, 1) + 0.3 * torch.randn(5 * n, 16, generator=g) for n in (1, 20)
    )
    bank = MemoryBank().fit(keys, torch.arange(5))
    cosine = torch.cosine_similarity(queries[:, None].double(), keys.double(), dim=2)
    assert torch.equal(bank.predict(queries), cosine.argmax(1))
    assert (bank.predict(queries) == torch.arange(5).repeat(20)).double().mean() > 0.9


@pytest.mark.parametrize("spread", [0.002, 0.3, 2.0])
def test_a_class_with_one_example_does_not_vanish_beside_a_frequent_one(spread):
    features = torch.ones(1, 12) + spread * torch.randn(102, 12)
    labels = torch.tensor([0] * 100 + [1, 2])
    bank = MemoryBank().fit(features, labels)
    assert bank.predict(features[100:]).tolist() == [1, 2]
    # Rare classes count as much as frequent ones where leave-one-out can judge them.
    bank = MemoryBank().fit(
        torch.cat([features, features[100:] * 1.01]), torch.cat([labels, labels[100:]])
    )
    assert bank.leave_one_out().max() > 0.6
    assert bank.predict(features[100:]).tolist() == [1, 2]


def test_no_sharpness_that_ignores_the_query_is_a_candidate():
    # Labels that the vectors say nothing about: a vote would do as well as anything.
    bank = MemoryBank().fit(torch.randn(30, 4), torch.arange(30) % 3)
    assert float(bank.gamma) > 0
    with pytest.raises(ValueError, match="0 ignores the query"):
        MemoryBank(gammas=(0.0, 1.0))


# Far from the origin


def test_normalize_keeps_survey_coordinates():
    pos = survey()
    with_double = Normalize()(Data(pos=pos))
    exact = (pos - SURVEY).numpy().astype(np.longdouble)
    exact = exact - exact.mean(0)
    exact = exact / np.sqrt((exact**2).sum(1)).max()
    assert np.abs(with_double.pos.numpy() - exact.astype(float)).max() < 1e-8
    assert with_double.pos[:, 1].unique().numel() == 1024
    assert torch.allclose(
        with_double.pos * with_double.scale + with_double.offset, pos, rtol=0, atol=1e-6
    )
    moved = Data(pos=(pos - SURVEY).float(), offset=SURVEY[None])
    again = Normalize()(moved)
    assert torch.allclose(again.pos * again.scale + again.offset, pos, rtol=0, atol=1e-5)
    twice = Normalize()(with_double)
    assert torch.allclose(twice.pos * twice.scale + twice.offset, pos, rtol=0, atol=1e-6)
    with pytest.warns(UserWarning, match="pass `pos` in float64"):
        Normalize()(Data(pos=pos.float()))


def test_normalize_of_single_precision_is_rounded_once():
    pos = (torch.rand(500, 3) + 1000).float()
    exact = pos.double() - pos.double().mean(0)
    exact = exact / exact.norm(dim=1).max()
    out = Normalize()(Data(pos=pos))
    assert out.pos.dtype == torch.float32
    assert (out.pos.double() - exact).abs().max() < 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 206_494.75, 1e-30, 7.3e11])
def test_normalize_of_equal_points_is_zero(dtype, value):
    for count in (1, 3, 1000):
        out = Normalize()(Data(pos=torch.full((count, 3), value, dtype=dtype)))
        assert bool((out.pos == 0).all())
        assert float(out.scale) == 1.0


def test_normalize_of_tiny_clouds_has_radius_one():
    for unit in (1e-30, 1e-200):
        pos = torch.rand(50, 3, dtype=torch.float64) * unit
        assert math.isclose(float(Normalize()(Data(pos=pos)).pos.norm(dim=1).max()), 1.0)


def test_a_turn_keeps_the_shape_of_a_survey():
    pos = survey(100)
    out = Rotate("z")(Data(pos=pos)).pos
    assert torch.allclose(torch.pdist(out), torch.pdist(pos), atol=1e-6)
    single = pos.float()
    turn = Rotate("z", (30.0, 30.0))
    assert torch.equal(turn(Data(pos=single)).pos, turn(Data(pos=single.double())).pos.float())


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_double_positions_and_refuse_far_ones(name):
    model = networks()[name].eval()
    pos = survey(60)
    with pytest.raises(ValueError, match="cloud 0 has coordinates of 5.428e.06.*Normalize"):
        model(pos)
    near = Normalize()(Data(pos=pos)).pos
    with torch.no_grad():
        out, expected = model(near), networks()[name].double().eval()
        expected.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
        assert out.dtype == torch.float32
        assert torch.allclose(out.double(), expected(near), atol=1e-4)
        assert torch.allclose(out.double(), expected(near.float()), atol=1e-4)


def test_the_encoder_without_parameters_refuses_far_clouds_in_single_precision():
    pos, encoder = survey(50), PointNN(channels=6, stages=2, k=5)
    with pytest.raises(ValueError, match="Take the offset away first"):
        encoder(pos.float())
    with pytest.raises(ValueError, match="Take the offset away first"):
        PointNNSegmenter(6, stages=2, k=5)(pos.float())
    assert bool(encoder(pos).isfinite().all())


def test_neighbourhoods_of_survey_points_are_those_near_the_origin():
    grid = torch.randint(0, 4096, (400, 3)).double() / 1024
    far = SURVEY + grid
    x = torch.randn(400, 2)
    layer = SetAbstraction(2, (8,), radius=0.7, k=8).eval()
    clouds = Segments(ptr=torch.tensor([0, 400]))
    near_out, near_pos, _ = layer(x, grid, clouds)
    far_out, far_pos, _ = layer(x, far, clouds)
    assert torch.equal(near_out, far_out)
    assert torch.equal(near_pos + SURVEY, far_pos)
    back = FeaturePropagation(8, 0, (4,)).eval()
    few = Segments(ptr=torch.tensor([0, len(near_pos)]))
    assert torch.equal(
        back(near_out, near_pos, few, None, grid, clouds),
        back(far_out, far_pos, few, None, far, clouds),
    )
    assert torch.equal(
        fps(grid, num_samples=50, start="centroid"), fps(far, num_samples=50, start="centroid")
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.25, 0.1, (0.1, 0.3, 0.7), 50.0])
def test_centroids_of_cells_lie_in_their_cells(dtype, size):
    pos = survey(5000, (40.0, 40.0, 5.0)).to(dtype)
    out = VoxelPool(1, size)(torch.rand(5000, 1), pos)
    edge = size if isinstance(size, float) else torch.tensor(size, dtype=torch.float64)
    grid = voxel_grid(pos, edge)
    assert torch.equal(out.voxels.segments.index, grid.segments.index)
    expected = np.unique(np.floor(pos.double().numpy() / np.array(size)).astype(np.int64), axis=0)
    assert out.voxels.cells.tolist() == expected.tolist()
    assert torch.equal(voxel_grid(out.pos, edge).cells, grid.cells)
    exact = pos.numpy().astype(np.longdouble)
    for v in range(0, len(grid.cells), 37):
        mean = exact[grid.segments.index.numpy() == v].mean(0)
        step = np.spacing(np.abs(mean).astype(pos.numpy().dtype))
        assert (np.abs(out.pos[v].numpy() - mean) <= step).all()


def test_one_number_for_all_axes_is_the_grid_of_a_tuple():
    pos, x = survey(5000, (400.0, 400.0, 50.0)), torch.rand(5000, 1)
    one, three = VoxelPool(1, 0.1)(x, pos), VoxelPool(1, (0.1, 0.1, 0.1))(x, pos)
    assert torch.equal(one.voxels.cells, three.voxels.cells)
    expected = np.unique(np.floor(pos.numpy() / 0.1).astype(np.int64), axis=0)
    assert three.voxels.cells.tolist() == expected.tolist()


def test_attention_in_a_cell_sees_places_far_from_the_origin():
    layer, grid = VoxelPool(8, 1.0, pool="dsvt"), torch.randint(0, 1024, (40, 3)).double() / 256
    x = torch.randn(40, 8)
    far = layer(x, grid + SURVEY).x
    assert torch.allclose(far, layer(x, grid).x, atol=1e-5)


def test_the_gradient_of_a_centroid_is_a_mean():
    pos = survey(30, (1.0, 1.0, 1.0)).requires_grad_()
    out = VoxelPool(1, 100.0)(torch.rand(30, 1), pos)
    out.pos.sum().backward()
    share = torch.bincount(out.voxels.segments.index).double().reciprocal()
    assert torch.allclose(pos.grad, share[out.voxels.segments.index][:, None].expand(30, 3))


def test_encodings_of_large_coordinates_keep_their_phase():
    u = (torch.rand(500, 3) * 1e4).float()
    exact = position_encoding(u.double(), 24)
    omega = 100 / 1000 ** (np.arange(4) / 4)
    angle = u[:, 0].numpy().astype(np.longdouble)[:, None] * omega.astype(np.longdouble)
    assert np.abs(np.sin(angle).astype(float) - exact[:, 0:8:2].numpy()).max() < 1e-8
    assert (position_encoding(u, 24).double() - exact).abs().max() < 1e-6


# The unit of length


def inverse_distances(x, pos, queries, k, power):
    """In exact arithmetic as far as it matters: float128 and a loop."""
    x, pos, queries = (v.numpy().astype(np.longdouble) for v in (x, pos, queries))
    rows = []
    for q in queries:
        distance = np.sqrt(((pos - q) ** 2).sum(1))
        nearest = np.argsort(distance, kind="stable")[:k]
        d = distance[nearest]
        weight = (d == 0).astype(d.dtype) if (d == 0).any() else (d.min() / d) ** power
        rows.append((weight[:, None] * x[nearest]).sum(0) / weight.sum())
    return torch.from_numpy(np.array(rows).astype(float))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e6, 1e12])
def test_interpolation_does_not_depend_on_the_unit_of_length(unit, power, dtype):
    g = torch.Generator().manual_seed(1)
    pos = (torch.rand(40, 3, generator=g, dtype=torch.float64) * unit).to(dtype)
    queries = (torch.rand(30, 3, generator=g, dtype=torch.float64) * unit).to(dtype)
    queries[:5] = pos[:5]
    pos[1] = pos[0]
    x = torch.randn(40, 2, generator=g, dtype=torch.float64).to(dtype)
    out = interpolate(x, pos, queries, k=4, power=power)
    expected = inverse_distances(x, pos, queries, 4, power)
    assert torch.allclose(out.double(), expected, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert torch.equal(out[2:5], x[2:5])


def test_a_query_on_a_point_takes_its_features_however_near_the_next_one():
    out = interpolate(
        torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1e-4]]), torch.tensor([[0.0]]), k=2
    )
    assert float(out) == 0.0


# Many columns


def in_order(points, k, queries, limit=math.inf):
    """Squared distances summed column after column, in the precision of the points, and sorted."""
    p, q = points.numpy(), queries.numpy()
    index, squared = np.full((len(q), k), -1), np.full((len(q), k), np.inf, p.dtype)
    for m in range(len(q)):
        total = np.zeros(len(p), p.dtype)
        for axis in range(p.shape[1]):
            total += np.square(p[:, axis] - q[m, axis])
        order = np.argsort(total, kind="stable")
        order = order[total[order] <= limit][:k]
        index[m, : len(order)], squared[m, : len(order)] = order, total[order]
    return torch.from_numpy(index), torch.from_numpy(squared)


def columns(kind: str, axes: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    g = torch.Generator().manual_seed(axes)
    x = torch.rand(count, axes, generator=g, dtype=torch.float64)
    if kind == "blocks apart":
        x[: count // 2, :3] += 3000
        x[count // 2 :, :3] -= 3000
    elif kind == "integers":
        x = (3 * x).floor()
    elif kind == "equal":
        x = x[:1].expand(count, axes).clone()
    elif kind == "tiny":
        x = x * 1e-18
    elif kind == "one outlier":
        x[0] = 1e6
    return x.to(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axes", [4, 9, 40])
@pytest.mark.parametrize(
    "kind", ["uniform", "blocks apart", "integers", "equal", "tiny", "one outlier"]
)
def test_neighbours_in_many_columns_are_exact(kind, axes, dtype, backend):
    points = columns(kind, axes, 150, dtype)
    queries = torch.cat([points[:20], points[20:40] + 0.01, points.new_zeros(1, axes)])
    with use_backend(backend):
        for k in (1, 7, 200):
            for asked in (points[:60], queries):
                # In a unit in which no square is subnormal, and so rounded more than others.
                got, expected = knn(points, k, asked), in_order(points * 2**30, k, asked * 2**30)
                assert torch.equal(got.index, expected[0])
                squared = (expected[1].double() * 2.0**-60).to(dtype)
                assert torch.equal(got.squared_distance, squared)
        own = knn(points, 3, exclude_self=True).index
        assert bool((own != torch.arange(150)[:, None]).all())
        if kind != "equal":
            assert knn(points, 1).squared_distance.max() == 0
        for r in (0.0, 0.4, 2.0):
            limit = float(points.new_tensor(r).square())
            every = in_order(points, 150, queries, limit)[0]
            groups = radius(points, r, queries)
            assert torch.equal(groups.index, every[every >= 0])
            assert torch.equal(groups.segments.counts, (every >= 0).sum(1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_are_their_own_neighbours_in_nine_columns(backend):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(6, 9, generator=g)
    x[:3] += 1000
    x[3:] -= 1000
    with use_backend(backend):
        assert knn(x, 1).index.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_many_columns_on_several_clouds_and_threads():
    points, cloud = torch.randn(3000, 11), torch.randint(0, 4, (3000,))
    clouds, before = Segments(index=cloud, num_segments=5), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        index, _ = knn(points, 5, segments=clouds)
    finally:
        torch.set_num_threads(before)
    for c in range(4):
        mine = (cloud == c).nonzero().squeeze(1)
        assert torch.equal(index[mine], mine[in_order(points[mine], 5, points[mine])[0]])


def test_large_coordinates_in_many_columns_do_not_overflow_in_silence():
    points = torch.zeros(3, 400)
    points[1:] = 9e17
    with pytest.raises(ValueError, match="so that squared distances are finite"):
        knn(points, 2)


# Cosine


def cosine_distances(points, queries):
    """The definition: a vector of zeros has cosine 0 with every vector."""
    sides = []
    for side in (points, queries):
        v = side.numpy().astype(np.longdouble)
        v = v / np.maximum(np.abs(v).max(1, keepdims=True), np.finfo(np.longdouble).tiny)
        length = np.sqrt((v**2).sum(1, keepdims=True))
        v = v / np.where(length > 0, length, 1)
        sides.append(v)
    return torch.from_numpy((1 - sides[1] @ sides[0].T).astype(float))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vector_of_zeros_is_at_a_right_angle_to_all(dtype):
    points = torch.tensor([[1.0, 0], [0, 0], [0.4, 0.9165], [0, 2], [-1, 0], [0, 0]], dtype=dtype)
    index, distance = knn(points, 6, queries=points[:1], metric="cosine")
    assert index.tolist() == [[0, 2, 1, 3, 5, 4]]
    assert distance[0, 2:].tolist() == [1.0, 1.0, 1.0, 2.0]
    index, distance = knn(points, 6, queries=points[1:2], metric="cosine")
    assert index.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert distance.tolist() == [[1.0] * 6]
    own = knn(points, 5, metric="cosine", exclude_self=True)
    assert own.index[1].tolist() == [0, 2, 3, 4, 5]
    assert own.index[0].tolist() == [2, 1, 3, 5, 4]
    clouds = Segments(index=torch.tensor([1, 0, 1, 0, 1, 0]), num_segments=2)
    by_cloud = knn(points, 4, segments=clouds, metric="cosine")
    assert by_cloud.index[1].tolist() == [1, 3, 5, -1]
    assert by_cloud.squared_distance[1].tolist() == [1.0, 1.0, 1.0, math.inf]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axes", [2, 5, 12])
def test_the_length_of_a_vector_does_not_matter(dtype, axes):
    g = torch.Generator().manual_seed(axes)
    points = torch.randint(-2, 3, (60, axes), generator=g).to(dtype)
    tiny = 1e-44 if dtype == torch.float32 else 1e-322
    smallest = torch.finfo(dtype).smallest_normal
    for length in (1.0, 3.0, 1e-20, 1e20, float(smallest), tiny):
        index, distance = knn(points, 60, queries=points[:20] * length, metric="cosine")
        expected = cosine_distances(points, points[:20] * length)
        assert torch.allclose(distance.double(), expected.gather(1, index), atol=1e-7)
        assert torch.allclose(distance.double(), expected.sort(1).values, atol=1e-7)
        assert torch.equal(index.sort(1).values, torch.arange(60).expand(20, 60))
    multiples = torch.arange(1, 41).to(dtype)[:, None] * points[:1] * 0.25
    assert torch.equal(
        knn(multiples, 40, points[:3], metric="cosine").index, torch.arange(40).expand(3, 40)
    )
    with pytest.raises(ValueError, match="`points` must be finite; row 3"):
        knn(points.index_fill(0, torch.tensor([3]), math.inf), 2, metric="cosine")


def test_short_vectors_are_remembered_as_well_as_long_ones():
    bank = MemoryBank(gamma=50.0).fit(torch.eye(3) * 1e-30, torch.arange(3))
    assert bank.predict(torch.eye(3) * 1e-40).tolist() == [0, 1, 2]


# The radius


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_distance_of_exactly_a_decimal_radius_counts(backend, dtype):
    zero = torch.zeros(1, 1, dtype=dtype)
    with use_backend(backend):
        for i in range(1, 1000, 7):
            r = i / 1000
            point = torch.tensor([[r]], dtype=dtype)
            assert radius(point, r, zero).index.numel() == 1
            assert radius(point, r, zero, inclusive=False).index.numel() == 0
            assert radius(point, r, zero, max_neighbors=3).index.numel() == 1
            assert knn(point, 1, zero, max_distance=r).index.item() == 0


def test_more_neighbours_than_points_cost_nothing():
    points = torch.rand(1000, 3)
    every = radius(points, 0.3)
    assert torch.equal(radius(points, 0.3, max_neighbors=10**9).index, every.index)
    assert torch.equal(radius(points, 0.3, max_neighbors=10**9, order="random").index, every.index)
    groups = knn_groups(points[:20], 10**9, exclude_self=True)
    assert groups.segments.counts.tolist() == [19] * 20
    assert knn_groups(points[:20], 10**9, dilation=3).segments.counts.tolist() == [7] * 20
    PointNN(channels=6, stages=2, k=10**9)(points[:40])
    PointNet2Classifier(2, width=8, k=10**9).eval()(points[:40])


# Parts


def test_unlabelled_points_change_no_value():
    clouds = Segments(ptr=torch.tensor([0, 4, 8]))
    truth = torch.tensor([0, 0, 1, 1, 1, 1, -1, 2])
    guess = torch.tensor([0, 0, 1, 1, 1, 2, 5, 2])
    # The second cloud: part 1 has 1 of 2, part 2 has 1 of 2.
    assert part_iou(guess, truth, clouds, ignore_index=-1).tolist() == [1.0, 0.5]
    assert part_iou(guess, truth.where(truth >= 0, 255), clouds, 255).tolist() == [1.0, 0.5]
    for wrong in (truth, truth.flip(0)):
        with pytest.raises(ValueError, match="`parts` must be >= 0; got -1.*ignore_index"):
            part_iou(guess, wrong, clouds)
    with pytest.raises(ValueError, match="`predicted` must be >= 0; got -3"):
        part_iou(guess - 3, truth, clouds, ignore_index=-1)
    huge = part_iou(guess * 10**15, truth.clamp_min(0) * 10**15, clouds)
    assert torch.equal(huge, part_iou(guess, truth.clamp_min(0), clouds))
    nothing = part_iou(guess[:4], truth[6:7].expand(4), Segments(ptr=torch.tensor([0, 4])), -1)
    assert nothing.tolist() == [0.0]


def test_unlabelled_points_are_not_remembered():
    cloud = Segments(ptr=torch.tensor([0, 3]))
    features = torch.tensor([[1.0, 0], [0, 1], [9, 9]])
    memory = PartMemory(2).add(features, torch.tensor([0, 1, -1]), cloud, ignore_index=-1)
    assert torch.equal(memory.banks["all"].keys, torch.eye(2))
    with pytest.raises(ValueError, match="ignore_index"):
        PartMemory(2).add(features, torch.tensor([0, 1, -1]), cloud)


def test_parts_are_remembered_without_categories():
    clouds = Segments(ptr=torch.tensor([0, 2, 4]))
    memory = PartMemory(4).add(torch.eye(4), torch.arange(4), clouds)
    assert memory.predict(torch.eye(4), clouds).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="known: all.*or to neither"):
        memory.scores(torch.eye(4), clouds, torch.tensor([0, 1]))


def test_remembered_parts_are_a_state(tmp_path):
    clouds, categories = Segments(ptr=torch.tensor([0, 2, 4])), torch.tensor([3, 11])
    memory = PartMemory(4, gamma=77.0).add(torch.eye(4), torch.arange(4), clouds, categories)
    torch.save(memory.state_dict(), tmp_path / "parts.pt")
    state = torch.load(tmp_path / "parts.pt", weights_only=True)
    used = PartMemory(4).add(torch.eye(4), torch.arange(4), clouds, torch.tensor([3, 5]))
    for other in (PartMemory(4), used):
        other.load_state_dict(state)
        assert sorted(other.banks) == ["11", "3"]
        assert torch.equal(
            other.scores(torch.eye(4), clouds, categories),
            memory.scores(torch.eye(4), clouds, categories),
        )
        assert float(other.gamma) == 77.0
    nested = torch.nn.Sequential(torch.nn.Linear(2, 2), PartMemory(4))
    nested.load_state_dict(torch.nn.Sequential(nested[0], memory).state_dict())
    assert sorted(nested[1].banks) == ["11", "3"]
    with pytest.raises(RuntimeError, match="`num_parts` is 7"):
        PartMemory(7).load_state_dict(state)


def test_a_memory_in_double_precision_stays_so():
    keys = torch.randn(6, 5, dtype=torch.float64)
    bank = MemoryBank().fit(keys, torch.arange(6) % 2)
    other = MemoryBank(gamma=3.0)
    other.load_state_dict(bank.state_dict())
    assert other.keys.dtype == torch.float64
    assert torch.equal(other.scores(keys), bank.scores(keys))
    assert float(other.gamma) == float(bank.gamma)


# Pictures


@pytest.mark.needs("matplotlib")
def test_colours_of_both_scales_are_drawn_as_they_are():
    from matplotlib import figure

    colours = torch.tensor([[255, 0, 0], [0, 128, 255], [10, 20, 30]], dtype=torch.uint8)
    drawn = []
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    for values in (colours, colours.long(), colours.double() / 255):
        ax = figure.Figure().subplots()
        plot.cloud(ax, pos, values)
        drawn.append(np.sort(ax.collections[0].get_facecolors()[:, :3], axis=0))
        assert np.allclose(drawn[-1], np.sort(colours.numpy() / 255, axis=0))
    ax = figure.Figure().subplots()
    with pytest.raises(ValueError, match="divide colours of 0 to 255 by 255"):
        plot.cloud(ax, pos, colours.float())
    with pytest.raises(ValueError, match=r"integer colours in \[0, 255\]; got 0 to 256"):
        plot.cloud(ax, pos, colours.long().clamp_min(256 * (colours == 255).long()))
    with pytest.raises(ValueError, match="transpose"):
        plot.cloud(ax, torch.rand(3, 50))


@pytest.mark.needs("matplotlib")
def test_unlabelled_points_are_grey():
    from matplotlib import figure

    ax = figure.Figure().subplots()
    plot.cloud(ax, torch.eye(3), torch.tensor([-1, 0, 7]))
    (points,) = ax.collections
    colours = {tuple(np.round(c, 3)) for c in points.to_rgba(points.get_array())[:, :3]}
    grey = [c for c in colours if len(set(c)) == 1]
    assert len(colours) == 3
    assert (0.733, 0.733, 0.733) in grey


# Export


@pytest.mark.parametrize("name", NETWORKS)
def test_an_export_says_why_there_is_none(name):
    with pytest.raises(
        NotImplementedError, match="torch.export cannot carry sampling and searches"
    ):
        torch.export.export(networks()[name].eval(), (torch.rand(40, 3),), strict=False)


# Two threads


def trained(make, forward, steps: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        forward(model).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_gives_the_same_bits_on_two_threads(name):
    g = torch.Generator().manual_seed(0)
    pos, x = torch.rand(2048, 3, generator=g), torch.rand(2048, 2, generator=g)
    cloud = torch.randint(0, 3, (2048,), generator=g)
    make = {
        "point-pn": lambda: PointPN(
            4, 5, "softmax", channels=12, widths=(2, 2), blocks=(1, 1), k=16
        ),
        "classifier": lambda: PointNet2Classifier(4, 2, "max", width=16, k=16),
        "segmenter": lambda: PointNet2Segmenter(4, 2, 0, "softmax", width=16, k=16),
        "edgeconv": lambda: EdgeConvClassifier(4, 2, "max", widths=(16, 16), k=10),
    }[name]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        first, *others = (
            trained(make, lambda model: model(pos, cloud, x=x), steps=2) for _ in range(3)
        )
    finally:
        torch.set_num_threads(before)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_gradients_of_positions_are_the_same_bits_on_two_threads():
    g = torch.Generator().manual_seed(0)
    pos = torch.rand(2000, 3, generator=g)
    clouds = torch.arange(2000) // 1000
    model = PointNN(channels=12, stages=2, k=24)
    segmenter = PointNNSegmenter(channels=6, stages=2, k=16)
    before = torch.get_num_threads()
    grads: list[list[torch.Tensor]] = []
    try:
        torch.set_num_threads(2)
        for _ in range(3):
            grads.append([])
            for run in (
                lambda p: model(p, clouds),
                lambda p: segmenter(p, clouds),
                lambda p: interpolate(p, p, p.detach() + 0.01),
                lambda p: VoxelPool(3, 0.5)(p, p).pos,
            ):
                leaf = pos.clone().requires_grad_()
                run(leaf).square().sum().backward()
                grads[-1].append(leaf.grad)
    finally:
        torch.set_num_threads(before)
    for other in grads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(grads[0], other, strict=True))
