"""The labelings a policy admits, numbered so that some of them can be drawn without listing all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import permutations

import torch
from torch import Tensor

from graphpool.ragged import ragged_arange, ragged_gather, ragged_offsets
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.labelings import cluster_keys

_LIMIT = 2**62


class Support(ABC):
    """The admissible labelings of every graph of a batch, each with a rank from 0.

    Attributes:
        counts: Number of labelings (for subsets: of subsets) of each graph ``[B]``.
    """

    counts: Tensor

    @abstractmethod
    def nodes(self, graph: Tensor, rank: Tensor) -> Tensor:
        """Labelled nodes of the given labelings ``[U]``: ``[U, A, l]``, with ``A`` assignments each."""

    def strata(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Consecutive ranks that share their first label: graph, first rank and length of each; ``None``
        where labelings have no first label."""
        return None


class Tuples(Support):
    """All ordered l-tuples of nodes, repetition allowed, in lexicographic order."""

    def __init__(self, graphs: GraphBatch, labels: int) -> None:
        largest = int(graphs.counts.max()) if graphs.num_graphs else 0
        if largest**labels >= _LIMIT:
            raise ValueError(
                f"{largest} nodes have more than 2**62 {labels}-tuples; use fewer labels."
            )
        self.graphs, self.labels = graphs, labels
        self.counts = graphs.counts**labels

    def nodes(self, graph: Tensor, rank: Tensor) -> Tensor:
        n = self.graphs.counts[graph]
        digits = []
        for _ in range(self.labels):
            higher = torch.div(rank, n, rounding_mode="floor")
            digits.append(rank - higher * n)
            rank = higher
        start = self.graphs.ptr[graph]
        columns = [start + digit for digit in reversed(digits)]
        out = torch.stack(columns, dim=1) if columns else start.new_empty(start.numel(), 0)
        return out.unsqueeze(1)

    def strata(self) -> tuple[Tensor, Tensor, Tensor] | None:
        if self.labels == 0:
            return None
        graph = self.graphs.batch
        length = (self.graphs.counts ** (self.labels - 1))[graph]
        return graph, self.graphs.local * length, length


class Subsets(Support):
    """All subsets of l nodes; with ``assign``, each with all l! ways to give it the labels."""

    def __init__(self, graphs: GraphBatch, labels: int, assign: bool) -> None:
        largest = int(graphs.counts.max()) if graphs.num_graphs else 0
        self.graphs, self.labels = graphs, labels
        table = torch.zeros(largest + 1, labels + 1, dtype=torch.long, device=graphs.device)
        table[:, 0] = 1
        for k in range(1, labels + 1):
            # C(n, k) = C(0, k - 1) + ... + C(n - 1, k - 1)
            if float(table[:-1, k - 1].double().sum()) >= _LIMIT:
                raise ValueError(
                    f"{largest} nodes have more than 2**62 subsets of {k}; use fewer labels."
                )
            table[1:, k] = table[:-1, k - 1].cumsum(0)
        self.table = table.t().contiguous()
        self.counts = self.table[labels][graphs.counts]
        orders = list(permutations(range(labels))) if assign else [tuple(range(labels))]
        self.orders = torch.tensor(orders, dtype=torch.long, device=graphs.device)

    def nodes(self, graph: Tensor, rank: Tensor) -> Tensor:
        # The combinatorial number system: rank = C(c_l, l) + ... + C(c_1, 1), c_l > ... > c_1.
        chosen = []
        for k in range(self.labels, 0, -1):
            column = self.table[k]
            node = torch.searchsorted(column, rank, right=True) - 1
            rank = rank - column[node]
            chosen.append(self.graphs.ptr[graph] + node)
        if not chosen:
            return rank.new_empty(rank.numel(), 1, 0)
        return torch.stack(chosen[::-1], dim=1)[:, self.orders]


class Listed(Support):
    """Labelings given one by one: ``table`` ``[T, l]``, sorted by graph."""

    def __init__(self, graphs: GraphBatch, table: Tensor) -> None:
        self.graphs, self.table = graphs, table
        graph = graphs.batch[table[:, 0]]
        self.counts = torch.bincount(graph, minlength=graphs.num_graphs)
        self.start = ragged_offsets(self.counts)

    def nodes(self, graph: Tensor, rank: Tensor) -> Tensor:
        return self.table[self.start[graph] + rank].unsqueeze(1)

    def strata(self) -> tuple[Tensor, Tensor, Tensor] | None:
        root, length = torch.unique_consecutive(self.table[:, 0], return_counts=True)
        graph = self.graphs.batch[root]
        return graph, ragged_offsets(length)[:-1] - self.start[graph], length


class ListedSubsets(Listed):
    """Subsets given one by one, each with all ways to give it the labels."""

    def nodes(self, graph: Tensor, rank: Tensor) -> Tensor:
        orders = list(permutations(range(self.table.size(1))))
        return super().nodes(graph, rank)[:, 0][:, torch.tensor(orders, device=self.table.device)]

    def strata(self) -> None:
        return None


def adjacent_pairs(graphs: GraphBatch) -> Listed:
    """Ordered pairs of adjacent nodes."""
    graphs.require_undirected("`policy`='adjacent'")
    return Listed(graphs, graphs.pairs)


def single_edges(graphs: GraphBatch) -> Listed:
    """Undirected edges, the smaller node first."""
    graphs.require_undirected("`policy`='edge_deletion'")
    pairs = graphs.pairs
    return Listed(graphs, pairs[pairs[:, 0] < pairs[:, 1]])


def cluster_tuples(graphs: GraphBatch, labels: int, cluster: Tensor) -> Listed:
    """Ordered l-tuples of nodes of one cluster, repetition allowed."""
    key = cluster_keys(graphs, cluster)
    members = torch.argsort(key, stable=True)
    size = torch.bincount(key) if key.numel() else key
    owner, rank = ragged_arange(size**labels)
    n, start = size[owner], ragged_offsets(size)[:-1][owner]
    columns = []
    for _ in range(labels):
        columns.append(members[start + rank % n])
        rank = rank // n
    return Listed(graphs, torch.stack(columns[::-1], dim=1))


def close_tuples(graphs: GraphBatch, labels: int, max_distance: int, subsets: bool) -> Listed:
    """Ordered l-tuples (or subsets) of nodes at pairwise distances of at most ``max_distance``."""
    graphs.require_undirected("`max_distance`")
    ptr, node, _ = graphs.balls(max_distance)
    n = graphs.num_nodes
    owner = torch.repeat_interleave(ptr[1:] - ptr[:-1])
    near = owner * n + node
    table = torch.arange(n, device=graphs.device).unsqueeze(1)
    for _ in range(labels - 1):
        row, entry = ragged_gather(ptr, table[:, 0])
        candidate = node[entry]
        keep = candidate > table[row, -1] if subsets else torch.ones_like(row, dtype=torch.bool)
        for column in range(1, table.size(1)):
            key = table[row, column] * n + candidate
            at = torch.searchsorted(near, key).clamp(max=near.numel() - 1)
            keep &= near[at] == key
        table = torch.cat([table[row[keep]], candidate[keep].unsqueeze(1)], dim=1)
    return ListedSubsets(graphs, table) if subsets else Listed(graphs, table)
