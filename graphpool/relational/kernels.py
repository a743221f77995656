"""Writing whole copies in one pass, on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._compiled import kernel, parallel_for

# Entries written per piece of work; below this a second thread does not pay.
_PIECE = 1 << 16


@kernel
def _write(
    first,
    last,
    graph,
    node_ptr,
    edge_ptr,
    node_start,
    edge_start,
    source,
    target,
    edge_id,
    node,
    copy,
    edge_index,
    edge,
):
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


def write_whole_copies(
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
    pieces = max(1, min((nodes + edges) // _PIECE, copies, 8))
    bounds = [copies * i // pieces for i in range(pieces + 1)]
    parallel_for(
        lambda first, last: _write(first, last, *arrays),
        list(zip(bounds[:-1], bounds[1:], strict=True)),
    )
    return out[0], out[1], edge_index, edge
