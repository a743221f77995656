"""Strongly regular graphs, and the SR25 data set."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch_geometric.data import Data, InMemoryDataset

from graphpool.datasets.graphs.undirected import adjacency, read_graph6
from graphpool.datasets.on_disk import file_in


def strongly_regular_parameters(data: Data) -> tuple[int, int, int, int]:
    r"""The parameters :math:`(n, k, \lambda, \mu)` of a strongly regular graph.

    Every node has :math:`k` neighbours, adjacent nodes share :math:`\lambda` of them, others :math:`\mu`.

    Raises:
        ValueError: If the graph is not strongly regular, or complete or empty (where :math:`\mu` or
            :math:`\lambda` has no meaning); the message names the first node or pair that differs.

    Example:
        >>> from graphpool.datasets import circulant_graph
        >>> strongly_regular_parameters(circulant_graph(5, [1]))
        (5, 2, 0, 1)
    """
    dense = adjacency(data)
    n = len(dense)
    degree = dense.sum(1)
    uneven = np.flatnonzero(degree != degree[:1])
    if uneven.size:
        raise ValueError(
            f"The graph is not regular: node 0 has degree {degree[0]}, "
            f"node {uneven[0]} has degree {degree[uneven[0]]}."
        )
    common = dense @ dense
    found = []
    for name, mask in (("adjacent", dense == 1), ("non-adjacent", dense == 0)):
        pairs = np.argwhere(mask & ~np.eye(n, dtype=bool))
        if not len(pairs):
            raise ValueError(f"The graph has no {name} pairs.")
        shared = common[pairs[:, 0], pairs[:, 1]]
        other = np.flatnonzero(shared != shared[0])
        if other.size:
            (a, b), (c, d) = pairs[0], pairs[other[0]]
            raise ValueError(
                f"The {name} nodes ({a}, {b}) share {shared[0]} neighbours, "
                f"({c}, {d}) share {shared[other[0]]}."
            )
        found.append(int(shared[0]))
    return n, int(degree[0]), found[0], found[1]


class SR25(InMemoryDataset):
    """The 15 strongly regular graphs with parameters (25, 12, 5, 6), each its own class.

    1-WL, one marked node and 2-FWL separate none of the 105 pairs; two marked nodes separate all.
    The file is checked: copies of it in circulation hold two damaged graphs, which 1-WL then tells
    apart from the others.

    Args:
        path: The graph6 file ``sr251256.g6``, or the folder that holds it.
        transform: Applied to each graph when it is read.

    Raises:
        ValueError: If there are not 15 graphs or one of them has other parameters.
        FileNotFoundError: If there is no such file.
    """

    parameters = (25, 12, 5, 6)

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__(None, transform)
        file = file_in(path, "sr251256.g6")
        graphs = read_graph6(file)
        if len(graphs) != 15:
            raise ValueError(f"{file} should hold 15 graphs; got {len(graphs)}.")
        for number, graph in enumerate(graphs):
            try:
                found = strongly_regular_parameters(graph)
            except ValueError as error:
                raise ValueError(f"{file}, line {number + 1}: {error}") from error
            if found != self.parameters:
                raise ValueError(
                    f"{file}, line {number + 1}: expected the strongly regular parameters "
                    f"{self.parameters}; got {found}."
                )
            graph.y = torch.tensor([number])
        self.data, self.slices = self.collate(graphs)
