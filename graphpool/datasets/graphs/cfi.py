"""Cai-Fürer-Immerman graphs: pairs that k-WL cannot tell apart, for as large a k as one wishes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch_geometric.data import Data

from graphpool.datasets.graphs.undirected import undirected_data


def cfi_graph(base_edges: Sequence[tuple[int, int]], twisted: Sequence[int] = ()) -> Data:
    r"""The Cai-Fürer-Immerman graph over a base graph.

    Every node :math:`u` of the base becomes the nodes :math:`(u, S)`, one for each even-sized set
    :math:`S` of edges at :math:`u` (:math:`2^{\deg u - 1}` of them). For every base edge
    :math:`e = \{u, v\}`, nodes :math:`(u, S)` and :math:`(v, T)` are adjacent if
    :math:`[e \in S] = [e \in T]`, or, where :math:`e` is twisted, if :math:`[e \in S] \ne [e \in T]`.
    Over a connected base, two such graphs are isomorphic exactly if their numbers of twisted edges
    have the same parity; to tell the two kinds apart takes k-WL with k of the order of the treewidth
    of the base (Cai, Fürer and Immerman, Combinatorica 1992).

    Args:
        base_edges: Edges of the base graph; every node named must lie in ``0..max``, without gaps.
        twisted: Positions of the twisted edges in ``base_edges``.

    Returns:
        The graph; ``gadget`` ``[num_nodes]`` says which base node each node belongs to.

    Raises:
        ValueError: If there are no edges, an edge is a loop or occurs twice, a node of the base is
            isolated, or ``twisted`` names an edge that does not exist or one twice.

    Example:
        >>> cfi_graph([(0, 1), (1, 2), (2, 0)]).num_nodes  # two triangles, or a hexagon when twisted
        6
    """
    edges = [(int(a), int(b)) for a, b in base_edges]
    if not edges:
        raise ValueError("`base_edges` must hold at least one edge; got none.")
    if any(a == b for a, b in edges):
        raise ValueError("`base_edges` must not hold a loop.")
    if len({frozenset(edge) for edge in edges}) != len(edges):
        raise ValueError("`base_edges` must hold every edge once.")
    if len(set(twisted)) != len(twisted) or not all(0 <= t < len(edges) for t in twisted):
        raise ValueError(
            f"`twisted` must hold distinct positions in 0..{len(edges) - 1}; got {list(twisted)}."
        )
    num_base = max(max(edge) for edge in edges) + 1
    at: list[list[int]] = [[] for _ in range(num_base)]
    for position, (a, b) in enumerate(edges):
        at[a].append(position)
        at[b].append(position)
    nodes: list[tuple[int, frozenset[int]]] = []
    members: list[list[int]] = []
    for base, incident in enumerate(at):
        if not incident:
            raise ValueError(f"Node {base} of the base has no edge.")
        members.append([])
        for size in range(0, len(incident) + 1, 2):
            for chosen in combinations(incident, size):
                members[-1].append(len(nodes))
                nodes.append((base, frozenset(chosen)))
    flipped = set(twisted)
    pairs = [
        (i, j)
        for position, (a, b) in enumerate(edges)
        for i in members[a]
        for j in members[b]
        if ((position in nodes[i][1]) == (position in nodes[j][1])) != (position in flipped)
    ]
    graph = undirected_data(np.array(pairs, dtype=np.int64), len(nodes))
    graph.gadget = torch.tensor([base for base, _ in nodes])
    return graph


def cfi_pair(base_edges: Sequence[tuple[int, int]]) -> tuple[Data, Data]:
    """The untwisted graph over a base, and the one with its first edge twisted: never isomorphic
    over a connected base."""
    return cfi_graph(base_edges), cfi_graph(base_edges, (0,))
