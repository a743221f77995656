"""A mini-batch of graphs, checked once, in the form the constructions of labelled copies need."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from graphpool._arguments import as_edges
from graphpool.ragged import ragged_gather, ragged_offsets
from graphpool.segments import Segments, graph_segments


class GraphBatch:
    """A mini-batch of graphs.

    Args:
        edge_index: ``[2, E]``, source and target of every edge.
        num_nodes: Number of nodes of the whole batch, N.
        batch: Graph of every node ``[N]``, in any order, or :class:`~graphpool.Segments`; ``None`` for a
            single graph. Here nodes are numbered in the order of their graphs.
        batch_size: Number of graphs, required with a tensor ``batch``.

    Attributes:
        order: The caller's number of each node ``[N]``; ``None`` where nodes came in the order of their
            graphs.
        edge_index: The edges, in their order.
        batch: Graph of each node, sorted.
        counts: Nodes of each graph ``[B]``.
        ptr: First node of each graph ``[B + 1]``.
        source: Source of each edge, edges sorted by target, then source ``[E]``.
        target: Their targets.
        edge_id: Their positions in ``edge_index``.
        in_order: Whether the edges came in this order.

    Raises:
        TypeError: If an index is no integer tensor.
        ValueError: If shapes or values do not fit, or an edge joins two graphs.
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
    ) -> None:
        edge_index = as_edges(edge_index)
        bags = graph_segments(batch, batch_size, num_nodes, edge_index.device)
        self.order = bags.perm
        self.num_nodes, self.num_graphs = num_nodes, bags.num_segments
        self.batch, self.counts, self.ptr = self.sort_nodes(bags.index), bags.counts, bags.ptr
        self._sort_edges(edge_index)

    def _sort_edges(self, edge_index: Tensor) -> None:
        if edge_index.numel():
            low, high = edge_index.aminmax()
            if int(low) < 0 or int(high) >= self.num_nodes:
                raise ValueError(
                    f"`edge_index` must lie in [0, {self.num_nodes}), the nodes of `x`; "
                    f"got values from {int(low)} to {int(high)}."
                )
        if self.order is not None:
            place = torch.empty_like(self.order)
            place[self.order] = torch.arange(self.num_nodes, device=place.device)
            edge_index = place[edge_index]
        self.edge_index = edge_index
        source, target = edge_index
        crossing = (self.batch[source] != self.batch[target]).nonzero()
        if crossing.numel():
            edge = int(crossing[0])
            ends = edge_index[:, edge] if self.order is None else self.order[edge_index[:, edge]]
            raise ValueError(
                f"`edge_index` must stay within graphs; edge {edge} joins nodes {int(ends[0])} and "
                f"{int(ends[1])} of different graphs."
            )
        key = target * self.num_nodes + source
        self.in_order = bool((key[1:] >= key[:-1]).all())
        if self.in_order:
            self.edge_id = torch.arange(key.numel(), device=key.device)
            self.source, self.target, self._keys = source, target, key
        else:
            self._keys, self.edge_id = key.sort(stable=True)
            self.source, self.target = source[self.edge_id], target[self.edge_id]

    def sort_nodes(self, values: Tensor) -> Tensor:
        """Rows of the caller's nodes in the order of their graphs."""
        return values if self.order is None else values.index_select(0, self.order)

    def as_given(self, values: Tensor) -> Tensor:
        """Rows of nodes in the caller's order."""
        if self.order is None:
            return values
        return torch.empty_like(values).index_copy(0, self.order, values)

    @property
    def device(self) -> torch.device:
        return self.batch.device

    @cached_property
    def local(self) -> Tensor:
        """Number of each node within its graph, ``[N]``."""
        return torch.arange(self.num_nodes, device=self.device) - self.ptr[self.batch]

    @cached_property
    def in_ptr(self) -> Tensor:
        """CSR offsets ``[N + 1]``: incoming edges of each node among :attr:`source`."""
        return ragged_offsets(torch.bincount(self.target, minlength=self.num_nodes))

    @cached_property
    def edge_ptr(self) -> Tensor:
        """First edge of each graph among the sorted edges, ``[B + 1]``."""
        return self.in_ptr[self.ptr]

    @cached_property
    def is_undirected(self) -> bool:
        """Whether every edge has its reverse."""
        if self.source.numel() == 0:
            return True
        reverse = (self.source * self.num_nodes + self.target).sort().values
        return bool((reverse == self._keys).all())

    def require_undirected(self, what: str) -> None:
        """Raises a ValueError that names an edge without reverse, if there is one."""
        if self.is_undirected:
            return
        reverse = self.source * self.num_nodes + self.target
        lone = ~torch.isin(reverse, self._keys)
        if bool(lone.any()):
            edge = int(lone.nonzero()[0])
            a, b = int(self.source[edge]), int(self.target[edge])
            raise ValueError(
                f"{what} needs an undirected graph, but edge ({a}, {b}) has no reverse ({b}, {a}); "
                "torch_geometric.utils.to_undirected adds what is missing."
            )
        raise ValueError(
            f"{what} needs an undirected graph, but some edges occur more often in one direction "
            "than in the other; torch_geometric.utils.coalesce removes repeated edges."
        )

    @cached_property
    def pairs(self) -> Tensor:
        """Distinct ordered pairs of adjacent nodes without loops ``[P, 2]``, sorted by the first."""
        distinct = torch.unique_consecutive(self._keys)
        pairs = torch.stack([distinct // self.num_nodes, distinct % self.num_nodes], dim=1)
        return pairs[pairs[:, 0] != pairs[:, 1]]

    def balls(self, hops: int) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes within ``hops`` steps of every node, as CSR: offsets ``[N + 1]``, nodes (sorted within
        each row) and distances."""
        n = self.num_nodes
        roots = torch.arange(n, device=self.device)
        keys = front = roots * n + roots
        distance = torch.zeros_like(keys)
        for step in range(1, hops + 1):
            owner, entry = ragged_gather(self.in_ptr, front % n if n else front)
            reached = torch.unique(front[owner] // n * n + self.source[entry]) if n else front
            at = torch.searchsorted(keys, reached).clamp(max=keys.numel() - 1)
            front = reached[keys[at] != reached]
            if front.numel() == 0:
                break
            keys, order = torch.cat([keys, front]).sort()
            distance = torch.cat([distance, torch.full_like(front, step)])[order]
        owner = keys // n if n else keys
        ptr = ragged_offsets(torch.bincount(owner, minlength=n))
        return ptr, keys - owner * n, distance
