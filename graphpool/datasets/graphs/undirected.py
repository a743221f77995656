"""Simple undirected graphs as :class:`torch_geometric.data.Data`, from pairs of nodes and from graph6."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from graphpool.io.graph6 import format_graph6, parse_graph6_lines, read_graph6_edges


def undirected_data(edges: NDArray[np.int64], num_nodes: int, **attributes: Tensor) -> Data:
    """A featureless undirected graph with ``x`` of ones ``[num_nodes, 1]``.

    Args:
        edges: Node pairs ``[m, 2]``, each undirected edge once.
        num_nodes: Number of nodes.
        **attributes: Further attributes of the graph; an ``x`` given here replaces the ones.

    Returns:
        The graph with both directions of every edge, sorted by source, then target.
    """
    pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    edge_index = torch.from_numpy(np.ascontiguousarray(both.T))
    attributes.setdefault("x", torch.ones(num_nodes, 1))
    return Data(edge_index=edge_index, num_nodes=num_nodes, **attributes)


def adjacency(data: Data) -> NDArray[np.int64]:
    """The matrix ``[n, n]`` of an undirected graph without loops.

    Raises:
        ValueError: The graph is directed or has a loop.
    """
    n = int(data.num_nodes or 0)
    dense = np.zeros((n, n), dtype=np.int64)
    source, target = data.edge_index.cpu().numpy()
    dense[source, target] = 1
    if (dense != dense.T).any() or dense.diagonal().any():
        raise ValueError("The graph must be undirected and without loops.")
    return dense


def read_graph6(path: str | os.PathLike[str]) -> list[Data]:
    """Reads a file of graph6 lines.

    Args:
        path: The file; blank lines at its end are ignored.

    Returns:
        One :class:`~torch_geometric.data.Data` per line, in order, with ``x`` of ones ``[n, 1]``.

    Raises:
        ValueError: A line is malformed; the message names the file and the line.
        FileNotFoundError: There is no such file.
    """
    return [undirected_data(edges, n) for n, edges in read_graph6_edges(path)]


def graphs_from_graph6(lines: Iterable[str | bytes], source: str = "graph6") -> list[Data]:
    """Graphs from graph6 lines held in memory; ``source`` is what an error calls them."""
    return [undirected_data(edges, n) for n, edges in parse_graph6_lines(lines, source)]


def to_graph6(data: Data) -> str:
    """The graph6 line of an undirected graph.

    Raises:
        ValueError: If an edge has no reverse, or is a loop.
    """
    edge_index, n = data.edge_index, data.num_nodes
    if edge_index is None or n is None:
        raise ValueError("`data` needs `edge_index` and a number of nodes.")
    pairs = edge_index.t().cpu().numpy().astype(np.int64)
    keys, reverse = pairs[:, 0] * n + pairs[:, 1], pairs[:, 1] * n + pairs[:, 0]
    missing = np.flatnonzero(~np.isin(reverse, keys))
    if missing.size:
        a, b = pairs[missing[0]]
        raise ValueError(
            f"The format graph6 needs an undirected graph; got edge ({a}, {b}) without ({b}, {a})."
        )
    return format_graph6(int(n), pairs)
