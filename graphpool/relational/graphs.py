"""A mini-batch of graphs, checked once, in the form the constructions of labelled copies need."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from graphpool.ragged import ragged_gather, ragged_offsets


class GraphBatch:
    """A mini-batch of graphs.

    Args:
        edge_index: ``[2, E]`` int64, source and target of every edge.
        num_nodes: Number of nodes of the whole batch, N.
        batch: Graph of every node ``[N]``, sorted; ``None`` for a single graph.
        batch_size: Number of graphs; ``None`` to take the largest entry of ``batch`` plus one.

    Attributes:
        counts: Nodes of each graph ``[B]``.
        ptr: First node of each graph ``[B + 1]``.
        source: Source of each edge, edges sorted by target, then source ``[E]``.
        target: Their targets.
        edge_id: Their positions in ``edge_index``.
        in_order: Whether the edges came in this order.

    Raises:
        TypeError: If an index is not an int64 tensor.
        ValueError: If shapes or values do not fit, ``batch`` is not sorted, or an edge joins two graphs.
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int,
        batch: Tensor | None = None,
        batch_size: int | None = None,
    ) -> None:
        if batch is None:
            batch = torch.zeros(num_nodes, dtype=torch.long, device=edge_index.device)
            batch_size = 1 if batch_size is None else batch_size
        for name, value in (("edge_index", edge_index), ("batch", batch)):
            if value.dtype != torch.long:
                raise TypeError(f"`{name}` must be an int64 tensor; got {value.dtype}.")
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ValueError(f"`edge_index` must be [2, E]; got {list(edge_index.shape)}.")
        if batch.shape != (num_nodes,):
            raise ValueError(
                f"`batch` must hold one entry for each of {num_nodes} nodes; got {list(batch.shape)}."
            )
        if num_nodes and bool((batch[1:] < batch[:-1]).any()):
            first = int((batch[1:] < batch[:-1]).nonzero()[0]) + 1
            raise ValueError(f"`batch` must be sorted, but it falls at node {first}.")
        found = int(batch[-1]) + 1 if num_nodes else 0
        if num_nodes and int(batch[0]) < 0:
            raise ValueError(f"`batch` must not be negative; got {int(batch[0])} at node 0.")
        if batch_size is not None and batch_size < found:
            raise ValueError(f"`batch_size` is {batch_size}, but `batch` names graph {found - 1}.")
        self.num_nodes = num_nodes
        self.num_graphs = found if batch_size is None else batch_size
        self.batch = batch
        self.counts = torch.bincount(batch, minlength=self.num_graphs)
        self.ptr = ragged_offsets(self.counts)
        self._sort_edges(edge_index)

    def _sort_edges(self, edge_index: Tensor) -> None:
        source, target = edge_index
        if source.numel():
            low, high = edge_index.aminmax()
            if int(low) < 0 or int(high) >= self.num_nodes:
                raise ValueError(
                    f"`edge_index` must name nodes in 0..{self.num_nodes - 1}, "
                    f"got {int(low)}..{int(high)}."
                )
            crossing = (self.batch[source] != self.batch[target]).nonzero()
            if crossing.numel():
                edge = int(crossing[0])
                raise ValueError(
                    f"Edge {edge} joins nodes {int(source[edge])} and {int(target[edge])} "
                    "of different graphs."
                )
        key = target * self.num_nodes + source
        self.in_order = bool((key[1:] >= key[:-1]).all())
        if self.in_order:
            self.edge_id = torch.arange(key.numel(), device=key.device)
            self.source, self.target, self._keys = source, target, key
        else:
            self._keys, self.edge_id = key.sort(stable=True)
            self.source, self.target = source[self.edge_id], target[self.edge_id]

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
