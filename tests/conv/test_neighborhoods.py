from __future__ import annotations

import gc

import pytest
import torch
from torch_geometric import EdgeIndex

from graphpool.conv import Neighborhoods, neighborhoods
from graphpool.conv.neighborhoods import _MEMORY


def test_bags_of_a_small_graph():
    edge_index = torch.tensor([[0, 1, 2, 0], [2, 0, 2, 1]])
    bags = Neighborhoods(edge_index, 3, 4)
    assert bags.num_edges == 4
    assert bags.receivers.counts.tolist() == [1, 1, 2, 0]
    assert bags.senders.counts.tolist() == [2, 1, 1]
    assert bags.receivers.index.tolist() == [2, 0, 2, 1]


def test_cached_by_identity_until_written_to():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    first = neighborhoods(edge_index, 2)
    assert neighborhoods(edge_index, 2) is first
    assert neighborhoods(edge_index, 3) is not first
    assert neighborhoods(edge_index.clone(), 2) is not first
    edge_index[0, 0] = 1
    assert neighborhoods(edge_index, 2).senders.index.tolist() == [1, 1]


def test_cache_forgets_dead_graphs():
    gc.freeze()  # what there is already, or each collection would look through it
    for _ in range(50):
        edge_index = torch.randint(0, 5, (2, 7))
        bags = neighborhoods(edge_index, 5)
        # A new tensor may be given the address of a dead one; its edges must be its own.
        assert torch.equal(bags.receivers.index, edge_index[1])
        del edge_index
        gc.collect()
    gc.unfreeze()
    assert len(_MEMORY._entries) <= 8


def test_edge_index_class():
    edge_index = EdgeIndex([[0, 1, 1], [1, 0, 2]], sparse_size=(3, 3), sort_order="row")
    bags = neighborhoods(edge_index, 3)
    assert type(bags.receivers.index) is torch.Tensor
    assert bags.receivers.index.tolist() == [1, 0, 2]


def test_inference_tensors():
    with torch.inference_mode():
        edge_index = torch.tensor([[0, 1], [1, 0]])
        assert neighborhoods(edge_index, 2).num_edges == 2


def test_errors():
    with pytest.raises(ValueError, match=r"\[2, E\]"):
        neighborhoods(torch.zeros(3, 4, dtype=torch.long), 4)
    with pytest.raises(ValueError, match=r"`edge_index\[1\]` must lie in \[0, 3\)"):
        neighborhoods(torch.tensor([[0], [5]]), 3)
