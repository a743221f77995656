"""What people need who put a trained network into a pool or a layer: it stays trained.

Making a pool, or waiting for its first input, initialises what the pool made itself and nothing else.
"""

from __future__ import annotations

import copy
import inspect
import re

import pytest
import torch
from torch import nn
from torch_geometric.nn import SumAggregation

from graphpool import aggr
from graphpool.aggr.base import Aggregation
from graphpool.conv import EdgeConv, GATv2Conv, GINConv, SAGEConv
from graphpool.models import GraphModel

C = 4


def network(wide: int = C) -> nn.Module:
    return nn.Sequential(nn.Linear(C, C), nn.BatchNorm1d(C), nn.Linear(C, wide))


def trained_pool() -> nn.Module:
    return aggr.SoftPool(C, per_channel=True, t=1.0)


def parameters_that_take_modules() -> list[tuple[str, str]]:
    found = []
    for name in aggr.names():
        for argument, known in inspect.signature(aggr.lookup(name)).parameters.items():
            if known.kind is not known.VAR_KEYWORD and re.search(
                "Module|Any", str(known.annotation)
            ):
                found.append((name, argument))
    return found


def make(name: str, argument: str, channels: int, module: nn.Module) -> nn.Module:
    value = [module, "mean"] if argument == "members" else module
    arguments = dict(getattr(aggr.lookup(name), "example_arguments", {}))
    return aggr.resolve(name, channels=channels, **{**arguments, argument: value})


def disturb(module: nn.Module) -> dict[str, torch.Tensor]:
    """Values that no initialisation gives, and a copy of them."""
    with torch.no_grad():
        for i, tensor in enumerate([*module.parameters(), *module.buffers()]):
            tensor.fill_(3 + i)
    return copy.deepcopy(module.state_dict())


def holds(module: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    now = module.state_dict()
    return now.keys() == state.keys() and all(torch.equal(now[k], state[k]) for k in state)


def test_the_list_of_pools_is_not_empty():
    assert {
        ("deepsets", "phi"),
        ("deepsets", "rho"),
        ("inset", "phi"),
        ("multi", "members"),
    } <= set(parameters_that_take_modules())


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name, argument", parameters_that_take_modules())
def test_a_pool_keeps_a_trained_module(name, argument, lazy):
    module = network() if argument in ("phi", "rho") else trained_pool()
    state = disturb(module)
    pool = make(name, argument, -1 if lazy else C, module).eval()
    if lazy:
        pool(torch.rand(5, C))
    assert any(part is module for part in pool.modules())
    assert holds(module, state)
    pool.reset_parameters()
    assert not holds(module, state)


def test_what_was_trained_between_making_and_first_input_stays_too():
    phi = network()
    pool = aggr.DeepSets(-1, phi=phi)
    state = disturb(phi)
    pool.eval()(torch.rand(5, C))
    assert holds(phi, state)


def test_a_pool_of_ones_own_that_resets_all_its_children():
    class Own(Aggregation):
        def __init__(self, channels, *, phi):
            super().__init__(channels)
            self.phi = phi
            self.reset_parameters()

        def reset_parameters(self):
            self.phi.reset_parameters()

        def pool(self, x, segments, weight=None):
            return aggr.Sum().pool(self.phi(x), segments, weight)

    phi = nn.Linear(C, C)
    state = disturb(phi)
    Own(C, phi=phi)
    assert holds(phi, state)


@pytest.mark.parametrize("layer", [EdgeConv, GATv2Conv, GINConv, SAGEConv])
@pytest.mark.parametrize("several", [False, True])
def test_a_layer_keeps_a_trained_pool(layer, several):
    pool = trained_pool()
    state = disturb(pool)
    module = layer(
        C, C, aggr=aggr.Multi(C, members=[pool, SumAggregation()], mode="sum") if several else pool
    )
    assert holds(pool, state)
    module.reset_parameters()
    assert not holds(pool, state)


@pytest.mark.parametrize("layer, wide", [(EdgeConv, 2 * C), (GINConv, C)])
def test_a_layer_keeps_a_trained_network(layer, wide):
    net = nn.Sequential(nn.Linear(wide, C))
    state = disturb(net)
    layer(C, C, nn=net)
    assert holds(net, state)


def test_a_graph_model_keeps_what_it_is_given():
    readout, encoder = trained_pool(), nn.Linear(3, C)
    states = disturb(readout), disturb(encoder)
    GraphModel(3, C, 2, encoder=encoder, readout=readout)
    assert holds(readout, states[0]) and holds(encoder, states[1])
