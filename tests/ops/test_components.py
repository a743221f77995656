import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool.ops.components import connected_components, contract_edges


@st.composite
def graphs(draw):
    nodes = draw(st.integers(1, 30))
    ends = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(ends, ends), max_size=40))
    return nodes, torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()


@settings(max_examples=60)
@given(graphs(), st.sampled_from(["scipy", "propagation"]))
def test_components_are_those_of_networkx_in_the_order_of_their_smallest_nodes(graph, method):
    nodes, edges = graph
    reference = nx.empty_graph(nodes)
    reference.add_edges_from(edges.t().tolist())
    expected = [0] * nodes
    for number, part in enumerate(sorted(nx.connected_components(reference), key=min)):
        for node in part:
            expected[node] = number
    assert connected_components(edges, nodes, method).tolist() == expected


def test_a_long_path_takes_few_rounds_and_ends_in_one_component():
    path = torch.stack([torch.arange(4999), torch.arange(1, 5000)])
    shuffled = path[:, torch.randperm(4999)]
    assert connected_components(shuffled, 5000, "propagation").unique().tolist() == [0]


@settings(max_examples=60)
@given(graphs(), st.booleans(), st.integers(1, 6))
def test_contraction_is_that_of_a_loop(graph, directed, modulus):
    nodes, edges = graph
    cluster = torch.arange(nodes) % min(modulus, nodes)
    expected = []
    for u, v in edges.t().tolist():
        a, b = int(cluster[u]), int(cluster[v])
        expected.append((a, b) if directed else (min(a, b), max(a, b)))
    found = contract_edges(edges, cluster, directed=directed)
    kept = sorted({pair for pair in expected if pair[0] != pair[1]})
    assert [tuple(pair) for pair in found.edges.t().tolist()] == kept
    assert found.assignment.tolist() == [-1 if a == b else kept.index((a, b)) for a, b in expected]


def test_no_nodes_and_no_edges():
    nothing = torch.zeros(2, 0, dtype=torch.long)
    assert connected_components(nothing, 0).tolist() == []
    assert connected_components(nothing, 3).tolist() == [0, 1, 2]
    assert contract_edges(nothing, torch.zeros(0, dtype=torch.long)).edges.shape == (2, 0)


def test_errors_name_the_edge():
    with pytest.raises(ValueError, match=r"edge 1 is \(0, 7\)"):
        connected_components(torch.tensor([[0, 0], [1, 7]]), 3)
    with pytest.raises(TypeError, match="`edges`"):
        connected_components(torch.zeros(2, 3), 3)
    with pytest.raises(ValueError, match=r"\[2, E\]"):
        contract_edges(torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="`method`"):
        connected_components(torch.zeros(2, 0, dtype=torch.long), 1, "guess")
