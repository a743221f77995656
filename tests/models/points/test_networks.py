from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr, ops
from graphpool.models import (
    EdgeConvClassifier,
    PointNet2Classifier,
    PointNet2Segmenter,
    PointPN,
)
from graphpool.ops.neighbors import fps, radius
from graphpool.points import (
    FeaturePropagation,
    GlobalAbstraction,
    Pool,
    SetAbstraction,
    VoxelPool,
    position_encoding,
)
from graphpool.points.pooling import choose_norm
from graphpool.testing import conformance

POOLS = ("max", "max+mean", "gnp", "attsets", "softmax", ["mean", "max"], "median")


def small(**kwargs) -> PointPN:
    return PointPN(5, channels=6, widths=(2, 2), blocks=(1, 1), k=6, **kwargs)


def test_parameters_of_point_pn_are_those_published():
    def count(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert count(PointPN(40)) == 768_508
    assert count(PointPN(15, in_channels=4, geometry="group_max")) == 762_119


@pytest.mark.parametrize("geometry", ["std", "group_max"])
def test_point_pn_follows_its_formula(geometry):
    model = PointPN(4, channels=6, widths=(2,), blocks=(1,), k=5, geometry=geometry).double().eval()
    pos = torch.randn(20, 3, dtype=torch.float64)
    centre = fps(pos, num_samples=10)
    neighbor = torch.cdist(pos[centre], pos).topk(5, largest=False).indices
    x = model.embed(pos)
    offset = pos[neighbor] - pos[centre][:, None]
    offset = offset / (
        offset.std() + 1e-5 if geometry == "std" else offset.abs().amax(1, keepdim=True)
    )
    stage = model.stages[0]
    pair = torch.cat([x[neighbor], x[centre][:, None].expand(-1, 5, -1)], 2)
    f = stage.norm(stage.mix(pair).flatten(0, 1)).relu()
    e = position_encoding(offset, 12, layout="blocked").flatten(0, 1)
    w = stage.blocks((f + e) * e).view(10, 5, 12)
    h = w.amax(1) + w.mean(1)
    expected = model.head(h.amax(0, keepdim=True) + h.mean(0, keepdim=True))
    assert torch.allclose(model(pos), expected, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_every_network_learns_with_any_pool(pool):
    pos, ptr = torch.randn(90, 3), torch.tensor([0, 40, 90])
    small_net = {"k": 6, "width": 8}
    models = [
        small(pool=pool, readout=pool),
        PointNet2Classifier(5, pool=pool, **small_net),
        EdgeConvClassifier(5, pool=pool, widths=(8, 8), k=6),
        PointNet2Segmenter(5, pool=pool, **small_net),
    ]
    for model in models:
        out = model(pos, ptr=ptr)
        assert out.shape == (90 if isinstance(model, PointNet2Segmenter) else 2, 5)
        out.square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("make", [
    lambda **more: small(dropout=0.0, **more),
    lambda **more: PointNet2Classifier(5, k=6, width=8, dropout=0.0, **more),
    lambda **more: PointNet2Segmenter(5, k=6, width=8, dropout=0.0, **more),
    lambda **more: EdgeConvClassifier(5, widths=(8, 8), k=6, dropout=0.0, **more),
], ids=["pn", "pointnet2", "segmenter", "edgeconv"])  # fmt: skip
def test_with_layer_normalisation_training_and_evaluation_agree(make):
    model, pos, ptr = make(norm="layer"), torch.randn(90, 3), torch.tensor([0, 40, 90])
    assert not any(isinstance(part, torch.nn.BatchNorm1d) for part in model.modules())
    out = model(pos, ptr=ptr)
    assert torch.equal(out, model.eval()(pos, ptr=ptr))
    first = (model(pos[:40]), out[:40] if len(out) == 90 else out[:1])
    assert torch.allclose(*first, atol=1e-5)
    with pytest.raises(ValueError, match="`norm` must be"):
        make(norm="group")


def test_the_norms_inside_a_pool_are_its_own():
    pool = aggr.DeepSets(8, phi=torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8)))
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(8), torch.nn.Sequential(pool))
    choose_norm(network, "layer")
    assert isinstance(network[0], torch.nn.LayerNorm) and isinstance(
        pool.phi[1], torch.nn.BatchNorm1d
    )


@pytest.mark.parametrize(
    "model",
    [
        small(),
        small(geometry="group_max"),
        PointNet2Classifier(5, width=8, k=6, radii=(None, None)),
        PointNet2Classifier(5, width=8, k=6, radii=(0.8, 1.5)),
        EdgeConvClassifier(5, widths=(8, 8), k=6),
    ],
    ids=["pn", "pn, group max", "pointnet2", "pointnet2, balls", "edgeconv"],
)
def test_a_cloud_does_not_depend_on_the_others_nor_on_their_order(model):
    model.eval()
    pos, cloud = torch.randn(80, 3), torch.randint(0, 3, (80,))
    together = model(pos, Segments(index=cloud, num_segments=3))
    for c in range(3):
        assert torch.allclose(model(pos[cloud == c])[0], together[c], atol=1e-4)


def test_segmenter_answers_in_the_order_of_the_points():
    model = PointNet2Segmenter(4, num_categories=2, width=8, k=6).eval()
    pos, cloud, category = torch.randn(60, 3), torch.randint(0, 2, (60,)), torch.tensor([1, 0])
    out = model(pos, Segments(index=cloud, num_segments=2), category=category)
    for c in range(2):
        alone = model(pos[cloud == c], category=category[c : c + 1])
        assert torch.allclose(out[cloud == c], alone, atol=1e-4)
    with pytest.raises(ValueError, match="category"):
        model(pos)


def test_clouds_smaller_than_the_neighbourhood():
    pos, ptr = torch.randn(9, 3), torch.tensor([0, 1, 3, 9])
    for model in (small(), PointNet2Classifier(3, width=8), EdgeConvClassifier(3, widths=(8,))):
        assert bool(model.eval()(pos, ptr=ptr).isfinite().all())


def test_flat_groups_do_not_divide_by_zero():
    pos = torch.randn(30, 3)
    pos[:, 2] = 1.0
    assert bool(small(geometry="group_max").eval()(pos).isfinite().all())


def test_extra_features_are_used_and_checked():
    model = small(in_channels=4).eval()
    pos, x = torch.randn(20, 3), torch.randn(20, 1)
    assert not torch.allclose(model(pos, x=x), model(pos, x=x + 1))
    order = torch.randperm(20)
    cloud = Segments(index=torch.zeros(20, dtype=torch.long), num_segments=1)
    assert torch.allclose(model(pos, cloud, x=x), model(pos, x=x))
    assert order.numel() == 20
    with pytest.raises(ValueError, match="1 features"):
        model(pos)


def test_set_abstraction_pools_the_perceptron_over_balls():
    layer = SetAbstraction(2, (8,), ratio=0.3, radius=0.7, k=64, pool="mean").eval()
    pos, x = torch.randn(50, 3), torch.randn(50, 2)
    segments = Segments(ptr=torch.tensor([0, 20, 50]))
    out, centres, clouds = layer(x, pos, segments)
    picks = fps(pos, segments, ratio=0.3)
    assert torch.equal(centres, pos[picks])
    assert clouds.counts.tolist() == [6, 9]
    groups = radius(pos, 0.7, centres, segments, clouds)
    for q in range(15):
        mine = groups.index[groups.segments.index == q]
        elements = torch.cat([x[mine], (pos[mine] - centres[q]) / 0.7], 1)
        assert torch.allclose(out[q], layer.network(elements).mean(0), atol=1e-5)


def test_propagation_interpolates_and_joins():
    layer = FeaturePropagation(4, 2, (8,), k=1).eval()
    pos, x, skip = torch.randn(6, 3), torch.randn(6, 4), torch.randn(6, 2)
    cloud = Segments(ptr=torch.tensor([0, 6]))
    out = layer(x, pos, cloud, skip, pos, cloud)
    assert torch.allclose(out, layer.network(torch.cat([x, skip], 1)), atol=1e-5)
    with pytest.raises(ValueError, match="Expected 2 features"):
        layer(x, pos, cloud, None, pos, cloud)


def test_max_plus_mean():
    x, index = torch.randn(30, 4), torch.randint(0, 5, (30,))
    segments = Segments(index=index, num_segments=6)
    expected = ops.segment_max(x, segments) + ops.segment_mean(x, segments)
    pool = aggr.resolve("max+mean", channels=4)
    assert torch.equal(pool(x, segments), expected)
    assert conformance(pool, 4) == {}
    assert bool((pool(x, segments)[5] == 0).all())


def test_pools_of_another_width_are_projected():
    segments = Segments(index=torch.tensor([1, 0, 1]), num_segments=3)
    assert Pool(["mean", "max"], 4)(torch.randn(3, 4), segments).shape == (3, 4)
    assert Pool("max", 4)(torch.randn(3, 4), segments).shape == (3, 4)
    module = aggr.resolve("gnp", channels=4)
    assert Pool(module, 4).aggr is module


def test_a_pool_of_pyg_takes_unsorted_clouds():
    from torch_geometric.nn import aggr as pyg

    x, segments = (
        torch.randn(7, 4),
        Segments(index=torch.tensor([1, 0, 1, 0, 2, 2, 1]), num_segments=3),
    )
    assert torch.allclose(
        Pool(pyg.MeanAggregation(), 4)(x, segments), ops.segment_mean(x, segments)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PointPN(3, widths=(2,), blocks=(1, 1)), "one entry per stage"),
        (lambda: PointPN(3, geometry="max"), "geometry"),
        (lambda: PointPN(3, statistics="all"), "statistics"),
        (lambda: PointPN(3, in_channels=2), "in_channels"),
        (lambda: SetAbstraction(0, ()), "widths"),
        (lambda: SetAbstraction(0, (4,), radius=0.0), "radius"),
        (lambda: FeaturePropagation(1, 0, ()), "widths"),
        (lambda: Pool("sotfmax", 3), "Did you mean"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_global_abstraction_of_an_empty_cloud_is_finite():
    layer = GlobalAbstraction(2, (4,)).eval()
    out = layer(torch.randn(3, 2), torch.randn(3, 3), Segments(ptr=torch.tensor([0, 0, 3])))
    assert bool((out[0] == 0).all())


@pytest.mark.parametrize("pool", ["max", "max+mean", "gnp", "dsvt"])
def test_voxel_pool_pools_each_cell_by_itself(pool):
    layer = VoxelPool(8, size=(0.5, 0.5, 1.0), pool=pool)
    x, pos = torch.randn(60, 8, requires_grad=True), torch.rand(60, 3)
    cloud = torch.randint(0, 2, (60,))
    out = layer(x, pos, Segments(index=cloud, num_segments=3))
    assert out.segments.num_segments == 3
    for v in range(out.x.size(0)):
        mine = out.voxels.segments.index == v
        alone = layer(x[mine], pos[mine])
        assert torch.allclose(alone.x[0], out.x[v], atol=1e-5)
        assert torch.allclose(out.pos[v], pos[mine].mean(0), atol=1e-6)
        assert bool((cloud[mine] == out.segments.index[v]).all())
    out.x.square().sum().backward()
    assert bool((x.grad != 0).any())
    assert all(p.grad is not None for p in layer.parameters())


def test_voxel_pool_with_attention_sees_where_points_lie():
    layer, x = VoxelPool(8, size=1.0, pool="dsvt"), torch.randn(2, 8)
    one = layer(x, torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]])).x
    two = layer(x, torch.tensor([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])).x
    assert not torch.allclose(one, two)
    with pytest.raises(ValueError, match="Expected 8 features"):
        layer(torch.randn(2, 7), torch.rand(2, 3))
