"""What the Numba kernels share: how they are compiled, and how work is cut into chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from graphpool import _compiled
from graphpool._compiled import call, parallel_for, ready

# No "nnan" and no "ninf": a NaN or an infinity in a bag must come out as arithmetic says.
# No "reassoc" either: sums are taken in order.
# No "arcp": the mean of equal numbers is that number, which the product with 1 / n need not be.
FLAGS = {"contract", "nsz"}
# For sums over the channels of one row, which vectorise only if they may be reordered. The order is
# fixed at compile time.
REDUCTION_FLAGS = FLAGS | {"reassoc"}

# Work of one chunk at least, in elements times channels: below it a thread costs more than it saves.
CHUNK = 1 << 17
MAX_CHUNKS = 128
# A bag of more than this (elements times channels) is reduced in pieces of this size, each of which
# stays in a core's cache.
PIECE = 1 << 17
BLOCK = 64
"""Terms that are added up in the precision of the elements."""

NO_LIMIT = int(np.iinfo(np.int64).max)
"""The length above which a bag is long, of pieces."""

kernel = partial(_compiled.kernel, fastmath=FLAGS)
"""Compiles with :data:`FLAGS`."""

inlined = register_jitable(fastmath=FLAGS, forceinline=True)
"""A function that becomes part of the kernels that call it."""


def run(function: Any, args: tuple[Any, ...], chunks: Sequence[tuple[int, ...]]) -> None:
    """``function(*args, *chunk)`` for every chunk, its number and its bags: ``slot, first, last``."""
    if len(chunks) == 1:
        call(function, (*args, *chunks[0]))
    elif chunks:
        ready(function, (*args, *chunks[0]))
        parallel_for(lambda *chunk: function(*args, *chunk), chunks)


@register_jitable(inline="always")
def carry(part, row, whole, k):  # type: ignore[no-untyped-def]
    """Before the k-th term of a sum, and every 64: ``part[row]`` goes to ``whole`` (float64) and starts anew.

    So float32 adds up 64 terms at most, at the speed of float32.
    """
    if k % BLOCK == BLOCK - 1:
        for c in range(whole.shape[0]):
            whole[c] += part[row, c]
            part[row, c] = 0


@register_jitable(inline="always")
def settle(part, row, whole, terms):  # type: ignore[no-untyped-def]
    """At the end of a sum of :func:`carry`: the whole of it to ``part[row]``; ``whole`` is 0 again."""
    if terms >= BLOCK:
        for c in range(whole.shape[0]):
            part[row, c] = whole[c] + part[row, c]
            whole[c] = 0


@register_jitable(inline="always")
def add_up(total, sums, slot, row, first, last):  # type: ignore[no-untyped-def]
    """Every 64 rows of a chunk, and at its end: ``total`` goes to the chunk's ``sums[slot]`` and starts anew.

    Rows are added up in the precision of the elements, runs of rows in that of ``sums`` (float64).
    """
    if (row - first) % BLOCK == BLOCK - 1 or row == last - 1:
        for c in range(total.shape[0]):
            sums[slot, c] += total[c]
            total[c] = 0


@kernel
def _cut(ptr, limit, count):  # type: ignore[no-untyped-def]
    """Bounds of ``count`` runs of bags with about equal work, and how many bags exceed ``limit``."""
    bags = ptr.shape[0] - 1
    begin = ptr[0]
    total = ptr[bags] - begin + bags
    bounds = np.empty(count + 1, np.int64)
    k = 0
    long_bags = 0
    for n in range(bags):
        while k <= count and (ptr[n] - begin + n) * count >= total * k:
            bounds[k] = n
            k += 1
        if ptr[n + 1] - ptr[n] > limit:
            long_bags += 1
    while k <= count:
        bounds[k] = bags
        k += 1
    return bounds, long_bags


def bag_chunks(
    ptr: np.ndarray, channels: int
) -> tuple[list[tuple[int, int, int]], int, np.ndarray | None]:
    """Runs of whole bags, the length above which a bag is long, and the long bags if there are any.

    Everything depends on ``ptr`` and the number of channels alone, never on the number of threads.
    """
    bags = ptr.shape[0] - 1
    limit = max(256, PIECE // max(channels, 1))
    if bags == 0:
        return [], limit, None
    elements = int(ptr[-1] - ptr[0])
    work = (elements + bags) * max(channels, 1)
    if work < 2 * CHUNK and elements <= limit:
        return [(0, 0, bags)], limit, None
    count = min(MAX_CHUNKS, max(1, work // CHUNK), bags)
    bounds, long_bags = _cut(ptr, limit, count)
    runs = [(a, b) for a, b in pairwise(bounds.tolist()) if b > a]
    # Numbered once the empty ones are out: callers give each number a row of a table.
    chunks = [(k, a, b) for k, (a, b) in enumerate(runs)]
    return chunks, limit, np.flatnonzero(np.diff(ptr) > limit) if long_bags else None


def row_chunks(rows: int, work: int) -> list[tuple[int, int, int]]:
    """Equal runs of rows; ``work`` is the total, in elements times channels.

    Their number depends on the sizes alone, never on the number of threads.
    """
    count = min(MAX_CHUNKS, max(1, work // CHUNK), rows)
    return [(k, rows * k // count, rows * (k + 1) // count) for k in range(count)]


class Pieces(NamedTuple):
    """Long bags cut up: piece k is ``begin[k]:end[k]`` of long bag ``owner[k]``, whose pieces start at
    ``first[owner[k]]``."""

    begin: np.ndarray
    end: np.ndarray
    owner: np.ndarray
    first: np.ndarray


def pieces(ptr: np.ndarray, bags: np.ndarray, limit: int) -> Pieces:
    """Cuts ``bags`` into pieces of ``limit`` elements, the last of each bag shorter."""
    start, stop = ptr[bags], ptr[bags + 1]
    counts = -(-(stop - start) // limit)
    first = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(bags)), counts)
    begin = start[owner] + (np.arange(len(owner)) - first[owner]) * limit
    return Pieces(begin, np.minimum(begin + limit, stop[owner]), owner, first)
