"""Graphs come out of every format as they went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from graphpool.datasets import TUGraphs
from graphpool.files import BagFiles, GraphFiles
from graphpool.files.graph_formats import read_graphs


def edges_of(graph):
    """Pairs with their value, as a set."""
    (values,) = graph.edges.values()
    return {(a, b, float(v)) for (a, b), v in zip(graph.edge_index.T.tolist(), values, strict=True)}


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
@pytest.mark.parametrize("head", [True, False])
def test_edge_lists(tmp_path, mark, head):
    lines = [["a", "b", "1.5"], ["b", "c", "2"], ["c", "b", "3"]]
    lines = [["source", "target", "length"]] * head + lines
    path = tmp_path / "g.csv"
    path.write_text("# a comment\n" + "\n".join(mark.join(line) for line in lines) + "\n\n")
    (one,) = read_graphs(path, directed=True)
    assert edges_of(one) == {(0, 1, 1.5), (1, 2, 2.0), (2, 1, 3.0)}
    # b-c is there both ways already; a-b is not.
    (both,) = read_graphs(path)
    assert edges_of(both) == edges_of(one) | {(1, 0, 1.5)}
    assert list(one.edges) == ["length" if head else "value 0"]
    (tmp_path / "g.nodes.csv").write_text("name,kind,size\nc,x,1\nlone,y,2\nb,x,3\na,z,4\n")
    (listed,) = read_graphs(path, directed=True)
    assert listed.num_nodes == 4 and listed.nodes["kind"].tolist() == ["x", "y", "x", "z"]
    assert edges_of(listed) == {(3, 2, 1.5), (2, 0, 2.0), (0, 2, 3.0)}
    assert listed.nodes["size"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("text, message", [
    ("a,b,1\na,c\n", "Row 3 has 2 columns"), ("", "empty"),
    ("source,target,x,x\na,b,1,2\n", "named twice"),
])  # fmt: skip
def test_broken_edge_lists_are_named(tmp_path, text, message):
    path = tmp_path / "g.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"g\.csv.*{message}"):
        GraphFiles().read(path)


@pytest.mark.parametrize("nodes, message", [
    ("n\na\n", "'b', which is not listed"), ("n\na\nb\na\n", "named twice"),
])  # fmt: skip
def test_broken_lists_of_nodes_are_named(tmp_path, nodes, message):
    (tmp_path / "g.csv").write_text("a,b\n")
    (tmp_path / "g.nodes.csv").write_text(nodes)
    with pytest.raises(ValueError, match=message):
        GraphFiles().read(tmp_path / "g.csv")


@pytest.mark.needs("networkx")
@pytest.mark.parametrize("directed", [False, True])
def test_graphml_is_what_networkx_wrote(tmp_path, directed):
    import networkx

    graph = (networkx.DiGraph if directed else networkx.Graph)([("u", "v"), ("v", "w")])
    graph.add_node("lone")
    for i, name in enumerate(graph):
        graph.nodes[name].update(charge=0.5 * i, element="CNOF"[i])
    for i, pair in enumerate(graph.edges):
        graph.edges[pair]["order"] = i + 1
    graph.graph["label"] = "toxic"
    networkx.write_graphml(graph, tmp_path / "g.graphml")
    (found,) = read_graphs(tmp_path / "g.graphml")
    names = list(graph)
    expected = {(names.index(a), names.index(b), d["order"]) for a, b, d in graph.edges(data=True)}
    if not directed:
        expected |= {(b, a, v) for a, b, v in expected}
    assert edges_of(found) == expected and found.num_nodes == 4
    assert found.nodes["charge"].tolist() == [0, 0.5, 1, 1.5]
    assert found.nodes["element"].tolist() == list("CNOF")
    assert GraphFiles().read(tmp_path / "g.graphml")[0].found.words == (found.label,) == ("toxic",)


def test_graphml_that_wants_more_is_refused(tmp_path):
    path = tmp_path / "g.graphml"
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]><graphml>&a;</graphml>')
    with pytest.raises(ValueError, match="DOCTYPE"):
        GraphFiles().read(path)
    path.write_text("<graphml><graph>")
    with pytest.raises(ValueError, match="no XML"):
        GraphFiles().read(path)


def test_tensors_and_arrays(tmp_path):
    index = torch.tensor([[0, 1], [1, 2]])
    one = Data(torch.rand(3, 2), index, y=torch.tensor([1.0]), edge_attr=torch.rand(2, 1))
    torch.save([one, Data(torch.rand(4, 2), index)], tmp_path / "many.pt")
    allowed = set(torch.serialization.get_safe_globals())
    first, second = read_graphs(tmp_path / "many.pt")
    assert set(torch.serialization.get_safe_globals()) == allowed
    assert (first.num_nodes, first.label, second.num_nodes, second.label) == (3, "1", 4, None)
    assert np.array_equal(first.nodes["x"], one.x) and np.array_equal(first.edge_index, index)
    assert [item.name[-2:] for item in GraphFiles().read(tmp_path / "many.pt")] == ["#0", "#1"]
    np.savez(tmp_path / "a.npz", x=one.x.numpy(), edge_index=index.numpy(), y=np.array([1]))
    (array,) = read_graphs(tmp_path / "a.npz")
    assert np.array_equal(array.nodes["x"], one.x) and array.label == "1"
    torch.save({"edge_index": index, "num_nodes": 5}, tmp_path / "d.pt")
    assert read_graphs(tmp_path / "d.pt")[0].num_nodes == 5
    torch.save({"edge_index": index, "num_nodes": 3, "y": torch.tensor([0.25])}, tmp_path / "v.pt")
    assert read_graphs(tmp_path / "v.pt")[0].label == "0.25"
    for stored, message in (
        ({"x": one.x}, "edge_index"), ({"edge_index": index + 9, "num_nodes": 3}, r"in \[0, 3\)"),
        ({"edge_index": index.float()}, "integers"),
    ):  # fmt: skip
        torch.save(stored, tmp_path / "bad.pt")
        with pytest.raises(ValueError, match=rf"bad\.pt.*{message}"):
            GraphFiles().read(tmp_path / "bad.pt")


def test_what_is_to_be_found_out_is_no_feature(tmp_path):
    index = torch.tensor([[0, 1], [1, 2]])
    torch.save(Data(torch.rand(3, 2), index, y=torch.tensor([0, 1, 1])), tmp_path / "a.pt")
    for labels in (None, "y"):
        (item,) = GraphFiles(labels=labels).read(tmp_path / "a.pt")
        assert set(item.columns) == {"x", "degree"}
    assert [item.found.words[i] for i in item.found.values] == ["0", "1", "1"]


def test_a_column_y_of_a_table_is_a_number_like_others(tmp_path):
    (tmp_path / "g.csv").write_text("source,target\na,b\n")
    (tmp_path / "g.nodes.csv").write_text("name,x,y\na,1,2\nb,3,4\n")
    for files, name in ((GraphFiles(), "g.csv"), (BagFiles(), "g.nodes.csv")):
        (item,) = files.read(tmp_path / name)
        assert item.columns["y"].tolist() == [2, 4] and item.columns["x"].tolist() == [1, 3]
    (item,) = GraphFiles(labels="y").read(tmp_path / "g.csv")
    assert "y" not in item.columns and item.found.words == ("2", "4")


@pytest.mark.parametrize("name", ["MUTAG", "ENZYMES"])
def test_tu_folders_are_what_pytorch_geometric_reads(shared_data, tmp_path, name):
    theirs = TUGraphs(shared_data / "tu", name, cache=tmp_path, use_node_attr=True)
    files = GraphFiles()
    items = files.read(shared_data / "tu" / name)
    assert len(items) == len(theirs)
    for item, data in list(zip(items, theirs, strict=True))[::7]:
        mine = set(map(tuple, item.raw.edge_index.T.tolist()))
        assert mine == set(map(tuple, data.edge_index.T.tolist()))
        assert item.raw.num_nodes == data.num_nodes
    labels = [item.found.words[0] for item in items]
    order = sorted(set(labels), key=int)
    assert [order.index(label) for label in labels] == theirs.y.tolist()
    hot = files.fit(items).table
    words = torch.tensor([hot.words["label"].index(w) for i in items for w in i.columns["label"]])
    assert torch.equal(words, theirs._data.x[:, -len(hot.words["label"]) :].argmax(1))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".csv", ".txt"])
def test_bags(tmp_path, suffix):
    table = np.random.default_rng(0).normal(size=(5, 3))
    path = tmp_path / f"a{suffix}"
    write = {
        ".npy": lambda: np.save(path, table), ".npz": lambda: np.savez(path, anything=table),
        ".pt": lambda: torch.save(torch.from_numpy(table), path),
        ".csv": lambda: np.savetxt(path, table, fmt="%.17g", delimiter=","),
        ".txt": lambda: np.savetxt(path, table, fmt="%.17g"),
    }  # fmt: skip
    write[suffix]()
    (item,) = BagFiles().read(path)
    assert np.array_equal(item.columns["x"], table) and item.raw.num_nodes == 5
    assert item.raw.num_edges == 0 and list(item.columns) == ["x"]
