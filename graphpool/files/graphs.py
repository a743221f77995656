"""Graphs and bags from files, for networks that classify graphs, nodes or bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphpool._recorded import savable
from graphpool.datasets.meshes.classes import FoundLabels
from graphpool.files.graph_formats import NODES, GraphArrays, read_columns, read_graphs
from graphpool.files.reader import Columns, Files, Item
from graphpool.io.untrusted import load_array, load_arrays, load_tensors
from graphpool.models import GraphModel
from graphpool.segments import Segments


@savable
@dataclass(frozen=True)
class GraphFiles(Files):
    """Graphs from edge lists, GraphML, ``.npz``, ``.pt`` and TU folders.

    Numbers of nodes and edges are features, and words become one column each (one-hot); without ``features``
    all that every training graph has. The logarithm of the degree, log(1 + d), is a value of every node,
    ``degree``. ``labels`` names a value of the nodes.

    Args:
        directed: Whether edges of lists and GraphML files go one way only.

    Other arguments are those of :class:`graphpool.files.Files`.
    """

    directed: bool = False

    kind: ClassVar[str] = "graphs"
    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".npz", ".csv", ".txt", ".edges", ".graphml")
    networks = ("gin", "sage", "gatv2", "edge")  # type: ignore[assignment]
    element: ClassVar[str] = "node"
    beside: ClassVar[tuple[str, ...]] = (NODES,)
    folders: ClassVar[bool] = True  # those of TU

    def parse(self, path: Path) -> list[Item]:
        graphs = read_graphs(path, self.directed)
        return [
            self._item(f"{path}#{i}" if len(graphs) > 1 else str(path), graph)
            for i, graph in enumerate(graphs)
        ]

    def _item(self, name: str, graph: GraphArrays) -> Item:
        index = torch.from_numpy(np.ascontiguousarray(graph.edge_index))
        degree = np.bincount(graph.edge_index[1], minlength=graph.num_nodes)
        # What is to be found out is no feature.
        columns = {k: v for k, v in graph.nodes.items() if k not in (*graph.targets, self.labels)}
        found = None
        if self.labels in graph.nodes:
            words, which = np.unique(graph.nodes[self.labels], return_inverse=True)
            whole = words.dtype.kind in "fiu" and bool((words == np.rint(words)).all())
            texts = [str(int(w)) if w >= 0 else "" for w in words] if whole else words.astype(str)
            found = FoundLabels(which.reshape(-1), tuple(map(str, texts)))
        elif self.labels is None and graph.label is not None:
            found = FoundLabels(np.zeros(1, np.int64), (graph.label,))
        raw = Data(edge_index=index, num_nodes=graph.num_nodes)
        return Item(name, raw, {**columns, "degree": np.log1p(degree)}, found, None, graph.edges)

    def fit(self, items: Sequence[Item]) -> Files:
        fitted = super().fit(items)
        if not fitted.table.names:
            first = items[0]
            other = next((i for i in items if i.columns.keys() != first.columns.keys()), first)
            has = " and ".join(f"{i.name} has {', '.join(i.columns)}" for i in (first, other))
            raise ValueError(
                f"`features` must be columns that every training file has, with at least one row; {has}. "
                f"Columns have the same names in all files, or none has any."
            )
        return fitted

    def network(self, name: str, classes: int, example: Data, pool: Any, more: dict) -> nn.Module:
        if "features" in more:
            raise ValueError(
                "`set` features=... is for graphs without features; from files every node has its degree."
            )
        usual: dict[str, Any] = {
            "hidden_channels": 64, "conv": name, "norm": "batch", "head": "mlp",
            "edge_dim": len(self.edge_table.mean) or None, "readout": pool or ["mean", "max"],
        }  # fmt: skip
        if self.labels is not None:
            usual |= {"readout": None, "aggr": pool or "sum"}
        return GraphModel(example.x.size(1), out_channels=classes, **{**usual, **more})

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        nodes = Segments(ptr=batch.ptr)
        return model(batch.x, batch.edge_index, nodes, edge_attr=batch.get("edge_attr"))


@savable
@dataclass(frozen=True)
class BagFiles(GraphFiles):
    """Bags of vectors: one array ``[n, C]`` per file (``.npy``, ``.npz``, ``.csv``, ``.txt``, ``.pt``).

    A table of text may have names above its columns, and then every bag must have the same ones. A bag is a
    graph without edges: its network is a :class:`graphpool.models.GraphModel`, whose readout is the pool.
    """

    kind: ClassVar[str] = "bags"
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".npz", ".csv", ".txt", ".pt")
    folders: ClassVar[bool] = False
    networks = ("deepsets",)  # type: ignore[assignment]

    def parse(self, path: Path) -> list[Item]:
        columns = _read_bag(path)
        count, none = len(next(iter(columns.values()))), np.zeros((2, 0), dtype=np.int64)
        item = self._item(str(path), GraphArrays(count, none, columns, {}))
        item.columns.pop("degree")
        return [item]

    def network(self, name: str, classes: int, example: Data, pool: Any, more: dict) -> nn.Module:
        return super().network(
            "gin", classes, example, pool, {"num_layers": 2, "norm": None, **more}
        )


def _read_bag(path: Path) -> Columns:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".txt"):
        return read_columns(path)
    readers = {".npy": load_array, ".npz": load_arrays, ".pt": load_tensors}
    stored: Any = readers[suffix](path)  # type: ignore[operator]
    held = list(stored.values()) if isinstance(stored, dict) else [stored]
    if len(held) != 1:
        names = ", ".join(map(str, stored)) or "none"
        raise ValueError(f"A bag must be one array of numbers [n, C]; the file has {names}.")
    table = np.asarray(held[0])
    table = table[:, None] if table.ndim == 1 and table.size else table
    if table.ndim != 2 or table.dtype.kind not in "fiub":
        raise ValueError(
            f"A bag must be one array of numbers [n, C]; got {table.dtype} {table.shape}."
        )
    return {"x": table}
