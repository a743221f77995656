"""Connected components, and the contraction of a graph by clusters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, as_edges, as_indices, check_one_of


class Contraction(NamedTuple):
    """What :func:`contract_edges` and :func:`merge_edges` return.

    Attributes:
        edges: ``[2, M']``, each once, in lexicographic order.
        assignment: ``[M]``, the new edge of each old edge; -1 where it was dropped as a loop.
    """

    edges: Tensor
    assignment: Tensor


def connected_components(edges: Tensor, num_nodes: int, method: str = "auto") -> Tensor:
    """The connected component of each node of an undirected graph.

    Args:
        edges: Integer tensor ``[2, M]``; each edge may be given in one direction or in both.
        num_nodes: The number of nodes ``N``; nodes without an edge are components of their own.
        method: ``"scipy"`` (compiled, on the CPU), ``"propagation"`` (label propagation with pointer
            jumping, on any device: about ``log N`` rounds) or ``"auto"``, which takes the first for
            CPU tensors and the second otherwise.

    Returns:
        Integer tensor ``[N]`` with values ``0, ..., K - 1``. Components are numbered in the order of
        their smallest nodes, so that both methods give the same answer.

    Raises:
        TypeError: ``edges`` is not an integer tensor.
        ValueError: Its shape is wrong, a node is out of range, or ``method`` is unknown.

    Example:
        >>> connected_components(torch.tensor([[3, 1], [1, 4]]), num_nodes=6)
        tensor([0, 1, 2, 1, 1, 3])
    """
    num_nodes = as_count(num_nodes, "num_nodes", least=0)
    edges = check_edges(edges, num_nodes)
    check_one_of(method, "method", ("auto", "scipy", "propagation"))
    if num_nodes == 0:
        return edges.new_zeros(0, dtype=torch.long)
    if method == "scipy" or (method == "auto" and edges.device.type == "cpu"):
        smallest = _smallest_by_scipy(edges, num_nodes)
    else:
        smallest = _smallest_by_propagation(edges, num_nodes)
    is_root = smallest == torch.arange(num_nodes, device=edges.device)
    return (is_root.long().cumsum(0) - 1)[smallest]


def _smallest_by_scipy(edges: Tensor, num_nodes: int) -> Tensor:
    """The smallest node of the component of each node."""
    import numpy as np
    from scipy.sparse import coo_matrix, csgraph

    row, col = edges.cpu().numpy()
    ones = np.ones(row.size, dtype=np.int8)
    matrix = coo_matrix((ones, (row, col)), shape=(num_nodes, num_nodes)).tocsr()
    _, labels = csgraph.connected_components(matrix, directed=False)
    _, first = np.unique(labels, return_index=True)
    return torch.from_numpy(first[labels].astype(np.int64)).to(edges.device)


def _smallest_by_propagation(edges: Tensor, num_nodes: int) -> Tensor:
    """As :func:`_smallest_by_scipy`, by hooking and pointer jumping."""
    label = torch.arange(num_nodes, device=edges.device)
    u, v = edges
    while True:
        smaller = torch.minimum(label[u], label[v])
        # Hooking the roots as well as the ends lets whole trees merge in one round.
        target = torch.cat([u, v, label[u], label[v]])
        hooked = label.scatter_reduce(0, target, smaller.repeat(4), "amin")
        hooked = hooked[hooked]
        hooked = hooked[hooked]
        if torch.equal(hooked, label):
            return label
        label = hooked


def contract_edges(edges: Tensor, cluster: Tensor, directed: bool = False) -> Contraction:
    """The graph of clusters: two clusters are joined if an edge joins any of their members.

    Parallel edges collapse into one and edges inside a cluster disappear.

    Args:
        edges: Integer tensor ``[2, M]``.
        cluster: Integer tensor ``[N]``, the cluster of each node.
        directed: Keeps the two directions of an edge apart. Otherwise the smaller cluster comes
            first in every new edge.

    Returns:
        The new edges and the assignment of old edges to them.

    Raises:
        TypeError: ``edges`` is not an integer tensor.
        ValueError: Its shape is wrong, a node is out of range, or a cluster is negative.

    Example:
        >>> edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
        >>> contract_edges(edges, torch.tensor([0, 0, 1, 2]))
        Contraction(edges=tensor([[0, 0, 1],
                [1, 2, 2]]), assignment=tensor([-1,  0,  2,  1,  0]))
    """
    # Pairs of clusters are told apart by a number that int32 cannot hold.
    cluster = as_indices(cluster, "cluster")
    edges = check_edges(edges, cluster.numel())
    if cluster.numel() and int(cluster.min()) < 0:
        first = int((cluster < 0).nonzero()[0])
        raise ValueError(f"`cluster` must be >= 0; got {int(cluster[first])} at position {first}.")
    count = int(cluster.max()) + 1 if cluster.numel() else 0
    return merge_edges(cluster[edges], count, directed)


def merge_edges(
    edges: Tensor, num_nodes: int, directed: bool = True, self_loops: bool = False
) -> Contraction:
    """Makes one edge of parallel ones.

    Args:
        edges: int64 tensor ``[2, M]``.
        num_nodes: The number of nodes.
        directed: As in :func:`contract_edges`.
        self_loops: Keeps edges from a node to itself, which are dropped otherwise.

    Example:
        >>> merge_edges(torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]]), num_nodes=2)
        Contraction(edges=tensor([[0, 1],
                [1, 0]]), assignment=tensor([ 1, -1,  1,  0]))
    """
    a, b = edges
    if not directed:
        a, b = torch.minimum(a, b), torch.maximum(a, b)
    kept = torch.arange(a.numel(), device=a.device) if self_loops else (a != b).nonzero().squeeze(1)
    divisor = max(num_nodes, 1)
    key, inverse = distinct(a[kept] * divisor + b[kept], divisor * divisor)
    assignment = edges.new_full((edges.size(1),), -1)
    assignment[kept] = inverse
    new = torch.stack([key.div(divisor, rounding_mode="floor"), key % divisor])
    return Contraction(new, assignment)


def distinct(key: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The distinct ones of integers in ``[0, limit)``, ascending, and the place of each."""
    if limit > key.numel():
        return torch.unique(key, return_inverse=True)
    occurs = torch.zeros(limit, dtype=torch.bool, device=key.device)
    occurs[key] = True
    return occurs.nonzero().squeeze(1), (occurs.cumsum(0) - 1)[key]


def check_edges(edges: Tensor, num_nodes: int, name: str = "edges") -> Tensor:
    """``edges`` as int64 ``[2, M]``, which lie in ``[0, num_nodes)`` (looked at on the CPU only).

    Raises:
        TypeError: They are no integers.
        ValueError: They have another shape, or name a node that is not there.
    """
    edges = as_edges(edges, name)
    if _debug.values_are_checked(edges.device) and edges.numel():
        low, high = (int(value) for value in edges.aminmax())
        if low < 0 or high >= num_nodes:
            position = int(((edges < 0) | (edges >= num_nodes)).any(0).nonzero()[0])
            raise ValueError(
                f"`{name}` must join nodes in [0, {num_nodes}); edge {position} is "
                f"({int(edges[0, position])}, {int(edges[1, position])})."
            )
    return edges
