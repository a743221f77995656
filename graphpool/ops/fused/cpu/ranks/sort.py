"""A stable counting sort of elements by their bags, and sorts of many lanes of numbers."""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import kernel, run
from graphpool.ops.fused.cpu.vector import borrowed

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
    run(count, (index, counts), chunks)
    offsets(counts, ptr)
    run(place, (index, counts, perm), chunks)
    return ptr, perm


@kernel
def network(key, place, n, lanes):  # type: ignore[no-untyped-def]
    """Sorts ``lanes`` columns of ``n`` rows: merge exchange (Batcher; Knuth, TAOCP 3, 5.2.2, algorithm M)."""
    key, place = borrowed(key), borrowed(place)
    half = 1
    while 2 * half < n:
        half *= 2
    p = half if n > 1 else 0
    while p > 0:
        q, start, step = half, 0, p
        while True:
            for base in range(start, n - step, 2 * p):
                count = min(p, n - step - base) * lanes
                low, high = base * lanes, (base + step) * lanes
                a, b = key[low : low + count], key[high : high + count]
                if place.size == 0:
                    for i in range(count):
                        u, v = a[i], b[i]
                        a[i], b[i] = min(u, v), max(u, v)
                else:
                    s, t = place[low : low + count], place[high : high + count]
                    for i in range(count):
                        u, v, d, e = a[i], b[i], s[i], t[i]
                        wrong = (u > v) | ((u == v) & (d > e))
                        a[i], b[i] = v if wrong else u, u if wrong else v
                        s[i], t[i] = e if wrong else d, d if wrong else e
            if q == p:
                break
            step, start = q - p, p
            q //= 2
        p //= 2


@kernel
def digits(key, place, spare, spare_place, counts):  # type: ignore[no-untyped-def]
    """Sorts one lane by its bytes, the least first; its places are in order, and are not looked at."""
    n, pairs = key.shape[0], place.size > 0
    lowest = 0 if pairs else 4
    counts[:] = 0
    for i in range(n):
        # The sign bit comes first.
        bits = np.uint64(key[i]) ^ np.uint64(1 << 63)
        for digit in range(lowest, 8):
            counts[digit, (bits >> np.uint64(8 * digit)) & np.uint64(255)] += 1
    moved = False
    a, b, s, t = key, spare, place, spare_place
    for digit in range(lowest, 8):
        shift = np.uint64(8 * digit)
        at = 0
        one = False
        for v in range(256):
            here = counts[digit, v]
            one = one or here == n
            counts[digit, v] = at
            at += here
        if one:
            continue
        for i in range(n):
            v = (np.uint64(a[i]) ^ np.uint64(1 << 63)) >> shift & np.uint64(255)
            to = counts[digit, v]
            counts[digit, v] = to + 1
            b[to] = a[i]
            if pairs:
                t[to] = s[i]
        a, b, s, t = b, a, t, s
        moved = not moved
    if moved:
        key[:] = a[:n]
        if pairs:
            place[:] = s[:n]
