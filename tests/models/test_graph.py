from __future__ import annotations

import io

import pytest
import torch
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data

from graphpool import Segments, aggr
from graphpool.models.graph import CONVOLUTIONS, GraphModel


def random_graphs(sizes, channels=4, edge_dim=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for n in sizes:
        edge_index = torch.randint(0, n, (2, 3 * n), generator=generator)
        data = Data(x=torch.randn(n, channels, generator=generator), edge_index=edge_index)
        if edge_dim is not None:
            data.edge_attr = torch.randn(3 * n, edge_dim, generator=generator)
        graphs.append(data)
    return graphs


def call(model, batch, **kwargs):
    return model(batch.x, batch.edge_index, batch.batch, batch_size=batch.num_graphs, **kwargs)


@pytest.mark.parametrize("conv", CONVOLUTIONS)
@pytest.mark.parametrize("readout", ["sum", "gnp", ["mean", "max"], None])
def test_tasks_and_state_dict(conv, readout):
    graphs = random_graphs([3, 5, 2], edge_dim=2)
    batch = Batch.from_data_list(graphs)

    def make():
        return GraphModel(4, 8, 3, 2, conv=conv, aggr="max", readout=readout, edge_dim=2)

    model = make()
    out = call(model, batch, edge_attr=batch.edge_attr)
    assert out.shape == ((10 if readout is None else 3), 3)
    other = make()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(call(other, batch, edge_attr=batch.edge_attr), out)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "name", [name for name in aggr.names() if not aggr.lookup(name).needs_positions]
)
def test_every_registered_readout_and_batch_independence(name):
    cls = aggr.lookup(name)
    readout = aggr.resolve(name, channels=8, **cls.example_arguments)
    if cls.ragged:
        with pytest.raises(ValueError, match="not one vector"):
            GraphModel(4, 8, 1, 2, readout=readout)
        return
    model = GraphModel(4, 8, 1, 2, readout=readout).eval()
    graphs = random_graphs([4, 7, 1])
    together = call(model, Batch.from_data_list(graphs))
    alone = torch.cat([model(g.x, g.edge_index) for g in graphs])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_one_pool_per_layer():
    model = GraphModel(4, 8, 1, 3, aggr=("max", ["sum", "std"], aggr.GNP), conv="pair_mlp")
    pools = model.pools()
    assert list(pools) == ["conv 1", "conv 2", "conv 3", "readout"]
    assert [type(p).__name__ for p in pools.values()] == ["Max", "Multi", "GNP", "Mean"]
    assert call(model, Batch.from_data_list(random_graphs([3, 4]))).shape == (2, 1)


def test_a_module_is_copied_for_each_site():
    pool = aggr.GNP(8)
    model = GraphModel(8, 8, 1, 2, aggr=pool, readout=pool)
    modules = list(model.pools().values())
    assert len({id(m) for m in [*modules, pool]}) == 4


@pytest.mark.parametrize("jumping", ["last", "cat", "sum", "max"])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_jumping_and_norm(jumping, norm):
    model = GraphModel(4, 8, 2, 3, jumping=jumping, norm=norm, head="mlp", dropout=0.5).eval()
    batch = Batch.from_data_list(random_graphs([3, 4]))
    assert call(model, batch).shape == (2, 2)
    h = model.encoder(batch.x)
    states = []
    for conv, layer in zip(model.convs, model.norms, strict=True):
        h = layer(conv(h, batch.edge_index)).relu()
        states.append(h)
    expected = {
        "last": states[-1],
        "cat": torch.cat(states, 1),
        "sum": sum(states),
        "max": torch.stack(states).max(0).values,
    }[jumping]
    torch.testing.assert_close(model.embed(batch.x, batch.edge_index), expected)


def test_lazy_channels():
    batch = Batch.from_data_list(random_graphs([3, 4]))
    for arguments in ({}, {"encoder": None, "conv": "pair_mlp"}, {"encoder": "mlp"}):
        model = GraphModel(-1, 8, 1, 2, **arguments)
        out = call(model, batch)
        known = GraphModel(4, 8, 1, 2, **arguments)
        known.load_state_dict(model.state_dict())
        torch.testing.assert_close(call(known, batch), out)


def test_permutation_of_nodes_and_edges():
    (graph,) = random_graphs([9])
    model = GraphModel(4, 8, 1, aggr="gnp", readout="softmax").eval()
    order, edges = torch.randperm(9), torch.randperm(27)
    renumbered = torch.argsort(order)[graph.edge_index][:, edges]
    torch.testing.assert_close(
        model(graph.x[order], renumbered), model(graph.x, graph.edge_index), rtol=1e-4, atol=1e-5
    )


def test_empty_graphs_keep_their_row():
    model = GraphModel(4, 8, 1)
    out = model(
        torch.randn(3, 4), torch.tensor([[0, 1], [1, 2]]), torch.zeros(3).long(), batch_size=3
    )
    torch.testing.assert_close(out[1:], model.head.bias.expand(2, 1))


def test_weights_repeat_nodes():
    (graph,) = random_graphs([5])
    model = GraphModel(4, 8, 1, readout="mean")
    repeats = torch.tensor([1, 2, 0, 3, 1])
    h = model.embed(graph.x, graph.edge_index)
    expected = model.head(h.repeat_interleave(repeats, 0).mean(0, keepdim=True))
    out = model(graph.x, graph.edge_index, node_weight=repeats)
    torch.testing.assert_close(out, expected)


def test_forms_of_the_batch_agree():
    batch = Batch.from_data_list(random_graphs([3, 4]))
    model = GraphModel(4, 8, 1)
    out = call(model, batch)
    torch.testing.assert_close(model(batch.x, batch.edge_index, Segments(ptr=batch.ptr)), out)
    edge_index = EdgeIndex(batch.edge_index, sparse_size=(7, 7))
    torch.testing.assert_close(model(batch.x, edge_index, batch.batch, batch_size=2), out)


def test_custom_parts():
    model = GraphModel(
        4,
        8,
        2,
        2,
        conv=lambda c_in, c_out, aggr, edge_dim: CONVOLUTIONS["sage"](c_in, c_out, aggr=aggr),
        encoder=nn.Linear(4, 8),
        head=nn.Linear(8, 2),
        node_layers=2,
    )
    assert call(model, Batch.from_data_list(random_graphs([3, 4]))).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"dropout": 1.0}, "dropout"),
        ({"jumping": "first"}, "jumping"),
        ({"norm": "group"}, "norm"),
        ({"conv": "gcn"}, "`conv` must be one of gin"),
        ({"aggr": ("sum",)}, "one entry for each of the 3 layers"),
        ({"aggr": "gpn"}, "Did you mean .*'gnp'"),
        ({"encoder": "cnn"}, "encoder"),
        ({"head": "cnn"}, "head"),
        ({"conv": "pair_mlp", "aggr": ("sum", "sum", ["sum", "max"]), "jumping": "sum"}, "equal"),
    ],
)
def test_errors_name_the_argument(arguments, match):
    with pytest.raises(ValueError, match=match):
        GraphModel(4, 8, 1, **arguments)


def test_call_errors():
    (graph,) = random_graphs([3])
    with pytest.raises(ValueError, match="batch_size"):
        GraphModel(4, 8, 1)(graph.x, graph.edge_index, torch.zeros(3).long())
    with pytest.raises(ValueError, match="without `edge_dim`"):
        GraphModel(4, 8, 1)(graph.x, graph.edge_index, edge_attr=torch.zeros(9, 1))
    with pytest.raises(ValueError, match="edge_dim"):
        GraphModel(4, 8, 1, edge_dim=2)(graph.x, graph.edge_index)


def test_compiles_without_graph_breaks():
    batch = Batch.from_data_list(random_graphs([3, 4]))
    model = GraphModel(4, 8, 1, aggr="sum", readout="mean")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(call(compiled, batch), call(model, batch))
