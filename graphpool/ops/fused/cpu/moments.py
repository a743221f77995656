"""CPU kernels of sum, mean, variance, deviation, minimum and maximum: all in one pass over the elements."""

from __future__ import annotations

import functools

import numpy as np

from graphpool.ops.fused.cpu.core import (
    BLOCK,
    NO_LIMIT,
    bag_chunks,
    inlined,
    kernel,
    pieces,
    row_chunks,
    run,
)
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.vector import (
    BYTES,
    borrowed,
    load,
    magnitude,
    pick,
    root,
    rounded,
    spread,
    store,
    widen,
)

SUM, MEAN, VAR, MIN, MAX, STD = range(6)
_NONE = np.full(6, -1)


@inlined
def row(perm, gather, e):  # type: ignore[no-untyped-def]
    """The row of ``x`` at place ``e`` of the bags: which element lies there, and what it reads."""
    i = perm[e] if perm.size > 0 else e
    return gather[i] if gather.size > 0 else i


@inlined
def add_rows(x, perm, gather, weight, begin, end, ahead, total):  # type: ignore[no-untyped-def]
    """Adds ``w x`` to ``total`` (float64), where a float32 times a whole number below 2^29 is exact.

    Rows are fetched into the cache some elements before their turn, those before place ``ahead``.
    """
    scattered, has_weight = perm.size > 0 or gather.size > 0, weight.size > 0
    if not scattered and not has_weight:
        for e in range(begin, end):
            for c in range(x.shape[1]):
                total[c] += x[e, c]
        return
    for e in range(begin, end):
        if scattered and e + AHEAD < ahead:
            fetch_row(x, row(perm, gather, e + AHEAD))
        r = row(perm, gather, e)
        if has_weight:
            w = np.float64(weight[perm[e] if perm.size > 0 else e])
            if w != 0.0:
                for c in range(x.shape[1]):
                    total[c] += w * x[r, c]
        else:
            for c in range(x.shape[1]):
                total[c] += x[r, c]


@inlined
def look(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, center, n, c, spreads, lows, highs
):
    """One reading of a bag, in the channels from ``c`` on: its smallest and largest elements, in which a NaN
    wins and stays, and the sums of ``w (x - center[n])`` and ``w (x - center[n])^2`` in float64."""
    has_weight = weight.size > 0
    one, count = x.dtype.type(1), x.shape[1] - c
    low, high = spread(x, np.inf), spread(x, -np.inf)
    middle = load(center, n, c, count, 0)
    whole_first = widen(spread(x, 0))
    whole_second = whole_first
    for block in range(begin, end, BLOCK):
        first = spread(x, 0)
        second = first
        for e in range(block, min(block + BLOCK, end)):
            w = weight[perm[e] if perm.size > 0 else e] if has_weight else one
            if has_weight and w == 0:
                continue
            v = load(x, row(perm, gather, e), c, count, 0)
            if lows:
                low = pick(v == v, pick(v < low, v, low), v)
            if highs:
                high = pick(v == v, pick(v > high, v, high), v)
            if spreads:
                d = v - middle
                first = first + d * w
                second = second + d * w * d
        whole_first = whole_first + widen(first)
        whole_second = whole_second + widen(second)
    return low, high, whole_first, whole_second


@inlined
def extreme(x, perm, gather, weight, begin, end, ahead, best, sign):  # type: ignore[no-untyped-def]
    """Takes the largest ``sign * x``, times ``sign``, into ``best``; a NaN wins, and stays."""
    scattered, has_weight = perm.size > 0 or gather.size > 0, weight.size > 0
    for c in range(x.shape[1]):
        best[c] = -np.inf
    for e in range(begin, end):
        if scattered and e + AHEAD < ahead:
            fetch_row(x, row(perm, gather, e + AHEAD))
        if has_weight and weight[perm[e] if perm.size > 0 else e] == 0:
            continue
        r = row(perm, gather, e)
        for c in range(x.shape[1]):
            v = sign * x[r, c]
            best[c] = v if (v > best[c]) | (v != v) else best[c]
    for c in range(x.shape[1]):
        best[c] *= sign


@inlined
def ties(x, perm, gather, weight, begin, end, best, c):  # type: ignore[no-untyped-def]
    """The weight of the elements that are ``best``, in the channels from ``c`` on, in float64."""
    one, zero, count = x.dtype.type(1), x.dtype.type(0), x.shape[1] - c
    whole = widen(spread(x, zero))
    for block in range(begin, end, BLOCK):
        part = spread(x, zero)
        for e in range(block, min(block + BLOCK, end)):
            w = weight[perm[e] if perm.size > 0 else e] if weight.size > 0 else one
            v = load(x, row(perm, gather, e), c, count, zero)
            hit = spread(x, w)
            part = part + pick(v == best, hit, pick(v == v, zero, hit))
        whole = whole + widen(part)
    return whole


@kernel
def moments_forward(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, limit, want, keep, out, kept, slot, first, last
):
    """Bags ``first, ..., last - 1``, each from ``begin[n]`` to ``end[n]``; longer ones than ``limit`` wait.

    ``want[k]`` is the row of ``out`` for moment k, or -1; ``keep`` likewise for ``kept``.
    """
    channels, bags, lanes = x.shape[1], out.shape[1], BYTES // x.itemsize
    x, perm, gather, weight = borrowed(x), borrowed(perm), borrowed(gather), borrowed(weight)
    one, zero = x.dtype.type(1), x.dtype.type(0)
    total = np.empty(channels, np.float64)
    center = np.zeros((1, channels), x.dtype)
    best = np.empty((2, channels), x.dtype)
    has_perm, has_weight = perm.size > 0, weight.size > 0
    spreads, lows, highs = want[2] >= 0 or want[5] >= 0, want[3] >= 0, want[4] >= 0
    means = want[1] >= 0 or spreads
    adds = want[0] >= 0 or means
    lowest, highest = lows and adds, highs and adds
    rows = out.reshape(out.shape[0] * bags, channels)
    besides = kept.reshape(kept.shape[0] * kept.shape[1], channels)
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        if adds:
            for c in range(channels):
                total[c] = 0.0
            add_rows(x, perm, gather, weight, begin[n], end[n], final, total)
        present = end[n] > begin[n]
        size = np.float64(end[n] - begin[n])
        if has_weight:
            present = False
            size = 0.0
            for e in range(begin[n], end[n]):
                w = weight[perm[e] if has_perm else e]
                present = present or w != zero
                size += w
        size = size if size != 0.0 else 1.0
        inverse = 1.0 / size
        where = (x, perm, gather, weight, begin[n], end[n])
        if want[0] >= 0:
            for c in range(channels):
                out[want[0], n, c] = total[c]
        if means:
            for c in range(channels):
                center[0, c] = total[c] / size
            if x.itemsize == 8:
                # Nothing wider to add in: the mean deviation from the rounded mean is what it lacks.
                for c in range(0, channels, lanes):
                    shift = look(*where, center, 0, c, True, False, False)[2] / size
                    shift = pick(magnitude(shift) < np.inf, shift, 0.0)
                    old = load(center, 0, c, channels - c, 0)
                    store(center, 0, c, channels - c, old + rounded(x, shift))
        if want[1] >= 0:
            for c in range(channels):
                out[want[1], n, c] = center[0, c]
        if not (spreads or lows or highs):
            continue
        if not adds:
            # The first reading of a bag: by rows, as memory is read fastest.
            for k in range(2):
                if want[3 + k] >= 0:
                    extreme(x, perm, gather, weight, begin[n], end[n], final, best[k], 2 * k - one)
        for c in range(0, channels, lanes):
            count = channels - c
            # The bag is still in cache; deviations from the mean keep a large common offset harmless.
            # The mean is rounded, so the mean deviation is taken out once more.
            low, high, sums, squares = look(*where, center, 0, c, spreads, lowest, highest)
            if not adds:
                low, high = load(best, 0, c, count, zero), load(best, 1, c, count, zero)
            if lows:
                store(
                    rows,
                    want[3] * bags + n,
                    c,
                    count,
                    rounded(rows, low if present else spread(x, 0)),
                )
                if keep[3] >= 0:
                    tied = rounded(kept, ties(*where, low, c))
                    store(besides, keep[3] * bags + n, c, count, tied)
            if highs:
                store(
                    rows,
                    want[4] * bags + n,
                    c,
                    count,
                    rounded(rows, high if present else spread(x, 0)),
                )
                if keep[4] >= 0:
                    tied = rounded(kept, ties(*where, high, c))
                    store(besides, keep[4] * bags + n, c, count, tied)
            if spreads:
                shift = sums * inverse
                v = squares * inverse - shift * shift
                v = pick(v < 0.0, 0.0, v)
                if want[2] >= 0:
                    store(rows, want[2] * bags + n, c, count, rounded(rows, v))
                if want[5] >= 0:
                    store(rows, want[5] * bags + n, c, count, rounded(rows, root(v)))
                if keep[2] >= 0:
                    store(besides, keep[2] * bags + n, c, count, rounded(kept, shift))


@kernel
def piece_deviations(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, owner, center, sums, squares, slot, first, last
):
    """Deviations, as in :func:`look`, of each piece from the mean of the bag that owns it."""
    for k in range(first, last):
        where = (x, perm, gather, weight, begin[k], end[k], center, owner[k])
        for c in range(0, x.shape[1], BYTES // x.itemsize):
            _, _, one, two = look(*where, c, True, False, False)
            store(sums, k, c, x.shape[1] - c, one)
            store(squares, k, c, x.shape[1] - c, two)


@kernel
def piece_ties(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, owner, best, sums, slot, first, last
):
    """:func:`ties` of each piece with the extremum of the bag that owns it."""
    for k in range(first, last):
        for c in range(0, x.shape[1], BYTES // x.itemsize):
            of_bag = load(best, owner[k], c, x.shape[1] - c, 0)
            tied = ties(x, perm, gather, weight, begin[k], end[k], of_bag, c)
            store(sums, k, c, x.shape[1] - c, tied)


def forward(x: np.ndarray, at: Arrays, want: np.ndarray, out: np.ndarray, kept: np.ndarray) -> None:
    """Fills ``out`` ``[K, S, C]`` and, where there is a backward pass, ``kept``: the weight of the elements
    at the minimum and at the maximum, and for the variance what its mean lacks by rounding."""
    chunks, limit, long_bags = bag_chunks(at.ptr, x.shape[1])
    keep = kept_rows(want) if len(kept) else _NONE
    where = (x, at.perm, at.gather, at.weight)
    args = (*where, at.ptr[:-1], at.ptr[1:], limit, want, keep, out, kept)
    run(moments_forward, args, chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    # Of its pieces a bag needs sums and extrema; deviations are from the mean of the whole bag.
    adds = bool((want[[SUM, MEAN, VAR, STD]] >= 0).any())
    need = np.where(want >= 0, 0, -1)
    need[[SUM, MEAN, VAR, STD]] = [0 if adds else -1, -1, -1, -1]
    need[need >= 0] = np.arange((need >= 0).sum())
    count = len(cut.begin)
    part = np.empty((int(need.max()) + 1, count, x.shape[1]))
    chunks = row_chunks(count, int((cut.end - cut.begin).sum()) * x.shape[1])
    none = np.full_like(want, -1)
    args = (*where, cut.begin, cut.end, NO_LIMIT, need, none, part, kept)
    run(moments_forward, args, chunks)
    present = at.present(cut.begin, cut.end)[:, None]
    for k, reduce, neutral in ((MIN, np.minimum, np.inf), (MAX, np.maximum, -np.inf)):
        if want[k] >= 0:
            best = reduce.reduceat(np.where(present, part[need[k]], neutral), cut.first)
            empty = ~np.logical_or.reduceat(present, cut.first)
            out[want[k], long_bags] = np.where(empty, 0, best)
            if keep[k] >= 0:
                tied = np.empty((count, x.shape[1]))
                best = best.astype(x.dtype)
                run(piece_ties, (*where, cut.begin, cut.end, cut.owner, best, tied), chunks)
                kept[keep[k], long_bags] = np.add.reduceat(tied, cut.first)
    if adds:
        total = np.add.reduceat(part[need[SUM]], cut.first)
        size = np.add.reduceat(at.sizes(cut.begin, cut.end)[:, None], cut.first)
        size[size == 0] = 1
        _long_means(where, cut, chunks, total, size, want, keep, long_bags, out, kept)


def _long_means(where, cut, chunks, total, size, want, keep, bags, out, kept):  # type: ignore[no-untyped-def]
    """Sum, mean, variance, deviation of long bags, as :func:`moments_forward` finds those of short ones."""
    x = where[0]

    def means(center):  # type: ignore[no-untyped-def]
        """Means of the deviations from ``center``, and of their squares."""
        sums, squares = (
            np.empty((len(cut.begin), x.shape[1])),
            np.empty((len(cut.begin), x.shape[1])),
        )
        args = (*where, cut.begin, cut.end, cut.owner, center, sums, squares)
        run(piece_deviations, args, chunks)
        return (np.add.reduceat(v, cut.first) / size for v in (sums, squares))

    if want[SUM] >= 0:
        out[want[SUM], bags] = total
    if (want[[MEAN, VAR, STD]] < 0).all():
        return
    center = (total / size).astype(x.dtype)
    if x.dtype == np.float64:
        shift, _ = means(center)
        center += np.where(np.isfinite(shift), shift, 0)
    if want[MEAN] >= 0:
        out[want[MEAN], bags] = center
    if want[VAR] >= 0 or want[STD] >= 0:
        shift, square = means(center)
        var = np.maximum(square - shift * shift, 0)
        for k, value in ((VAR, var), (STD, np.sqrt(var))):
            if want[k] >= 0:
                out[want[k], bags] = value
        if keep[VAR] >= 0:
            kept[keep[VAR], bags] = shift


def kept_rows(want: np.ndarray) -> np.ndarray:
    """The row of what is kept for each moment, or -1: the minimum, the maximum and the variance have one,
    that of the variance also for the deviation alone."""
    asked = want >= 0
    asked[VAR] |= asked[STD]
    return _kept_rows(*asked.tolist())


@functools.cache
def _kept_rows(*asked: bool) -> np.ndarray:
    kept = [k for k in (MIN, MAX, VAR) if asked[k]]
    rows = np.full(len(asked), -1)
    rows[kept] = range(len(kept))
    return rows
