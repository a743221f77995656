"""Orders of the nodes of each graph, many at once."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from math import factorial

import torch
from torch import Tensor

from graphpool._arguments import check_one_of
from graphpool.relational.graphs import GraphBatch

#: Kinds of orders: uniformly random; breadth-first and depth-first from a random root with random
#: tie-breaks; by colour refinement, with ties broken at random.
ORDERS = ("random", "bfs", "dfs", "canonical")

#: The largest graph whose orders are all listed.
MAX_EXACT_NODES = 8


def draw_orders(
    graphs: GraphBatch,
    kind: str,
    count: int,
    x: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws ``count`` orders of every graph.

    Args:
        graphs: The batch.
        kind: One of :data:`ORDERS`. ``"bfs"`` and ``"dfs"`` build a dense adjacency matrix per graph; a
            component that has been searched through is followed by a random node of another.
        count: Orders per graph, S.
        x: Node features ``[N, d]``, which ``"canonical"`` starts from.
        generator: Source of randomness.

    Returns:
        Place of every node in every order, from 0: ``[N, S]``.

    Raises:
        ValueError: If the kind is unknown.
    """
    check_one_of(kind, "order", ORDERS)
    if kind in ("bfs", "dfs"):
        return _search_orders(graphs, kind == "dfs", count, generator)
    noise = torch.rand(
        graphs.num_nodes, count, dtype=torch.double, device=graphs.device, generator=generator
    )
    if kind == "canonical":
        colour = torch.unique(refine(graphs, x), return_inverse=True)[1]
        # Whole numbers of colours and graphs in front, the noise behind the point.
        noise = noise + colour.unsqueeze(1)
        key = noise + (graphs.batch * (int(colour.max()) + 1 if colour.numel() else 1)).unsqueeze(1)
    else:
        key = noise + graphs.batch.unsqueeze(1)
    order = torch.argsort(key, dim=0)
    # The keys of a graph stay in its rows, so that row r of `order` belongs to the graph of node r.
    place = torch.empty_like(order)
    return place.scatter_(0, order, graphs.local.unsqueeze(1).expand_as(order).contiguous())


def all_orders(graphs: GraphBatch, modulus: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """All orders of every graph.

    Args:
        graphs: The batch.
        modulus: Orders whose places agree modulo this are listed once: all that a network sees that is
            given ids. ``None`` lists all n!.

    Returns:
        Place of every node in every order, modulo ``modulus``: ``[N, S]``; number of orders listed of each
        graph ``[B]``, at most S; and for how many each of them stands ``[B]``.

    Raises:
        ValueError: If a graph has more than 8 nodes.
    """
    largest = int(graphs.counts.max()) if graphs.num_graphs else 0
    if largest > MAX_EXACT_NODES:
        raise ValueError(
            f"`num_permutations`='all' lists n! orders and takes at most {MAX_EXACT_NODES} nodes, "
            f"but graph {int(graphs.counts.argmax())} has {largest}; give a number."
        )
    tables = [_order_table(n, modulus).to(graphs.device) for n in range(largest + 1)]
    sizes = torch.tensor([table.size(0) for table in tables], device=graphs.device)
    factorials = torch.tensor([factorial(n) for n in range(largest + 1)], device=graphs.device)
    place = graphs.batch.new_zeros(graphs.num_nodes, tables[-1].size(0))
    for n, table in enumerate(tables):
        here = graphs.counts[graphs.batch] == n
        place[here, : table.size(0)] = table.t()[graphs.local[here]]
    return place, sizes[graphs.counts], (factorials // sizes)[graphs.counts]


@cache
def _order_table(nodes: int, modulus: int | None) -> Tensor:
    """The orders of one graph, ``[orders, nodes]``."""
    table = torch.tensor(list(permutations(range(nodes))), dtype=torch.long)
    table = table.view(factorial(nodes), nodes)
    if modulus is None or modulus >= nodes:
        return table
    return torch.unique(table % modulus, dim=0)


def refine(graphs: GraphBatch, x: Tensor | None = None) -> Tensor:
    """Stable colours ``[N]`` of colour refinement, from the node features: 64-bit fingerprints that do not
    depend on how the nodes are numbered, so that isomorphic graphs get the same."""
    colour = torch.ones(graphs.num_nodes, dtype=torch.long, device=graphs.device)
    if x is not None:
        for column in x.detach().double().contiguous().view(torch.long).unbind(1):
            colour = _scramble(colour * 3 + _scramble(column))
    known = torch.unique(colour).numel()
    while True:
        around = torch.zeros_like(colour)
        around.index_add_(0, graphs.target, _scramble(colour + 1)[graphs.source])
        colour = _scramble(colour * 3 + around)
        found = torch.unique(colour).numel()
        if found <= known:
            return colour
        known = found


def _scramble(values: Tensor) -> Tensor:
    """A fixed map of the 64-bit integers that looks random (after splitmix64)."""
    values = (values ^ ((values >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    values = (values ^ ((values >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return values ^ ((values >> 31) & 0x1FFFFFFFF)


def _search_orders(
    graphs: GraphBatch, depth_first: bool, count: int, generator: torch.Generator | None
) -> Tensor:
    size = int(graphs.counts.max()) if graphs.num_graphs else 0
    device, total = graphs.device, graphs.num_graphs * count
    adjacent = torch.zeros(graphs.num_graphs, size, size, dtype=torch.bool, device=device)
    adjacent[
        graphs.batch[graphs.source], graphs.local[graphs.source], graphs.local[graphs.target]
    ] = True
    copy = torch.arange(total, device=device)
    graph = torch.div(copy, max(count, 1), rounding_mode="floor")
    noise = torch.rand(total, size, dtype=torch.double, device=device, generator=generator)
    inside = torch.arange(size, device=device) < graphs.counts[graph].unsqueeze(1)
    # The next node is the one with the highest score: last seen (depth first) or first seen (breadth
    # first), at random among equals; below all of these the nodes not seen yet, and last the visited.
    score = torch.where(inside, noise, -1.0)
    place = torch.zeros(total, size, dtype=torch.long, device=device)
    for step in range(size):
        node = score.argmax(1)
        # A copy that is complete has score -1 everywhere: what is written then is not read.
        done = score[copy, node] < 0
        place[copy[~done], node[~done]] = step
        seen = adjacent[graph, node] & (score >= 0) & ~done.unsqueeze(1)
        if not depth_first:
            seen &= score < 1
        rise = step + 1 if depth_first else size - step
        score = torch.where(seen, noise + rise, score)
        score[copy, node] = -1.0
    by_graph = place.view(graphs.num_graphs, count, size)
    return by_graph[graphs.batch, :, graphs.local]
