"""Networks of several levels, beside their parts put together by hand."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data

import graphpool
from graphpool import Segments
from graphpool.aggr import resolve
from graphpool.conv import Neighborhoods
from graphpool.models import GraphModel

NAMES = ["topk", "sag", "edge_contraction", "matching", "kmis"]


def graphs(sizes=(7, 1, 9), edge_dim=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for n in sizes:
        edges = torch.randint(0, n, (2, 2 * n), generator=generator)
        data = Data(x=torch.randn(n, 4, generator=generator), edge_index=edges)
        if edge_dim is not None:
            data.edge_attr = torch.randn(2 * n, edge_dim, generator=generator)
        found.append(data)
    return found


def call(model, data, **kwargs):
    attr = {"edge_attr": data.edge_attr} if "edge_attr" in data else {}
    return model(data.x, data.edge_index, data.batch, batch_size=data.num_graphs, **attr, **kwargs)


def test_levels_are_convolutions_and_coarsenings_in_turn():
    data = Batch.from_data_list(graphs(edge_dim=2))
    model = GraphModel(
        4, 8, 3, num_layers=4, coarsen=("topk", None, "kmis"), reduce="gnp", edge_dim=2, conv="sage"
    )
    nodes = Segments(index=data.batch, num_segments=3)
    h, edges, attr = model.encoder(data.x), data.edge_index, data.edge_attr
    h = model.convs[0](h, edges, attr).relu()
    first = model.hierarchy.steps["1"](h, edges, nodes, edge_attr=attr)
    h = model.convs[1](first.x, first.edge_index, first.edge_attr).relu()
    h = model.convs[2](h, first.edge_index, first.edge_attr).relu()
    second = model.hierarchy.steps["3"](h, first.edge_index, first.batch, edge_attr=first.edge_attr)
    h = model.convs[3](second.x, second.edge_index, second.edge_attr).relu()
    expected = model.head(resolve("mean")(h, second.batch))
    torch.testing.assert_close(call(model, data), expected)
    levels = model.levels(data.x, data.edge_index, data.batch, 3, data.edge_attr)
    assert [len(level.x) for level in levels] == [17, len(first.x), len(second.x)]
    torch.testing.assert_close(levels[-1].x, h)
    assert list(model.pools()) == [
        "conv 1", "conv 2", "conv 3", "conv 4", "reduce 1", "reduce 2", "readout",
    ]  # fmt: skip


@pytest.mark.parametrize("jumping", ["cat", "sum", "max"])
def test_readouts_of_all_levels_are_joined(jumping):
    data = Batch.from_data_list(graphs())
    model = GraphModel(
        4, 8, 3, num_layers=3, coarsen="matching", jumping=jumping, readout="gnp", node_layers=1
    )
    with torch.no_grad():
        for i, readout in enumerate(model.pools().values()):
            for parameter in readout.parameters():
                parameter.add_(0.05 * i)
    levels = model.levels(data.x, data.edge_index, data.batch, 3)
    readouts = [model.pools()[site] for site in ("readout 1", "readout 2", "readout")]
    parts = [r(model.node_mlp(v.x), v.batch) for r, v in zip(readouts, levels, strict=True)]
    join = {
        "cat": lambda: torch.cat(parts, 1),
        "sum": lambda: parts[0] + parts[1] + parts[2],
        "max": lambda: torch.stack(parts).amax(0),
    }
    torch.testing.assert_close(call(model, data), model.head(join[jumping]()))


def test_the_way_back_joins_what_a_level_held_and_what_is_lifted():
    data = Batch.from_data_list(graphs())
    model = GraphModel(
        4, 8, 3, num_layers=3, coarsen="kmis", readout=None, conv="sage", norm="layer"
    )
    levels = model.levels(data.x, data.edge_index, data.batch, 3)
    h = levels[2].x
    for up, norm, fine, coarse in [
        (model.hierarchy.ups[0], model.hierarchy.up_norms[0], levels[1], levels[2]),
        (model.hierarchy.ups[1], model.hierarchy.up_norms[1], levels[0], levels[1]),
    ]:
        lifted = h[coarse.selection.cluster]
        h = norm(up(torch.cat([fine.x, lifted], 1), fine.edge_index)).relu()
    torch.testing.assert_close(call(model, data), model.head(h))
    assert call(model, data).shape == (17, 3)
    assert "up 2" in model.pools()


@pytest.mark.parametrize("readout", ["mean", None])
@pytest.mark.parametrize("name", NAMES)
def test_graphs_of_a_batch_do_not_see_each_other_and_everything_learns(name, readout):
    alone = graphs(edge_dim=2)
    model = GraphModel(
        4, 8, 3, num_layers=2, coarsen=name, reduce="softmax", readout=readout, edge_dim=2
    ).double()
    data = Batch.from_data_list(alone)
    data.x, data.edge_attr = data.x.double(), data.edge_attr.double()
    together = call(model, data)
    apart = torch.cat(
        [model(g.x.double(), g.edge_index, edge_attr=g.edge_attr.double()) for g in alone]
    )
    torch.testing.assert_close(together, apart)
    together.square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("jumping", ["last", "cat"])
def test_graphs_of_no_nodes_keep_their_row(name, jumping):
    model = GraphModel(4, 8, 2, num_layers=3, coarsen=name, jumping=jumping)
    x, edges = torch.randn(3, 4), torch.tensor([[0, 1], [1, 2]])
    out = model(x, edges, torch.zeros(3).long(), batch_size=3)
    torch.testing.assert_close(out[1:], model.head.bias.expand(2, 2))
    torch.testing.assert_close(out[:1], model(x, edges))
    empty = torch.zeros(2, 0, dtype=torch.long)
    out = model(torch.zeros(0, 4), empty, torch.zeros(0).long(), batch_size=2)
    torch.testing.assert_close(out, model.head.bias.expand(2, 2))


def test_nodes_and_edges_may_come_in_any_order():
    (graph,) = graphs((9,))
    for name in NAMES:
        model = GraphModel(4, 8, 3, num_layers=2, coarsen=name, readout="gnp").double()
        x = graph.x.double()
        edges = torch.unique(graph.edge_index[:, graph.edge_index[0] != graph.edge_index[1]], dim=1)
        order, shuffled = torch.randperm(9), torch.randperm(edges.size(1))
        if name in ("edge_contraction", "matching"):
            # Ties are broken by numbers: a complete graph with weights has none.
            edges = torch.ones(9, 9).fill_diagonal_(0).nonzero().t()
            shuffled = torch.randperm(edges.size(1))
        weight = torch.rand(edges.size(1)).double()
        torch.testing.assert_close(
            model(x[order], order.argsort()[edges][:, shuffled], edge_weight=weight[shuffled]),
            model(x, edges, edge_weight=weight),
        )


def test_every_form_of_edges():
    data = Batch.from_data_list(graphs())
    edges = torch.unique(data.edge_index, dim=1).contiguous()
    model = GraphModel(4, 8, 3, num_layers=2, coarsen="topk")
    expected = model(data.x, edges, data.batch, 3)
    adjacency = torch.sparse_coo_tensor(
        edges.flip(0), torch.ones(edges.size(1)), (17, 17)
    ).coalesce()
    weighted = torch.sparse_coo_tensor(
        edges.flip(0), torch.full((edges.size(1),), 2.0), (17, 17)
    ).coalesce()
    for form in (EdgeIndex(edges, sparse_size=(17, 17)), Neighborhoods(edges, 17), adjacency):
        torch.testing.assert_close(model(data.x, form, data.batch, 3), expected)
    torch.testing.assert_close(
        model(data.x, weighted, data.batch, 3),
        model(data.x, edges, data.batch, 3, edge_weight=torch.full((edges.size(1),), 2.0)),
    )


@pytest.mark.needs("tgp.poolers")
def test_losses_of_selectors_are_returned_or_their_loss_is_said():
    data = Batch.from_data_list(graphs())
    model = GraphModel(4, 8, 3, coarsen=("mincut", None), coarsen_kwargs={"k": 3})
    with pytest.warns(UserWarning, match="cut_loss, ortho_loss, which are left out"):
        call(model, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = call(model, data, return_loss=False)
        both, loss = call(model, data, return_loss=True)
        torch.testing.assert_close(call(model.eval(), data), out)
    torch.testing.assert_close(both, out)
    said = model.levels(data.x, data.edge_index, data.batch, 3)[1].loss
    torch.testing.assert_close(loss, sum(said.values()))
    loss.backward()
    assert model.encoder.weight.grad is not None
    flat = GraphModel(4, 8, 3)
    out, loss = call(flat, data, return_loss=True)
    assert float(loss) == 0 and torch.equal(out, call(flat, data))


def test_a_hierarchy_is_saved_and_loaded(tmp_path):
    data = Batch.from_data_list(graphs())
    model = GraphModel(
        4, 8, 3, 3, coarsen=("topk", graphpool.coarsen.KMIS(8, k=2)), reduce="gnp"
    ).eval()
    graphpool.save(model, tmp_path / "m.pt")
    twin = graphpool.load(tmp_path / "m.pt").model
    assert torch.equal(call(twin, data), call(model, data))
    before = call(model, data)
    model.reset_parameters()
    assert not torch.equal(call(model, data), before)


def test_what_is_refused():
    data = Batch.from_data_list(graphs())
    for arguments, match in [
        ({"coarsen": ("topk",)}, "one entry for each of the 2 places.*got 1"),
        ({"coarsen": "topk", "num_layers": 1}, "0 places.*got 'topk'"),
        ({"coarsen": "topk", "readout": None, "jumping": "cat"}, "`jumping` must be 'last'"),
        ({"coarsen": "topkk"}, "`coarsen` must be one of edge_contraction"),
        (
            {"coarsen": "topk", "conv": "pair_mlp", "aggr": ("sum", "sum", ["sum", "max"]), "jumping": "cat"},
            "needs layers of equal width",
        ),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=match):
            GraphModel(4, 8, 3, **arguments)
    model = GraphModel(4, 8, 3, coarsen="topk")
    with pytest.raises(ValueError, match="`node_weight` must be None with `coarsen`"):
        call(model, data, node_weight=torch.ones(17))
    with pytest.raises(ValueError, match=r"ask `levels\("):
        model.embed(data.x, data.edge_index)
    with pytest.raises(ValueError, match=r"`x` must be a tensor \[N, channels\] with `coarsen`"):
        model(data.x[None], data.edge_index)
    with pytest.raises(ValueError, match="batch_size"):
        model(data.x, data.edge_index, data.batch)
