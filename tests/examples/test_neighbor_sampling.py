from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import neighbor_sampling

        yield neighbor_sampling
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture
def graph() -> Data:
    edge_index = torch.randint(50, (2, 600))
    return Data(x=torch.arange(50.0).unsqueeze(1), edge_index=edge_index)


def batches(example, graph: Data, fanouts: list[int], batch_size: int = 7) -> list[Data]:
    sampler = example.UniformNeighborSampler(graph.edge_index, graph.num_nodes, fanouts)
    return list(NodeLoader(graph, sampler, batch_size=batch_size))


def test_sampled_edges_are_edges_of_the_graph(example, graph):
    for batch in batches(example, graph, [3, 2]):
        there = batch.n_id[batch.edge_index]
        assert torch.equal(there, graph.edge_index[:, batch.e_id])
        assert torch.equal(batch.x, graph.x[batch.n_id])
        assert batch.n_id.unique().numel() == batch.num_nodes
        assert batch.e_id.unique().numel() == batch.num_edges


def test_seeds_come_first_and_each_once(example, graph):
    seeds = torch.cat([b.n_id[: b.batch_size] for b in batches(example, graph, [3])])
    assert torch.equal(seeds, torch.arange(50))


def test_each_node_gets_the_smaller_of_degree_and_fanout(example, graph):
    degree = torch.bincount(graph.edge_index[1], minlength=50)
    for batch in batches(example, graph, [5]):
        received = torch.bincount(batch.edge_index[1], minlength=batch.num_nodes)
        seeds = slice(0, batch.batch_size)
        assert torch.equal(received[seeds], degree[batch.n_id[seeds]].clamp(max=5))
        assert received[batch.batch_size :].sum() == 0


def test_a_large_fanout_is_the_whole_neighbourhood(example, graph):
    (batch,) = batches(example, graph, [1000], batch_size=50)
    assert torch.equal(batch.e_id.sort().values, torch.arange(600))


def test_neighbours_are_drawn_uniformly(example):
    star = torch.stack([torch.arange(1, 11), torch.zeros(10, dtype=torch.long)])
    sampler = example.UniformNeighborSampler(star, 11, [3])
    loader = NodeLoader(Data(edge_index=star, num_nodes=11), sampler, input_nodes=torch.tensor([0]))
    drawn = torch.cat([batch.n_id[1:] for _ in range(2000) for batch in loader])
    share = torch.bincount(drawn, minlength=11)[1:] / 2000
    # Each of ten neighbours is among the three with probability 0.3; the deviation is 0.01.
    assert (share - 0.3).abs().max() < 0.05


def test_labels_are_the_mean_of_the_largest(example):
    graph = example.make_graph(num_nodes=40, degree=4, seed=0)
    source = graph.edge_index[0].view(40, 4)
    largest = graph.x[source].amax(1)
    expected = largest[source].mean(1)
    expected = (expected - expected.mean()) / expected.std()
    torch.testing.assert_close(graph.y, expected)


def test_sampler_refuses_edges(example, graph):
    sampler = example.UniformNeighborSampler(graph.edge_index, 50, [2])
    with pytest.raises(TypeError, match="starts from nodes"):
        sampler.sample_from_edges()
