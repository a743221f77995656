"""Categories and graphs without features, beside one-hot columns and degrees by hand."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

import graphpool
from graphpool import Segments
from graphpool.conv import Neighborhoods
from graphpool.models import GraphModel
from graphpool.nn import ColumnEmbedding

EDGES = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
COUNTS = [5, None, 3]


def columns(n=6):
    generator = torch.Generator().manual_seed(0)
    first, last = (torch.randint(c, (n, 1), generator=generator) for c in (5, 3))
    return first, torch.randn(n, 1, generator=generator), last


def test_an_embedding_is_a_linear_layer_of_one_hot_columns():
    layer = ColumnEmbedding(COUNTS, 7)
    first, number, last = columns()
    x = torch.cat([first, number, last], 1)
    hot = [nn.functional.one_hot(c[:, 0], n).float() for c, n in ((first, 5), (last, 3))]
    linear = nn.Linear(9, 7)
    with torch.no_grad():
        weight = [
            layer.embeddings["0"].weight,
            layer.numbers.weight.T,
            layer.embeddings["2"].weight,
        ]
        linear.weight.copy_(torch.cat(weight).T)
        linear.bias.copy_(layer.numbers.bias)
    expected = linear(torch.cat([hot[0], number, hot[1]], 1))
    torch.testing.assert_close(layer(x), expected)
    layer(x).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    many = torch.stack([x, x.flip(0)])
    torch.testing.assert_close(layer(many), torch.stack([layer(x), layer(x.flip(0))]))
    before = layer.embeddings["0"].weight.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.embeddings["0"].weight, before)


def test_what_an_embedding_refuses_by_name():
    layer, whole = ColumnEmbedding(COUNTS, 7, "features"), ColumnEmbedding([4], 7)
    first, number, last = columns()
    x = torch.cat([first, number, last], 1)
    for column, value in [(0, 5.0), (0, -1.0), (2, 1.5), (2, 3.0), (0, float("nan"))]:
        bad = x.clone()
        bad[4, column] = value
        with pytest.raises(
            ValueError, match=rf"`features\[:, {column}\]` must be categories.*in row 4"
        ):
            layer(bad)
    with pytest.raises(ValueError, match=r"whole numbers in \[0, 4\); got 4 in row 1"):
        whole(torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="`features` must have 3 columns"):
        layer(x[:, :2])
    with pytest.raises(TypeError, match="`features` must be a floating point tensor"):
        layer(x.long())
    with pytest.raises(TypeError, match="`features` must be torch.float32"):
        layer(x.double())
    for bad in (torch.zeros(3, 1), torch.zeros(3, 1).bool(), None):
        with pytest.raises(TypeError, match="`x` must be integers, which are categories"):
            whole(bad)
    with pytest.raises(ValueError, match="`categories` must name"):
        ColumnEmbedding([None], 3)
    with pytest.raises(ValueError, match=r"`categories\[1\]` must be an int of at least 1"):
        ColumnEmbedding([2, 0], 3)


@pytest.mark.parametrize("conv", ["gin", "sage", "gatv2"])
@pytest.mark.parametrize("encoder", ["linear", "mlp"])
def test_a_model_of_categories_is_one_of_its_embeddings(conv, encoder):
    x, attr = torch.randint(5, (4, 2)), torch.randint(3, (5, 1))
    torch.manual_seed(0)
    model = GraphModel(
        2, 8, 3, 2, conv=conv, encoder=encoder, node_categories=[5, 5], edge_categories=[3]
    )
    twin = GraphModel(8, 8, 3, 2, conv=conv, encoder=None, edge_dim=8)
    twin.load_state_dict({k: v for k, v in model.state_dict().items() if "encoder" not in k})
    h = sum(
        t(x[:, int(i)])
        for i, t in (model.encoder if encoder == "linear" else model.encoder[0]).embeddings.items()
    )
    h = h if encoder == "linear" else model.encoder[2](h.relu())
    e = model.edge_encoder.embeddings["0"](attr[:, 0])
    out = model(x, EDGES, edge_attr=attr)
    torch.testing.assert_close(out, twin(h, EDGES, edge_attr=e))
    torch.testing.assert_close(model(x.to(torch.uint8), EDGES, edge_attr=attr[:, 0]), out)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_model_of_categories_in_the_other_homes(tmp_path):
    model = GraphModel(-1, 8, 3, node_categories=[5], edge_categories=[3, None]).eval()
    x, attr = torch.randint(5, (4,)), torch.rand(5, 2).round()
    out = model(x, EDGES, edge_attr=attr)
    torch.testing.assert_close(model(x[:, None], EDGES, edge_attr=attr), out)
    graphpool.save(model, tmp_path / "m.pt")
    torch.testing.assert_close(
        graphpool.load(tmp_path / "m.pt").model(x, EDGES, edge_attr=attr), out
    )
    data = HeteroData()
    data["a"].x, data["b"].x = torch.randint(5, (4, 1)), torch.randint(5, (3, 1))
    data["a", "to", "b"].edge_index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 0]])
    data["b", "to", "a"].edge_index = data["a", "to", "b"].edge_index.flip(0)
    typed = pyg.to_hetero(
        GraphModel(1, 8, 3, num_layers=1, conv="sage", readout=None, node_categories=[5]),
        data.metadata(),
    )
    assert typed(data.x_dict, data.edge_index_dict)["b"].shape == (3, 3)
    levels = GraphModel(1, 8, 3, node_categories=[5], edge_categories=[3], coarsen="kmis")
    assert levels(x, EDGES, edge_attr=attr[:, 0].long()).shape == (1, 3)


def test_what_a_model_of_categories_refuses():
    model = GraphModel(1, 8, 3, node_categories=[5], edge_categories=[3])
    with pytest.raises(
        ValueError, match=r"`x\[:, 0\]` must be categories, whole numbers in \[0, 5\)"
    ):
        model(torch.tensor([0, 1, 2, 7]), EDGES, edge_attr=torch.zeros(5).long())
    with pytest.raises(ValueError, match=r"`edge_attr\[:, 0\]` must be categories"):
        model(torch.zeros(4).long(), EDGES, edge_attr=torch.full((5,), 3))
    with pytest.raises(TypeError, match="`edge_attr` must be integers"):
        model(torch.zeros(4).long(), EDGES)
    with pytest.raises(ValueError, match="`in_channels` must be 1.*got 3"):
        GraphModel(3, 8, 3, node_categories=[5])
    with pytest.raises(ValueError, match="`edge_dim` must be 1.*got 2"):
        GraphModel(3, 8, 3, edge_categories=[5], edge_dim=2)
    with pytest.raises(ValueError, match="`encoder` must be 'linear' or 'mlp'"):
        GraphModel(1, 8, 3, node_categories=[5], encoder=None)


@pytest.mark.parametrize("features", ["degree", "constant"])
def test_graphs_without_features(features):
    model = GraphModel(1, 8, 3, features=features)
    plain = GraphModel(1, 8, 3)
    plain.load_state_dict(model.state_dict())
    # Node 4 has no edge: only the batch knows of it.
    batch = torch.tensor([0, 0, 0, 0, 0])
    degree = torch.tensor([1.0, 1, 2, 1, 0])
    x = degree.log1p()[:, None] if features == "degree" else torch.ones(5, 1)
    expected = plain(x, EDGES, batch, 1)
    adjacency = torch.sparse_coo_tensor(EDGES.flip(0), torch.ones(5), (5, 5)).coalesce()
    forms = [EdgeIndex(EDGES, sparse_size=(5, 5)), Neighborhoods(EDGES, 5), adjacency]
    outs = [model(None, EDGES, batch, 1), model(None, EDGES, Segments(ptr=torch.tensor([0, 5])))]
    for out in outs + [model(None, form) for form in forms]:
        torch.testing.assert_close(out, expected)
    assert model.double()(None, EDGES, batch, 1).dtype == torch.float64
    torch.testing.assert_close(model.float().embed(None, EDGES, batch=batch), plain.embed(x, EDGES))
    deep = GraphModel(1, 8, 3, features=features, coarsen="topk")
    assert deep(None, EDGES, batch, 1).shape == (1, 3)
    with pytest.raises(ValueError, match="`batch` must be given where features are made"):
        model(None, EDGES)
    with pytest.raises(ValueError, match=f"`x` must be None where features='{features}'"):
        model(x, EDGES)
    with pytest.raises(ValueError, match="`in_channels` must be 1"):
        GraphModel(3, 8, 3, features=features)


def test_missing_features_and_the_way_out():
    with pytest.raises(TypeError, match="`x` must be a tensor; got NoneType.*features='degree'"):
        GraphModel(3, 8, 3)(None, EDGES)
    with pytest.raises(
        ValueError, match="`features` must be one of x, degree, constant; got 'ones'"
    ):
        GraphModel(1, 8, 3, features="ones")
