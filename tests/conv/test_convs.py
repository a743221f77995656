"""Every convolution against a loop over nodes in float64, and against PyTorch Geometric."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric import nn as pyg

from graphpool import aggr
from graphpool.conv import EdgeConv, GATv2Conv, GINConv, PairMLPConv, SAGEConv

N, C, D, OUT = 9, 4, 3, 5
CLASSES = [GINConv, SAGEConv, EdgeConv, PairMLPConv]
# Convolutions hand no coordinates to their pool.
VECTOR_POOLS = [name for name in aggr.names() if not aggr.lookup(name).needs_positions]
POOLS = {
    "sum": lambda m: m.sum(0),
    "mean": lambda m: m.mean(0),
    "max": lambda m: m.max(0).values,
    "min": lambda m: m.min(0).values,
    "std": lambda m: m.std(0, unbiased=False),
}


@pytest.fixture
def graph():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, C, generator=generator, dtype=torch.float64)
    # Unsorted, with a double edge, a loop, and the isolated receiver 8.
    edge_index = torch.randint(0, N - 1, (2, 30), generator=generator)
    edge_index[:, 3] = edge_index[:, 2]
    edge_attr = torch.randn(30, D, generator=generator, dtype=torch.float64)
    return x, edge_index, edge_attr


def message(conv, x_i, x_j, e):
    if isinstance(conv, GINConv):
        return x_j if e is None else (x_j + conv.lin_edge(e)).relu()
    if isinstance(conv, SAGEConv):
        return x_j if e is None else x_j + conv.lin_edge(e)
    parts = [x_i, x_j - x_i if isinstance(conv, EdgeConv) else x_j] + ([] if e is None else [e])
    if isinstance(conv, EdgeConv):
        return conv.nn(torch.cat(parts, -1))
    return conv.rest(conv.first(torch.cat(parts, -1)).relu())


def reference(conv, pool, x, edge_index, edge_attr, width):
    rows = []
    for i in range(x.size(0)):
        edges = (edge_index[1] == i).nonzero().flatten()
        pooled = x.new_zeros(width)
        if edges.numel():
            messages = [
                message(
                    conv, x[i], x[edge_index[0, k]], None if edge_attr is None else edge_attr[k]
                )
                for k in edges
            ]
            pooled = pool(torch.stack(messages))
        if isinstance(conv, GINConv):
            pooled = conv.nn((1 + conv.eps) * x[i] + pooled)
        if isinstance(conv, SAGEConv):
            pooled = conv.lin_neighbors(pooled) + conv.lin_root(x[i])
        rows.append(pooled)
    return torch.stack(rows)


@pytest.mark.parametrize("edges", [False, True], ids=["nodes", "edges"])
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("cls", CLASSES)
def test_equals_a_loop(cls, name, edges, graph):
    x, edge_index, edge_attr = graph
    torch.manual_seed(1)
    conv = cls(C, OUT, aggr=name, edge_dim=D if edges else None).double()
    edge_attr = edge_attr if edges else None
    width = C if cls in (GINConv, SAGEConv) else OUT
    expected = reference(conv, POOLS[name], x, edge_index, edge_attr, width)
    torch.testing.assert_close(conv(x, edge_index, edge_attr), expected)


@pytest.mark.parametrize("cls", CLASSES)
def test_edge_order_does_not_matter(cls, graph):
    x, edge_index, edge_attr = graph
    conv = cls(C, OUT, aggr="gnp", edge_dim=D).double()
    order = torch.randperm(30)
    expected = conv(x, edge_index, edge_attr)
    torch.testing.assert_close(conv(x, edge_index[:, order], edge_attr[order]), expected)


@pytest.mark.parametrize("cls", CLASSES)
def test_integer_weights_repeat_edges(cls, graph):
    x, edge_index, edge_attr = graph
    conv = cls(C, OUT, aggr="mean", edge_dim=D).double()
    repeats = torch.randint(0, 3, (30,))
    weighted = conv(x, edge_index, edge_attr, edge_weight=repeats.double())
    repeated = conv(
        x, edge_index.repeat_interleave(repeats, 1), edge_attr.repeat_interleave(repeats, 0)
    )
    torch.testing.assert_close(weighted, repeated)


@pytest.mark.parametrize("cls", [*CLASSES, GATv2Conv])
@pytest.mark.parametrize("name", VECTOR_POOLS)
def test_every_registered_pool(cls, name, graph):
    x, edge_index, _ = graph
    pool = aggr.lookup(name)
    kwargs = dict(pool.example_arguments)
    if pool.ragged:
        with pytest.raises(ValueError, match="not one vector"):
            cls(C, C, aggr=name, aggr_kwargs=kwargs)
        return
    module = aggr.resolve(name, channels=C, **kwargs)
    if cls is GATv2Conv and module.out_channels not in (None, C):
        with pytest.raises(ValueError, match="channels"):
            cls(C, C, aggr=name, aggr_kwargs=kwargs)
        return
    conv = cls(C, C, aggr=name, aggr_kwargs=kwargs)
    x = x.float().requires_grad_()
    out = conv(x, edge_index)
    assert out.shape == (N, conv.out_channels) and out.isfinite().all()
    out.square().sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


@pytest.mark.parametrize("cls", CLASSES)
def test_list_class_and_module(cls, graph):
    x, edge_index, _ = graph
    x = x.float()
    for pool in (["mean", "std", "max"], aggr.Max, aggr.GNP(C if cls in CLASSES[:2] else OUT)):
        conv = cls(C, OUT, aggr=pool)
        assert conv(x, edge_index).shape == (N, conv.out_channels)
    assert cls(C, OUT, aggr=["mean", "std"]).out_channels in (OUT, 2 * OUT)


@pytest.mark.parametrize("cls", CLASSES)
def test_edge_index_class(cls, graph):
    x, edge_index, _ = graph
    conv = cls(C, OUT, aggr="sum").double()
    wrapped = EdgeIndex(edge_index, sparse_size=(N, N)).sort_by("col").values
    torch.testing.assert_close(conv(x, wrapped), conv(x, edge_index))


@pytest.mark.parametrize("cls", CLASSES)
def test_bipartite(cls):
    senders, receivers = torch.randn(4, C), torch.randn(3, C)
    edge_index = torch.tensor([[0, 3, 3, 1], [0, 0, 2, 2]])
    conv = cls(C, OUT, aggr="mean")
    both = torch.cat([receivers, senders])
    joined = conv(both, edge_index + torch.tensor([[3], [0]]))[:3]
    torch.testing.assert_close(conv((senders, receivers), edge_index), joined)


@pytest.mark.parametrize("cls", CLASSES)
def test_lazy_channels(cls, graph):
    x, edge_index, _ = graph
    for name in ("sum", "max"):
        conv = cls(-1, OUT, aggr=name)
        assert conv(x.float(), edge_index).shape == (N, OUT)
        known = cls(C, OUT, aggr=name)
        known.load_state_dict(conv.state_dict())
        torch.testing.assert_close(known(x.float(), edge_index), conv(x.float(), edge_index))


@pytest.mark.parametrize("cls", CLASSES)
def test_gradients(cls, graph):
    x, edge_index, edge_attr = graph
    conv = cls(C, OUT, aggr="softmax", edge_dim=D).double()

    def call(x, e):
        return conv(x, edge_index, e).tanh()

    inputs = (x.requires_grad_(), edge_attr.requires_grad_())
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_no_message_is_made_where_it_is_a_row(monkeypatch):
    conv = GINConv(C, OUT, aggr="sum")
    monkeypatch.setattr(
        conv, "pool_messages", lambda *args: pytest.fail("a message per edge was made")
    )
    assert conv(torch.randn(3, C), torch.tensor([[0, 1], [1, 2]])).shape == (3, OUT)


def test_equals_pyg(graph):
    x, edge_index, edge_attr = graph
    x, edge_attr = x.float(), edge_attr.float()
    ours = GINConv(C, OUT, eps=0.5)
    theirs = pyg.GINConv(copy.deepcopy(ours.nn), eps=0.5)
    theirs.nn.load_state_dict(ours.nn.state_dict())
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))
    ours = GINConv(C, OUT, edge_dim=D)
    theirs = pyg.GINEConv(copy.deepcopy(ours.nn), edge_dim=D)
    theirs.nn.load_state_dict(ours.nn.state_dict())
    theirs.lin.load_state_dict(ours.lin_edge.state_dict())
    torch.testing.assert_close(ours(x, edge_index, edge_attr), theirs(x, edge_index, edge_attr))
    ours = EdgeConv(C, OUT)
    theirs = pyg.EdgeConv(ours.nn)
    theirs.nn = ours.nn
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))
    ours, theirs = SAGEConv(C, OUT), pyg.SAGEConv(C, OUT)
    theirs.lin_l.load_state_dict(ours.lin_neighbors.state_dict())
    theirs.lin_r.load_state_dict(ours.lin_root.state_dict())
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))
    ours, theirs = GATv2Conv(C, OUT, heads=2, edge_dim=D), pyg.GATv2Conv(C, OUT, 2, edge_dim=D)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x, edge_index, edge_attr), theirs(x, edge_index, edge_attr))


def test_explainer_sees_messages(graph):
    from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

    x, edge_index, _ = graph
    conv = SAGEConv(C, OUT, aggr="sum")
    model = nn.ModuleList([conv])
    mask = nn.Parameter(torch.zeros(30))
    set_masks(model, mask, edge_index, apply_sigmoid=True)
    masked = conv(x.float(), edge_index)
    clear_masks(model)
    # A mask of 0 passes half of every message (sigmoid), which for sums is an edge weight of 1/2.
    torch.testing.assert_close(
        masked, conv(x.float(), edge_index, edge_weight=torch.full((30,), 0.5))
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_reset_parameters(cls, graph):
    x, edge_index, _ = graph
    conv = cls(C, OUT, aggr="gnp")
    torch.manual_seed(5)
    conv.reset_parameters()
    first = copy.deepcopy(conv.state_dict())
    with torch.no_grad():
        for p in conv.parameters():
            p.add_(1.0)
    torch.manual_seed(5)
    conv.reset_parameters()
    for key, value in conv.state_dict().items():
        torch.testing.assert_close(value, first[key])


def test_compiles(graph):
    x, edge_index, _ = graph
    conv = GINConv(C, OUT, aggr="sum")
    compiled = torch.compile(conv, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x.float(), edge_index), conv(x.float(), edge_index))


def test_errors(graph):
    x, edge_index, edge_attr = graph
    with pytest.raises(ValueError, match="without `edge_dim`"):
        GINConv(C, OUT).double()(x, edge_index, edge_attr)
    with pytest.raises(ValueError, match="`edge_attr` must be"):
        SAGEConv(C, OUT, edge_dim=D).double()(x, edge_index)
    with pytest.raises(ValueError, match="`in_channels` must be known"):
        GINConv(-1, OUT, edge_dim=D)
    with pytest.raises(ValueError, match="`in_channels` must be known"):
        SAGEConv(-1, OUT, edge_dim=D)
    with pytest.raises(ValueError, match="num_layers"):
        PairMLPConv(C, OUT, num_layers=0)
    with pytest.raises(ValueError, match="Unknown aggregation"):
        GINConv(C, OUT, aggr="summ")
    with pytest.raises(ValueError, match="no `weight`"):
        GINConv(C, OUT, aggr="lstm", aggr_kwargs={"in_channels": C, "out_channels": C}).double()(
            x, edge_index, edge_weight=torch.ones(30)
        )
