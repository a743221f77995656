"""The pools inside what people already use."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.nn import GraphConv, GraphSAGE, MultiAggregation, SAGEConv, Sequential
from torch_geometric.nn import aggr as pyg_aggr

import graphpool
from graphpool import aggr
from graphpool.models import GraphModel

CHANNELS = 8
NAMES = aggr.names()


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return aggr.resolve(name, channels=CHANNELS, **aggr.lookup(name).example_arguments)


def first(output: Tensor | tuple) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@pytest.fixture
def elements() -> tuple[Tensor, Tensor]:
    return torch.rand(30, CHANNELS), torch.randint(4, (30,))


@pytest.fixture
def graph() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(12, CHANNELS)
    edge_index = torch.randint(12, (2, 40))
    return x, edge_index, torch.arange(12) // 4


def model(**options) -> GraphModel:
    torch.manual_seed(0)
    return GraphModel(CHANNELS, 16, 2, num_layers=2, **{"aggr": "gnp", "readout": "gnp", **options})


class Plain(nn.Module):
    """A model with tensors in and a tensor out, which is what exporters want."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.model = model(**options)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.model(x, edge_index, batch, batch_size=3)


# --- modules as modules ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_deepcopy_and_pickle_keep_the_function(name, elements):
    x, index = elements
    pool = make(name).eval()
    expected = first(pool(x, index, dim_size=5))
    for twin in (copy.deepcopy(pool), pickle.loads(pickle.dumps(pool))):
        assert torch.equal(first(twin(x, index, dim_size=5)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_goes_through_weights_only(name, elements):
    x, index = elements
    pool = make(name).eval()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    stored = io.BytesIO()
    torch.save(pool.state_dict(), stored)
    stored.seek(0)
    twin = make(name).eval()
    twin.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(first(twin(x, index, dim_size=5)), first(pool(x, index, dim_size=5)))


@pytest.mark.needs("safetensors.torch")
def test_safetensors_round_trip(graph, tmp_path):
    from safetensors import torch as safetensors

    network, file = model().eval(), tmp_path / "model.safetensors"
    safetensors.save_model(network, str(file))
    twin = model().eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    safetensors.load_model(twin, str(file))
    x, edge_index, batch = graph
    assert torch.equal(
        twin(x, edge_index, batch, batch_size=3), network(x, edge_index, batch, batch_size=3)
    )


@pytest.mark.parametrize("name", NAMES)
def test_double_and_meta(name, elements):
    x, index = elements
    pool = make(name).double().eval()
    assert first(pool(x.double(), index, dim_size=5)).dtype == torch.float64
    assert all(parameter.device.type == "meta" for parameter in pool.to("meta").parameters())


# --- PyTorch Geometric -----------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [SAGEConv, GraphConv])
@pytest.mark.parametrize("name", ["gnp", "attsets", "median", "softmax", "max"])
def test_pyg_layers_take_any_pool(layer, name, graph):
    x, edge_index, _ = graph
    conv = layer(CHANNELS, 4, aggr=make(name))
    y = conv(x, edge_index)
    assert y.shape == (12, 4)
    by_edge_index = conv(x, EdgeIndex(edge_index, sparse_size=(12, 12)).sort_by("col").values)
    torch.testing.assert_close(by_edge_index, y)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "median"])
def test_a_layer_agrees_with_pygs_own_pool(name, graph):
    x, edge_index, _ = graph
    ours = SAGEConv(CHANNELS, 4, aggr=make(name))
    theirs = SAGEConv(CHANNELS, 4, aggr=name)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))


@pytest.mark.parametrize("mode", ["cat", "sum", "attn", "proj"])
def test_multi_aggregation(mode, elements):
    x, index = elements
    options = {"mode": mode}
    if mode in ("attn", "proj"):
        options["mode_kwargs"] = {
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "num_heads": 2,
        }
        if mode == "proj":
            del options["mode_kwargs"]["num_heads"]
    both = MultiAggregation([make("gnp"), "mean", make("gnp")], **options)
    width = 3 * CHANNELS if mode == "cat" else CHANNELS
    assert both(x, index, dim_size=5).shape == (5, width)


def test_pyg_model_and_readout(graph):
    x, edge_index, batch = graph
    network = GraphSAGE(CHANNELS, CHANNELS, num_layers=2, aggr=make("max"))
    assert make("gnp")(network(x, edge_index), batch, dim_size=4).shape == (4, CHANNELS)


def test_pyg_sequential(graph):
    x, edge_index, batch = graph
    network = Sequential(
        "x, edge_index, batch",
        [
            (SAGEConv(CHANNELS, 8, aggr=aggr.GNP(8)), "x, edge_index -> x"),
            (make("gnp"), "x, batch -> x"),
        ],
    )
    assert network(x, edge_index, batch).shape == (3, 8)


def test_pygs_own_pools_resolve(elements):
    x, index = elements
    pool = aggr.resolve("SoftmaxAggregation")
    assert isinstance(pool, pyg_aggr.SoftmaxAggregation)
    assert pool(x, index, dim_size=5).shape == (5, CHANNELS)


@pytest.mark.needs("tgp.reduce")
def test_tgp_reduction(elements):
    from tgp import reduce

    assert reduce.AggrReduce(make("gnp")) is not None


# --- PyTorch's own machinery -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gnp", "softmax", "attsets", "std", "max"])
def test_autocast(name, elements):
    x, index = elements
    head = nn.Linear(CHANNELS, CHANNELS)
    pool = make(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = first(pool(head(x).relu(), index, dim_size=5))
        y.float().square().sum().backward()
    expected = first(pool(head(x).relu(), index, dim_size=5))
    assert torch.isfinite(head.weight.grad).all()
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.1)


@pytest.mark.slow
@pytest.mark.needs("compiler")
def test_a_whole_model_compiles_without_a_break(graph):
    x, edge_index, batch = graph
    network = Plain()
    expected = network(x, edge_index, batch)
    torch.testing.assert_close(
        torch.compile(network, fullgraph=True)(x, edge_index, batch), expected
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "gnp", "softmax"])
def test_export_with_any_number_of_nodes_and_edges(name, backend, graph):
    x, edge_index, batch = graph
    network = Plain(aggr=name, readout=name).eval()
    nodes, edges = torch.export.Dim("nodes", min=2), torch.export.Dim("edges", min=2)
    with graphpool.use_backend(backend), torch.no_grad():
        program = torch.export.export(
            network,
            graph,
            dynamic_shapes={"x": {0: nodes}, "edge_index": {1: edges}, "batch": {0: nodes}},
        )
    larger = torch.rand(20, CHANNELS), torch.randint(20, (2, 55)), torch.arange(20) // 7
    torch.testing.assert_close(program.module()(*larger), network(*larger))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pma", {}),
        ("isab", {}),
        ("ponet", {}),
        ("poolformer", {}),
        ("latent_attention", {}),
        ("deepsets", {}),
        ("slot_mixture", {}),
        ("slots", {"slot_channels": 4}),
    ],
)
def test_a_program_holds_for_sizes_at_which_products_are_taken_in_another_order(name, options):
    class Pool(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = aggr.resolve(name, channels=8, **options)

        def forward(self, x, index):
            return self.pool(x, index, dim_size=3)

    network, elements = Pool().eval(), torch.export.Dim("elements", min=2)
    given = torch.randn(200, 8), torch.arange(200) // 70
    with torch.no_grad():
        program = torch.export.export(
            network, given, dynamic_shapes={"x": {0: elements}, "index": {0: elements}}
        )
        for few in (given, (given[0][:4], given[1][::60])):
            torch.testing.assert_close(program.module()(*few), network(*few), rtol=1e-4, atol=1e-5)


LEARNED = [name for name in NAMES if list(make(name).parameters())]


@pytest.mark.parametrize("name", LEARNED)
def test_an_ensemble_by_vmap_over_parameters(name, elements):
    x, index = elements
    x = x.double()
    pools = [make(name).double().eval() for _ in range(3)]
    with torch.no_grad():
        for shift, pool in enumerate(pools):
            for parameter in pool.parameters():
                parameter.add_(0.1 * shift)
    parameters, buffers = torch.func.stack_module_state(pools)

    def call(p, b):
        return first(torch.func.functional_call(pools[0], (p, b), (x, index), {"dim_size": 5}))

    together = torch.vmap(call, randomness="same")(parameters, buffers)
    alone = torch.stack([first(pool(x, index, dim_size=5)) for pool in pools])
    torch.testing.assert_close(together, alone)
    weight = torch.rand_like(alone)
    (weight * together).sum().backward()
    (weight * alone).sum().backward()
    for key, stacked in parameters.items():
        single = [dict(pool.named_parameters())[key].grad for pool in pools]
        if stacked.grad is None:
            assert all(grad is None for grad in single)
        else:
            zero = torch.zeros_like(stacked[0])
            expected = torch.stack([zero if grad is None else grad for grad in single])
            torch.testing.assert_close(stacked.grad, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["gnp", "max", "median", "std", "slots"])
def test_vmap_over_elements(name):
    """The same bags, many sets of elements."""
    pool = make(name).double().eval()
    index, many = torch.tensor([2, 0, 2, 0, 0]), torch.rand(4, 5, CHANNELS).double()
    many.requires_grad_()
    together = torch.vmap(lambda x: first(pool(x, index, dim_size=4)))(many)
    alone = torch.stack([first(pool(x, index, dim_size=4)) for x in many])
    torch.testing.assert_close(together, alone)
    (found,) = torch.autograd.grad(together.cos().sum(), many)
    torch.testing.assert_close(found, torch.autograd.grad(alone.cos().sum(), many)[0])
