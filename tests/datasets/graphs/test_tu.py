from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphpool.datasets import TUGraphs


def write_raw(root: Path, node_labels: bool) -> None:
    """Two graphs: a path of three nodes and a single edge."""
    raw = root / "TINY" / "raw"
    raw.mkdir(parents=True)
    pairs = [(1, 2), (2, 1), (2, 3), (3, 2), (4, 5), (5, 4)]
    (raw / "TINY_A.txt").write_text("".join(f"{a}, {b}\n" for a, b in pairs))
    (raw / "TINY_graph_indicator.txt").write_text("1\n1\n1\n2\n2\n")
    (raw / "TINY_graph_labels.txt").write_text("1\n-1\n")
    if node_labels:
        (raw / "TINY_node_labels.txt").write_text("0\n1\n2\n0\n2\n")


def test_degrees_stand_in_for_missing_labels(tmp_path):
    write_raw(tmp_path / "raw", node_labels=False)
    graphs = TUGraphs(tmp_path / "raw", "TINY", cache=tmp_path / "cache")
    assert graphs[0].x.argmax(1).tolist() == [1, 2, 1] and graphs[1].x.argmax(1).tolist() == [1, 1]
    assert (graphs[0].x.sum(1) == 1).all()
    capped = TUGraphs(tmp_path / "raw", "TINY", cache=tmp_path / "cache", max_degree=1)
    assert capped[0].x.argmax(1).tolist() == [1, 1, 1]


def test_node_labels_are_one_hot_and_raw_files_untouched(tmp_path):
    write_raw(tmp_path / "raw", node_labels=True)
    graphs = TUGraphs(tmp_path / "raw", "TINY", cache=tmp_path / "cache")
    assert graphs[0].x.argmax(1).tolist() == [0, 1, 2] and graphs.num_classes == 2
    assert not (tmp_path / "raw" / "TINY" / "processed").exists()
    assert (tmp_path / "cache" / "TINY" / "processed").exists()


def test_missing_files_in_a_read_only_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(FileNotFoundError, match="read-only"):
        TUGraphs(tmp_path, "MUTAG")


@pytest.mark.parametrize(
    ("name", "graphs", "features"), [("MUTAG", 188, 7), ("PROTEINS", 1113, 3), ("ENZYMES", 600, 3)]
)
def test_published_sizes(shared_data, tmp_path, name, graphs, features):
    data = TUGraphs(shared_data / "tu", name, cache=tmp_path)
    assert (len(data), data.num_features) == (graphs, features)
    assert torch.equal(data[0].x.sum(1), torch.ones(data[0].num_nodes))


def test_the_cache_is_of_the_files_that_are_there(tmp_path):
    for root, node_labels in (("first", True), ("second", False)):
        write_raw(tmp_path / root, node_labels)
    (tmp_path / "second" / "TINY" / "raw" / "TINY_graph_labels.txt").write_text("7\n7\n")
    read = [
        TUGraphs(tmp_path / root, "TINY", cache=tmp_path / "cache")
        for root in ("first", "second", "first")
    ]
    assert [data._data.y.tolist() for data in read] == [[1, 0], [0, 0], [1, 0]]
    labels = tmp_path / "first" / "TINY" / "raw" / "TINY_graph_labels.txt"
    labels.write_text("2\n33\n")
    edited = TUGraphs(tmp_path / "first", "TINY", cache=tmp_path / "cache")
    assert edited._data.y.tolist() == [0, 1]
    made = (tmp_path / "cache" / "TINY" / "processed" / "data.pt").stat().st_mtime_ns
    TUGraphs(tmp_path / "first", "TINY", cache=tmp_path / "cache")
    assert (tmp_path / "cache" / "TINY" / "processed" / "data.pt").stat().st_mtime_ns == made


@pytest.mark.parametrize("node_labels", [True, False])
@pytest.mark.parametrize("edge_labels", [True, False])
@pytest.mark.parametrize("graph_labels", [True, False])
def test_the_last_graphs_may_have_no_edges(tmp_path, node_labels, edge_labels, graph_labels):
    write_raw(tmp_path, node_labels)
    raw = tmp_path / "TINY" / "raw"
    (raw / "TINY_graph_indicator.txt").write_text("1\n1\n1\n2\n2\n3\n3\n4\n")
    (raw / "TINY_graph_labels.txt").write_text("1\n-1\n1\n1\n")
    if not graph_labels:
        (raw / "TINY_graph_labels.txt").unlink()
    if node_labels:
        (raw / "TINY_node_labels.txt").write_text("0\n1\n2\n0\n2\n1\n1\n0\n")
    if edge_labels:
        (raw / "TINY_edge_labels.txt").write_text("0\n1\n0\n1\n1\n1\n")
    for _ in range(2):  # read from the text, and from the cache
        data = TUGraphs(tmp_path, "TINY")
        assert [graph.num_nodes for graph in data] == [3, 2, 2, 1] and len(data) == 4
        assert [graph.num_edges for graph in data] == [4, 2, 0, 0]
        assert data[3].x.shape == (1, data.num_features)
        assert (data[3].y is not None) == graph_labels


def test_what_cannot_be_downloaded_was_looked_for(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no host")

    monkeypatch.setattr("torch_geometric.datasets.TUDataset.download", offline)
    with pytest.raises(FileNotFoundError, match=r"NOPE/raw/NOPE_A.txt does not exist.*no host"):
        TUGraphs(tmp_path, "NOPE")
