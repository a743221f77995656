"""Counting substructures: exact counts per node and per graph, and random graphs to learn them on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool._arguments import check_one_of
from graphpool.datasets.graphs.circulant import circulant_edges
from graphpool.datasets.graphs.undirected import adjacency, undirected_data

Counts = NDArray[np.int64]


def _choose2(values: Counts) -> Counts:
    return values * (values - 1) // 2


def _triangles(a: Counts) -> Counts:
    return ((a @ a) * a).sum(1) // 2


def _tailed_triangles(a: Counts) -> Counts:
    return _triangles(a) * (a.sum(1) - 2)


def _chordal_cycles(a: Counts) -> Counts:
    # Two triangles on a common edge; half of the pairs per end of the chord.
    return (a * _choose2(a @ a)).sum(1)


def _stars(a: Counts) -> Counts:
    d = a.sum(1)
    return d * (d - 1) * (d - 2) // 6


def _four_cycles(a: Counts) -> Counts:
    paths = a @ a
    np.fill_diagonal(paths, 0)
    return _choose2(paths).sum(1)


def _five_cycles(a: Counts) -> Counts:
    # Closed walks of length five at a node that repeat no node: all, less those around a triangle.
    d = a.sum(1)
    a2 = a @ a
    a3 = a2 @ a
    closed = (a3 * a2).sum(1)
    t = np.diagonal(a3)
    degenerate = 2 * t * d + a @ t + ((a2 * a) @ (2 * d)) - 5 * t
    return (closed - degenerate) // 2


#: name -> (count per node, how often each occurrence is counted over all nodes)
_SUBSTRUCTURES: dict[str, tuple[Callable[[Counts], Counts], int]] = {
    "triangle": (_triangles, 3),
    "tailed_triangle": (_tailed_triangles, 1),
    "star": (_stars, 1),
    "chordal_cycle": (_chordal_cycles, 2),
    "4-cycle": (_four_cycles, 4),
    "5-cycle": (_five_cycles, 5),
}

#: The substructures that can be counted.
SUBSTRUCTURES: tuple[str, ...] = tuple(_SUBSTRUCTURES)


def count_substructures(data: Data, name: str, per_node: bool = False) -> Tensor:
    """Counts the occurrences of a substructure as a subgraph (not necessarily an induced one).

    =============== ==========================================================
    name            counted at a node
    =============== ==========================================================
    triangle        triangles through it
    tailed_triangle triangles through it, times its edges that leave the triangle
    star            choices of three of its neighbours
    chordal_cycle   pairs of triangles on a common edge (the chord) at it
    4-cycle         cycles of four nodes through it
    5-cycle         cycles of five nodes through it
    =============== ==========================================================

    Args:
        data: An undirected graph without loops; the dense adjacency matrix is built.
        name: One of :data:`SUBSTRUCTURES`.
        per_node: Return the count at each node instead of the number of occurrences in the graph.

    Returns:
        int64: ``[num_nodes]`` if ``per_node``, else ``[1]``.

    Raises:
        ValueError: If the name is unknown, or the graph is directed or has a loop.

    Example:
        >>> from graphpool.datasets import circulant_graph
        >>> count_substructures(circulant_graph(5, [1, 2]), "triangle")  # the complete graph
        tensor([10])
    """
    check_one_of(name, "name", _SUBSTRUCTURES)
    count, repeats = _SUBSTRUCTURES[name]
    at_node = torch.from_numpy(np.ascontiguousarray(count(adjacency(data))))
    return at_node if per_node else at_node.sum().view(1) // repeats


class SubstructureCounts(InMemoryDataset):
    """Random graphs with the number of occurrences of a substructure as the target ``y`` ``[1]``.

    Half of the graphs are Erdős-Rényi graphs, half random regular ones, as in *Can Graph Neural
    Networks Count Substructures?* (Chen et al., NeurIPS 2020).

    Args:
        name: One of :data:`SUBSTRUCTURES`.
        num_graphs: Number of graphs, at least 1.
        num_nodes: Number of nodes of the Erdős-Rényi graphs; the regular ones have a few more or
            fewer.
        edge_probability: Edge probability of the Erdős-Rényi graphs, in ``[0, 1]``.
        per_node: ``y`` is ``[num_nodes]``, the count at each node.
        seed: Seed of the generator.
        transform: Applied to each graph when it is read.

    Raises:
        ValueError: If an argument is out of range.
    """

    #: Number of nodes and degree of the regular graphs.
    regular_families = ((10, 6), (15, 6), (20, 5), (30, 5))

    def __init__(
        self,
        name: str,
        num_graphs: int = 1000,
        num_nodes: int = 10,
        edge_probability: float = 0.3,
        per_node: bool = False,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        if num_graphs < 1 or num_nodes < 1:
            raise ValueError(
                f"`num_graphs` and `num_nodes` must be at least 1; got {num_graphs} and {num_nodes}."
            )
        if not 0 <= edge_probability <= 1:
            raise ValueError(f"`edge_probability` must be in [0, 1]; got {edge_probability}.")
        super().__init__(None, transform)
        rng = np.random.default_rng(seed)
        graphs = []
        for number in range(num_graphs):
            if number % 2:
                n, degree = self.regular_families[rng.integers(len(self.regular_families))]
                edges = random_regular_edges(n, degree, rng)
            else:
                n = num_nodes
                low, high = np.triu_indices(n, 1)
                keep = rng.random(len(low)) < edge_probability
                edges = np.stack([low[keep], high[keep]], axis=1)
            graph = undirected_data(edges, n)
            graph.y = count_substructures(graph, name, per_node).float()
            graphs.append(graph)
        self.data, self.slices = self.collate(graphs)


def random_regular_edges(num_nodes: int, degree: int, rng: np.random.Generator) -> Counts:
    """Edges ``[m, 2]`` of a random simple ``degree``-regular graph.

    A circulant graph, whose edges ``{a, b}`` and ``{c, d}`` have been exchanged for ``{a, d}`` and
    ``{c, b}`` ten times as often as there are edges, wherever that gave a simple graph.

    Raises:
        ValueError: If there is no such graph (``degree >= num_nodes`` or ``num_nodes * degree`` odd).
    """
    if not 0 <= degree < num_nodes or num_nodes * degree % 2:
        raise ValueError(f"There is no {degree}-regular graph on {num_nodes} nodes.")
    offsets = list(range(1, degree // 2 + 1)) + ([num_nodes // 2] if degree % 2 else [])
    edges = circulant_edges(num_nodes, offsets)
    present = np.zeros((num_nodes, num_nodes), dtype=bool)
    present[edges[:, 0], edges[:, 1]] = present[edges[:, 1], edges[:, 0]] = True
    for first, second in rng.integers(len(edges), size=(10 * len(edges), 2)) if len(edges) else ():
        (a, b), (c, d) = edges[first], edges[second]
        if rng.random() < 0.5:
            c, d = d, c
        if a == d or b == c or present[a, d] or present[c, b]:
            continue
        present[a, b] = present[b, a] = present[c, d] = present[d, c] = False
        present[a, d] = present[d, a] = present[c, b] = present[b, c] = True
        edges[first], edges[second] = (a, d), (c, b)
    return edges
