"""All connected graphs of up to eight nodes, and graph8c."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data, InMemoryDataset

from graphpool.datasets.graphs.undirected import read_graph6, undirected_data
from graphpool.datasets.on_disk import file_in

#: Connected graphs on 1, ..., 8 nodes, up to isomorphism.
NUM_CONNECTED: tuple[int, ...] = (1, 1, 2, 6, 21, 112, 853, 11117)

_CHUNK = 16384


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A fixed bijection of the 64-bit integers that looks random (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _fingerprints(dense: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number per graph of ``[C, n, n]``: its colour refinements with each node marked in turn.

    One marked node is enough to tell all connected graphs of up to eight nodes apart, so that equal
    numbers mean isomorphic graphs.
    """
    count, n = dense.shape[:2]
    start = _scramble(np.eye(n, dtype=np.uint64) + np.uint64(1))
    colour = np.broadcast_to(start, (count, n, n))  # [graph, root, node]
    for _ in range(n):
        around = _scramble(colour + np.uint64(0x9E3779B97F4A7C15)) @ dense
        colour = _scramble(colour * np.uint64(3) + around)
    return _scramble(_scramble(colour).sum(2)).sum(1)


def connected_adjacency(num_nodes: int) -> NDArray[np.uint8]:
    """Adjacency matrices of all connected graphs on ``num_nodes`` nodes, one per isomorphism class.

    A connected graph on ``n`` nodes is one on ``n - 1`` nodes with a node attached to some of them.

    Args:
        num_nodes: From 1 to 8. Eight nodes take about a second.

    Returns:
        ``[C, num_nodes, num_nodes]``, with ``C`` = 1, 1, 2, 6, 21, 112, 853, 11117.

    Raises:
        ValueError: If ``num_nodes`` is out of range.
    """
    if not 1 <= num_nodes <= 8:
        raise ValueError(f"`num_nodes` must be in 1..8; got {num_nodes}.")
    graphs = np.zeros((1, 1, 1), dtype=np.uint8)
    for n in range(2, num_nodes + 1):
        chosen = (np.arange(1, 1 << (n - 1))[:, None] >> np.arange(n - 1)) & 1
        grown = np.zeros((len(graphs), len(chosen), n, n), dtype=np.uint8)
        grown[:, :, :-1, :-1] = graphs[:, None]
        grown[:, :, -1, :-1] = chosen
        grown[:, :, :-1, -1] = chosen
        flat: NDArray[np.uint8] = grown.reshape(-1, n, n)
        keys = np.concatenate(
            [
                _fingerprints(flat[i : i + _CHUNK].astype(np.uint64))
                for i in range(0, len(flat), _CHUNK)
            ]
        )
        graphs = flat[np.sort(np.unique(keys, return_index=True)[1])]
    return graphs


def connected_graphs(num_nodes: int) -> list[Data]:
    """All connected graphs on ``num_nodes`` nodes (1 to 8), one per isomorphism class, without a file.

    Example:
        >>> [len(connected_graphs(n)) for n in range(1, 7)]
        [1, 1, 2, 6, 21, 112]
    """
    return [
        undirected_data(np.argwhere(np.triu(dense)), num_nodes)
        for dense in connected_adjacency(num_nodes)
    ]


class Graph8c(InMemoryDataset):
    """All 11 117 connected graphs on eight nodes, up to isomorphism.

    Of their 61 788 286 pairs, 1-WL cannot tell 312 apart; one marked node tells all of them apart.
    Without a file the graphs are generated, in another order than in the usual file.

    Args:
        path: The graph6 file ``graph8c.g6``, the folder that holds it, or ``None`` to generate.
        transform: Applied to each graph when it is read.

    Raises:
        ValueError: If the file does not hold 11 117 graphs of eight nodes.
        FileNotFoundError: If there is no such file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__(None, transform)
        if path is None:
            graphs = connected_graphs(8)
        else:
            file = file_in(path, "graph8c.g6")
            graphs = read_graph6(file)
            if len(graphs) != NUM_CONNECTED[-1]:
                raise ValueError(f"{file} should hold 11117 graphs; got {len(graphs)}.")
            for number, graph in enumerate(graphs, start=1):
                if graph.num_nodes != 8:
                    raise ValueError(
                        f"{file}, line {number}: expected 8 nodes; got {graph.num_nodes}."
                    )
        self.data, self.slices = self.collate(graphs)
