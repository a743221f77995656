"""CPU kernels of sum, mean, variance, minimum and maximum: all of them in one pass over the elements."""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import (
    NO_LIMIT,
    bag_chunks,
    carry,
    inlined,
    kernel,
    pieces,
    row_chunks,
    run,
)
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.layout import Arrays

SUM, MEAN, VAR, MIN, MAX = range(5)


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
def deviations(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, center, n, one, two, first, second
):
    """Adds ``w (x - center[n])`` to ``first`` and ``w (x - center[n])^2`` to ``second`` (float64), by way of
    ``one`` and ``two`` ``[1, C]``, which are 0 before and after."""
    has_weight = weight.size > 0
    for e in range(begin, end):
        carry(one, 0, first, e - begin)
        carry(two, 0, second, e - begin)
        r = row(perm, gather, e)
        w = weight[perm[e] if perm.size > 0 else e] if has_weight else x.dtype.type(1)
        if w == 0:
            continue
        for c in range(x.shape[1]):
            d = x[r, c] - center[n, c]
            one[0, c] += w * d
            two[0, c] += w * d * d
    # One sum to each loop: LLVM vectorises only what it can check for overlap cheaply.
    for c in range(x.shape[1]):
        first[c] += one[0, c]
        one[0, c] = 0
    for c in range(x.shape[1]):
        second[c] += two[0, c]
        two[0, c] = 0


@inlined
def extreme(x, perm, gather, weight, begin, end, ahead, best, sign):  # type: ignore[no-untyped-def]
    """Takes the largest ``sign * x`` into ``best``; a NaN wins, and stays."""
    scattered, has_weight = perm.size > 0 or gather.size > 0, weight.size > 0
    for e in range(begin, end):
        if scattered and e + AHEAD < ahead:
            fetch_row(x, row(perm, gather, e + AHEAD))
        if has_weight and weight[perm[e] if perm.size > 0 else e] == 0:
            continue
        r = row(perm, gather, e)
        for c in range(x.shape[1]):
            v = sign * x[r, c]
            best[c] = v if (v > best[c]) | (v != v) else best[c]


@inlined
def ties(x, perm, gather, weight, begin, end, best, n, part, total):  # type: ignore[no-untyped-def]
    """Adds the weight of the elements at ``best[n]`` to ``total`` (float64), by way of ``part``."""
    for e in range(begin, end):
        carry(part, 0, total, e - begin)
        w = weight[perm[e] if perm.size > 0 else e] if weight.size > 0 else x.dtype.type(1)
        r = row(perm, gather, e)
        for c in range(x.shape[1]):
            hit = (x[r, c] == best[n, c]) | (x[r, c] != x[r, c])
            part[0, c] += w if hit else x.dtype.type(0)
    for c in range(x.shape[1]):
        total[c] += part[0, c]
        part[0, c] = 0


@kernel
def moments_forward(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, limit, want, keep, out, kept, slot, first, last
):
    """Bags ``first, ..., last - 1``, each from ``begin[n]`` to ``end[n]``; longer ones than ``limit`` wait.

    ``want[k]`` is the row of ``out`` for moment k, or -1; ``keep`` likewise for ``kept``.
    """
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    inf = x.dtype.type(np.inf)
    total = np.empty(channels, np.float64)
    sums = np.empty(channels, np.float64)
    squares = np.empty(channels, np.float64)
    part = np.zeros((1, channels), x.dtype)
    other = np.zeros((1, channels), x.dtype)
    center = np.empty((1, channels), x.dtype)
    best = np.empty(channels, x.dtype)
    has_perm, has_weight = perm.size > 0, weight.size > 0
    means, spread = want[1] >= 0 or want[2] >= 0, want[2] >= 0
    adds = want[0] >= 0 or means
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        for c in range(channels):
            total[c] = 0.0
        if adds:
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
        for k in (3, 4):
            if want[k] < 0:
                continue
            sign = one if k == 4 else -one
            for c in range(channels):
                best[c] = -inf
            ahead = 0 if adds else final
            extreme(x, perm, gather, weight, begin[n], end[n], ahead, best, sign)
            for c in range(channels):
                out[want[k], n, c] = sign * best[c] if present else zero
            if keep[k] >= 0:
                for c in range(channels):
                    center[0, c] = sign * best[c]
                    sums[c] = 0.0
                ties(x, perm, gather, weight, begin[n], end[n], center, 0, part, sums)
                for c in range(channels):
                    kept[keep[k], n, c] = sums[c]
        if want[0] >= 0:
            for c in range(channels):
                out[want[0], n, c] = total[c]
        if means:
            size = size if size != 0.0 else 1.0
            for c in range(channels):
                center[0, c] = total[c] / size
            if x.itemsize == 8:
                # Nothing wider to add in: the mean deviation from the rounded mean is what it lacks.
                for c in range(channels):
                    sums[c] = 0.0
                deviations(
                    x, perm, gather, weight, begin[n], end[n], center, 0, part, other, sums, squares
                )
                for c in range(channels):
                    shift = sums[c] / size
                    center[0, c] += shift if abs(shift) < np.inf else 0.0
        if want[1] >= 0:
            for c in range(channels):
                out[want[1], n, c] = center[0, c]
        if spread:
            # The bag is still in cache; deviations from the mean keep a large common offset harmless.
            # The mean is rounded, so the mean deviation is taken out once more.
            for c in range(channels):
                sums[c] = 0.0
                squares[c] = 0.0
            deviations(
                x, perm, gather, weight, begin[n], end[n], center, 0, part, other, sums, squares
            )
            inverse = 1.0 / size
            for c in range(channels):
                sums[c] *= inverse
            for c in range(channels):
                v = squares[c] * inverse - sums[c] * sums[c]
                out[want[2], n, c] = 0.0 if v < 0.0 else v
            if keep[2] >= 0:
                for c in range(channels):
                    kept[keep[2], n, c] = sums[c]


@kernel
def piece_deviations(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, owner, center, sums, squares, slot, first, last
):
    """:func:`deviations` of each piece from the mean of the bag that owns it."""
    part = np.zeros((1, x.shape[1]), x.dtype)
    other = np.zeros((1, x.shape[1]), x.dtype)
    for k in range(first, last):
        for c in range(x.shape[1]):
            sums[k, c] = 0.0
            squares[k, c] = 0.0
        deviations(
            x, perm, gather, weight, begin[k], end[k], center, owner[k],
            part, other, sums[k], squares[k],
        )  # fmt: skip


@kernel
def piece_ties(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, owner, best, sums, slot, first, last
):
    """:func:`ties` of each piece with the extremum of the bag that owns it."""
    part = np.zeros((1, x.shape[1]), x.dtype)
    for k in range(first, last):
        for c in range(x.shape[1]):
            sums[k, c] = 0.0
        ties(x, perm, gather, weight, begin[k], end[k], best, owner[k], part, sums[k])


def forward(x: np.ndarray, at: Arrays, want: np.ndarray, out: np.ndarray, kept: np.ndarray) -> None:
    """Fills ``out`` ``[K, S, C]`` and, where there is a backward pass, ``kept``: the weight of the elements
    at the minimum and at the maximum, and for the variance what its mean lacks by rounding."""
    chunks, limit, long_bags = bag_chunks(at.ptr, x.shape[1])
    keep = kept_rows(want) if len(kept) else np.full_like(want, -1)
    where = (x, at.perm, at.gather, at.weight)
    args = (*where, at.ptr[:-1], at.ptr[1:], limit, want, keep, out, kept)
    run(moments_forward, args, chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    # Of its pieces a bag needs sums and extrema; deviations are from the mean of the whole bag.
    adds = bool((want[:3] >= 0).any())
    need = np.where(want >= 0, 0, -1)
    need[:3] = [0 if adds else -1, -1, -1]
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
    """Sum, mean and variance of long bags, as :func:`moments_forward` finds those of short ones."""
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
    if (want[[MEAN, VAR]] < 0).all():
        return
    center = (total / size).astype(x.dtype)
    if x.dtype == np.float64:
        shift, _ = means(center)
        center += np.where(np.isfinite(shift), shift, 0)
    if want[MEAN] >= 0:
        out[want[MEAN], bags] = center
    if want[VAR] >= 0:
        shift, square = means(center)
        out[want[VAR], bags] = np.maximum(square - shift * shift, 0)
        if keep[VAR] >= 0:
            kept[keep[VAR], bags] = shift


def kept_rows(want: np.ndarray) -> np.ndarray:
    """The row of what is kept for each moment, or -1: the minimum, the maximum and the variance have one."""
    asked = want[[MIN, MAX, VAR]] >= 0
    rows = np.full_like(want, -1)
    rows[[MIN, MAX, VAR]] = np.where(asked, asked.cumsum() - 1, -1)
    return rows
