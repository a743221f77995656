from __future__ import annotations

import time

import networkx as nx
import numpy as np
import pytest
import torch

from graphpool.datasets import HarmonicDegree, InverseSize, MaxDegree, ShortestPath


def to_networkx(data):
    graph = nx.empty_graph(data.num_nodes, create_using=nx.DiGraph)
    graph.add_edges_from(map(tuple, data.edge_index.T.tolist()))
    assert all(graph.has_edge(v, u) for u, v in graph.edges)
    assert graph.number_of_edges() == data.num_edges and nx.number_of_selfloops(graph) == 0
    return graph.to_undirected()


@pytest.mark.parametrize("family", ["general", "tree", "ladder"])
def test_degree_labels_equal_networkx(tmp_path, family):
    for cls, label in (
        (MaxDegree, lambda d: max(d)),
        (HarmonicDegree, lambda d: len(d) / sum(1 / v for v in d)),
        (InverseSize, lambda d: 100 / len(d)),
    ):
        graphs = cls(tmp_path, family=family, num_graphs=36)
        for data in graphs:
            degrees = [d for _, d in to_networkx(data).degree]
            assert data.y.item() == pytest.approx(label(degrees), rel=1e-6)
            assert data.y.shape == (1, 1) and torch.equal(data.x, torch.ones(len(degrees), 1))


@pytest.mark.parametrize("family", ["general", "tree", "expander"])
def test_shortest_path_equals_networkx(tmp_path, family):
    for data in ShortestPath(tmp_path, family=family, num_graphs=45):
        graph = to_networkx(data)
        for (u, v), w in zip(
            data.edge_index.T.tolist(), data.edge_attr[:, 0].tolist(), strict=True
        ):
            assert graph.edges[u, v].setdefault("weight", w) == w
            assert 1.0 <= w <= 5.0
        source, target = data.x[:, 1].nonzero().item(), data.x[:, 2].nonzero().item()
        assert source != target
        assert nx.shortest_path_length(graph, source, target) <= 3
        paths = list(nx.all_shortest_paths(graph, source, target, weight="weight"))
        assert len(paths) == 1 and len(paths[0]) <= 4
        length = nx.shortest_path_length(graph, source, target, weight="weight")
        assert data.y.item() == pytest.approx(length, rel=1e-6)


def test_shortest_path_endpoints_are_spread(tmp_path):
    graphs = ShortestPath(tmp_path, family="cycle", sizes=(12, 13), num_graphs=1200)
    source = torch.stack([d.x[:, 1].nonzero().squeeze() for d in graphs])
    assert torch.bincount(source, minlength=12).min() > 60  # 100 expected
    target = torch.stack([d.x[:, 2].nonzero().squeeze() for d in graphs])
    gap = torch.remainder(target - source, 12)
    # A path of at most 3 edges around a cycle: 1, 2 or 3 steps either way, and never anything else.
    assert set(gap.tolist()) == {1, 2, 3, 9, 10, 11}


def test_edges_are_sorted_by_receiver(tmp_path):
    for data in MaxDegree(tmp_path, num_graphs=9):
        assert (data.edge_index[1].diff() >= 0).all()


@pytest.mark.slow
def test_protocol_sizes_and_speed(tmp_path):
    begin = time.perf_counter()
    train = MaxDegree(tmp_path)
    test = MaxDegree(tmp_path, split="test")
    paths = ShortestPath(tmp_path, split="test")
    # Generous: a loaded machine should not fail this, but a Python loop per graph would.
    assert time.perf_counter() - begin < 60
    assert (len(train), len(test), len(paths)) == (4995, 2493, 2493)
    sizes = train.slices["x"].diff()
    assert (sizes.min(), sizes.max()) == (20, 29)
    sizes = test.slices["x"].diff()
    assert (sizes.min(), sizes.max()) == (50, 99)
    sizes = paths.slices["x"].diff()
    assert (sizes.min(), sizes.max()) == (50, 69)


def test_cache_seed_and_split(tmp_path):
    first = MaxDegree(tmp_path, num_graphs=90)
    files = list(tmp_path.rglob("*.pt"))
    stamp = {f: f.stat().st_mtime_ns for f in files}
    again = MaxDegree(tmp_path, num_graphs=90)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.pt")} == stamp
    assert torch.equal(first._data.edge_index, again._data.edge_index)
    redrawn = MaxDegree(tmp_path, num_graphs=90, force_reload=True)
    assert torch.equal(first._data.edge_index, redrawn._data.edge_index)
    for other in (
        MaxDegree(tmp_path, num_graphs=90, seed=1),
        MaxDegree(tmp_path, num_graphs=90, split="val"),
    ):
        assert first._data.edge_index.shape != other._data.edge_index.shape
    data = next(f for f in tmp_path.rglob("train-*.pt"))
    assert set(torch.load(data, weights_only=True)) == {"data", "slices"}


def test_uniform_features(tmp_path):
    x = MaxDegree(tmp_path, features="uniform", feature_range=10.0, num_graphs=90)._data.x
    assert x.shape[1] == 3 and 9.5 < x.abs().max() <= 10.0
    assert abs(x.mean()) < 0.5


def test_single_graph(tmp_path):
    (data,) = MaxDegree(tmp_path, family="path", num_graphs=1)
    assert data.y.item() == 2 and data.num_nodes in range(20, 30)


@pytest.mark.parametrize(
    ("cls", "arguments", "match"),
    [
        (MaxDegree, {"split": "dev"}, "`split` must be"),
        (MaxDegree, {"family": "torus"}, "`family` must be"),
        (MaxDegree, {"features": "random"}, "`features` must be"),
        (MaxDegree, {"seed": -1}, "`seed` must be"),
        (MaxDegree, {"num_graphs": 0}, "at least one graph"),
        (ShortestPath, {"max_hops": 0}, "`max_hops` must be"),
        (ShortestPath, {"max_weight": 1.0}, "`max_weight` must be"),
        (ShortestPath, {"sizes": (9, 3)}, "`sizes` must be"),
    ],
)
def test_errors_name_the_argument(tmp_path, cls, arguments, match):
    with pytest.raises(ValueError, match=match):
        cls(tmp_path, **arguments)


def test_ties_are_rejected():
    from graphpool.datasets.generated import GraphUnion
    from graphpool.datasets.graphs.extrapolation import draw_endpoints

    # A 4-cycle of equal weights: opposite nodes have two shortest paths, so only neighbours are
    # left.
    square = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    union = GraphUnion([square] * 50, np.full(50, 4))
    source, target, length = draw_endpoints(
        union, np.ones(len(union.source)), 3, np.random.default_rng(0)
    )
    assert (length == 1).all() and set((target - source) % 4) == {1, 3}
