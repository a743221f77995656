"""Measures of links, against networkx, loops over walks, and closed forms."""

import itertools
import math

import networkx as nx
import pytest
import torch
from torch_geometric.utils import from_networkx

from graphpool.evaluate import adamic_adar, hits_at, topological_concentration

GRAPHS = [
    nx.barabasi_albert_graph(40, 3, seed=1),
    nx.gnp_random_graph(30, 0.15, seed=2),
    nx.star_graph(5),
    nx.complete_graph(6),
    nx.empty_graph(4),
]


@pytest.mark.parametrize("graph", GRAPHS)
def test_one_step_is_the_clustering_coefficient(graph):
    found = topological_concentration(from_networkx(graph).edge_index, len(graph))
    torch.testing.assert_close(found, torch.tensor([*nx.clustering(graph).values()]).double())


@pytest.mark.parametrize("targets", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("graph", GRAPHS[:2])
def test_longer_walks_against_lists_of_walks(graph, depth, targets):
    beta, generator = 0.3, torch.Generator().manual_seed(0)
    asked = torch.randint(len(graph), (2, 25), generator=generator).unique(dim=1)
    around = {i: set() for i in graph}
    for j, i in asked.t().tolist():
        around[i] |= {j} - {i}
    if not targets:
        around = {i: set(graph[i]) for i in graph}

    def ends(i, length):
        return [i] if not length else [v for u in ends(i, length - 1) for v in graph[u]]

    walks = {(i, k): ends(i, k) for i in graph for k in range(1, depth + 1)}
    expected = torch.zeros(len(graph), dtype=torch.double)
    for i in graph:
        shares = []
        for j in around[i]:
            above = below = 0.0
            for k, length in itertools.product(range(1, depth + 1), repeat=2):
                there = set(walks[j, length])
                above += beta ** (k + length) * sum(u in there for u in walks[i, k])
                own = not targets and k == length == 1
                below += beta ** (k + length) * (len(walks[i, k]) - own)
            few = len(graph[i]) < (1 if targets else 2)
            shares.append(above / below if below > 0 and not few else 0.0)
        expected[i] = math.fsum(shares) / max(len(shares), 1)
    found = topological_concentration(
        from_networkx(graph).edge_index, len(graph), asked if targets else None, depth, beta
    )
    torch.testing.assert_close(found, expected)
    assert found.max() > 0


def test_relabelling_changes_nothing():
    graph = GRAPHS[0]
    order = torch.randperm(len(graph), generator=torch.Generator().manual_seed(3))
    edges = from_networkx(graph).edge_index
    first = topological_concentration(edges, len(graph), depth=2)
    torch.testing.assert_close(
        topological_concentration(order[edges], len(graph), depth=2)[order], first
    )


def test_adamic_adar_is_that_of_networkx():
    graph = GRAPHS[0]
    pairs = list(itertools.combinations(graph, 2))
    expected = torch.tensor([v for _, _, v in nx.adamic_adar_index(graph, pairs)]).double()
    edges = from_networkx(graph).edge_index
    torch.testing.assert_close(adamic_adar(edges, torch.tensor(pairs).t(), len(graph)), expected)


def test_a_constant_score_hits_nothing():
    assert hits_at(torch.zeros(5), torch.zeros(7), k=3) == 0.0
    assert hits_at(torch.tensor([0.5, 2.0]), torch.tensor([3.0, 1.0, 0.0]), k=2) == 0.5


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="`negative` must have at least k=3"):
        hits_at(torch.ones(2), torch.ones(2), k=3)
    with pytest.raises(ValueError, match="NaN"):
        hits_at(torch.ones(2), torch.tensor([1.0, float("nan")]), k=1)

    with pytest.raises(ValueError, match="`positive` must be a tensor of scores, in one row"):
        hits_at(torch.ones(2, 1), torch.ones(2), k=1)
    for beta in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`beta` must be above 0"):
            topological_concentration(torch.tensor([[0, 1], [1, 0]]), 2, beta=beta)


def test_a_node_in_one_neighbourhood_alone_counts_nothing():
    leaf = torch.tensor([[0, 1], [1, 0]])
    assert adamic_adar(leaf, torch.tensor([[0], [0]]), 2).tolist() == [0.0]


def test_a_loop_is_no_neighbour():
    graph = nx.Graph([*nx.karate_club_graph().edges(), (0, 0), (5, 5)])
    found = topological_concentration(from_networkx(graph).edge_index, 34)
    wanted = nx.clustering(graph)
    assert found.tolist() == pytest.approx([wanted[v] for v in graph])
    edges, link = from_networkx(nx.karate_club_graph()).edge_index, torch.tensor([[0, 9], [9, 0]])
    loop = torch.tensor([[0], [0]])
    torch.testing.assert_close(
        topological_concentration(edges, 34, torch.cat([link, loop], 1)),
        topological_concentration(edges, 34, link),
    )
