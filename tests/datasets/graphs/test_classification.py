from __future__ import annotations

import pytest
import torch

from graphpool.datasets import GraphFamilies


def test_labels_are_the_families(tmp_path):
    graphs = GraphFamilies(tmp_path, families=("path", "4regular", "complete"), num_graphs=6)
    assert len(graphs) == 18 and graphs.num_classes == 3
    for i, data in enumerate(graphs):
        degrees = torch.bincount(data.edge_index[1], minlength=data.num_nodes)
        assert data.y.tolist() == [i // 6]
        expected = [2, 4, data.num_nodes - 1][i // 6]
        assert degrees.max() == expected


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="`families` must be"):
        GraphFamilies(tmp_path, families=("tree",))
    with pytest.raises(ValueError, match="`families` must be"):
        GraphFamilies(tmp_path, families=("tree", "grid"))
    with pytest.raises(ValueError, match="at least one graph"):
        GraphFamilies(tmp_path, num_graphs=0)
