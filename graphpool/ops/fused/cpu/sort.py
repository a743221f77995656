"""A stable counting sort of elements by their bags."""

from __future__ import annotations

import numpy as np

from graphpool._compiled import parallel_for, ready
from graphpool.ops.fused.cpu.core import kernel

_BLOCK = 1 << 18
_MAX_BLOCKS = 16


@kernel
def count(index, counts, block, first, last):  # type: ignore[no-untyped-def]
    for n in range(counts.shape[1]):
        counts[block, n] = 0
    for e in range(first, last):
        counts[block, index[e]] += 1


@kernel
def offsets(counts, ptr):  # type: ignore[no-untyped-def]
    """Turns the counts of each block into where it writes first, and fills ``ptr``."""
    at = 0
    for n in range(counts.shape[1]):
        ptr[n] = at
        for block in range(counts.shape[0]):
            here = counts[block, n]
            counts[block, n] = at
            at += here
    ptr[counts.shape[1]] = at


@kernel
def place(index, counts, perm, block, first, last):  # type: ignore[no-untyped-def]
    for e in range(first, last):
        n = index[e]
        perm[counts[block, n]] = e
        counts[block, n] += 1


def counting_sort(index: np.ndarray, bags: int) -> tuple[np.ndarray, np.ndarray]:
    """``(ptr, perm)``: offsets ``[bags + 1]``, and the elements in the order of their bags, ties in order."""
    elements = index.shape[0]
    # Each block holds a counter per bag, which must stay small beside the elements themselves.
    blocks = max(1, min(_MAX_BLOCKS, elements // _BLOCK, elements // max(bags, 1)))
    bounds = [elements * k // blocks for k in range(blocks + 1)]
    chunks = [(k, bounds[k], bounds[k + 1]) for k in range(blocks)]
    counts = np.empty((blocks, bags), np.int64)
    ptr, perm = np.empty(bags + 1, np.int64), np.empty(elements, np.int64)
    ready(count, (index, counts, *chunks[0]))
    ready(place, (index, counts, perm, *chunks[0]))
    parallel_for(lambda *chunk: count(index, counts, *chunk), chunks)
    offsets(counts, ptr)
    parallel_for(lambda *chunk: place(index, counts, perm, *chunk), chunks)
    return ptr, perm
