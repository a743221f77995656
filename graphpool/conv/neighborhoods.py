"""The neighbours of every node as bags, found once per graph."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict

import torch
from torch import Tensor

from graphpool.segments import Segments


class Neighborhoods:
    """The edges of a graph as bags: one bag per receiving node, its elements read from the sending
    nodes.

    Args:
        edge_index: ``[2, E]``, senders in row 0 and receivers in row 1, in any order; a
            :class:`torch_geometric.EdgeIndex` too.
        num_senders: Number of nodes that may send.
        num_receivers: Number of nodes that may receive; default ``num_senders``.

    Attributes:
        receivers: The bag of each edge.
        senders: The node that each edge reads, as segments over the senders, so that it carries the
            transposed order that the backward pass needs.

    Raises:
        ValueError: If ``edge_index`` is not ``[2, E]`` or holds a node out of range.
    """

    def __init__(
        self, edge_index: Tensor, num_senders: int, num_receivers: int | None = None
    ) -> None:
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ValueError(
                f"`edge_index` must have shape [2, num_edges]; got {tuple(edge_index.shape)}."
            )
        if hasattr(edge_index, "as_tensor"):  # torch_geometric.EdgeIndex
            edge_index = edge_index.as_tensor()
        if num_receivers is None:
            num_receivers = num_senders
        self.receivers = Segments(index=edge_index[1], num_segments=num_receivers)
        self.senders = Segments(index=edge_index[0], num_segments=num_senders)

    @property
    def num_edges(self) -> int:
        return self.receivers.num_elements


class _Cache:
    """The last few neighbourhoods, by identity of ``edge_index``.

    All layers of a network, and all epochs over a full graph, then share one sorting. An entry
    holds the tensor weakly, and counts only while the tensor has not been written to.
    """

    def __init__(self, capacity: int = 8) -> None:
        self._entries: OrderedDict[
            tuple[int, int, int], tuple[weakref.ref[Tensor], int, Neighborhoods]
        ] = OrderedDict()
        self._capacity = capacity
        self._lock = threading.Lock()

    def get(self, edge_index: Tensor, num_senders: int, num_receivers: int) -> Neighborhoods:
        key = (id(edge_index), num_senders, num_receivers)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry[0]() is edge_index and entry[1] == edge_index._version:
                self._entries.move_to_end(key)
                return entry[2]
        found = Neighborhoods(edge_index, num_senders, num_receivers)
        with self._lock:
            for stale in [k for k, (ref, _, _) in self._entries.items() if ref() is None]:
                del self._entries[stale]
            self._entries[key] = (weakref.ref(edge_index), edge_index._version, found)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return found


_CACHE = _Cache()


def neighborhoods(
    edge_index: Tensor, num_senders: int, num_receivers: int | None = None
) -> Neighborhoods:
    """The :class:`Neighborhoods` of a graph; the same object as long as ``edge_index`` is the same
    tensor.

    Args:
        edge_index: ``[2, E]``.
        num_senders: Number of nodes that may send.
        num_receivers: Number of nodes that may receive; default ``num_senders``.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> neighborhoods(edge_index, 3).receivers.counts
        tensor([1, 2, 0])
        >>> neighborhoods(edge_index, 3) is neighborhoods(edge_index, 3)
        True
    """
    if num_receivers is None:
        num_receivers = num_senders
    if torch.compiler.is_compiling() or edge_index.is_inference():
        # A traced program has no identities, and an inference tensor no version, to go by.
        return Neighborhoods(edge_index, num_senders, num_receivers)
    return _CACHE.get(edge_index, num_senders, num_receivers)
