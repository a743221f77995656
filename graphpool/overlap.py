"""What the neighbourhoods of two nodes share: bags that belong to pairs of nodes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, as_edges
from graphpool.ragged import ragged_gather
from graphpool.segments import Segments

__all__ = [
    "Overlap",
    "PairBags",
    "Wedges",
    "joined",
    "neighborhood_overlap",
    "wedges",
    "without_links",
]


class PairBags(NamedTuple):
    """One bag of nodes for each pair; a pool takes it as ``pool(x, bags.segments, gather=bags.nodes)``.

    Attributes:
        nodes: The nodes of all bags, ``[M]``, ascending within a bag.
        segments: Which pair each belongs to; many bags are empty.
    """

    nodes: Tensor
    segments: Segments


class Overlap(NamedTuple):
    """Neighbours of both nodes of a pair, of the first alone, and of the second alone."""

    common: PairBags
    first: PairBags
    second: PairBags


def neighborhood_overlap(edge_index: Tensor, pairs: Tensor, num_nodes: int) -> Overlap:
    r"""For pairs :math:`(i, j)` the bags :math:`N(i) \cap N(j)`, :math:`N(i) \setminus N(j)`,
    :math:`N(j) \setminus N(i)`.

    :math:`N(i)` is the set of nodes with an edge to ``i``: repeated edges count once, self-loops put a node
    into its own neighbourhood. Where ``edge_index`` holds the pair itself, each end is a neighbour of the
    other.

    All sorted rows of both sides are merged at once, in :math:`O(M \log M)` for :math:`M` entries.

    Args:
        edge_index: ``[2, E]``, senders and receivers; both directions of an undirected graph.
        pairs: ``[2, P]``.
        num_nodes: Number of nodes.

    Raises:
        TypeError: An argument does not hold integers.
        ValueError: A shape does not fit, or a node lies outside ``[0, num_nodes)``.

    Example:
        >>> edges = torch.tensor([[0, 2, 1, 2, 0, 3], [2, 0, 2, 1, 3, 0]])
        >>> overlap = neighborhood_overlap(edges, torch.tensor([[0, 2], [1, 3]]), num_nodes=4)
        >>> overlap.common.nodes.tolist(), overlap.common.segments.index.tolist()
        ([2, 0], [0, 1])
        >>> overlap.first.nodes.tolist()  # 3 is a neighbour of 0 and not of 1; 1 of 2 and not of 3
        [3, 1]
    """
    size = as_count(num_nodes, "num_nodes", least=0)
    ptr, senders = _rows(checked_edges(edge_index, "edge_index", size), size)
    ends = checked_edges(pairs, "pairs", size)
    # Rows are ascending and pairs come in order, so that both lists of keys are sorted without a sort.
    first, second = (_keys(ptr, senders, end, size) for end in ends)
    shared = _among(first, second)
    return Overlap(
        *(
            PairBags(keys % max(size, 1), _bags(keys, size, ends.size(1)))
            for keys in (first[shared], first[~shared], second[~_among(second, first)])
        )
    )


def without_links(edge_index: Tensor, pairs: Tensor, num_nodes: int) -> Tensor:
    """``edge_index`` without the edges that join the nodes of ``pairs``, in either direction.

    A network that learns to tell links from pairs must not see the links it is asked about.

    Raises:
        TypeError: An argument does not hold integers.
        ValueError: A shape does not fit, or a node lies outside ``[0, num_nodes)``.

    Example:
        >>> without_links(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([[2], [1]]), num_nodes=3)
        tensor([[0, 2],
                [1, 0]])
    """
    return edge_index[:, ~joined(edge_index, pairs, num_nodes)]


def joined(edge_index: Tensor, pairs: Tensor, num_nodes: int) -> Tensor:
    """Which columns of ``edge_index`` are among ``pairs``, in either direction; boolean ``[E]``."""
    named = ((edge_index, "edge_index"), (pairs, "pairs"))
    both = (checked_edges(edges, name, num_nodes) for edges, name in named)
    keys, other = (edges.amin(0) * num_nodes + edges.amax(0) for edges in both)
    return _among(keys, other.sort().values)


class Wedges(NamedTuple):
    """The ways over a third node: one bag for each of ``P`` pairs, and then for each of ``N`` nodes.

    Attributes:
        first: The pair ``(u, w)`` of each way u-w-v, ``[W]``; ``P + u`` stands for the node ``u`` itself.
        second: The pair ``(w, v)``.
        segments: The pair ``(u, v)``.
    """

    first: Tensor
    second: Tensor
    segments: Segments


def wedges(pairs: Tensor, num_nodes: int) -> Wedges:
    """The wedges of pairs, over pairs that are there and over nodes themselves.

    Args:
        pairs: ``[2, P]``, each once, in either order, without loops.
        num_nodes: Number of nodes ``N``.

    Raises:
        TypeError: ``pairs`` does not hold integers.
        ValueError: A pair repeats or is a loop, a node is not there, or the shape is wrong.

    Example:
        >>> found = wedges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> own = found.segments.index == 0  # from 0 to 1, over 0 itself and over 1 itself
        >>> found.first[own].tolist(), found.second[own].tolist()
        ([2, 0], [0, 3])
    """
    size = as_count(num_nodes, "num_nodes", least=0)
    pairs = checked_edges(pairs, "pairs", size)
    loops = torch.arange(size, device=pairs.device).expand(2, size)
    entries = torch.cat([pairs, loops], 1)
    keys, place = (entries.amin(0) * size + entries.amax(0)).sort()
    if bool((keys[1:] == keys[:-1]).any()):
        raise ValueError(
            "`pairs` must name each pair of two nodes once, in one order; got one that repeats, or a loop."
        )
    edges = torch.cat([entries, pairs.flip(0)], 1)
    middle, segments = neighborhood_overlap(edges, entries, size).common
    ends = entries[:, segments.index]
    asked = torch.minimum(ends, middle) * size + torch.maximum(ends, middle)
    first, second = place[torch.searchsorted(keys, asked)]
    return Wedges(first, second, segments)


def checked_edges(edges: Tensor, name: str, num_nodes: int) -> Tensor:
    """``edges`` as int64 ``[2, E]``, all of whose nodes are there."""
    size = as_count(num_nodes, "num_nodes", least=0)
    edges = as_edges(edges, name, f"an integer tensor [2, {'P' if name == 'pairs' else 'E'}]")
    if _debug.values_are_checked(edges.device) and edges.numel():
        low, high = (int(v) for v in edges.aminmax())
        if low < 0 or high >= size:
            raise ValueError(
                f"`{name}` must lie in [0, {size}), the nodes there are; got {low if low < 0 else high}."
            )
    return edges


def distinct(edges: Tensor, size: int) -> Tensor:
    """Every edge once, sorted by its first node and then its second."""
    # As single numbers, which sort many times as fast as columns.
    keys = (edges[0] * size + edges[1]).unique()
    return torch.stack([keys // max(size, 1), keys % max(size, 1)])


def _rows(edges: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The senders of every receiver, each once and ascending, as offsets and nodes."""
    receivers, senders = distinct(edges.flip(0), size)
    return torch._convert_indices_from_coo_to_csr(receivers, size), senders


def _keys(ptr: Tensor, senders: Tensor, rows: Tensor, size: int) -> Tensor:
    owner, position = ragged_gather(ptr, rows)
    return owner * size + senders[position]


def _among(keys: Tensor, other: Tensor) -> Tensor:
    """Which keys are among others, which are sorted."""
    if other.numel() == 0:
        return torch.zeros_like(keys, dtype=torch.bool)
    return other[torch.searchsorted(other, keys).clamp_max(other.numel() - 1)] == keys


def _bags(keys: Tensor, size: int, pairs: int) -> Segments:
    return Segments(index=keys // max(size, 1), num_segments=pairs, is_sorted=True)
