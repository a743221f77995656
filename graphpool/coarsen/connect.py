"""The edges of the coarse graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphpool import _debug, ops
from graphpool.coarsen.select import Selection
from graphpool.ops import check_edges, merge_edges, segment_outer
from graphpool.segments import Segments


class Connection(NamedTuple):
    """Edges of a coarse graph.

    Attributes:
        edge_index: ``[2, E']``, each once, in lexicographic order.
        selection: Which edge of the fine graph belongs to which coarse one, as edges are elements, too:
            :func:`~graphpool.coarsen.reduce` pools their attributes with any pool.
    """

    edge_index: Tensor
    selection: Selection


def connect(
    edge_index: Tensor,
    selection: Selection,
    *,
    directed: bool = True,
    self_loops: bool = False,
    max_memberships: int = 50_000_000,
) -> Connection:
    r"""Joins coarse nodes where an edge joins members of theirs.

    An edge from ``u`` to ``v`` belongs to the coarse edge from ``k`` to ``l`` for every pair of memberships
    of ``u`` in ``k`` and ``v`` in ``l``, by the product of their weights. So the sum of edge weights over a
    coarse edge is :math:`(S^\top A S)_{kl}`, and parallel edges become one. A coarse edge all of whose
    memberships have weight 0 does not exist.

    Args:
        edge_index: ``[2, E]``, integers of any kind.
        selection: Who belongs where, of the nodes.
        directed: Keeps the two directions of an edge apart. Otherwise the smaller coarse node comes first.
        self_loops: Keeps edges inside a coarse node as loops, instead of dropping them.
        max_memberships: A dense assignment to ``K`` clusters makes :math:`E K^2` memberships of edges; more
            than this raise before memory runs out.

    Raises:
        TypeError: ``edge_index`` is no integer tensor.
        ValueError: Its shape is wrong, a node is out of range, or there are too many memberships.

    Example:
        >>> square = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
        >>> halves = Selection.from_cluster(torch.tensor([0, 0, 1, 1]), num_coarse=2)
        >>> connect(square, halves).edge_index
        tensor([[0, 1],
                [1, 0]])
    """
    edge_index = _checked(edge_index, selection)
    rows, weight = None, None
    if selection.fine is None and selection.weight is None:
        ends = selection.coarse.index[edge_index]
    else:
        rows, memberships = _pairs_of_memberships(edge_index, selection, max_memberships)
        ends = selection.coarse.index[memberships]
        if selection.weight is not None:
            weight = selection.weight[memberships[0]] * selection.weight[memberships[1]]
    edges, assignment = merge_edges(ends, selection.num_coarse, directed, self_loops)
    if weight is not None:
        # The last place takes the memberships that were dropped, -1.
        exists = torch.zeros(edges.size(1) + 1, dtype=torch.bool, device=edges.device)
        exists[assignment[weight != 0]] = True
        exists[-1] = False
        number = torch.where(exists, exists.cumsum(0) - 1, -1)
        edges, assignment = edges[:, exists[:-1]], number[assignment]
    kept = (assignment >= 0).nonzero().squeeze(1)
    coarse = Segments(index=assignment[kept], num_segments=edges.size(1))
    if rows is None and kept.numel() == assignment.numel():
        return Connection(edges, Selection(coarse))
    fine = Segments(index=kept if rows is None else rows[kept], num_segments=edge_index.size(1))
    return Connection(edges, Selection(coarse, fine, None if weight is None else weight[kept]))


def connect_by_products(
    edge_index: Tensor,
    selection: Selection,
    edge_weight: Tensor | None = None,
    *,
    directed: bool = True,
    self_loops: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""The edges of :math:`S^\top A S` and their weights, for a dense assignment.

    What :func:`connect` and a sum over its selection give, as two products of matrices, without memberships
    of edges: time ``E K + N K^2`` for ``K`` clusters per graph.

    Args:
        edge_index: ``[2, E]``, integers of any kind.
        selection: Made from a dense assignment.
        edge_weight: ``[E]``; 1 if absent.
        directed: As in :func:`connect`.
        self_loops: As in :func:`connect`.

    Raises:
        ValueError: The assignment is not dense, or an edge joins two graphs.
    """
    edge_index = _checked(edge_index, selection)
    k = selection.columns
    if k is None or selection.weight is None:
        raise ValueError(f"`selection` must come from a dense assignment; got {selection!r}.")
    assignment = selection.weight.view(-1, k)
    senders = Segments(index=edge_index[0], num_segments=selection.num_fine)
    receivers = Segments(index=edge_index[1], num_segments=selection.num_fine)
    graphs = selection.coarse.index.view(-1, k)[:, 0] // max(k, 1)
    bags = Segments(index=graphs, num_segments=selection.num_coarse // max(k, 1))
    between = (graphs[edge_index[0]] != graphs[edge_index[1]]).nonzero()
    if between.numel():
        e = int(between[0])
        raise ValueError(f"`edge_index` must stay within graphs; edge {e} joins two of them.")

    def product(s: Tensor, weight: Tensor | None) -> Tensor:
        return segment_outer(s, ops.segment_sum(s, senders, weight, gather=receivers), bags)

    exists = product((assignment.detach() != 0).float(), None) > 0
    values = product(assignment, edge_weight)
    if not directed:
        loops = torch.eye(k, dtype=torch.bool, device=values.device)
        exists = (exists | exists.mT).triu()
        values = torch.where(loops, values, values + values.mT)
    if not self_loops:
        exists = exists & ~torch.eye(k, dtype=torch.bool, device=values.device)
    graph, row, column = exists.nonzero().unbind(1)
    place = (graph * k + row) * k + column
    edges = torch.stack([graph * k + row, graph * k + column])
    return edges, values.reshape(-1).index_select(0, place)


def _checked(edge_index: Tensor, selection: Selection) -> Tensor:
    _debug.refuse_vectorized(edge_index, "edge_index")
    _debug.refuse_vectorized(selection, "selection")
    return check_edges(edge_index, selection.num_fine, "edge_index")


def _pairs_of_memberships(
    edge_index: Tensor, selection: Selection, limit: int
) -> tuple[Tensor, Tensor]:
    """The edge of every pair of memberships of its ends, ``[P]``, and the pair, ``[2, P]``."""
    fine = selection.transposed().coarse
    order = fine.sort_elements(torch.arange(fine.num_elements, device=fine.device))
    first, second = fine.counts[edge_index]
    pairs = Segments.from_counts(first * second)
    if pairs.num_elements > limit:
        raise ValueError(
            f"The {edge_index.size(1)} edges would have {pairs.num_elements} memberships in coarse edges, "
            f"more than `max_memberships`, {limit}. Take fewer clusters, a sparse assignment, or raise "
            "the limit."
        )
    edge = pairs.index
    place = torch.arange(edge.numel(), device=edge.device) - pairs.ptr[edge]
    u, v = edge_index[:, edge]
    width = second[edge]
    pair = torch.stack([fine.ptr[u] + place // width, fine.ptr[v] + place % width])
    return edge, order[pair]
