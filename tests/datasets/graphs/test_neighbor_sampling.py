"""Sampled neighbourhoods: what PyG's loaders give, without its compiled packages."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader

from graphpool.datasets import UniformNeighborSampler


@pytest.fixture
def graph() -> Data:
    edge_index = torch.randint(50, (2, 600))
    return Data(x=torch.arange(50.0).unsqueeze(1), edge_index=edge_index)


def batches(graph: Data, fanouts: list[int], batch_size: int = 7) -> list[Data]:
    sampler = UniformNeighborSampler(graph.edge_index, graph.num_nodes, fanouts)
    return list(NodeLoader(graph, sampler, batch_size=batch_size))


def test_sampled_edges_are_edges_of_the_graph(graph):
    for batch in batches(graph, [3, 2]):
        there = batch.n_id[batch.edge_index]
        assert torch.equal(there, graph.edge_index[:, batch.e_id])
        assert torch.equal(batch.x, graph.x[batch.n_id])
        assert batch.n_id.unique().numel() == batch.num_nodes
        assert batch.e_id.unique().numel() == batch.num_edges


def test_seeds_come_first_and_each_once(graph):
    seeds = torch.cat([b.n_id[: b.batch_size] for b in batches(graph, [3])])
    assert torch.equal(seeds, torch.arange(50))


def test_each_node_gets_the_smaller_of_degree_and_fanout(graph):
    degree = torch.bincount(graph.edge_index[1], minlength=50)
    for batch in batches(graph, [5]):
        received = torch.bincount(batch.edge_index[1], minlength=batch.num_nodes)
        seeds = slice(0, batch.batch_size)
        assert torch.equal(received[seeds], degree[batch.n_id[seeds]].clamp(max=5))
        assert received[batch.batch_size :].sum() == 0


def test_a_large_fanout_is_the_whole_neighbourhood(graph):
    (batch,) = batches(graph, [1000], batch_size=50)
    assert torch.equal(batch.e_id.sort().values, torch.arange(600))


def test_neighbours_are_drawn_uniformly():
    star = torch.stack([torch.arange(1, 11), torch.zeros(10, dtype=torch.long)])
    sampler = UniformNeighborSampler(star, 11, [3])
    loader = NodeLoader(Data(edge_index=star, num_nodes=11), sampler, input_nodes=torch.tensor([0]))
    drawn = torch.cat([batch.n_id[1:] for _ in range(2000) for batch in loader])
    share = torch.bincount(drawn, minlength=11)[1:] / 2000
    # Each of ten neighbours is among the three with probability 0.3; the deviation is 0.01.
    assert (share - 0.3).abs().max() < 0.05


def test_sampler_refuses_edges(graph):
    sampler = UniformNeighborSampler(graph.edge_index, 50, [2])
    with pytest.raises(TypeError, match="starts from nodes"):
        sampler.sample_from_edges()


def test_two_hops_reach_what_a_search_reaches(graph):
    sampler = UniformNeighborSampler(graph.edge_index, 50, [-1, -1])
    (batch,) = list(NodeLoader(graph, sampler, input_nodes=torch.tensor([7]), batch_size=1))
    seen, frontier, edges = {7}, {7}, set()
    for _ in range(2):
        into = [e for e, t in enumerate(graph.edge_index[1].tolist()) if t in frontier]
        edges.update(into)
        frontier = {int(graph.edge_index[0, e]) for e in into} - seen
        seen |= frontier
    assert set(batch.n_id.tolist()) == seen
    assert set(batch.e_id.tolist()) == edges


def test_a_generator_repeats_the_sample(graph):
    def drawn() -> list[Data]:
        generator = torch.Generator().manual_seed(1)
        sampler = UniformNeighborSampler(graph.edge_index, 50, [2], generator)
        return [batch.e_id for batch in NodeLoader(graph, sampler, batch_size=10)]

    assert all(map(torch.equal, drawn(), drawn()))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((torch.zeros(2, 3).long(), 1, []), "fanouts"),
        ((torch.zeros(2, 3).long(), 1, [-2]), "fanouts"),
        ((torch.zeros(3, 3).long(), 1, [1]), r"\[2, E\]"),
        ((torch.tensor([[0], [5]]), 5, [1]), "got 5 at position 0"),
        ((torch.tensor([[5], [0]]), 5, [1]), "got 5 at position 0"),
    ],
)
def test_what_does_not_fit_is_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        UniformNeighborSampler(*arguments)
