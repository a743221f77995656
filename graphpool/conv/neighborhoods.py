"""The neighbours of every node as bags, found once per graph."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import is_sparse, is_torch_sparse_tensor, to_edge_index

from graphpool import _debug
from graphpool._arguments import as_count, as_edges
from graphpool.segments import Segments


class Neighborhoods:
    """The edges of a graph as bags: one bag per receiving node, its elements read from the sending
    nodes.

    Every convolution, and :class:`~graphpool.models.GraphModel`, takes one in place of ``edge_index``.
    It sorts the edges once, however many layers and epochs read it, and is its own copy: what is
    written to ``edge_index`` later changes nothing here.

    Args:
        edge_index: ``[2, E]``, integers, senders in row 0 and receivers in row 1, in any order; a
            :class:`torch_geometric.EdgeIndex` too. Or a sparse adjacency ``[receivers, senders]``
            (``adj_t`` in PyG): ``torch.sparse`` COO, CSR or CSC, or ``torch_sparse.SparseTensor``.
        num_senders: Number of nodes that may send.
        num_receivers: Number of nodes that may receive; default ``num_senders``.

    Attributes:
        receivers: The bag of each edge.
        senders: The node that each edge reads, as segments over the senders, so that it carries the
            transposed order that the backward pass needs.
        values: What a sparse adjacency holds for each edge, ``[E, ...]``; ``None`` where it holds
            nothing, or only ones.

    Raises:
        TypeError: If ``edge_index`` is none of these.
        ValueError: If its shape does not fit, or it holds a node out of range.

    Example:
        >>> graph = Neighborhoods(torch.tensor([[0, 1, 2], [1, 0, 1]]), 3)
        >>> graph.receivers.counts
        tensor([1, 2, 0])
        >>> graph
        Neighborhoods(num_senders=3, num_receivers=3, num_edges=3)
    """

    def __init__(self, edge_index: Any, num_senders: int, num_receivers: int | None = None) -> None:
        num_senders = as_count(num_senders, "num_senders", least=0)
        if num_receivers is None:
            num_receivers = num_senders
        num_receivers = as_count(num_receivers, "num_receivers", least=0)
        self.values: Tensor | None = None
        if is_sparse(edge_index):
            shape = (int(edge_index.size(0)), int(edge_index.size(1)))
            if shape != (num_receivers, num_senders):
                raise ValueError(
                    f"A sparse adjacency must be [receivers, senders] = "
                    f"[{num_receivers}, {num_senders}]; got {list(shape)}."
                )
            source, target, self.values = sparse_entries(edge_index)
        else:
            source, target = _edges(edge_index)
        self.receivers = Segments(index=target, num_segments=num_receivers, name="edge_index[1]")
        self.senders = Segments(index=source, num_segments=num_senders, name="edge_index[0]")

    @property
    def num_edges(self) -> int:
        return self.receivers.num_elements

    @property
    def device(self) -> torch.device:
        return self.receivers.device

    @property
    def edge_index(self) -> Tensor:
        """``[2, E]``: the edges, in their order."""
        return torch.stack([self.senders.index, self.receivers.index])

    def reverse(self) -> Neighborhoods:
        """The graph with every edge turned round."""
        other = object.__new__(type(self))
        other.senders, other.receivers, other.values = self.receivers, self.senders, self.values
        return other

    def to(self, device: torch.device | str) -> Neighborhoods:
        """The same graph on another device, with the orders found so far."""
        other = object.__new__(type(self))
        other.senders, other.receivers = self.senders.to(device), self.receivers.to(device)
        other.values = None if self.values is None else self.values.to(device)
        return other

    def holds(self, edge_index: Tensor) -> bool:
        """Whether these are the edges of ``edge_index`` ``[2, E]``, in the same order."""
        if edge_index.device != self.device or edge_index.shape != (2, self.num_edges):
            return False
        source, target = _edges(edge_index)
        return torch.equal(source, self.senders.index) and torch.equal(target, self.receivers.index)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_senders={self.senders.num_segments}, "
            f"num_receivers={self.receivers.num_segments}, num_edges={self.num_edges})"
        )


def _edges(edge_index: Any) -> Tensor:
    return as_edges(
        edge_index,
        expected="an integer tensor [2, E], a sparse adjacency or Neighborhoods",
    )


def sparse_entries(adjacency: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Senders, receivers and values of a sparse ``[receivers, senders]``."""
    if not is_torch_sparse_tensor(adjacency):  # torch_sparse.SparseTensor
        target, source, values = adjacency.coo()
    elif adjacency.layout == torch.sparse_coo:
        if not adjacency.is_coalesced() and _may_be_learned(adjacency):
            # Only values that are coalesced have a derivative; weights of double edges add up.
            if adjacency.dense_dim():
                raise ValueError(
                    "A sparse adjacency whose values are edge features and want a derivative must be "
                    "coalesced; got one that is not. Call `.coalesce()`, or give `edge_attr`."
                )
            adjacency = adjacency.coalesce()
        if adjacency.is_coalesced():
            (target, source), values = adjacency.indices(), adjacency.values()
        else:
            # Coalescing would add up the values of double edges.
            (target, source), values = adjacency._indices(), adjacency._values()
    else:
        (target, source), values = to_edge_index(adjacency)
    if values is None or _may_be_learned(values) or values.dim() > 1:
        return source, target, values
    return source, target, None if bool((values == 1).all()) else values


def _may_be_learned(x: Tensor) -> bool:
    # A transform does not show which tensors it differentiates by.
    return x.requires_grad or _debug.inside_transform()


class _Memory:
    """The last few neighbourhoods on the CPU, found by the tensor that described them.

    All layers of a network, and all epochs over a full graph, then share one sorting. A tensor can be
    written to in ways that leave no trace (``.data``, NumPy, another process), so that an entry
    counts only where the tensor still holds what was sorted: one pass, cheap beside the sorting. It
    holds the tensor weakly.
    """

    def __init__(self, capacity: int = 8) -> None:
        self._entries: OrderedDict[
            tuple[int, int, int], tuple[weakref.ref[Tensor], Neighborhoods]
        ] = OrderedDict()
        self._capacity = capacity
        self._lock = threading.Lock()

    def get(self, edge_index: Tensor, num_senders: int, num_receivers: int) -> Neighborhoods:
        key = (id(edge_index), num_senders, num_receivers)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
        if entry is not None and entry[0]() is edge_index and entry[1].holds(edge_index):
            return entry[1]
        found = Neighborhoods(edge_index, num_senders, num_receivers)
        with self._lock:
            for dead in [k for k, (ref, _) in self._entries.items() if ref() is None]:
                del self._entries[dead]
            self._entries[key] = (weakref.ref(edge_index), found)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return found


_MEMORY = _Memory()


def neighborhoods(
    edge_index: Any, num_senders: int, num_receivers: int | None = None
) -> Neighborhoods:
    """The :class:`Neighborhoods` of a graph.

    On the CPU the same object comes back as long as ``edge_index`` is the same tensor with the same
    contents. Elsewhere, comparing them would stall the device: each call sorts again, unless one
    :class:`Neighborhoods` is made and passed on.

    Args:
        edge_index: ``[2, E]``, a sparse adjacency, or :class:`Neighborhoods`, returned as they are.
        num_senders: Number of nodes that may send.
        num_receivers: Number of nodes that may receive; default ``num_senders``.

    Raises:
        ValueError: If :class:`Neighborhoods` were made for other numbers of nodes.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> neighborhoods(edge_index, 3).receivers.counts
        tensor([1, 2, 0])
        >>> neighborhoods(edge_index, 3) is neighborhoods(edge_index, 3)
        True
    """
    if num_receivers is None:
        num_receivers = num_senders
    if isinstance(edge_index, Neighborhoods):
        made_for = (edge_index.senders.num_segments, edge_index.receivers.num_segments)
        if made_for != (num_senders, num_receivers):
            raise ValueError(
                f"`edge_index` is Neighborhoods of {made_for[0]} senders and {made_for[1]} receivers, "
                f"but `x` has {num_senders} and {num_receivers}."
            )
        return edge_index
    if _can_be_compared(edge_index):
        return _MEMORY.get(edge_index, num_senders, num_receivers)
    return Neighborhoods(edge_index, num_senders, num_receivers)


def _can_be_compared(edge_index: Any) -> bool:
    return (
        isinstance(edge_index, Tensor)
        and not is_torch_sparse_tensor(edge_index)
        and _debug.values_are_checked(edge_index.device)
        and edge_index.device.type == "cpu"
    )
