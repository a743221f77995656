"""Graph files: edge lists, GraphML, arrays, tensors, TU folders; nothing is unpickled."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import EdgeStorage, GlobalStorage, NodeStorage

from graphpool.datasets.graphs.tu_files import check_tu_files
from graphpool.files.reader import Columns
from graphpool.io.untrusted import load_arrays, load_tensors, naming, read_table, read_text

#: The end of the name of what lists the nodes of an edge list, beside it.
NODES = ".nodes.csv"
_STORED = [Data, DataEdgeAttr, DataTensorAttr, EdgeStorage, GlobalStorage, NodeStorage]
_ENDS = ("source", "from", "src", "u", "node1", "node_1", "id_1")
_Records = list[dict[str, str]]
_DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?(e[-+]?\d+)?", re.IGNORECASE)


class GraphArrays(NamedTuple):
    """A graph as a file has it: number of nodes, edges ``[2, E]``, columns of both, its label if there
    is, and which columns of nodes are to be found out."""

    num_nodes: int
    edge_index: np.ndarray
    nodes: Columns
    edges: Columns
    label: str | None = None
    targets: tuple[str, ...] = ()


def read_graphs(path: Path, directed: bool = False) -> list[GraphArrays]:
    """The graphs of a file, or of a TU folder.

    Edges of lists and undirected GraphML files go both ways, unless ``directed``; those of arrays and
    tensors are as they are.

    Raises:
        ValueError: The file is not what it should be.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or path.name.endswith("_A.txt"):
        return _tu(path)
    if suffix in (".pt", ".npz"):
        # What is listed here is forgotten afterwards, for all of the process.
        new = [cls for cls in _STORED if cls not in torch.serialization.get_safe_globals()]
        with torch.serialization.safe_globals(new):
            stored = load_tensors(path) if suffix == ".pt" else load_arrays(path)
        return [_of_arrays(one) for one in (stored if isinstance(stored, list) else [stored])]
    return [_graphml(path, directed) if suffix == ".graphml" else _edge_list(path, directed)]


def read_records(path: Path) -> _Records:
    """The rows of a table with names in its first line.

    Raises:
        ValueError: A row has another length, or a name stands twice.
    """
    with naming(path):
        return _records(_rows(path))


def read_columns(path: Path) -> Columns:
    """The columns of a table by the names in its first line, or all numbers as ``x`` if there are none."""
    rows = _rows(path)
    try:
        return {"x": np.array([[float(word) for word in row] for row in rows])}
    except ValueError:
        columns = _columns(_records(rows))
        return columns or {name: np.zeros(0) for name in rows[0]}


def _rows(path: Path) -> list[list[str]]:
    lines = [line for line in read_text(path, "utf-8").split("\n") if line.strip()]
    lines = [line for line in lines if not line.startswith(("#", "%"))]
    if not lines:
        raise ValueError("The table is empty.")
    # Where commas are decimal, something else separates.
    mark = next((m for m in ";\t," if m in lines[0]), None)
    return list(csv.reader(lines, delimiter=mark)) if mark else [line.split() for line in lines]


def _records(rows: list[list[str]]) -> _Records:
    names = [name.strip() for name in rows[0]]
    if len(set(names)) != len(names):
        raise ValueError(f"A column is named twice: {', '.join(names)}.")
    for i, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(f"Row {i + 1} has {len(row)} columns; the first {len(names)}.")
    return [dict(zip(names, (word.strip() for word in row), strict=True)) for row in rows[1:]]


def _columns(records: _Records) -> Columns:
    """Columns of numbers where every word is one, of words elsewhere."""
    columns: Columns = {}
    for name in records[0] if records else ():
        words = np.array([record[name] for record in records])
        try:
            columns[name] = words.astype(np.float64)
        except ValueError:
            if all(map(_DECIMAL_COMMA.fullmatch, words)):
                raise ValueError(
                    f"The numbers of {name!r} have decimal commas, such as {str(words[0])!r}: write "
                    f"decimal points."
                ) from None
            columns[name] = words
    return columns


def _edge_list(path: Path, directed: bool) -> GraphArrays:
    rows = _rows(path)
    if rows[0][0].strip().lower() not in _ENDS:
        rows.insert(0, ["source", "target", *(f"value {i}" for i in range(len(rows[0]) - 2))])
    if len(rows[0]) < 2:
        raise ValueError(
            f"An edge is two names of nodes; the first line has one column, {rows[0][0]!r}."
        )
    edges, listed = _records(rows), path.with_name(path.stem + NODES)
    first, second = rows[0][0].strip(), rows[0][1].strip()
    ends = [(record.pop(first), record.pop(second)) for record in edges]
    if listed.is_file():
        nodes = read_records(listed)
        names = [record.pop(next(iter(record))) for record in nodes]
    else:
        nodes, names = [], sorted({n for pair in ends for n in pair}, key=lambda n: (len(n), n))
    return _of_records(names, nodes, ends, edges, directed)


def _graphml(path: Path, directed: bool) -> GraphArrays:
    text = read_text(path, "utf-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("A GraphML file with a DOCTYPE is refused.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"The file is no XML: {error}.") from None
    for part in root.iter():
        part.tag = part.tag.rpartition("}")[2]
    keys = {key.get("id"): key.get("attr.name", str(key.get("id"))) for key in root.iter("key")}
    graph = root if root.find("graph") is None else root.find("graph")

    def values(part: Any) -> dict[str, str]:
        return {keys[d.get("key")]: (d.text or "").strip() for d in part.findall("data")}

    nodes, edges = list(graph.iter("node")), list(graph.iter("edge"))  # type: ignore[union-attr]
    ends = [(str(edge.get("source")), str(edge.get("target"))) for edge in edges]
    directed |= graph.get("edgedefault") == "directed"  # type: ignore[union-attr]
    names, tables = (
        [str(node.get("id")) for node in nodes],
        [list(map(values, p)) for p in (nodes, edges)],
    )
    found = _of_records(names, tables[0], ends, tables[1], directed)
    said = values(graph)
    return found._replace(label=next((said[n] for n in ("label", "class", "y") if n in said), None))


def _of_records(
    names: Sequence[str],
    nodes: _Records,
    ends: Sequence[tuple[str, str]],
    edges: _Records,
    directed: bool,
) -> GraphArrays:
    """A graph from names and values of its nodes, and from pairs of names and values of its edges."""
    known = {name: i for i, name in enumerate(names)}
    if len(known) < len(names):
        raise ValueError("A node is named twice.")
    if unknown := [name for pair in ends for name in pair if name not in known]:
        raise ValueError(f"An edge names node {unknown[0]!r}, which is not listed.")
    for records in (nodes, edges):
        if any(record.keys() != records[0].keys() for record in records):
            raise ValueError("Nodes, and edges, must all have the same values; some have others.")
    index = np.array([[known[a], known[b]] for a, b in ends], dtype=np.int64).reshape(-1, 2).T
    columns = _columns(edges)
    if not directed:
        there = set(ends)
        lone = [i for i, (a, b) in enumerate(ends) if (b, a) not in there]
        index = np.concatenate([index, index[::-1, lone]], axis=1)
        columns = {k: np.concatenate([v, v[lone]]) for k, v in columns.items()}
    return GraphArrays(len(names), index, _columns(nodes), columns)


def _of_arrays(stored: Any) -> GraphArrays:
    """A graph from what PyTorch Geometric calls it: ``x``, ``edge_index``, ``edge_attr``, ``y``."""
    held = stored.to_dict() if isinstance(stored, Data) else stored
    if not isinstance(held, dict) or "edge_index" not in held:
        raise ValueError("Expected graphs with `edge_index`, such as torch_geometric's Data.")
    arrays = {
        k: np.asarray(v) for k, v in held.items() if isinstance(v, (torch.Tensor, np.ndarray))
    }
    index, label = arrays["edge_index"], arrays.get("y", np.zeros(0))
    if index.ndim != 2 or len(index) != 2 or index.dtype.kind not in "iu":
        raise ValueError(f"`edge_index` must be integers [2, E]; got {index.dtype} {index.shape}.")
    count = (
        len(arrays["x"]) if "x" in arrays else int(held.get("num_nodes", index.max(initial=-1) + 1))
    )
    if index.size and not (index.min() >= 0 and index.max() < count):
        raise ValueError(
            f"`edge_index` must lie in [0, {count}); got {index.min()} to {index.max()}."
        )
    nodes = {
        k: v for k, v in arrays.items() if k in ("x", "pos", "y") and v.ndim and len(v) == count
    }
    edges = {k: v for k, v in arrays.items() if k == "edge_attr" and len(v) == index.shape[1]}
    word = _word(label.reshape(-1)[0]) if label.size == 1 and label.dtype.kind in "fiu" else None
    # A table may have a coordinate y; here it means the labels.
    return GraphArrays(count, index.astype(np.int64), nodes, edges, word, ("y",))


def _word(value: Any) -> str:
    """A label as a table would have it; one of a class is a whole number."""
    return str(int(value)) if float(value).is_integer() else repr(value.item())


def _tu(path: Path) -> list[GraphArrays]:
    """The graphs of a TU folder, ``NAME_A.txt`` and so on, in it or in its folder ``raw``."""
    inside = sorted([*path.glob("*_A.txt"), *path.glob("raw/*_A.txt")]) if path.is_dir() else [path]
    if len(inside) != 1:
        raise ValueError(f"Expected one file *_A.txt, in it or in raw; got {len(inside)}.")
    folder, name = inside[0].parent, inside[0].name.removesuffix("_A.txt")
    check_tu_files(folder, name)
    tables = {
        file.stem.removeprefix(f"{name}_"): read_table(file, "numbers", (), ",")
        for file in folder.glob(f"{name}_*.txt")
    }
    graph, edges = tables["graph_indicator"][:, 0].astype(int) - 1, tables["A"].astype(int).T - 1
    held: dict[str, Columns] = {"node": {}, "edge": {}}
    for of, columns in held.items():
        if f"{of}_attributes" in tables:
            columns["attributes"] = tables[f"{of}_attributes"]
        for i, column in enumerate(tables.get(f"{of}_labels", np.zeros((0, 0))).T):
            columns[f"label {i}" if i else "label"] = column.astype(int).astype(str)
    order = np.argsort(graph[edges[0]], kind="stable")
    parts = np.arange(graph[-1] + 2)
    first, cut = np.searchsorted(graph, parts), np.searchsorted(graph[edges[0]][order], parts)
    labels, found = tables.get("graph_labels", tables.get("graph_attributes")), []
    labels = None if labels is None or labels.shape[1] > 1 else labels
    for g in range(int(graph[-1]) + 1):
        mine, sides = slice(first[g], first[g + 1]), order[cut[g] : cut[g + 1]]
        nodes, ties = (
            {k: v[rows] for k, v in held[of].items()}
            for of, rows in (("node", mine), ("edge", sides))
        )
        label = None if labels is None else _word(labels[g, 0])
        found.append(
            GraphArrays(first[g + 1] - first[g], edges[:, sides] - first[g], nodes, ties, label)
        )
    return found
