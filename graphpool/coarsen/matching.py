"""Pairs of nodes, and nodes far apart, chosen greedily: in rounds, and as one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.segments import Segments

# Multiples of it, modulo 2^32, are spread evenly and ascend for three steps at most.
_SPREAD = 2654435769


def descending(score: Tensor, bags: Segments) -> Tensor:
    """Positions in the order of descending scores.

    Ties are broken by a fixed shuffle of the places in a bag: the same wherever the bag stands in a batch,
    and not the order of the numbers, by which a path would take a round for each of its edges.

    Args:
        score: ``[M]``.
        bags: The graph of each element.
    """
    place = torch.arange(score.numel(), device=score.device)
    place = place - bags.ptr.index_select(0, bags.sort_elements(bags.index))
    if bags.perm is not None:
        place = torch.empty_like(place).index_copy(0, bags.perm, place)
    order = ((place + 1) * _SPREAD % 2**32).argsort()
    return order[score.detach()[order].argsort(descending=True, stable=True)]


def greedy_matching(pairs: Tensor, order: Tensor, num_nodes: int) -> Tensor:
    """The pairs that survive if each, in ``order``, is accepted unless one of its nodes is taken.

    In every round the pairs that come first at both of their nodes are accepted, which gives the same result
    as going through them one by one.

    Args:
        pairs: ``[2, E]``, two different nodes each.
        order: A permutation of the pairs.
        num_nodes: The number of nodes.

    Returns:
        Boolean mask ``[E]``.

    Example:
        >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> greedy_matching(path, torch.tensor([1, 0, 2]), num_nodes=4)
        tensor([False,  True, False])
    """
    u, v = pairs
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device)
    accepted = torch.zeros(order.numel(), dtype=torch.bool, device=order.device)
    taken = torch.zeros(num_nodes, dtype=torch.bool, device=order.device)
    alive = torch.arange(order.numel(), device=order.device)
    while alive.numel():
        best = order.new_full((num_nodes,), order.numel())
        for end in (u[alive], v[alive]):
            best = best.scatter_reduce(0, end, rank[alive], "amin")
        first = (rank[alive] == best[u[alive]]) & (rank[alive] == best[v[alive]])
        accepted[alive[first]] = True
        taken[u[alive[first]]] = True
        taken[v[alive[first]]] = True
        alive = alive[~(taken[u[alive]] | taken[v[alive]])]
    return accepted


def independent_set(
    edge_index: Tensor, order: Tensor, num_nodes: int, k: int = 1
) -> tuple[Tensor, Tensor]:
    """Centres more than ``k`` steps apart, taken greedily in ``order``, and the nearest of each node.

    A node is a centre unless one before it in ``order`` lies within ``k`` steps, either way along edges. Of
    several nearest centres a node belongs to the first in ``order``.

    Returns:
        The centres in ascending order, and for each node the place of its centre among them.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> independent_set(path, torch.tensor([1, 0, 2, 3, 4]), num_nodes=5)
        (tensor([1, 3]), tensor([0, 0, 0, 1, 1]))
    """
    ends = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(num_nodes, device=order.device)

    def nearby(value: Tensor) -> Tensor:
        return value.scatter_reduce(0, ends[1], value[ends[0]], "amin")

    nobody = torch.full_like(rank, num_nodes)
    centre = torch.zeros(num_nodes, dtype=torch.bool, device=order.device)
    alive = torch.ones_like(centre)
    while bool(alive.any()):
        first = torch.where(alive, rank, nobody)
        for _ in range(k):
            first = nearby(first)
        centre |= alive & (first == rank)
        reached = torch.where(centre, 0, 1)
        for _ in range(k):
            reached = nearby(reached)
        alive &= reached == 1
    owner = torch.where(centre, rank, nobody)
    for _ in range(k):
        owner = torch.where(owner < num_nodes, owner, nearby(owner))
    return centre.nonzero().squeeze(1), (centre.cumsum(0) - 1)[order[owner]]
