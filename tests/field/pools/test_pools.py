"""What people who pool with their own widths, layers, weights and devices need of every pool."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import numpy as np
import pytest
import torch
from torch_geometric import nn as pyg

from graphpool import Segments, aggr, conv, ops, testing
from graphpool.models import GraphModel

CHANNELS = 8
NAMES = aggr.names()
PLAIN = [name for name in NAMES if not aggr.lookup(name).ragged]


def make(name, channels=CHANNELS):
    torch.manual_seed(0)
    return aggr.resolve(name, channels=channels, **aggr.lookup(name).example_arguments)


class Own(aggr.Aggregation):
    """By the guide: what depends on the width is made in ``build``."""

    learnable = True

    def build(self, channels):
        self.linear = torch.nn.Linear(channels, channels)

    def reset_parameters(self):
        self.linear.reset_parameters()

    def pool(self, x, segments, weight=None, *, gate=None):
        return ops.segment_sum(self.linear(x).to(x.dtype), segments, weight)


# --- widths that the first input tells --------------------------------------------------------------

LAYERS = {
    "sage": lambda pool: pyg.SAGEConv(CHANNELS, 4, aggr=pool),
    "graph": lambda pool: pyg.GraphConv(CHANNELS, 4, aggr=pool),
    "gen": lambda pool: pyg.GENConv(CHANNELS, 4, aggr=pool),
    "gat": lambda pool: pyg.GATConv(CHANNELS, 4, aggr=pool),
    "gin": lambda pool: pyg.GINConv(torch.nn.Linear(CHANNELS, 4), aggr=pool),
    "several": lambda pool: pyg.MultiAggregation([pool, "mean"]),
    "model": lambda pool: pyg.GraphSAGE(CHANNELS, CHANNELS, 2, aggr=pool),
    "ours": lambda pool: conv.SAGEConv(CHANNELS, 4, aggr=pool),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("pool", [lambda: aggr.GNP(-1), lambda: aggr.AttSets(-1), lambda: Own(-1)])
def test_a_lazy_pool_inside_layers_that_reset_what_they_hold(layer, pool):
    module = LAYERS[layer](pool())
    module.reset_parameters()
    if layer != "several":
        y = module(torch.rand(5, CHANNELS), torch.tensor([[0, 1, 2], [1, 1, 4]]))
        assert y.isfinite().all()


def test_a_lazy_model_with_the_flagship_pool():
    model = GraphModel(-1, 8, 2, encoder=None, aggr="gnp")
    y = model(torch.rand(5, 3), torch.tensor([[0, 1, 2], [1, 1, 4]]), torch.zeros(5).long(), 1)
    assert y.shape == (1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_of_a_pool_before_its_first_input(name):
    fresh = make(name, -1)
    stored = io.BytesIO()
    torch.save(fresh.state_dict(), stored)
    stored.seek(0)
    make(name, -1).load_state_dict(torch.load(stored, weights_only=True))


def test_an_empty_state_does_not_overwrite_a_trained_pool():
    trained = Own(-1)
    trained(torch.rand(3, 4))
    before = trained.linear.weight.clone()
    with pytest.raises(RuntimeError, match="Missing key"):
        trained.load_state_dict(Own(-1).state_dict())
    trained.load_state_dict(Own(-1).state_dict(), strict=False)
    assert torch.equal(trained.linear.weight, before) and trained.num_channels == 4


def test_states_of_another_width_are_refused():
    eight, four = aggr.Sum(-1), aggr.Sum(4)
    eight(torch.rand(2, 8))
    with pytest.raises(RuntimeError, match="channels=8; this one has channels=4"):
        four.load_state_dict(eight.state_dict())


@pytest.mark.parametrize("pool", [aggr.Sum, aggr.Max, aggr.SoftPool, aggr.PowerMean, aggr.Median])
def test_an_optimizer_beside_unbuilt_pools_that_have_no_parameters_to_come(pool):
    model = torch.nn.ModuleList([torch.nn.Linear(2, 2), pool(-1)])
    torch.optim.Adam(model.parameters())


def test_an_optimizer_is_refused_parameters_that_are_to_come():
    with pytest.raises(ValueError, match="run one batch before"):
        torch.optim.Adam(Own(-1).parameters())


def test_first_seen_in_inference_mode_then_trained():
    pool = Own(-1).eval()
    with torch.inference_mode():
        pool(torch.rand(3, 4))
    pool(torch.rand(3, 4)).sum().backward()
    assert pool.linear.weight.grad is not None and not pool.linear.training


def test_copied_pickled_and_cast_before_the_first_input():
    pool = pickle.loads(pickle.dumps(copy.deepcopy(Own(-1)))).double()
    assert pool(torch.rand(3, 4).double()).dtype == torch.float64


def test_a_first_input_that_does_not_fit_leaves_the_pool_as_it_was():
    pool = aggr.PMA(-1, heads=4)
    with pytest.raises(ValueError, match="must divide"):
        pool(torch.rand(3, 6))
    assert pool(torch.rand(3, 8)).shape == (1, 8)


# --- names of PyTorch Geometric ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "width"),
    [
        ("lstm", {}, 8),
        ("gru", {"out_channels": 5}, 5),
        ("set2set", {"processing_steps": 2}, 16),
        ("sort", {"k": 3}, 24),
        ("SetTransformerAggregation", {}, 8),
        ("lcm", {}, 8),
        ("mlp", {"max_num_elements": 4, "num_layers": 1}, 8),
        ("SoftmaxAggregation", {}, 8),
        ("PowerMeanAggregation", {}, 8),
    ],
)
def test_pools_of_pyg_by_name(name, arguments, width):
    pool = aggr.resolve(name, channels=CHANNELS, **arguments)
    y = pool(torch.rand(5, CHANNELS), torch.tensor([0, 0, 1, 1, 1]), dim_size=2)
    assert y.shape == (2, width)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("sort", {}, "SortAggregation needs k"),
        ("lstm", {"depth": 1}, "LSTMAggregation cannot be made .*depth"),
        ("softmax", {"lern": True}, "does not take lern. Did you mean learn?"),
    ],
)
def test_what_is_missing_or_unknown_is_named(name, arguments, message):
    with pytest.raises(TypeError, match=message):
        aggr.resolve(name, channels=CHANNELS, **arguments)


def test_pools_of_pyg_wait_for_their_width():
    pool = aggr.resolve("lstm", channels=-1)
    torch.manual_seed(0)
    y = pool(torch.rand(4, 3), torch.tensor([0, 0, 1, 1]), dim_size=3)
    torch.manual_seed(0)
    x = torch.rand(4, 3)
    expected = pool.made(x, torch.tensor([0, 0, 1, 1]), dim_size=2)
    torch.testing.assert_close(y[:2], expected)
    assert pool.out_channels == 3 and not y[2].any()


# --- arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_channels_come_first_and_all_else_goes_by_name(name):
    first, *others = inspect.signature(aggr.lookup(name)).parameters.values()
    assert first.name == "channels"
    assert all(other.kind in (other.KEYWORD_ONLY, other.VAR_KEYWORD) for other in others)


@pytest.mark.parametrize("wrong", [0.5, "mean", ["sum", "max"], True])
def test_what_stood_first_before_is_refused(wrong):
    for pool in (aggr.LogSumExp, aggr.Multi, aggr.Quantile):
        with pytest.raises(TypeError, match="`channels` must be an int"):
            pool(wrong)


def test_an_argument_with_a_typing_error_is_no_longer_dropped():
    pool, x = aggr.MIDAMLogSumExp(1, num_segments=10), torch.rand(4, 1)
    index = torch.tensor([0, 0, 1, 1])
    with pytest.raises(
        TypeError, match="no argument `segment_indexs`. Did you mean `segment_index`?"
    ):
        pool(x, index, dim_size=2, segment_indexs=torch.tensor([7, 2]))
    with pytest.raises(TypeError, match="no argument `gates`. Did you mean `gate`?"):
        Own(1)(x, index, dim_size=2, gates=None)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, torch.tensor, np.array])
def test_sizes_of_any_integer_type(kind):
    x, index = torch.arange(8.0).view(4, 2), torch.tensor([0, 0, 2, 2])
    y = aggr.KMax(kind(2), k=kind(2))(x, index, dim_size=kind(4))
    expected = [[2.0, 3.0, 0.0, 1.0], [0.0] * 4, [6.0, 7.0, 4.0, 5.0], [0.0] * 4]
    assert y.tolist() == expected
    assert aggr.PMA(kind(8), heads=kind(2))(torch.rand(3, 8)).shape == (1, 8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_a_pool_recorded_by_jit_trace_serves_other_inputs(name):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = make(name, 4)

        def forward(self, x, index):
            return self.pool(x, index, dim_size=index.max() + 1)

    model = Model()
    traced = torch.jit.trace(model, (torch.rand(5, 4), torch.tensor([0, 0, 1, 2, 2])))
    x, index = torch.rand(6, 4), torch.tensor([0, 1, 1, 2, 2, 2])
    torch.testing.assert_close(traced(x, index), model(x, index))


# --- absent elements ---------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [torch.nan, torch.inf, -torch.inf, 1e300])
@pytest.mark.parametrize("name", [*PLAIN, "own"])
def test_padding_of_weight_zero_may_hold_anything(name, held):
    pool = (Own(CHANNELS) if name == "own" else make(name)).double()
    x = torch.rand(6, CHANNELS, dtype=torch.float64) + 0.1
    index, weight = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([1.0, 0, 2, 1, 0, 0]).double()
    there = weight > 0
    expected = pool(x[there], index[there], dim_size=3, weight=weight[there])
    x[~there] = held
    x.requires_grad_()
    y = pool(x, index, dim_size=3, weight=weight)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    assert x.grad.isfinite().all() and not x.grad[~there].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pool.parameters())


def test_a_learned_weight_of_zero_keeps_its_derivative():
    x, weight = torch.tensor([[3.0], [5.0]]), torch.tensor([1.0, 0.0], requires_grad=True)
    aggr.Sum()(x, weight=weight).sum().backward()
    assert weight.grad.tolist() == [3.0, 5.0]


@pytest.mark.parametrize("name", [n for n in NAMES if aggr.lookup(n).supports_gather])
def test_rows_that_only_edges_of_weight_zero_read(name):
    pool = make(name).double()
    x = torch.rand(4, CHANNELS, dtype=torch.float64)
    x[1] = torch.nan
    x.requires_grad_()
    rows, index = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 1])
    weight = torch.tensor([1.0, 0, 1, 1]).double()
    y = pool(x, index, dim_size=2, weight=weight, gather=rows)
    expected = pool(x[[0, 2, 3]].detach(), index[[0, 2, 3]], dim_size=2, weight=weight[[0, 2, 3]])
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert x.grad.isfinite().all() and not x.grad[1].any()


# --- compilation and precision ----------------------------------------------------------------------


MANY = ("sum", "mean", "max", "min", "std", "gnp", "gem", "softmax", "lse", "attsets", "pma")


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ("torch.compile", MANY),
        ("in place", ("sum", "mean", "gem")),
        pytest.param("in place", MANY, marks=pytest.mark.slow),
    ],
    ids=["torch.compile", "some in place", "in place"],
)
def test_many_pools_compiled_in_one_process(how, names):
    torch._dynamo.reset()
    x, index = torch.rand(6, CHANNELS), torch.tensor([0, 0, 1, 1, 3, 3])
    for name in names:
        pool = aggr.resolve(name, channels=CHANNELS)
        expected = pool(x, index, dim_size=4)
        compiled = pool
        if how == "in place":
            pool.compile(fullgraph=True, backend="eager")
        else:
            compiled = torch.compile(pool, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x, index, dim_size=4), expected)
    torch._dynamo.reset()


@pytest.mark.parametrize("autocast", [False, True])
def test_a_mixture_of_slots_in_half_precision(autocast):
    index = torch.tensor([0, 3, 1, 2, 2, 1, 3, 3, 2, 2])
    worst = 0.0
    for seed in range(10):
        torch.manual_seed(seed)
        pool, x = aggr.SlotMixture(8), (torch.rand(10, 8) + 0.1).bfloat16()
        if not autocast:
            pool = pool.bfloat16()
        expected = copy.deepcopy(pool).double()(x.double(), index, dim_size=4)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = pool(x, index, dim_size=4).double()
        worst = max(worst, float((y - expected).detach().abs().max() / expected.abs().max()))
    assert worst < 0.04


# --- the suite for pools of one's own ----------------------------------------------------------------


def test_the_suite_takes_an_integer_pool_of_ones_own():
    class Total(aggr.Aggregation):
        accepts_integers = True

        def pool(self, x, segments, weight=None):
            return ops.segment_sum(x, segments, weight)

    testing.check("integers", Total(), channels=4)


def test_the_suite_notices_nan_in_empty_bags():
    class Hollow(aggr.Aggregation):
        def pool(self, x, segments, weight=None):
            y = ops.segment_mean(x, segments, weight)
            return torch.where(segments.counts[:, None] > 0, y, torch.nan)

    with pytest.raises(AssertionError, match="Empty bags must give 0"):
        testing.check("empty", Hollow(), channels=4)


def test_bags_first_used_in_inference_mode_serve_in_training():
    bags = Segments(index=torch.tensor([1, 0, 1]), num_segments=2)
    with torch.inference_mode():
        aggr.Sum()(torch.ones(3, 2), bags)
    x = torch.ones(3, 2, requires_grad=True)
    aggr.GNP(2)(x, bags).sum().backward()
    assert x.grad.isfinite().all()
