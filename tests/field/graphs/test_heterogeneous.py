"""What people with several types of nodes and edges expect: the tutorials of PyTorch Geometric with the
layers of this package in them."""

from __future__ import annotations

import copy
import importlib.util

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric import nn as pyg
from torch_geometric.data import HeteroData
from torch_geometric.testing import assert_module
from torch_geometric.utils import to_torch_coo_tensor, to_torch_csc_tensor, to_torch_csr_tensor

from graphpool.conv import EdgeConv, GATv2Conv, GINConv, Neighborhoods, PairMLPConv, SAGEConv
from graphpool.models import GraphModel

CONVS = [GINConv, SAGEConv, EdgeConv, PairMLPConv, GATv2Conv]
SENDERS, RECEIVERS = 4, 2
EDGES = torch.tensor([[0, 1, 2, 3, 0], [1, 0, 1, 1, 0]])


def nodes(senders: int, receivers: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(SENDERS, senders, generator=generator, dtype=torch.double),
        torch.randn(RECEIVERS, receivers, generator=generator, dtype=torch.double),
    )


def bipartite(cls, width, aggr="mean", **kwargs):
    if cls is GATv2Conv:
        kwargs["add_self_loops"] = False
    return cls(width, 6, aggr=aggr, **kwargs).double()


def pooled_at(conv, x, receiver):
    """The mean over the neighbours of a node, by a loop."""
    rows = [x[s] for s, t in EDGES.t().tolist() if t == receiver]
    return torch.stack(rows).mean(0)


@pytest.mark.parametrize("width", [(3, 5), (-1, -1)])
def test_two_widths_against_a_loop(width):
    x = nodes(3, 5)
    conv = bipartite(SAGEConv, width)
    out = conv(x, EDGES)
    expected = [
        conv.lin_neighbors(pooled_at(conv, x[0], i)) + conv.lin_root(x[1][i]) for i in (0, 1)
    ]
    torch.testing.assert_close(out, torch.stack(expected))
    conv = bipartite(GINConv, width)
    out = conv(x, EDGES)
    expected = [conv.nn(x[1][i] + conv.project(pooled_at(conv, x[0], i))) for i in (0, 1)]
    torch.testing.assert_close(out, torch.stack(expected))
    conv = bipartite(PairMLPConv, width)
    out = conv(x, EDGES)
    first = conv.first
    messages = [
        conv.rest(first(torch.cat([x[1][t], x[0][s]])).relu()) for s, t in EDGES.t().tolist()
    ]
    expected = [
        torch.stack([m for m, t in zip(messages, EDGES[1].tolist(), strict=True) if t == i]).mean(0)
        for i in (0, 1)
    ]
    torch.testing.assert_close(out, torch.stack(expected))


@pytest.mark.parametrize("cls", CONVS)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("pool", ["mean", "gnp", "max", pyg.MeanAggregation()])
def test_module_assertions_of_pyg(cls, lazy, pool):
    widths = (5, 5) if cls is EdgeConv else (3, 5)
    conv = bipartite(cls, (-1, -1) if lazy else widths, pool)
    assert_module(conv, nodes(*widths), EDGES, expected_size=(RECEIVERS, 6))
    square = cls(5, 6, aggr=copy.deepcopy(pool)).double()
    edges = torch.tensor([[0, 1, 3, 2], [1, 3, 0, 0]])
    x = torch.randn(4, 5, dtype=torch.double)
    assert_module(square, x, edges, expected_size=(4, 6))


@pytest.mark.parametrize("cls", [GINConv, SAGEConv])
@pytest.mark.parametrize("width", [(3, 5), (-1, -1)])
def test_receivers_without_features(cls, width):
    x, _ = nodes(3, 5)
    conv = bipartite(cls, width, ["mean", "max"])
    size = (SENDERS, 3)
    out = assert_module(conv, (x, None), EDGES, size=size, expected_size=(3, 6))
    layer = conv.lin_neighbors if cls is SAGEConv else torch.nn.Sequential(conv.project, conv.nn)
    best = torch.stack([x[EDGES[0, EDGES[1] == i]].amax(0) for i in (0, 1)])
    mean = torch.stack([pooled_at(conv, x, i) for i in (0, 1)])
    torch.testing.assert_close(out[:2], layer(torch.cat([mean, best], 1)))
    torch.testing.assert_close(out[2:], layer(x.new_zeros(1, 6)))
    with pytest.raises(ValueError, match=r"`size`, \(num_senders, num_receivers\)"):
        conv((x, None), EDGES)
    torch.testing.assert_close(conv((x, None), EdgeIndex(EDGES, sparse_size=size)), out)
    torch.testing.assert_close(conv((x, None), Neighborhoods(EDGES, *size)), out)


@pytest.mark.parametrize("cls", [EdgeConv, PairMLPConv, GATv2Conv])
def test_receivers_must_have_features_where_the_message_sees_them(cls):
    x, _ = nodes(5, 5)
    with pytest.raises(ValueError, match="nodes that receive"):
        conv = bipartite(cls, (5, 5))
        conv((x, None), EDGES, **({} if cls is GATv2Conv else {"size": (SENDERS, RECEIVERS)}))


def test_what_does_not_fit_is_named():
    x = nodes(3, 5)
    with pytest.raises(ValueError, match="EdgeConv subtracts"):
        EdgeConv((3, 5), 6)
    with pytest.raises(ValueError, match="EdgeConv subtracts"):
        EdgeConv((-1, -1), 6).double()(x, EDGES)
    with pytest.raises(ValueError, match=r"in_channels=\(senders, receivers\)"):
        GINConv(-1, 6).double()(x, EDGES)
    with pytest.raises(ValueError, match=r"`x\[0\]` must have 3 channels"):
        SAGEConv((3, 5), 6).double()(x[::-1], EDGES)
    with pytest.raises(ValueError, match="`size` says"):
        SAGEConv((3, 5), 6).double()(x, EDGES, size=(4, 3))


@pytest.mark.parametrize("cls", CONVS)
def test_edges_followed_backwards(cls):
    x = torch.randn(4, 5, dtype=torch.double)
    edges = torch.tensor([[0, 1, 3, 2], [1, 3, 0, 0]])
    forth = cls(5, 6, aggr="mean").double()
    back = cls(5, 6, aggr="mean", flow="target_to_source").double()
    back.load_state_dict(forth.state_dict())
    torch.testing.assert_close(back(x, edges), forth(x, edges.flip(0)))
    torch.testing.assert_close(back(x, Neighborhoods(edges, 4)), forth(x, edges.flip(0)))
    if cls is not GATv2Conv:
        pair = nodes(5, 5)
        torch.testing.assert_close(back(pair, EDGES), forth(pair[::-1], EDGES.flip(0)))
    with pytest.raises(ValueError, match="transpose"):
        back(x, to_torch_coo_tensor(edges, size=4).t())


LAYOUTS = {
    "coo": to_torch_coo_tensor,
    "csr": to_torch_csr_tensor,
    "csc": to_torch_csc_tensor,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cls", [GINConv, SAGEConv, EdgeConv, PairMLPConv])
def test_values_of_a_sparse_adjacency_are_weights(cls, layout):
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.double)
    edges = torch.tensor([[0, 1, 3, 2], [1, 3, 0, 0]])
    x = torch.randn(4, 5, dtype=torch.double)
    conv = cls(5, 6, aggr="mean").double()
    # PyG's layers take the transpose: receivers are its rows.
    adjacency = LAYOUTS[layout](edges.flip(0), weight, size=4)
    torch.testing.assert_close(conv(x, adjacency), conv(x, edges, edge_weight=weight))
    model = GraphModel(5, 6, 2, readout=None).double()
    torch.testing.assert_close(model(x, adjacency), model(x, edges, edge_weight=weight))
    with pytest.raises(ValueError, match="`edge_weight` was given, but the sparse adjacency"):
        conv(x, adjacency, edge_weight=weight)
    with pytest.raises(ValueError, match="adjacency must be"):
        Neighborhoods(adjacency, 3)


@pytest.mark.parametrize("value", [1.0, 0.9])
@pytest.mark.parametrize("layout", ["coo", "uncoalesced", "csr", "csc"])
@pytest.mark.parametrize("cls", [GINConv, SAGEConv])
def test_values_of_a_sparse_adjacency_can_be_learned(cls, layout, value):
    edges = torch.tensor([[0, 1, 3, 2], [1, 3, 0, 0]])
    x, weights = torch.randn(4, 5), torch.full((2, 4), value, requires_grad=True)
    conv = cls(5, 6, aggr="sum")

    def loss(weight):
        adjacency = torch.sparse_coo_tensor(edges.flip(0), weight, (4, 4))
        if layout != "uncoalesced":
            adjacency = adjacency.coalesce()
        if layout in ("csr", "csc"):
            adjacency = getattr(adjacency, f"to_sparse_{layout}")()
        return conv(x, adjacency).square().sum()

    loss(weights[0]).backward()
    conv(x, edges, edge_weight=weights[1]).square().sum().backward()
    assert weights.grad[1].abs().min() > 0
    torch.testing.assert_close(weights.grad[0], weights.grad[1])
    if "co" in layout:
        found = torch.func.grad(loss)(weights[0].detach())
        torch.testing.assert_close(found, weights.grad[1])


@pytest.mark.parametrize("cls", CONVS)
def test_edge_features_in_a_sparse_adjacency(cls):
    attr = torch.randn(4, 3, dtype=torch.double)
    edges = torch.tensor([[0, 1, 3, 2], [1, 3, 0, 0]])
    x = torch.randn(4, 5, dtype=torch.double)
    kwargs = {"add_self_loops": False} if cls is GATv2Conv else {}
    conv = cls(5, 6, aggr="mean", edge_dim=3, **kwargs).double()
    adjacency = torch.sparse_coo_tensor(edges.flip(0), attr, (4, 4, 3)).coalesce()
    torch.testing.assert_close(conv(x, Neighborhoods(adjacency, 4)), conv(x, edges, attr))
    if cls is not GATv2Conv:
        torch.testing.assert_close(conv(x, adjacency), conv(x, edges, attr))


def test_double_edges_of_a_sparse_adjacency_count_twice():
    edges = torch.tensor([[0, 0, 1], [1, 1, 2]])
    x = torch.randn(3, 5, dtype=torch.double)
    conv = GINConv(5, 6, aggr="sum").double()
    adjacency = torch.sparse_coo_tensor(edges.flip(0), torch.ones(3), (3, 3))
    torch.testing.assert_close(conv(x, adjacency), conv(x, edges))


@pytest.mark.skipif(not importlib.util.find_spec("torch_sparse"), reason="no torch-sparse here")
def test_torch_sparse():
    from torch_sparse import SparseTensor

    edges = torch.tensor([[0, 1, 3, 2], [1, 3, 0, 0]])
    x = torch.randn(4, 5)
    for cls in CONVS:
        conv = cls(5, 6, aggr="mean")
        adjacency = SparseTensor.from_edge_index(edges, sparse_sizes=(4, 4)).t()
        torch.testing.assert_close(conv(x, adjacency), conv(x, edges))


@pytest.fixture
def library() -> HeteroData:
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["paper"].x = torch.randn(10, 12, generator=generator)
    data["author"].x = torch.randn(7, 5, generator=generator)
    wrote = torch.stack([torch.randint(n, (20,), generator=generator) for n in (7, 10)])
    data["author", "writes", "paper"].edge_index = wrote
    data["paper", "written_by", "author"].edge_index = wrote.flip(0)
    data["paper", "cites", "paper"].edge_index = torch.randint(10, (2, 15), generator=generator)
    return data


def test_hetero_conv(library):
    layers = {
        ("author", "writes", "paper"): GINConv((-1, -1), 6, aggr="gnp"),
        ("paper", "written_by", "author"): PairMLPConv((-1, -1), 6, aggr=["mean"]),
        ("paper", "cites", "paper"): SAGEConv(-1, 6, aggr="max"),
    }
    out = pyg.HeteroConv(layers, aggr="sum")(library.x_dict, library.edge_index_dict)
    x, edges = library.x_dict, library.edge_index_dict
    parts = {key: layer((x[key[0]], x[key[2]]), edges[key]) for key, layer in layers.items()}
    papers = parts["author", "writes", "paper"] + parts["paper", "cites", "paper"]
    torch.testing.assert_close(out["paper"], papers)
    torch.testing.assert_close(out["author"], parts["paper", "written_by", "author"])


@pytest.mark.parametrize("conv", ["gin", "sage", "edge", "pair_mlp"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"encoder": "mlp", "jumping": "cat", "norm": "batch", "node_layers": 1, "dropout": 0.5},
        {"encoder": None, "in_channels": (-1, -1), "jumping": "max", "norm": "layer"},
    ],
    ids=["plain", "full", "no encoder"],
)
def test_a_model_for_several_types(library, conv, settings):
    settings = {"in_channels": -1, **settings}
    if settings.get("encoder", "") is None and conv == "edge":
        pytest.skip("it subtracts senders and receivers of different width")
    model = GraphModel(
        hidden_channels=8, out_channels=3, num_layers=2, conv=conv, readout=None, **settings
    )
    model = pyg.to_hetero(model, library.metadata()).eval()
    out = model(library.x_dict, library.edge_index_dict)
    assert {name: tuple(rows.shape) for name, rows in out.items()} == {
        "paper": (10, 3),
        "author": (7, 3),
    }
    assert all(rows.isfinite().all() for rows in out.values())
    model.train()
    train = model(library.x_dict, library.edge_index_dict)
    assert torch.equal(train["paper"], out["paper"]) != ("dropout" in settings)


def test_a_model_for_several_types_computes_what_its_parts_do(library):
    model = pyg.to_hetero(
        GraphModel(-1, 8, 3, num_layers=1, conv="sage", aggr="mean", readout=None),
        library.metadata(),
    )
    out = model(library.x_dict, library.edge_index_dict)
    h = {name: model.encoder[name](x) for name, x in library.x_dict.items()}
    pooled = dict.fromkeys(h, 0)
    for key, edges in library.edge_index_dict.items():
        layer = model.convs[0]["__".join(key)]
        pooled[key[2]] = pooled[key[2]] + layer((h[key[0]], h[key[2]]), edges)
    for name in h:
        torch.testing.assert_close(out[name], model.head[name](pooled[name].relu()))
