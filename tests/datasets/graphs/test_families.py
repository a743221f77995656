from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool.datasets.graphs.families import (
    FAMILIES,
    GENERAL_PROBABILITIES,
    connected_erdos_renyi,
    connected_regular,
    draw_graphs,
    is_connected,
    tree_edges,
)


def to_networkx(edges, n):
    graph = nx.empty_graph(int(n))
    graph.add_edges_from(map(tuple, edges.tolist()))
    return graph


REFERENCE = {
    "path": nx.path_graph,
    "cycle": nx.cycle_graph,
    "ladder": nx.ladder_graph,
    "complete": nx.complete_graph,
    "star": nx.star_graph,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_are_simple_connected_and_in_range(family):
    graphs, sizes = draw_graphs(family, (8, 14), 90, np.random.default_rng(0))
    assert len(graphs) == len(sizes) == 90
    for edges, n in zip(graphs, sizes, strict=True):
        graph = to_networkx(edges, n)
        assert graph.number_of_nodes() == n and nx.is_connected(graph)
        assert nx.number_of_selfloops(graph) == 0
        assert graph.number_of_edges() == len(edges)


@pytest.mark.parametrize("family", REFERENCE)
def test_fixed_families_equal_networkx(family):
    graphs, sizes = draw_graphs(family, (5, 9), 40, np.random.default_rng(1))
    arguments = {"ladder": lambda n: n // 2, "star": lambda n: n - 1}.get(family, lambda n: n)
    for edges, n in zip(graphs, sizes, strict=True):
        expected = REFERENCE[family](arguments(int(n)))
        assert {frozenset(e) for e in edges.tolist()} == {frozenset(e) for e in expected.edges}


@pytest.mark.parametrize("family", ["path", "tree", "4regular", "general"])
def test_sizes_are_upper_exclusive_and_all_occur(family):
    _, sizes = draw_graphs(family, (20, 30), 2000, np.random.default_rng(2))
    assert set(sizes.tolist()) == set(range(20, 30))


def test_general_lists_equal_blocks_of_increasing_probability():
    graphs, sizes = draw_graphs("general", (40, 50), 905, np.random.default_rng(3))
    assert len(graphs) == 900
    density = np.array(
        [2 * len(e) / (n * (n - 1)) for e, n in zip(graphs, sizes, strict=True)]
    ).reshape(len(GENERAL_PROBABILITIES), 100)
    # 100 graphs of about 1,000 pairs: the standard error of a block's mean is below 0.002.
    np.testing.assert_allclose(density.mean(axis=1), GENERAL_PROBABILITIES, atol=0.01)


def test_regular_graphs_are_regular():
    for edges in connected_regular(12, 4, 50, np.random.default_rng(4)):
        assert (np.bincount(edges.ravel(), minlength=12) == 4).all()


def test_connected_erdos_renyi_is_uniform_over_connected_graphs():
    # Of the 8 labelled graphs on 3 nodes 4 are connected; with p = 1/2 each is equally likely.
    graphs = connected_erdos_renyi(3, 4000, 0.5, np.random.default_rng(5))
    counts: dict[frozenset, int] = {}
    for edges in graphs:
        key = frozenset(map(tuple, edges.tolist()))
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 4
    assert max(abs(c - 1000) for c in counts.values()) < 120


def test_trees_are_uniform_over_labelled_trees():
    rng = np.random.default_rng(6)
    counts: dict[frozenset, int] = {}
    for _ in range(3200):
        key = frozenset(map(frozenset, tree_edges(4, rng).tolist()))
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 16  # Cayley: n^(n - 2)
    assert max(abs(c - 200) for c in counts.values()) < 70


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.floats(0.0, 1.0), st.integers(0, 10_000))
def test_is_connected_equals_networkx(n, p, seed):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((5, n, n)) < p, 1)
    stack = upper | upper.transpose(0, 2, 1)
    expected = [nx.is_connected(nx.from_numpy_array(a)) for a in stack]
    assert is_connected(stack).tolist() == expected


def test_same_seed_same_graphs():
    first, _ = draw_graphs("general", (20, 30), 90, np.random.default_rng(7))
    second, _ = draw_graphs("general", (20, 30), 90, np.random.default_rng(7))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("family", "sizes", "count", "match"),
    [
        ("grid", (5, 6), 9, "`family` must be one of"),
        ("path", (6, 6), 9, "`sizes` must be"),
        ("4regular", (4, 8), 9, "5 <= low"),
        ("general", (5, 9), 8, "at least one graph"),
    ],
)
def test_errors_name_the_argument(family, sizes, count, match):
    with pytest.raises(ValueError, match=match):
        draw_graphs(family, sizes, count, np.random.default_rng(0))


def test_odd_regular_graph_is_refused():
    with pytest.raises(ValueError, match="even n"):
        connected_regular(7, 3, 1, np.random.default_rng(0))
