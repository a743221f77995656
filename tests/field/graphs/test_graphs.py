"""What people who move graph networks here from PyTorch Geometric expect: graphs that change in place,
evaluation in inference mode, batched features, unknown widths, any integer as a size, hooks that fire."""

from __future__ import annotations

import copy
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric import nn as pyg

from graphpool import Segments, aggr, ops
from graphpool.conv import EdgeConv, GATv2Conv, GINConv, Neighborhoods, PairMLPConv, SAGEConv
from graphpool.models import GraphModel
from graphpool.relational import LabelPooling

CONVS = [GINConv, SAGEConv, EdgeConv, PairMLPConv]
RING = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
STAR = torch.tensor([[3, 3, 3, 3], [0, 0, 0, 0]])
X = torch.arange(4.0).view(4, 1)


def neighbor_sums(x: Tensor, edge_index: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for source, target in edge_index.t().tolist():
        out[target] += x[source]
    return out


def summing_layer() -> SAGEConv:
    conv = SAGEConv(1, 1, aggr="sum", bias=False, root_weight=False)
    conv.lin_neighbors.weight.data.fill_(1.0)
    return conv


# Graphs that are written to.


def _swap(edge_index: Tensor) -> None:
    storage = STAR.clone().untyped_storage()
    edge_index.untyped_storage().copy_(storage)


def _resize(edge_index: Tensor) -> None:
    edge_index.resize_(2, 2).copy_(STAR[:, :2])


WRITES = {
    "in place": lambda e: e.__setitem__(slice(None), STAR),
    "data": lambda e: e.data.copy_(STAR),
    "assigned data": lambda e: setattr(e, "data", STAR.clone()),
    "detached": lambda e: e.detach().copy_(STAR),
    "one row": lambda e: e[1].fill_(0),
    "numpy": lambda e: e.numpy().__setitem__(slice(None), STAR.numpy()),
    "dlpack": lambda e: torch.from_dlpack(e).copy_(STAR),
    "shared memory": lambda e: e.share_memory_().data.copy_(STAR),
    "set_": lambda e: e.set_(STAR.clone()),
    "resize_": _resize,
    "storage": _swap,
    "copy_": lambda e: e.copy_(STAR),
    "inference mode": lambda e: torch.inference_mode()(lambda: e.copy_(STAR))(),
    "raw pointer": lambda e: torch.frombuffer(e.numpy().data, dtype=torch.int64).copy_(
        STAR.flatten()
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
@pytest.mark.parametrize("cls", [*CONVS, GATv2Conv])
def test_a_graph_that_is_written_to(cls, write):
    torch.manual_seed(0)
    conv = cls(1, 3, aggr="sum")
    edge_index = RING.clone()
    conv(X, edge_index)
    write(edge_index)
    fresh = copy.deepcopy(conv)
    expected = fresh(X, edge_index.detach().clone())
    torch.testing.assert_close(conv(X, edge_index), expected)
    torch.testing.assert_close(conv(X, EdgeIndex(edge_index.clone())), expected)


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_sums_over_a_graph_that_is_written_to(write):
    conv, edge_index = summing_layer(), RING.clone()
    torch.testing.assert_close(conv(X, edge_index), neighbor_sums(X, RING))
    write(edge_index)
    torch.testing.assert_close(conv(X, edge_index), neighbor_sums(X, edge_index))


def test_a_write_between_forward_and_backward_does_not_reach_the_gradient():
    conv, edge_index = summing_layer(), RING.clone()
    x = X.clone().requires_grad_()
    out = conv(x, edge_index)
    edge_index.data.copy_(STAR)
    (out.flatten() * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    # Node i sends to node i + 1.
    assert x.grad.flatten().tolist() == [10.0, 100.0, 1000.0, 1.0]


def _broadcast(rank: str, store: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=int(rank), world_size=2
    )
    conv = summing_layer()
    edge_index = RING.clone()
    conv(X, edge_index)
    if rank == "0":
        edge_index.copy_(STAR)
    torch.distributed.broadcast(edge_index, 0)
    print(conv(X, edge_index).flatten().tolist())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_broadcast_into_a_preallocated_edge_index(fresh, tmp_path):
    for done in fresh(*([__file__, rank, tmp_path / "store"] for rank in range(2))):
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "[12.0, 0.0, 0.0, 0.0]"


def test_segments_do_not_follow_their_index():
    index = torch.tensor([1, 0, 1])
    ptr = torch.tensor([0, 1, 3])
    x = torch.tensor([[1.0], [2.0], [4.0]])
    by_index = Segments(index=index, num_segments=2)
    by_ptr = Segments(ptr=ptr)
    index.data.zero_()
    ptr.data.copy_(torch.tensor([0, 3, 3]))
    assert ops.segment_sum(x, by_index).flatten().tolist() == [2.0, 5.0]
    assert ops.segment_sum(x, by_ptr).flatten().tolist() == [1.0, 6.0]


def test_neighborhoods_made_by_hand_stay_as_they_were_made():
    edge_index = RING.clone()
    graph = Neighborhoods(edge_index, 4)
    edge_index.data.copy_(STAR)
    for conv in (summing_layer(), copy.deepcopy(summing_layer())):
        torch.testing.assert_close(conv(X, graph), neighbor_sums(X, RING))
    assert torch.equal(graph.edge_index, RING)


@pytest.mark.parametrize("conv", ["gin", "sage", "edge", "pair_mlp", "gatv2"])
def test_a_model_takes_neighborhoods(conv):
    model = GraphModel(1, 8, 2, conv=conv)
    torch.testing.assert_close(model(X, Neighborhoods(RING, 4)), model(X, RING))
    with pytest.raises(ValueError, match="3"):
        model(X, Neighborhoods(RING[:, :2], 3))


def test_the_layers_of_a_model_share_one_sorting(monkeypatch):
    module = sys.modules["graphpool.conv.neighborhoods"]
    made = []
    original = module.Neighborhoods.__init__
    monkeypatch.setattr(
        module.Neighborhoods,
        "__init__",
        lambda self, *args: (made.append(1), original(self, *args))[1],
    )
    # Where nothing is remembered, as on an accelerator.
    monkeypatch.setattr(module, "_can_be_compared", lambda edge_index: False)
    GraphModel(1, 8, 2, num_layers=3)(X, RING)
    assert len(made) == 1


# First seen in inference mode.


@pytest.mark.parametrize("conv", ["gin", "sage", "edge", "pair_mlp", "gatv2"])
@pytest.mark.parametrize("form", ["tensor", "EdgeIndex", "Neighborhoods"])
@pytest.mark.parametrize("width", [1, -1])
def test_evaluate_in_inference_mode_then_train(conv, form, width):
    forms = {"tensor": torch.Tensor.clone, "EdgeIndex": EdgeIndex}
    forms["Neighborhoods"] = lambda edge_index: Neighborhoods(edge_index, 4)
    graph = forms[form](RING)
    model = GraphModel(width, 8, 2, num_layers=2, conv=conv, aggr="gnp", readout="softmax")
    with torch.inference_mode():
        seen = model(X, graph)
        made_inside = forms[form](RING)
        model(X, made_inside)
    for edges in (graph, made_inside):
        out = model(X, edges)
        torch.testing.assert_close(out, seen.clone())
        out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


POOLS = [name for name in aggr.names() if not aggr.lookup(name).needs_positions]


@pytest.mark.parametrize("name", POOLS)
def test_segments_first_used_in_inference_mode(name):
    pool = aggr.resolve(name, channels=4, **aggr.lookup(name).example_arguments)
    x = torch.rand(6, 4)
    outside = Segments(index=torch.tensor([2, 0, 2, 0, 1, 2]), num_segments=3)
    with torch.inference_mode():
        pool(x, outside)
        inside = Segments(index=torch.tensor([2, 0, 2, 0, 1, 2]), num_segments=3)
        pool(x, inside)
        moved = inside.to("cpu")
    for segments in (outside, inside, moved):
        leaf = x.clone().requires_grad_()
        out = pool(leaf, segments)
        (out[0] if isinstance(out, tuple) else out).sum().backward()
        assert leaf.grad is not None


def test_a_compiled_model_in_inference_mode_then_an_eager_one():
    segments, pool = Segments(index=torch.tensor([1, 0, 1]), num_segments=2), aggr.GNP(2)
    with torch.inference_mode():
        torch.compile(pool, backend="eager")(torch.rand(3, 2), segments)
    pool(torch.rand(3, 2), segments).sum().backward()
    assert pool.a.grad is not None if hasattr(pool, "a") else True


# One topology, many sets of features.


@pytest.mark.parametrize("cls", CONVS)
@pytest.mark.parametrize("pool", ["sum", "gnp", "median", ["mean", "max"], pyg.MeanAggregation()])
@pytest.mark.parametrize("edges", [False, True])
def test_batched_features_over_one_graph(cls, pool, edges):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 3, 4, generator=generator).double()  # more sets than nodes
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 1]])
    attr = torch.rand(4, 2, generator=generator).double() if edges else None
    conv = cls(4, 6, aggr=pool, edge_dim=2 if edges else None).double()
    expected = torch.stack([conv(part, edge_index, attr) for part in x])
    torch.testing.assert_close(conv(x, edge_index, attr), expected)
    if edges:
        own = torch.rand(5, 4, 2, dtype=torch.double)
        expected = torch.stack([conv(a, edge_index, b) for a, b in zip(x, own, strict=True)])
        torch.testing.assert_close(conv(x, edge_index, own), expected)
    conv.node_dim = 0
    turned = x.transpose(0, 1)
    expected = torch.stack([conv(part, edge_index, attr) for part in x], dim=1)
    torch.testing.assert_close(conv(turned, edge_index, attr), expected)


def test_batched_features_equal_pyg():
    x = torch.rand(5, 3, 4)
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 1]])
    ours, theirs = SAGEConv(4, 6), pyg.SAGEConv(4, 6)
    theirs.lin_l.load_state_dict(ours.lin_neighbors.state_dict())
    theirs.lin_r.load_state_dict(ours.lin_root.state_dict())
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("readout", [None, "gnp", ["mean", "max"]])
def test_a_model_of_batched_features(norm, readout):
    # As many nodes as hidden channels, which a norm over the wrong dimension would not notice.
    x = torch.rand(5, 8, 4)
    edge_index = torch.randint(8, (2, 20))
    batch = torch.tensor([0, 0, 0, 2, 2, 2, 2, 0])
    model = GraphModel(4, 8, 2, 2, norm=norm, readout=readout).eval()
    out = model(x, edge_index, batch, batch_size=3)
    expected = torch.stack([model(part, edge_index, batch, batch_size=3) for part in x])
    torch.testing.assert_close(out, expected)
    other = GraphModel(4, 8, 2, 2, norm=norm, readout=readout, node_dim=0).eval()
    other.load_state_dict(model.state_dict())
    turned = other(x.transpose(0, 1), edge_index, batch, batch_size=3)
    torch.testing.assert_close(turned, expected.transpose(0, 1))


def test_attention_says_that_it_takes_no_batched_features():
    with pytest.raises(ValueError, match=r"`x` must be \[num_nodes, channels\].* for GATv2Conv"):
        GATv2Conv(4, 6)(torch.rand(5, 3, 4), RING[:, :2])


# Widths.


@pytest.mark.parametrize("name", POOLS)
def test_a_lazy_gin_with_any_pool(name):
    cls = aggr.lookup(name)
    if cls.ragged:
        pytest.skip("no layer takes it")
    x, edge_index = torch.rand(4, 4), RING
    conv = GINConv(-1, 6, aggr=name, aggr_kwargs=dict(cls.example_arguments))
    assert conv(x, edge_index).shape == (4, 6)
    known = GINConv(4, 6, aggr=name, aggr_kwargs=dict(cls.example_arguments))
    known.load_state_dict(conv.state_dict())
    torch.testing.assert_close(known.eval()(x, edge_index), conv.eval()(x, edge_index))
    again = GINConv(-1, 6, aggr=name, aggr_kwargs=dict(cls.example_arguments))
    again.load_state_dict(conv.state_dict())
    torch.testing.assert_close(again.eval()(x, edge_index), conv.eval()(x, edge_index))


@pytest.mark.parametrize("conv", ["gin", "sage", "edge", "pair_mlp"])
def test_a_lazy_model_without_an_encoder(conv):
    model = GraphModel(-1, 8, 2, conv=conv, encoder=None, aggr="gnp", readout="gnp")
    assert model(torch.rand(4, 5), RING).shape == (1, 2)


FOREIGN = {
    "multi": lambda: pyg.MultiAggregation(["mean", "max"]),
    "attn": lambda: pyg.MultiAggregation(
        ["mean", "max"],
        mode="attn",
        mode_kwargs={"in_channels": 8, "out_channels": 12, "num_heads": 2},
    ),
    "set2set": lambda: pyg.Set2Set(8, processing_steps=2),
    "sort": lambda: pyg.SortAggregation(k=3),
    "quantile": lambda: pyg.aggr.QuantileAggregation([0.25, 0.75]),
    "lstm": lambda: pyg.LSTMAggregation(8, 5),
    "scaler": lambda: pyg.DegreeScalerAggregation(
        ["mean", "max"], ["identity", "linear"], deg=torch.tensor([1, 2, 3])
    ),
    "unknowing": lambda: aggr.Multi(members=["mean", "max"]),
    "lazy": lambda: aggr.KMax(k=2, channels=-1),
    "member": lambda: pyg.MultiAggregation([aggr.GNP(8), "mean"]),
}


@pytest.mark.parametrize("pool", FOREIGN.values(), ids=list(FOREIGN))
def test_the_width_of_a_foreign_pool(pool):
    model = GraphModel(8, 8, 2, readout=pool()).eval()
    x = torch.rand(4, 8)
    expected = model.head(pool_of(model)(model.embed(x, RING), torch.zeros(4).long(), dim_size=1))
    torch.testing.assert_close(model(x, RING), expected)
    conv = SAGEConv(8, 3, aggr=pool())
    assert conv(x, RING).shape == (4, 3)


def pool_of(model: GraphModel) -> nn.Module:
    return model.pools()["readout"]


def test_asking_for_a_width_leaves_a_pool_and_the_random_numbers_alone():
    pool = aggr.GNP(-1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    from graphpool.aggr.pyg import pooled_width

    assert pooled_width(pool, 8) == 8 and pool.channels == -1
    assert torch.equal(torch.rand(2), expected)


def test_a_pool_that_cannot_be_tried_must_say_its_width():
    class Fussy(pyg.aggr.Aggregation):
        def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
            if x.size(0) < 4:
                raise RuntimeError("too few")
            return self.reduce(x, index, ptr, dim_size, dim, reduce="sum")

    with pytest.raises(ValueError, match=r"Fussy.*too few.*out_channels"):
        GraphModel(8, 8, 2, readout=Fussy())
    pool = Fussy()
    pool.out_channels = 8
    assert GraphModel(8, 8, 2, readout=pool)(torch.rand(4, 8), RING).shape == (1, 2)


def test_arguments_of_the_readout():
    model = GraphModel(
        8,
        8,
        2,
        aggr="kmax",
        aggr_kwargs={"k": 2},
        readout="kmax",
        readout_kwargs={"k": 3},
    )
    assert [pool.k for pool in model.pools().values()] == [2, 2, 2, 3]
    with pytest.raises(TypeError, match="kk"):
        GraphModel(8, 8, 2, readout="kmax", readout_kwargs={"kk": 3})
    with pytest.raises(ValueError, match="k"):
        GraphModel(8, 8, 2, readout=aggr.KMax(8, k=2), readout_kwargs={"k": 3})


def test_a_readout_that_returns_its_weights_is_refused():
    with pytest.raises(ValueError, match="return_weights=True"):
        GraphModel(4, 8, 2, readout="attsets", readout_kwargs={"return_weights": True})


# Sizes and numbers of rows.

SIZES = [3, np.int64(3), np.int32(3), np.uint8(3), torch.tensor(3), torch.tensor([3]), np.array(3)]


@pytest.mark.parametrize("size", SIZES, ids=lambda s: type(s).__name__)
def test_sizes_of_any_integer_type(size):
    x, batch = torch.rand(4, 4), torch.tensor([0, 0, 1, 1])
    model = GraphModel(4, 8, 2)
    expected = model(x, RING, batch, batch_size=3)
    torch.testing.assert_close(model(x, RING, batch, batch_size=size), expected)
    assert aggr.Sum()(x, batch, dim_size=size).shape == (3, 4)
    assert Segments(index=batch, num_segments=size).num_segments == 3
    assert type(Segments(index=batch, num_segments=size).num_segments) is int
    assert len(Segments(index=batch, num_segments=batch.max() + 1)) == 2
    assert Neighborhoods(RING[:, :2], size, 4).senders.num_segments == 3


@pytest.mark.parametrize(
    "size",
    [3.0, torch.tensor(3.0), True, torch.tensor(True), "3", torch.tensor([3, 3]), None.__class__],
)
def test_what_is_no_size(size):
    with pytest.raises(TypeError, match="num_segments.*must be an int"):
        Segments(index=torch.tensor([0]), num_segments=size)


@pytest.mark.parametrize("conv", ["gin", "edge", "gatv2"])
@pytest.mark.parametrize("pool", ["sum", "gnp", "max"])
def test_a_traced_model_takes_other_graphs(conv, pool):
    model = GraphModel(4, 8, 2, conv=conv, aggr=pool, readout="softmax").eval()
    # Sorted when it is recorded, and not when it is run.
    first = (torch.rand(6, 4), torch.randint(6, (2, 9)), torch.tensor([0, 0, 1, 1, 2, 2]))
    later = (torch.rand(8, 4), torch.randint(8, (2, 20)), torch.tensor([3, 0, 1, 0, 3, 0, 0, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, (*first, torch.tensor(3)), check_trace=False)
    torch.testing.assert_close(traced(*later, torch.tensor(5)), model(*later, 5))


@pytest.mark.parametrize("cls", [*CONVS, GATv2Conv])
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_edge_features_have_a_row_per_edge(cls, rows):
    conv = cls(4, 6, edge_dim=2)
    with pytest.raises(ValueError, match=r"`edge_attr` must be \[num_edges, 2\].*\[4, 2\]"):
        conv(torch.rand(4, 4), RING, torch.rand(rows, 2))
    with pytest.raises(ValueError, match="`edge_attr` must be"):
        conv(torch.rand(4, 4), RING)
    with pytest.raises(ValueError, match="`edge_attr` was given"):
        cls(4, 6)(torch.rand(4, 4), RING, torch.rand(4, 2))


@pytest.mark.parametrize("cls", CONVS)
@pytest.mark.parametrize("shape", [(1,), (3,), (4, 1), ()])
def test_edge_weights_one_per_edge(cls, shape):
    with pytest.raises(ValueError, match=r"`edge_weight` must have shape \(4,\)"):
        cls(4, 6)(torch.rand(4, 4), RING, edge_weight=torch.ones(shape))


def test_attention_takes_no_edge_weight():
    with pytest.raises(ValueError, match="GATv2Conv takes no `edge_weight`"):
        GraphModel(4, 8, 2, conv="gatv2")(torch.rand(4, 4), RING, edge_weight=torch.ones(4))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"batch": torch.zeros(3).long(), "batch_size": 1},
            "`batch` must have one entry per node, 4",
        ),
        ({"batch": Segments(ptr=torch.tensor([0, 3]))}, "`batch` must have one entry per node, 4"),
        ({"batch": Segments(ptr=torch.tensor([0, 4])), "batch_size": 2}, "`batch_size` is 2"),
        ({"batch_size": 2}, "`batch_size` is 2"),
        ({"node_weight": torch.ones(1)}, r"`node_weight` must have shape \(4,\)"),
    ],
)
def test_numbers_of_nodes_by_name(arguments, match):
    with pytest.raises(ValueError, match=match):
        GraphModel(4, 8, 2)(torch.rand(4, 4), RING, **arguments)


# Hooks.


@pytest.mark.parametrize("cls", [*CONVS, GATv2Conv])
@pytest.mark.parametrize("pool", ["sum", "gnp", "softmax"])
def test_hooks_on_a_neighbour_pool_fire(cls, pool):
    conv = cls(4, 4, aggr=pool)
    calls = []
    conv.aggr_module.register_forward_pre_hook(lambda *args: calls.append("before"))
    conv.aggr_module.register_forward_hook(lambda *args: calls.append("after"))
    conv(torch.rand(4, 4), RING)
    assert calls == ["before", "after"]


def test_a_hook_can_change_what_is_pooled():
    conv = summing_layer()
    conv.aggr_module.register_forward_hook(lambda module, args, out: 2 * out)
    torch.testing.assert_close(conv(X, RING), 2 * neighbor_sums(X, RING))


@pytest.mark.parametrize("name", POOLS)
def test_gathered_rows_through_the_call(name):
    pool = aggr.resolve(name, channels=4, **aggr.lookup(name).example_arguments).eval()
    x, rows = torch.rand(5, 4), torch.tensor([4, 0, 0, 2, 1, 4])
    bags = Segments(index=torch.tensor([2, 0, 2, 0, 1, 2]), num_segments=3)
    given = pool(x, bags, gather=rows)
    expected = pool(x[rows], bags)
    first = (lambda y: y[0]) if isinstance(expected, tuple) else (lambda y: y)
    torch.testing.assert_close(first(given), first(expected), rtol=1e-4, atol=1e-5)
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0, 0.0])
    x = x.clone()
    x[0] = torch.inf  # read by an absent element, and by one that is not
    given = pool(x, bags, gather=rows, weight=weight)
    expected = pool(x[rows], bags, weight=weight)
    torch.testing.assert_close(first(given), first(expected), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_the_width_is_checked_where_rows_are_read_in_place():
    conv = SAGEConv(4, 4, aggr=aggr.GNP(4))
    conv.in_channels = -1
    with pytest.raises(ValueError, match="made for channels=4"):
        conv(torch.rand(4, 5), RING)
    with pytest.raises(ValueError, match="`x` must have 4 channels"):
        SAGEConv(4, 4)(torch.rand(4, 5), RING)


# Labelled copies around one's own network.


def test_copies_around_a_network_with_a_readout():
    x, edge_index = torch.rand(4, 4), torch.cat([RING, RING.flip(0)], dim=1)
    for form in ("ragged", "rectangular"):
        with pytest.raises(ValueError, match="`gnn` must give one row per node.*readout"):
            LabelPooling(GraphModel(5, 8, 2), 1, form=form)(x, edge_index)


def test_copies_around_a_model_of_ours():
    x, edge_index = torch.rand(4, 4), torch.cat([RING, RING.flip(0)], dim=1)
    model = GraphModel(5, 8, 3, aggr="gnp", readout=None, norm="layer")
    pooling = LabelPooling(model, 1, inner="gnp", outer="max", form="ragged")
    # The width is known, so that there is nothing to wait for.
    torch.optim.Adam(pooling.parameters())
    rows = []
    for node in range(4):
        label = torch.eye(4)[node].unsqueeze(1)
        h = model(torch.cat([x, label], dim=1), edge_index)
        rows.append(pooling.inner(h))
    expected = torch.cat(rows).amax(0, keepdim=True)
    torch.testing.assert_close(pooling(x, edge_index), expected)
    pooling.form = "rectangular"
    torch.testing.assert_close(pooling(x, edge_index), expected)
    assert model.node_dim == -2


if __name__ == "__main__":
    _broadcast(*sys.argv[1:])
