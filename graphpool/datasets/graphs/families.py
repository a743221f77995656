"""Random and regular graph families, drawn many at a time.

Every function returns undirected graphs as arrays of node pairs, one row per edge. The generators
work on all graphs of one size at once, because rejection sampling (a sparse random graph is rarely
connected, a random pairing is rarely a simple graph) needs tens of tries per graph that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from graphpool._arguments import check_one_of

IntArray = NDArray[np.int64]

#: Edge probabilities of the ``general`` family, in the order in which its graphs are listed.
GENERAL_PROBABILITIES: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

#: Edge probability of the ``expander`` family unless a task says otherwise.
EXPANDER_PROBABILITY = 0.8

_MAX_CHUNK = 4096
_MAX_ROUNDS = 10_000


def path_edges(n: int) -> IntArray:
    """Edges of the path on ``n`` nodes."""
    nodes = np.arange(n - 1, dtype=np.int64)
    return np.stack([nodes, nodes + 1], axis=1)


def cycle_edges(n: int) -> IntArray:
    """Edges of the cycle on ``n`` nodes."""
    nodes = np.arange(n, dtype=np.int64)
    return np.stack([nodes, (nodes + 1) % n], axis=1)


def ladder_edges(n: int) -> IntArray:
    """Edges of the ladder with ``n`` rungs (``2 n`` nodes)."""
    rungs = np.stack([np.arange(n), np.arange(n) + n], axis=1)
    return np.concatenate([path_edges(n), path_edges(n) + n, rungs]).astype(np.int64)


def complete_edges(n: int) -> IntArray:
    """Edges of the complete graph on ``n`` nodes."""
    return np.stack(np.triu_indices(n, k=1), axis=1).astype(np.int64)


def star_edges(n: int) -> IntArray:
    """Edges of the star with ``n`` leaves (``n + 1`` nodes)."""
    return np.stack([np.zeros(n, dtype=np.int64), np.arange(1, n + 1)], axis=1)


def tree_edges(n: int, rng: np.random.Generator) -> IntArray:
    """Edges of a uniformly random labelled tree on ``n`` nodes (from a random Prüfer sequence)."""
    if n == 1:
        return np.empty((0, 2), dtype=np.int64)
    sequence = rng.integers(0, n, size=n - 2)
    remaining = np.bincount(sequence, minlength=n) + 1
    edges = np.empty((n - 1, 2), dtype=np.int64)
    for k, node in enumerate(sequence):
        leaf = int(np.argmax(remaining == 1))
        edges[k] = leaf, node
        remaining[leaf] -= 1
        remaining[node] -= 1
    edges[n - 2] = np.flatnonzero(remaining == 1)
    return edges


def is_connected(adjacency: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which graphs of a stack ``[K, n, n]`` of symmetric adjacency matrices are connected."""
    n = adjacency.shape[-1]
    reached = np.zeros(adjacency.shape[:2], dtype=np.float32)
    reached[:, 0] = 1.0
    weights = adjacency.astype(np.float32)
    # A breadth-first search of all graphs together: one round per hop, stop when no graph grows.
    while True:
        grown = np.minimum(reached + (reached[:, None, :] @ weights)[:, 0], 1.0)
        if np.array_equal(grown, reached):
            return reached.sum(axis=1) == n
        reached = grown


def _collect(
    count: int, draw: Callable[[int], list[IntArray]], acceptance: float, what: str
) -> list[IntArray]:
    """Calls ``draw(tries)`` until ``count`` accepted graphs have come back."""
    kept: list[IntArray] = []
    for _ in range(_MAX_ROUNDS):
        missing = count - len(kept)
        if missing <= 0:
            return kept[:count]
        tries = int(np.clip(1.2 * missing / acceptance + 8, 8, _MAX_CHUNK))
        kept.extend(draw(tries))
    raise ValueError(
        f"Could not draw {count} graphs of {what} by rejection in {_MAX_ROUNDS} rounds; "
        f"is such a graph too rare, or impossible?"
    )


def connected_erdos_renyi(
    n: int, count: int, probability: float, rng: np.random.Generator
) -> list[IntArray]:
    """``count`` Erdős-Rényi graphs G(n, p), redrawn until connected.

    Args:
        n: Number of nodes.
        count: How many graphs.
        probability: Probability of each edge, in (0, 1].
        rng: Source of randomness.

    Returns:
        A list of ``count`` edge arrays ``[edges, 2]``.
    """
    rows, columns = np.triu_indices(n, k=1)

    def draw(tries: int) -> list[IntArray]:
        present = rng.random((tries, rows.size)) < probability
        adjacency = np.zeros((tries, n, n), dtype=bool)
        adjacency[:, rows, columns] = present
        adjacency |= adjacency.transpose(0, 2, 1)
        # An isolated node is by far the most frequent reason, and cheap to see.
        degrees = adjacency.sum(axis=2)
        candidates = np.flatnonzero((degrees > 0).all(axis=1)) if n > 1 else np.arange(tries)
        accepted = candidates[is_connected(adjacency[candidates])]
        return [np.stack([rows[present[k]], columns[present[k]]], axis=1) for k in accepted]

    # The expected number of isolated nodes gives a fair guess of how often a draw is kept.
    acceptance = max(np.exp(-n * (1.0 - probability) ** (n - 1)), 1e-3)
    return _collect(count, draw, acceptance, f"connected G(n={n}, p={probability})")


def connected_regular(n: int, degree: int, count: int, rng: np.random.Generator) -> list[IntArray]:
    """``count`` uniformly random connected ``degree``-regular simple graphs on ``n`` nodes.

    Random pairings of ``degree`` stubs per node, kept when they have neither loops nor double
    edges: that is exactly uniform over labelled regular graphs.
    """
    if n <= degree or n * degree % 2:
        raise ValueError(
            f"A {degree}-regular graph needs n > {degree} and an even n * degree; got n={n}."
        )
    stubs = np.repeat(np.arange(n, dtype=np.int64), degree)

    def draw(tries: int) -> list[IntArray]:
        order = np.argsort(rng.random((tries, stubs.size)), axis=1)
        pairs = stubs[order].reshape(tries, -1, 2)
        low, high = pairs.min(axis=2), pairs.max(axis=2)
        codes = np.sort(low * n + high, axis=1)
        simple = (low != high).all(axis=1) & (np.diff(codes, axis=1) > 0).all(axis=1)
        candidates = np.flatnonzero(simple)
        adjacency = np.zeros((candidates.size, n, n), dtype=bool)
        for k, graph in enumerate(candidates):
            adjacency[k, low[graph], high[graph]] = True
        adjacency |= adjacency.transpose(0, 2, 1)
        accepted = candidates[is_connected(adjacency)]
        return [np.stack([low[k], high[k]], axis=1) for k in accepted]

    acceptance = float(np.exp(-(degree**2 - 1) / 4.0))
    return _collect(count, draw, acceptance, f"connected {degree}-regular graphs, n={n}")


def _grouped(sizes: IntArray, draw: Callable[[int, int], Sequence[IntArray]]) -> list[IntArray]:
    """Draws all graphs of equal size together and puts them back in the order of ``sizes``."""
    graphs: list[IntArray] = [np.empty((0, 2), dtype=np.int64)] * len(sizes)
    for n in np.unique(sizes):
        positions = np.flatnonzero(sizes == n)
        for position, edges in zip(positions, draw(int(n), positions.size), strict=True):
            graphs[position] = edges
    return graphs


# Name: (edges for a size argument, nodes per unit of it, further nodes).
_FIXED: dict[str, tuple[Callable[[int], IntArray], int, int]] = {
    "path": (path_edges, 1, 0),
    "cycle": (cycle_edges, 1, 0),
    "ladder": (ladder_edges, 2, 0),
    "complete": (complete_edges, 1, 0),
    "star": (star_edges, 1, 1),
}

#: Names accepted by :func:`draw_graphs`.
FAMILIES: tuple[str, ...] = (*_FIXED, "4regular", "tree", "expander", "general")


def draw_graphs(
    family: str,
    sizes: tuple[int, int],
    count: int,
    rng: np.random.Generator,
    expander_probability: float = EXPANDER_PROBABILITY,
) -> tuple[list[IntArray], IntArray]:
    """Draws connected graphs of one family.

    Args:
        family: One of :data:`FAMILIES`. ``general`` lists floor(count / 9) connected Erdős-Rényi
            graphs for each edge probability 0.1, 0.2, ..., 0.9, in this order, so it returns up to
            eight graphs fewer than asked for.
        sizes: ``(low, high)``: the size argument n of each graph is uniform in low, ..., high - 1.
            A ``ladder`` has 2 n nodes and a ``star`` n + 1; all other families have n.
        count: How many graphs.
        rng: Source of randomness.
        expander_probability: Edge probability of the ``expander`` family.

    Returns:
        The edge arrays (each ``[edges, 2]``, every undirected edge once) and the numbers of nodes.

    Raises:
        ValueError: If the family is unknown or the range of sizes is empty or too small.
    """
    check_one_of(family, "family", FAMILIES)
    low, high = sizes
    smallest = {"cycle": 3, "4regular": 5}.get(family, 2)
    if not smallest <= low < high:
        raise ValueError(
            f"`sizes` must be (low, high) with {smallest} <= low < high for family {family!r}; "
            f"got {sizes}."
        )
    if family == "general":
        count = count // len(GENERAL_PROBABILITIES) * len(GENERAL_PROBABILITIES)
    if count < 1:
        raise ValueError(
            f"`count` must leave at least one graph for family {family!r}; got {count}."
        )
    n = rng.integers(low, high, size=count)

    if family in _FIXED:
        build, factor, extra = _FIXED[family]
        known = {int(size): build(int(size)) for size in np.unique(n)}
        return [known[int(size)] for size in n], factor * n + extra
    if family == "tree":
        return [tree_edges(int(size), rng) for size in n], n
    if family == "4regular":
        return _grouped(n, lambda size, k: connected_regular(size, 4, k, rng)), n
    if family == "expander":
        draw = partial(connected_erdos_renyi, probability=expander_probability, rng=rng)
        return _grouped(n, draw), n
    graphs: list[IntArray] = []
    blocks = np.split(n, len(GENERAL_PROBABILITIES))
    for p, block in zip(GENERAL_PROBABILITIES, blocks, strict=True):
        graphs += _grouped(block, partial(connected_erdos_renyi, probability=p, rng=rng))
    return graphs, n
