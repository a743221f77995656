from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import neighbor_sampling

        yield neighbor_sampling
    finally:
        sys.path.remove(str(EXAMPLES))


def test_labels_are_the_mean_of_the_largest(example):
    graph = example.make_graph(num_nodes=40, degree=4, seed=0)
    source = graph.edge_index[0].view(40, 4)
    largest = graph.x[source].amax(1)
    expected = largest[source].mean(1)
    expected = (expected - expected.mean()) / expected.std()
    torch.testing.assert_close(graph.y, expected)
