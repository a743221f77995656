"""CPU kernels of two norms and the mean, mixed: all of it from one reading of the elements.

Of each bag and channel ``n^g (r (a m_p + b m_-q) + c mean)``; ``r`` is the sum over that of the sizes. The
first exponent is positive, its largest term that of the largest element; the second is negative, its
largest term that of the smallest. As in :mod:`graphpool.ops.fused.cpu.norms.power` terms are taken relative
to the largest.

Kept are four rows of each bag: logs (to base 2) of the two plain norms, the sum of the elements, and that of
their sizes; pieces of long bags keep what the last two lack by rounding, too, and the extrema. Where the
norm is infinite, its log is :data:`BEYOND` more.

A NaN needs no care in the logarithms: the sums carry it.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

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
from graphpool.ops.fused.cpu.math import LN2, exp2, log2, log2_finite, tiny
from graphpool.ops.fused.cpu.norms.power import joined
from graphpool.ops.fused.cpu.vector import (
    BYTES,
    load,
    magnitude,
    pick,
    rounded,
    spread,
    store,
    widen,
)

BEYOND = 4096.0
KEPT, OF_PIECE, OF_BAG, SHARED = 4, 8, 8, 6


@inlined
def log_of(a, least):
    return log2_finite(pick(a < least, least, a))


@inlined
def norm(z, anchor, over_p, log_n, extreme, least):
    """The log of the plain norm, and the mean with its limits."""
    log = anchor + log2(z) * over_p
    mean = exp2(log - log_n * over_p)
    mean = pick(extreme == np.inf, np.inf, pick(extreme < least, 0, mean))
    return pick(extreme == np.inf, log + BEYOND, log), mean


@kernel
def mixed_forward(
    x,
    p,
    mix,
    growth,
    perm,
    gather,
    weight,
    begin,
    end,
    limit,
    piece,
    out,
    kept,
    size,
    slot,
    first,
    last,
):
    """``kept`` ``[S * 4, C]``, of pieces ``[S * 8, C]``."""
    channels, lanes = x.shape[1], BYTES // x.itemsize
    one, zero = x.dtype.type(1), x.dtype.type(0)
    least = tiny(zero)
    p1, p2 = p[0], p[1]
    over1, over2 = one / p1, one / p2
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    scattered = has_perm or has_gather
    rows = OF_PIECE if piece else KEPT
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        total = np.float64(end[n] - begin[n])
        if has_weight:
            total = 0.0
            for e in range(begin[n], end[n]):
                total += weight[perm[e] if has_perm else e]
        size[n] = total
        if total == 0.0:
            for c in range(channels):
                out[n, c] = zero
            for k in range(rows):
                for c in range(channels):
                    kept[n * rows + k, c] = zero
            continue
        log_n = x.dtype.type(log2(total))
        grown = x.dtype.type(exp2(np.float64(growth[0]) * log2(total)))
        inverse = 1.0 / total
        for c in range(0, channels, lanes):
            count = channels - c
            high, low = spread(x, zero), spread(x, np.inf)
            signed = widen(spread(x, zero))
            whole = signed
            for e in range(begin[n], end[n]):
                i = perm[e] if has_perm else e
                if c == 0 and scattered and e + AHEAD < final:
                    j = perm[e + AHEAD] if has_perm else e + AHEAD
                    fetch_row(x, gather[j] if has_gather else j)
                w = weight[i] if has_weight else one
                if w == zero:
                    continue
                v = load(x, gather[i] if has_gather else i, c, count, one)
                a = magnitude(v)
                high = pick(a > high, a, high)
                low = pick(a < low, a, low)
                if has_weight:
                    signed = signed + widen(v) * w
                    whole = whole + widen(a) * w
                else:
                    signed = signed + widen(v)
                    whole = whole + widen(a)
            top, bottom = log_of(high, least), log_of(low, least)
            whole1 = widen(spread(x, zero))
            whole2 = whole1
            for block in range(begin[n], end[n], BLOCK):
                z1 = spread(x, zero)
                z2 = z1
                for e in range(block, min(block + BLOCK, end[n])):
                    i = perm[e] if has_perm else e
                    w = weight[i] if has_weight else one
                    if w == zero:
                        continue
                    r = gather[i] if has_gather else i
                    u = log_of(magnitude(load(x, r, c, count, one)), least)
                    z1 = z1 + exp2((u - top) * p1) * w
                    z2 = z2 + exp2((u - bottom) * p2) * w
                whole1 = whole1 + widen(z1)
                whole2 = whole2 + widen(z2)
            log1, m1 = norm(rounded(x, whole1), top, over1, log_n, high, least)
            log2_, m2 = norm(rounded(x, whole2), bottom, over2, log_n, low, least)
            sum_, sizes = rounded(x, signed), rounded(x, whole)
            # 1 or -1 to the last bit where all elements have one sign; infinite ones, too.
            same = magnitude(sum_) == sizes
            sign = pick(sum_ == zero - sizes, -one, sum_ / pick(same, one, sizes))
            sign = pick(sum_ == sizes, one, sign)
            mean = rounded(x, signed * inverse if x.itemsize == 4 else signed / total)
            y = sign * (load(mix, 0, c, count, zero) * m1 + load(mix, 1, c, count, zero) * m2)
            store(out, n, c, count, (y + load(mix, 2, c, count, zero) * mean) * grown)
            store(kept, n * rows, c, count, log1)
            store(kept, n * rows + 1, c, count, log2_)
            store(kept, n * rows + 2, c, count, sum_)
            store(kept, n * rows + 3, c, count, sizes)
            if piece:
                store(kept, n * rows + 4, c, count, rounded(x, signed - widen(sum_)))
                store(kept, n * rows + 5, c, count, rounded(x, whole - widen(sizes)))
                store(kept, n * rows + 6, c, count, high)
                store(kept, n * rows + 7, c, count, low)


def forward(
    x: np.ndarray,
    p: np.ndarray,
    mix: np.ndarray,
    growth: np.ndarray,
    at: Arrays,
    out: np.ndarray,
    kept: np.ndarray,
    size: np.ndarray,
) -> None:
    """Fills ``out`` ``[S, C]``, ``kept`` ``[S, 4, C]`` and ``size`` ``[S]``."""
    channels = x.shape[1]
    chunks, limit, long_bags = bag_chunks(at.ptr, channels)
    where = (x, p, mix, growth, at.perm, at.gather, at.weight)
    rows = kept.reshape(kept.shape[0] * KEPT, channels)
    run(mixed_forward, (*where, at.ptr[:-1], at.ptr[1:], limit, False, out, rows, size), chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    count = len(cut.begin)
    part = np.empty((count, OF_PIECE, channels), x.dtype)
    part_out, part_size = np.empty((count, channels), x.dtype), np.empty(count, x.dtype)
    args = (
        *where,
        cut.begin,
        cut.end,
        NO_LIMIT,
        True,
        part_out,
        part.reshape(-1, channels),
        part_size,
    )
    run(mixed_forward, args, row_chunks(count, int((cut.end - cut.begin).sum()) * channels))
    # In float64 and in order.
    part = part.astype(np.float64)
    logs = np.where(part[:, :2] > BEYOND / 2, part[:, :2] - BEYOND, part[:, :2])
    orders = p.astype(np.float64)[:, None]
    log, extreme, total = joined(orders, logs * LN2, part[:, 6:], part_size, cut)
    found = total > 0
    n = np.where(found, total, 1)[:, None]
    # What rounding an infinite sum has left is no number.
    rests = np.where(np.isfinite(part[:, 2:4]), part[:, 4:6], 0)
    sums = np.add.reduceat(part[:, 2:4] + rests, cut.first)
    least = 2.0 ** (-1021 if x.dtype == np.float64 else -125)
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.exp(log - np.log(n)[:, None] / orders)
        means = np.where(extreme == np.inf, np.inf, np.where(extreme < least, 0, means))
        same = np.abs(sums[:, 0]) == sums[:, 1]
        sign = np.where(sums[:, 0] < 0, -1, 1)
        sign = np.where(same, sign, sums[:, 0] / np.where(same, 1, sums[:, 1]))
        y = sign * (mix[0] * means[:, 0] + mix[1] * means[:, 1]) + mix[2] * sums[:, 0] / n
        out[long_bags] = np.where(found[:, None], y * n ** np.float64(growth[0]), 0)
    log = log / LN2 + np.where(extreme == np.inf, BEYOND, 0)
    kept[long_bags] = np.where(found[:, None, None], np.concatenate([log, sums], 1), 0)
    size[long_bags] = total
