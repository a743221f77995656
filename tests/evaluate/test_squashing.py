"""Jacobians, their bound, resistances and distances, against autograd, networkx and closed forms."""

import math

import networkx as nx
import pytest
import torch
from torch_geometric.utils import from_networkx

from graphpool.evaluate import by_distance, effective_resistance, jacobian_bound, jacobian_norms
from graphpool.models import GraphModel

GRAPH = nx.barabasi_albert_graph(9, 2, seed=1)
EDGES = from_networkx(GRAPH).edge_index


@pytest.mark.parametrize("aggr", ["sum", "max", "softmax", "gnp", "attsets"])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_norms_are_those_of_the_whole_jacobian(aggr, p):
    model = GraphModel(3, 4, 2, num_layers=2, aggr=aggr, readout=None).double().eval()
    x, nodes = torch.randn(9, 3, dtype=torch.double), torch.tensor([4, 0])
    whole = torch.autograd.functional.jacobian(lambda x: model(x, EDGES), x)
    expected = whole.permute(0, 2, 1, 3).flatten(2).norm(p=p, dim=-1)
    torch.testing.assert_close(jacobian_norms(lambda x: model(x, EDGES), x, p=p), expected)
    torch.testing.assert_close(
        jacobian_norms(lambda x: model(x, EDGES), x, nodes, p), expected[nodes]
    )


def network(weights, edges, activation):
    def run(x):
        for own, other in weights:
            heard = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
            x = activation(0.5 * x @ own + 0.7 * heard @ other)
        return x

    return run


@pytest.mark.parametrize("signed", [False, True])
def test_the_bound_holds_and_is_reached_by_equal_weights(signed):
    width, layers, largest = 3, 4, 0.2
    weights = torch.full((layers, 2, width, width), largest, dtype=torch.double)
    if signed:
        weights *= 2 * torch.rand_like(weights) - 1
    run = network(weights, EDGES, torch.relu if signed else lambda x: x)
    norms = jacobian_norms(run, torch.randn(9, width, dtype=torch.double))
    bound = jacobian_bound(EDGES, 9, layers, width, largest, None, 0.5, 0.7)
    if signed:
        assert (norms <= bound).all() and norms.max() > 0
    else:
        torch.testing.assert_close(norms, bound)


@pytest.mark.parametrize("r", [2, 3, 5])
def test_what_comes_round_a_ring(r):
    """Two paths of r steps, each of which halves: 2 ** (1 - r)."""
    edges = from_networkx(nx.cycle_graph(2 * r)).edge_index
    reach = jacobian_bound(edges, 2 * r, r, 1, 1.0, torch.full((4 * r,), 0.5), self_weight=0.0)
    assert math.isclose(float(reach[0, r]), 2.0 ** (1 - r))


def test_resistances_are_those_of_networkx():
    found = effective_resistance(torch.cat([EDGES, EDGES[:, :3]], 1), 9)
    expected = [
        [nx.resistance_distance(GRAPH, u, v) if u != v else 0 for v in GRAPH] for u in GRAPH
    ]
    torch.testing.assert_close(found, torch.tensor(expected).double())
    apart = effective_resistance(torch.tensor([[0, 1, 3], [1, 0, 3]]), 4)
    assert apart[0, 1].item() == pytest.approx(1.0) and apart.diagonal().eq(0).all()
    assert apart[2, :2].isinf().all() and apart[3, :3].isinf().all()


def test_means_by_distance_are_those_of_a_loop():
    values, nodes = torch.rand(3, 11, dtype=torch.double), torch.tensor([7, 2, 9])
    edges = EDGES  # nodes 9 and 10 have no edges
    steps = dict(nx.all_pairs_shortest_path_length(nx.from_edgelist(GRAPH.edges)))
    found: dict[int, list[float]] = {}
    for row, v in enumerate(nodes.tolist()):
        for u, d in steps.get(v, {v: 0}).items():
            found.setdefault(d, []).append(float(values[row, u]))
    expected = [sum(found[d]) / len(found[d]) for d in sorted(found)]
    torch.testing.assert_close(by_distance(values, edges, nodes), torch.tensor(expected).double())


def test_wrong_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match="`function` must give"):
        jacobian_norms(lambda x: x.sum(0), torch.ones(3, 2))
    with pytest.raises(ValueError, match="`values` must have a row"):
        by_distance(torch.ones(2, 9), EDGES)
    with pytest.raises(TypeError, match="`values` must be floating point"):
        by_distance(torch.ones(9, 9, dtype=torch.long), EDGES)
    with pytest.raises(ValueError, match="`nodes` must lie in"):
        by_distance(torch.ones(1, 9), EDGES, torch.tensor([9]))
    with pytest.raises(TypeError, match="`x` must be a floating point tensor"):
        jacobian_norms(lambda x: x, torch.ones(3, 2, dtype=torch.long))
    with pytest.raises(TypeError, match="`function` must give a tensor"):
        jacobian_norms(lambda x: (x, x), torch.ones(3, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 0}, "`width` must be"),
        ({"largest": -1.0}, "`largest` must be at least 0"),
        ({"slope": math.nan}, "`slope` must be at least 0"),
        ({"self_weight": math.nan}, "`self_weight` must be finite"),
        ({"edge_weight": torch.ones(3)}, "`edge_weight` must have one entry per edge"),
        ({"edge_weight": torch.full((2,), math.inf)}, "`edge_weight` must be finite"),
        ({"layers": 400, "width": 4000}, "beyond float64"),
    ],
)
def test_a_bound_of_what_is_no_network_is_refused(given, message):
    edge = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match=message):
        jacobian_bound(edge, 2, **{"layers": 2, "width": 4, "largest": 1.0, **given})


def test_what_is_no_norm_and_no_node_is_refused():
    x = torch.ones(3, 2)
    for p in (0.0, -1.0, 0.5, float("inf")):
        with pytest.raises(ValueError, match="`p` must be at least 1"):
            jacobian_norms(lambda x: x, x, p=p)
    for nodes in ([-1], [0, 3]):
        with pytest.raises(ValueError, match="`nodes` must lie in"):
            jacobian_norms(lambda x: x, x, nodes=torch.tensor(nodes))


def test_the_bound_holds_for_weights_of_either_sign():
    torch.manual_seed(0)
    edges = torch.randint(6, (2, 14))
    weight = torch.randn(14).double()
    matrix = torch.zeros(6, 6).double().index_put((edges[1], edges[0]), weight, accumulate=True)
    first, second = torch.empty(2, 3, 3).uniform_(-0.5, 0.5).double()
    found = jacobian_norms(
        lambda x: torch.relu(-0.7 * x @ first.T + matrix @ x @ second.T), torch.randn(6, 3).double()
    )
    bound = jacobian_bound(edges, 6, 1, 3, 0.5, edge_weight=weight, self_weight=-0.7)
    assert (found <= bound + 1e-12).all() and bound.min() >= 0
