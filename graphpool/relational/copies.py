"""Labelled copies as one disjoint union: the ragged form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpool._compiled import kernel, parallel_for
from graphpool.ragged import ragged_arange, ragged_gather, ragged_offsets
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.labelings import Labelings

# A table over all nodes of all copies finds nodes fastest; above this size sorted keys take its place.
_TABLE_LIMIT = 1 << 26

# Entries written per chunk of work; below this a second thread does not pay.
_LEAST_CHUNK = 1 << 16


@dataclass
class Copies:
    """The disjoint union of labelled copies of (parts of) the graphs of a batch.

    Attributes:
        node: Node of the batch that each node of the union is a copy of ``[V]``.
        copy: Copy that each node of the union belongs to ``[V]``, sorted.
        edge_index: Edges of the union ``[2, E']``, sorted by target.
        edge_id: Edge of the batch that each of them is a copy of ``[E']``.
        labelings: Graph and labelled nodes of each copy.
        distance: Hops from each label to each node of the union ``[V, l]``; one more than the largest
            distance looked at for nodes farther away; ``None`` unless it was asked for.
        max_distance: The largest distance looked at.
    """

    node: Tensor
    copy: Tensor
    edge_index: Tensor
    edge_id: Tensor
    labelings: Labelings
    distance: Tensor | None = None
    max_distance: int | None = None

    @property
    def num_copies(self) -> int:
        return self.labelings.num_copies

    @property
    def num_nodes(self) -> int:
        return self.node.numel()

    def marks(self) -> Tensor:
        """Whether each node of the union carries each label: bool ``[V, l]``."""
        return self.labelings.nodes[self.copy] == self.node.unsqueeze(1)

    def roots(self) -> Tensor:
        """The copy of the first labelled node in each copy ``[M]``, as a node of the union."""
        return (self.labelings.nodes[self.copy, 0] == self.node).nonzero().squeeze(1)

    def __getitem__(self, rows: slice) -> Copies:
        """Consecutive copies."""
        first, last, step = rows.indices(self.num_copies)
        if step != 1:
            raise ValueError(f"Copies can be sliced in steps of 1; got {step}.")
        if first == 0 and last == self.num_copies:
            return self
        bounds = torch.tensor([first, max(first, last)], device=self.copy.device)
        low, high = torch.searchsorted(self.copy, bounds).tolist()
        ends = torch.tensor([low, high], device=self.copy.device)
        start, stop = torch.searchsorted(self.edge_index[1].contiguous(), ends).tolist()
        return Copies(
            self.node[low:high],
            self.copy[low:high] - first,
            self.edge_index[:, start:stop] - low,
            self.edge_id[start:stop],
            self.labelings[first:last],
            None if self.distance is None else self.distance[low:high],
            self.max_distance,
        )


@torch.compiler.disable
def build_copies(
    graphs: GraphBatch,
    labelings: Labelings,
    hops: int | None = None,
    delete: str | None = None,
    max_distance: int | None = None,
) -> Copies:
    """Builds the union of the copies that ``labelings`` describe.

    Args:
        graphs: The batch.
        labelings: One row per copy.
        hops: Keep the nodes within so many hops of a label, and the edges among them; ``None`` for all.
        delete: ``"nodes"`` removes the labelled nodes, ``"edges"`` the edges between the two labels.
        max_distance: Also return the distances to the labels, as far as this.

    Returns:
        The copies.
    """
    graph, labels = labelings.graph, labelings.nodes
    distance = None
    if hops is not None:
        node, copy, keep, distance = _ball_unions(graphs, labelings, hops)
        edge_index, edge_id = induced_edges(graphs, graph, node, copy, keep)
        if max_distance is None:
            distance = None
        elif max_distance != hops:
            distance = distances(graphs, labels[copy], node, max_distance)
    elif delete == "nodes":
        copy, local = ragged_arange(graphs.counts[graph])
        node = graphs.ptr[graph][copy] + local
        keep = torch.ones_like(node, dtype=torch.bool)
        at = ragged_offsets(graphs.counts[graph])[:-1].unsqueeze(1) + graphs.local[labels]
        keep[at.flatten()] = False
        node, copy = node[keep], copy[keep]
        edge_index, edge_id = induced_edges(graphs, graph, node, copy, keep)
    else:
        node, copy, edge_index, edge_id = whole_copies(graphs, graph)
        if delete == "edges":
            source, target = node[edge_index]
            of = copy[edge_index[0]]
            # Both ends are labelled and it is no loop: the edge between the two labels.
            hit = (source.unsqueeze(1) == labels[of]).any(1)
            hit &= source + target == labels.sum(1)[of]
            edge_index, edge_id = edge_index[:, ~hit], edge_id[~hit]
    if hops is None and max_distance is not None:
        distance = distances(graphs, labels[copy], node, max_distance)
    return Copies(node, copy, edge_index, edge_id, labelings, distance, max_distance)


def whole_copies(graphs: GraphBatch, graph: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole graphs, one per entry of ``graph``."""
    if graph.device.type == "cpu":
        return _write_whole_copies(
            graph,
            graphs.ptr,
            graphs.edge_ptr,
            ragged_offsets(graphs.counts[graph]),
            ragged_offsets((graphs.edge_ptr[1:] - graphs.edge_ptr[:-1])[graph]),
            graphs.source,
            graphs.target,
            graphs.edge_id,
        )
    return whole_copies_composed(graphs, graph)


def whole_copies_composed(
    graphs: GraphBatch, graph: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`whole_copies` by tensor operations, on any device."""
    copy, node = ragged_gather(graphs.ptr, graph)
    of, edge = ragged_gather(graphs.edge_ptr, graph)
    # In place: fresh memory costs more than the arithmetic.
    edge_index = edge.new_empty(2, edge.numel())
    torch.index_select(graphs.source, 0, edge, out=edge_index[0])
    torch.index_select(graphs.target, 0, edge, out=edge_index[1])
    shift = ragged_offsets(graphs.counts[graph])[:-1] - graphs.ptr[graph]
    edge_index += shift[of]
    return node, copy, edge_index, edge if graphs.in_order else graphs.edge_id[edge]


def _ball_unions(
    graphs: GraphBatch, labelings: Labelings, hops: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Nodes within ``hops`` of a label of each copy: node, copy, the table of what is kept (``None`` if it
    would be too large), and the distances to the labels."""
    ptr, ball_node, ball_distance = graphs.balls(hops)
    labels, graph = labelings.nodes, labelings.graph
    places = ragged_offsets(graphs.counts[graph])
    far = hops + 1
    if int(places[-1]) * labels.size(1) <= _TABLE_LIMIT:
        start = places[:-1] - graphs.ptr[graph]
        columns = []
        for column in labels.unbind(1):
            copy, entry = ragged_gather(ptr, column)
            table = torch.full((int(places[-1]),), far, dtype=torch.int32, device=graphs.device)
            table[start[copy] + ball_node[entry]] = ball_distance[entry].int()
            columns.append(table)
        distance = torch.stack(columns, dim=1)
        keep = (distance < far).any(1)
        at = keep.nonzero().squeeze(1)
        copy = torch.repeat_interleave(graphs.counts[graph], output_size=keep.numel())[at]
        return at - start[copy], copy, keep, distance[at].long()
    keys, values = [], []
    for column in labels.unbind(1):
        copy, entry = ragged_gather(ptr, column)
        keys.append(copy * graphs.num_nodes + ball_node[entry])
        values.append(ball_distance[entry])
    union = torch.unique(torch.cat(keys))
    distance = torch.full((union.numel(), labels.size(1)), far, device=graphs.device)
    for label, (key, value) in enumerate(zip(keys, values, strict=True)):
        distance[torch.searchsorted(union, key), label] = value
    return union % graphs.num_nodes, union // graphs.num_nodes, None, distance


def induced_edges(
    graphs: GraphBatch, graph: Tensor, node: Tensor, copy: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Edges between kept nodes of the same copy, and which edges of the batch they are."""
    target, edge = ragged_gather(graphs.in_ptr, node)
    source, of = graphs.source[edge], copy[target]
    if keep is not None:
        start = ragged_offsets(graphs.counts[graph])[:-1] - graphs.ptr[graph]
        number = torch.cumsum(keep, 0) - 1
        place = start[of] + source
        found = keep[place]
        at = number[place[found]]
    else:
        keys = copy * graphs.num_nodes + node
        wanted = of * graphs.num_nodes + source
        at = torch.searchsorted(keys, wanted).clamp(max=keys.numel() - 1)
        found = keys[at] == wanted
        at = at[found]
    return torch.stack([at, target[found]]), graphs.edge_id[edge[found]]


def distances(graphs: GraphBatch, labels: Tensor, node: Tensor, max_distance: int) -> Tensor:
    """Hops ``[V, l]`` from nodes ``labels`` ``[V, l]`` to ``node`` ``[V]``; ``max_distance + 1`` beyond."""
    ptr, ball_node, ball_distance = graphs.balls(max_distance)
    n = graphs.num_nodes
    keys = torch.repeat_interleave(ptr[1:] - ptr[:-1]) * n + ball_node
    wanted = labels * n + node.unsqueeze(1)
    at = torch.searchsorted(keys, wanted).clamp(max=keys.numel() - 1)
    return torch.where(keys[at] == wanted, ball_distance[at], max_distance + 1)


@kernel
def _write_entries(
    first, last, graph, node_ptr, edge_ptr, node_start, edge_start, source, target, edge_id, node,
    copy, edge_index, edge,
):  # fmt: skip
    for m in range(first, last):
        g = graph[m]
        base, to = node_ptr[g], node_start[m]
        for i in range(node_ptr[g + 1] - base):
            node[to + i] = base + i
            copy[to + i] = m
        shift = to - base
        base, to = edge_ptr[g], edge_start[m]
        for e in range(edge_ptr[g + 1] - base):
            edge_index[0, to + e] = source[base + e] + shift
            edge_index[1, to + e] = target[base + e] + shift
            edge[to + e] = edge_id[base + e]


def _write_whole_copies(
    graph: Tensor,
    node_ptr: Tensor,
    edge_ptr: Tensor,
    node_start: Tensor,
    edge_start: Tensor,
    source: Tensor,
    target: Tensor,
    edge_id: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Copies of whole graphs side by side.

    Args:
        graph: Graph of each copy ``[M]``.
        node_ptr: First node of each graph ``[B + 1]``.
        edge_ptr: First edge of each graph ``[B + 1]``.
        node_start: First node of each copy ``[M + 1]``.
        edge_start: First edge of each copy ``[M + 1]``.
        source: Sources of the edges, numbered over the batch ``[E]``.
        target: Their targets.
        edge_id: Their positions where the user counts them.

    Returns:
        node ``[V]``, copy ``[V]``, edge_index ``[2, E']`` and edge_id ``[E']`` of the union.
    """
    nodes, edges = int(node_start[-1]), int(edge_start[-1])
    out = [torch.empty(size, dtype=torch.long) for size in (nodes, nodes)]
    edge_index, edge = torch.empty(2, edges, dtype=torch.long), torch.empty(edges, dtype=torch.long)
    inputs = (graph, node_ptr, edge_ptr, node_start, edge_start, source, target, edge_id)
    arrays = [t.contiguous().numpy() for t in (*inputs, *out, edge_index, edge)]
    copies = graph.numel()
    chunks = max(1, min((nodes + edges) // _LEAST_CHUNK, copies, 8))
    bounds = [copies * i // chunks for i in range(chunks + 1)]
    parallel_for(
        lambda first, last: _write_entries(first, last, *arrays),
        list(zip(bounds[:-1], bounds[1:], strict=True)),
    )
    return out[0], out[1], edge_index, edge
