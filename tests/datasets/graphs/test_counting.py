from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch_geometric.utils import from_networkx

from graphpool.datasets import SubstructureCounts, circulant_graph, count_substructures
from graphpool.datasets.graphs.counting import SUBSTRUCTURES

PATTERNS = {
    "triangle": nx.cycle_graph(3),
    "tailed_triangle": nx.Graph([(0, 1), (1, 2), (2, 0), (0, 3)]),
    "star": nx.star_graph(3),
    "chordal_cycle": nx.Graph([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]),
    "4-cycle": nx.cycle_graph(4),
    "5-cycle": nx.cycle_graph(5),
}
# The nodes of each pattern at which it is counted.
CENTRES = {"tailed_triangle": {0}, "star": {0}, "chordal_cycle": {0, 2}}


def occurrences(graph, pattern, centres):
    """Subgraphs of `graph` isomorphic to `pattern`, as sets of edges, with their centres."""
    found = {}
    matcher = nx.isomorphism.GraphMatcher(graph, pattern)
    for mapping in matcher.subgraph_monomorphisms_iter():
        back = {v: k for k, v in mapping.items()}
        key = frozenset(frozenset((back[a], back[b])) for a, b in pattern.edges)
        found[key] = {back[c] for c in centres}
    return found


@pytest.mark.parametrize("name", SUBSTRUCTURES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counts_equal_enumeration(name, seed):
    graph = nx.gnp_random_graph(8, 0.5, seed=seed)
    pattern = PATTERNS[name]
    found = occurrences(graph, pattern, CENTRES.get(name, set(pattern.nodes)))
    at_node = [sum(v in centres for centres in found.values()) for v in graph.nodes]
    data = from_networkx(graph)
    assert count_substructures(data, name).tolist() == [len(found)]
    assert count_substructures(data, name, per_node=True).tolist() == at_node


def test_errors():
    with pytest.raises(ValueError, match="triangle"):
        count_substructures(circulant_graph(5, [1]), "hexagon")
    graph = circulant_graph(5, [1])
    graph.edge_index = graph.edge_index[:, :3]
    with pytest.raises(ValueError, match="undirected"):
        count_substructures(graph, "triangle")
    with pytest.raises(ValueError, match="edge_probability"):
        SubstructureCounts("triangle", edge_probability=1.5)


def test_data_set():
    data = SubstructureCounts("chordal_cycle", num_graphs=12, seed=3)
    assert len(data) == 12
    for graph in data:
        assert torch.equal(graph.y, count_substructures(graph, "chordal_cycle").float())
    regular = data[1]
    assert len(set(torch.bincount(regular.edge_index[0]).tolist())) == 1
    again = SubstructureCounts("chordal_cycle", num_graphs=12, seed=3)
    assert torch.equal(again[5].edge_index, data[5].edge_index)
    per_node = SubstructureCounts("triangle", num_graphs=3, per_node=True)
    assert per_node[0].y.shape == (per_node[0].num_nodes,)
