"""Names, lazy channels, and life inside PyG."""

from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.nn import GraphConv, MultiAggregation, SAGEConv
from torch_geometric.nn import aggr as pyg

from graphpool import Segments, aggr

CHANNELS = 6


def make(name):
    torch.manual_seed(0)
    return aggr.resolve(name, channels=CHANNELS, **aggr.lookup(name).example_arguments)


@pytest.fixture
def graph():
    edge_index = torch.randint(0, 10, (2, 40))
    return torch.randn(12, CHANNELS), edge_index  # nodes 10 and 11 receive nothing


class TestResolve:
    def test_names_aliases_classes_modules_lists(self):
        assert isinstance(aggr.resolve("SUM"), aggr.Sum)
        assert isinstance(aggr.resolve("softpool"), aggr.SoftPool)
        assert isinstance(aggr.resolve(aggr.GNP, channels=4), aggr.GNP)
        module = aggr.Mean()
        assert aggr.resolve(module, channels=4) is module
        assert aggr.resolve(["sum", aggr.GNP], channels=4).out_channels == 8
        assert isinstance(aggr.resolve("MulAggregation"), pyg.MulAggregation)
        assert isinstance(aggr.resolve("mul"), aggr.Mul)
        assert aggr.resolve("gnp", channels=4, form="paper", sign="plus").sign == "plus"

    @pytest.mark.parametrize(
        ("query", "arguments", "error", "message"),
        [
            ("attset", {"channels": 4}, ValueError, "Did you mean 'attsets'"),
            (
                "softmax",
                {"temperature": 1},
                TypeError,
                "does not take temperature. It takes: channels, t",
            ),
            ("attsets", {}, TypeError, "AttSets needs channels"),
            (aggr.Mean(), {"t": 1}, ValueError, "is a module already"),
            (torch.nn.Linear, {}, TypeError, "must be a name"),
            (3, {}, TypeError, "must be a name"),
            ([], {}, ValueError, "at least one"),
        ],
    )
    def test_errors(self, query, arguments, error, message):
        with pytest.raises(error, match=message):
            aggr.resolve(query, **arguments)

    def test_a_name_cannot_be_taken_twice(self):
        with pytest.raises(ValueError, match="'sum' is taken"):
            aggr.register("sum")(aggr.Sum)
        with pytest.raises(ValueError, match="'add' is taken"):
            aggr.register("total", "add")(aggr.Sum)
        with pytest.raises(ValueError, match="Unknown"):
            aggr.unregister("total")


@pytest.mark.parametrize("name", aggr.names())
class TestEveryName:
    def test_inside_pyg(self, name, graph):
        x, edge_index = graph
        if aggr.lookup(name).ragged:
            pytest.skip("a convolution cannot take several rows per node")
        if aggr.lookup(name).needs_positions or name == "multi":
            pytest.skip("its elements are not plain messages of the layer's own width")
        pool = make(name)
        if pool.out_channels != CHANNELS:
            pytest.skip(f"PyG's layers want as many channels out as in; {name} changes the width")
        for layer in (SAGEConv(CHANNELS, 5, aggr=pool), GraphConv(CHANNELS, 5, aggr=pool)):
            y = layer(x, edge_index)
            assert y.shape == (12, 5) and y.isfinite().all()
        sorted_index = EdgeIndex(edge_index, sparse_size=(12, 12)).sort_by("col")[0]
        conv = SAGEConv(CHANNELS, 5, aggr=pool).eval()
        torch.testing.assert_close(conv(x, sorted_index), conv(x, edge_index), rtol=1e-4, atol=1e-5)

    def test_in_pygs_multi_aggregation(self, name, graph):
        x, edge_index = graph
        pool = make(name).eval()
        alone = pool(x[edge_index[0]], edge_index[1], dim_size=12)
        if isinstance(alone, tuple):
            pytest.skip("a ragged result cannot be concatenated")
        both = MultiAggregation([pool, "mean"])(x[edge_index[0]], edge_index[1], dim_size=12)
        torch.testing.assert_close(both[:, : alone.size(1)], alone)

    def test_state_survives(self, name):
        pool, other = make(name), make(name)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(1)
        other.load_state_dict(pool.state_dict())
        for a, b in zip(pool.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
        torch.manual_seed(0)
        other.reset_parameters()
        assert {n: p.shape for n, p in other.named_parameters()} == {
            n: p.shape for n, p in pool.named_parameters()
        }
        assert repr(copy.deepcopy(pool)) == repr(pool)

    def test_channels_can_be_inferred(self, name, graph):
        x, edge_index = graph
        cls = aggr.lookup(name)
        if "channels" in cls.example_arguments or name == "multi":
            pytest.skip("its width is fixed by its other arguments")
        lazy = aggr.resolve(name, channels=-1, **cls.example_arguments)
        torch.manual_seed(0)
        y = lazy.eval()(x, torch.zeros(12).long(), dim_size=2)
        known = make(name).eval()
        known.load_state_dict(lazy.state_dict())
        expected = known(x, torch.zeros(12).long(), dim_size=2)
        if isinstance(y, tuple):
            y, expected = y[0], expected[0]
        torch.testing.assert_close(y, expected)
        assert lazy.out_channels == known.out_channels

    def test_declares_what_it_is(self, name):
        pool = make(name)
        has = any(p.requires_grad for p in pool.parameters())
        assert type(pool).learnable or not has, "it has parameters but says it is not learnable"
        assert pool.channels in (None, CHANNELS) and pool.complexity
        assert "Example:" in type(pool).__doc__ and ">>>" in type(pool).__doc__


def test_a_whole_layer_compiles(graph):
    x, edge_index = graph
    layer = SAGEConv(CHANNELS, 5, aggr=aggr.GNP(CHANNELS))
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, edge_index), layer(x, edge_index))


class TestLazy:
    def test_the_optimizer_is_warned(self):
        pool = aggr.GNP(-1)
        with pytest.raises(ValueError, match="run one batch before"):
            torch.optim.Adam(pool.parameters())
        pool(torch.rand(3, 4))
        torch.optim.Adam(pool.parameters())

    def test_state_builds_an_unused_pool(self):
        used, fresh = aggr.AttSets(-1), aggr.AttSets(-1)
        x = torch.randn(3, 4)
        y = used(x)
        fresh.load_state_dict(used.state_dict())
        torch.testing.assert_close(fresh(x), y)
        with pytest.raises(ValueError, match="does not say how many"):
            aggr.AttSets(-1).load_state_dict(aggr.AttSets(4).state_dict())

    def test_wrong_width_is_an_error(self):
        with pytest.raises(ValueError, match="channels=4; `x` has 3"):
            aggr.GNP(4)(torch.rand(2, 3))
        with pytest.raises(ValueError, match="positive"):
            aggr.GNP(0)
        with pytest.raises(TypeError, match="float"):
            aggr.GNP(4.0)


def test_one_dimensional_elements():
    x, index = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 0])
    for name in ("sum", "mean", "gnp", "attsets", "softmax", "median"):
        pool = aggr.resolve(name, channels=1)
        flat, column = pool(x, index, dim_size=3), pool(x[:, None], index, dim_size=3)
        assert flat.shape == (3,)
        torch.testing.assert_close(flat, column[:, 0])


def test_max_num_elements_is_checked():
    with pytest.raises(ValueError, match="bag 0 has 3"):
        aggr.Sum()(torch.ones(3, 2), torch.zeros(3).long(), dim_size=1, max_num_elements=2)


def test_bags_of_another_size_are_an_error():
    with pytest.raises(ValueError, match="over 2 elements"):
        aggr.Sum()(torch.ones(3, 2), Segments(ptr=torch.tensor([0, 2])))
