"""CPU kernels of softmax over bags, with one score per channel.

A bag is read twice, the second time from cache: its largest score first, then exponentials and sums.
What is kept for each bag is that score and one over the sum of the exponentials relative to it. Their
combination ``log sum exp`` would be rounded like the score itself, and shares of large scores would not
add up to 1.

Sums are taken of what elements differ from that of the largest score, and what the result lacks by rounding
is kept: derivatives are of the difference between an element and the result, which may be small.
"""

from __future__ import annotations

import math

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
    settle,
)
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.math import LN2, exp, exp2, largest


@inlined
def size_of(weight, perm, begin, end):  # type: ignore[no-untyped-def]
    """The number of elements of a bag, or the sum of their weights."""
    total = np.float64(end - begin)
    if weight.size > 0:
        total = 0.0
        for e in range(begin, end):
            total += weight[perm[e] if perm.size > 0 else e]
    return total


@inlined
def unit(total):  # type: ignore[no-untyped-def]
    """The power of two by which the weights of a bag add up to less than 1: sums over it cannot overflow."""
    return math.ldexp(1.0, -min(max(math.frexp(total)[1], -100), 100))


@inlined
def mean(anchor, part, whole):  # type: ignore[no-untyped-def]
    """``anchor + 2 part / whole``, rounded, and what it lacks; halves, lest differences be infinite."""
    half = part / whole
    y = anchor + half + half
    rest = np.float64(anchor) - np.float64(y) + 2.0 * np.float64(half)
    return y, rest if abs(rest) < np.inf else 0.0


@inlined
def keep(top, z, scale, piece, kept, n):  # type: ignore[no-untyped-def]
    """Fills ``kept[n]`` ``[2, C]``: top, and one over the sum ``z / scale`` (of a piece the sum)."""
    for c in range(top.shape[0]):
        kept[n, 0, c] = top[c] if (z[0, c] != 0) & (z[0, c] == z[0, c]) else 0
        if piece:
            kept[n, 1, c] = z[0, c] / scale
        else:
            kept[n, 1, c] = scale / z[0, c] if z[0, c] != 0 else 0


@kernel
def softmax_forward(  # type: ignore[no-untyped-def]
    score,
    value,
    perm,
    gather,
    weight,
    begin,
    end,
    limit,
    piece,
    out,
    lacks,
    kept,
    slot,
    first,
    last,
):
    channels = score.shape[1]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    inf = score.dtype.type(np.inf)
    half = score.dtype.type(0.5)
    top, anchor = np.empty(channels, score.dtype), np.empty(channels, score.dtype)
    z = np.empty((1, channels), score.dtype)
    whole_z, whole_out = np.zeros(channels, np.float64), np.zeros(channels, np.float64)
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    # The largest finite number below 0: a bag of nothing but -inf keeps exp(-inf - top) = 0.
    least = -largest(zero)
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        for c in range(channels):
            top[c] = least
            anchor[c] = zero
            z[0, c] = zero
        for c in range(channels):
            out[n, c] = zero
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            if has_weight and weight[i] == zero:
                continue
            r = gather[i] if has_gather else i
            # One store to each loop: LLVM vectorises only what it can check for overlap cheaply.
            for c in range(channels):
                x, a = value[r, c], anchor[c]
                anchor[c] = x if score[i, c] > top[c] else a
            for c in range(channels):
                v = score[i, c]
                top[c] = v if v > top[c] else top[c]
        for c in range(channels):
            anchor[c] = anchor[c] if abs(anchor[c]) < inf else zero
        scale = score.dtype.type(unit(size_of(weight, perm, begin[n], end[n])))
        for e in range(begin[n], end[n]):
            carry(z, 0, whole_z, e - begin[n])
            carry(out, n, whole_out, e - begin[n])
            # The arithmetic of a row is long enough to fetch one that comes later meanwhile.
            if e + AHEAD < final and (has_perm or has_gather):
                i = perm[e + AHEAD] if has_perm else e + AHEAD
                fetch_row(score, i)
                fetch_row(value, gather[i] if has_gather else i)
            i = perm[e] if has_perm else e
            w = scale * (weight[i] if has_weight else one)
            if w == zero:
                continue
            r = gather[i] if has_gather else i
            for c in range(channels):
                v = score[i, c]
                a = w * exp(zero if v == top[c] else v - top[c])
                z[0, c] += a
                # The limit of exp(-s) * s is 0.
                x = half * value[r, c] - half * anchor[c]
                out[n, c] += zero if (a == zero) & (abs(x) == inf) else a * x
        settle(z, 0, whole_z, end[n] - begin[n])
        settle(out, n, whole_out, end[n] - begin[n])
        for c in range(channels):
            found = z[0, c] != zero
            y, rest = mean(anchor[c], out[n, c], z[0, c] if found else one)
            out[n, c], lacks[n, c] = (y, rest) if found else (zero, 0.0)
        keep(top, z, scale, piece, kept, n)


@kernel
def softmax_backward(  # type: ignore[no-untyped-def]
    score,
    value,
    index,
    ordered,
    gather,
    weight,
    out,
    kept,
    lacks,
    grad,
    grad_score,
    grad_value,
    slot,
    first,
    last,
):
    """Per element ``a g (v - y)`` to its score; ``a g`` to its value where ``grad_value`` has rows."""
    channels = score.shape[1]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    inf = score.dtype.type(np.inf)
    rows_of_bags = kept.reshape(kept.shape[0], 2 * channels)
    has_gather, has_weight, has_value = gather.size > 0, weight.size > 0, grad_value.shape[0] > 0
    for i in range(first, last):
        if i + AHEAD < last:
            if has_gather:
                fetch_row(value, gather[i + AHEAD])
            if not ordered:
                fetch_row(out, index[i + AHEAD])
                fetch_row(lacks, index[i + AHEAD])
                fetch_row(rows_of_bags, index[i + AHEAD])
                fetch_row(grad, index[i + AHEAD])
        w = weight[i] if has_weight else one
        n = index[i]
        r = gather[i] if has_gather else i
        if w == zero:
            for c in range(channels):
                grad_score[i, c] = zero
                if has_value:
                    grad_value[i, c] = zero
            continue
        for c in range(channels):
            v = score[i, c]
            a = w * exp(zero if v == kept[n, 0, c] else v - kept[n, 0, c]) * kept[n, 1, c]
            y = out[n, c]
            d = zero if (a == zero) | (abs(y) == inf) else value[r, c] - y - lacks[n, c]
            grad_score[i, c] = a * grad[n, c] * d
        if has_value:
            for c in range(channels):
                v = score[i, c]
                a = w * exp(zero if v == kept[n, 0, c] else v - kept[n, 0, c]) * kept[n, 1, c]
                grad_value[i, c] = a * grad[n, c]


@kernel
def share_backward(  # type: ignore[no-untyped-def]
    score,
    t,
    index,
    ordered,
    weight,
    row_ptr,
    row_elements,
    by_row,
    kept,
    grad,
    out,
    slot,
    first,
    last,
):
    """Rows of ``sum_e a_e g_s(e)``: the gradient to gathered values, and that of log-sum-exp to its scores.

    ``by_row``: scores lie by row, not by element.
    """
    channels = score.shape[1]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    whole = np.zeros(channels, np.float64)
    rate = score.dtype.type(1 / LN2) * t
    rows_of_bags = kept.reshape(kept.shape[0], 2 * channels)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    final = row_ptr[last] if has_ptr else last
    for r in range(first, last):
        for c in range(channels):
            out[r, c] = zero
        start = row_ptr[r] if has_ptr else r
        stop = row_ptr[r + 1] if has_ptr else r + 1
        for j in range(start, stop):
            carry(out, r, whole, j - start)
            if not ordered and j + AHEAD < final:
                i = row_elements[j + AHEAD] if has_elements else j + AHEAD
                fetch_row(rows_of_bags, index[i])
                fetch_row(grad, index[i])
                if not by_row:
                    fetch_row(score, i)
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            n = index[i]
            s = r if by_row else i
            for c in range(channels):
                v, top = score[s, c], kept[n, 0, c]
                a = w * exp2(zero if v == top else rate[c] * (v - top)) * kept[n, 1, c]
                out[r, c] += a * grad[n, c]
        settle(out, r, whole, stop - start)


def reduce(kernel, elements, t, at, out, lacks, kept):  # type: ignore[no-untyped-def]
    """Runs a kernel over all bags and joins the pieces of long ones.

    Fills ``out`` ``[S, ...]``, the weighted sum, ``lacks``, what it lacks by rounding, and ``kept``
    ``[S, 2, H]``: the largest score (of scores that are ``t`` times the element, the element), and one over
    the sum of the exponentials relative to it; 0 and 0 where there is no share.
    Returns the long bags, if there are any.
    """
    channels = math.prod(out.shape[1:])
    chunks, limit, long_bags = bag_chunks(at.ptr, channels)
    where = (*elements, at.perm, at.gather, at.weight)
    run(kernel, (*where, at.ptr[:-1], at.ptr[1:], limit, False, out, lacks, kept), chunks)
    if long_bags is None:
        return None
    cut = pieces(at.ptr, long_bags, limit)
    count, work = len(cut.begin), int((cut.end - cut.begin).sum()) * channels
    part = np.empty((count, *kept.shape[1:]), kept.dtype)
    sums = np.empty((2, count, *out.shape[1:]), out.dtype)
    args = (*where, cut.begin, cut.end, NO_LIMIT, True, *sums, part)
    run(kernel, args, row_chunks(count, work))
    part_out, part_lacks, out, lacks = (
        v.reshape(len(v), channels) for v in (sums[0], sums[1], out, lacks)
    )
    join(part, t, part_out, part_lacks, cut, long_bags, out, lacks, kept)
    return long_bags


def join(part, t, part_out, part_lacks, cut, bags, out, lacks, kept):  # type: ignore[no-untyped-def]
    """Joins pieces of long bags, in float64 and in order: each counts as an element of its own weight.

    Scores are ``t`` times what is kept.
    """
    z = part[:, 1].astype(np.float64)
    t = t.astype(np.float64)
    sign = np.where(t < 0, -1.0, 1.0)
    tops = np.where(z == 0, -np.inf, sign * part[:, 0])
    top = np.maximum.reduceat(tops, cut.first)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        spread = top[cut.owner]
        share = np.where(tops == spread, 0, np.where(z == 0, -np.inf, abs(t) * (tops - spread)))
        share = z * np.exp(share)
        total = np.add.reduceat(share, cut.first)
        inverse = np.where(total == 0, 0, 1 / total)
        kept[bags, 0] = np.where(total == 0, 0, sign * top)
        kept[bags, 1] = inverse
        share *= inverse[cut.owner]
        share = np.repeat(share, out.shape[1] // share.shape[1], 1)
        best = np.maximum.reduceat(share, cut.first)[cut.owner]
        anchor = np.where(share == best, part_out.astype(np.float64), -np.inf)
        anchor = np.maximum.reduceat(anchor, cut.first)
        anchor = np.where(np.isfinite(anchor), anchor, 0)
        half = 0.5 * part_out - 0.5 * anchor[cut.owner] + 0.5 * part_lacks
        lost = (share == 0) & ~np.isnan(part_out)
        half = np.add.reduceat(np.where(lost, 0, share * half), cut.first)
        out[bags] = anchor + half + half
        rest = anchor - out[bags] + 2 * half
        lacks[bags] = np.where(np.isfinite(rest), rest, 0)
