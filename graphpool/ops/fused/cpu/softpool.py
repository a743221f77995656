"""CPU kernels of what a softmax of the elements themselves makes of a bag: a weighted mean, and log-sum-exp.

A bag is read twice, the second time from cache: for the element whose score ``t x`` is the largest first,
then for exponentials and sums, both of what the others differ from that. No score is ever rounded, large as
it be. Kept for each bag are that element and one over the sum of the exponentials relative to it.
"""

from __future__ import annotations

import numpy as np

from graphpool._memory import fresh
from graphpool.ops.fused.cpu.core import (
    BLOCK,
    add_up,
    carry,
    inlined,
    kernel,
    row_chunks,
    run,
    settle,
)
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.math import LN2, exp2, largest, log
from graphpool.ops.fused.cpu.softmax import reduce, share_backward, size_of, unit
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


@inlined
def log_sums(tau, less, top, inverse, y, rest):  # type: ignore[no-untyped-def]
    """``tau (log sum exp(x / tau) - less)`` of a bag and its derivative by ``tau``, in float64, from the
    weighted mean ``y`` and what that lacks, and from what is kept."""
    tau, top = widen(tau), widen(top)
    none = widen(inverse) == 0.0
    log_ = less + log(pick(none, 1.0, widen(inverse)))
    lse = pick(none, tau * -np.inf, top - tau * log_)
    # Nothing moves an infinite result.
    slope = -1.0 * log_ - (y - top + rest) / tau
    return lse, pick(magnitude(lse) == np.inf, 0.0, slope)


@kernel
def softpool_forward(  # type: ignore[no-untyped-def]
    x,
    t,
    tau,
    mean_of,
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
    """Fills ``out`` and ``lacks`` ``[S, C]``, the weighted mean and what it lacks by rounding, and ``kept``
    ``[S, 2, C]``. Given ``tau``, and not of a ``piece``, :func:`log_sums` takes their place."""
    channels, lanes = x.shape[1], BYTES // x.itemsize
    one, zero, half = x.dtype.type(1), x.dtype.type(0), x.dtype.type(0.5)
    logs, taus = tau.size > 0 and not piece, tau.reshape(tau.size // channels, channels)
    rates, rows = t.reshape(1, channels), kept.reshape(2 * kept.shape[0], channels)
    # The largest finite number below 0: a bag of nothing but -inf keeps exp(-inf - top) = 0.
    least = -largest(zero)
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    scattered = has_perm or has_gather
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        total = size_of(weight, perm, begin[n], end[n])
        scale = x.dtype.type(unit(total))
        less = np.log(total) if logs and mean_of and total > 0 else 0.0
        for c in range(0, channels, lanes):
            count = channels - c
            rate = load(rates, 0, c, count, one)
            sign = pick(rate < zero, -one, spread(x, one))
            # To base 2, which is cheaper; finite, for the sake of the difference 0.
            twice = rate * x.dtype.type(2 / LN2)
            twice = pick(twice < least, least, pick(twice > -least, -least, twice))
            top = spread(x, least)
            for e in range(begin[n], end[n]):
                i = perm[e] if has_perm else e
                if c == 0 and scattered and e + AHEAD < final:
                    j = perm[e + AHEAD] if has_perm else e + AHEAD
                    fetch_row(x, gather[j] if has_gather else j)
                if has_weight and weight[i] == zero:
                    continue
                v = sign * load(x, gather[i] if has_gather else i, c, count, zero)
                top = pick(v > top, v, top)
            top = sign * top
            near = half * top
            z, part = spread(x, zero), spread(x, zero)
            whole_z, whole_part = widen(z), widen(part)
            for e in range(begin[n], end[n]):
                if (e - begin[n]) % BLOCK == 0:
                    whole_z, whole_part = whole_z + widen(z), whole_part + widen(part)
                    z, part = spread(x, zero), spread(x, zero)
                i = perm[e] if has_perm else e
                w = scale * (weight[i] if has_weight else one)
                if w == zero:
                    continue
                v = load(x, gather[i] if has_gather else i, c, count, zero)
                # Halves, lest differences be infinite.
                d = pick(v == top, zero, half * v - near)
                a = w * exp2(twice * d)
                z = z + a
                # The limit of exp(-s) * s is 0.
                part = part + pick(a == zero, zero, a * d)
            z, part = rounded(x, whole_z + widen(z)), rounded(x, whole_part + widen(part))
            lost = z == zero
            off = part / pick(lost, one, z)
            y = top + off + off
            rest = widen(top) - widen(y) + 2.0 * widen(off)
            rest = pick(magnitude(rest) < np.inf, rest, 0.0)
            top = pick(lost, zero, pick(z == z, top, zero))
            found = pick(lost, zero, z / scale if piece else scale / pick(lost, one, z))
            y, rest = pick(lost, 0.0, widen(y)), pick(lost, 0.0, rest)
            if logs and total > 0:
                y, rest = log_sums(load(taus, 0, c, count, one), less, top, found, y, rest)
            store(out, n, c, count, rounded(out, y))
            store(lacks, n, c, count, rounded(lacks, rest))
            store(rows, 2 * n, c, count, top)
            store(rows, 2 * n + 1, c, count, found)


@inlined
def pack(out, kept, lacks, grad, n, table, row):  # type: ignore[no-untyped-def]
    """Fills ``table[row]`` ``[3, C]`` with what the gradients need of a bag: its top, what the result is off
    that, and the gradient over the sum of exponentials.

    The offset is infinite just where the result is. Rounded, it is wrong by no more than the difference
    between an element and the top, which is below ``log(n) / t``.
    """
    zero = out.dtype.type(0)
    inf = out.dtype.type(np.inf)
    most = largest(zero)
    for c in range(out.shape[1]):
        y, top = out[n, c], kept[n, 0, c]
        off = y - top + lacks[n, c]
        off = min(max(off, -most), most) if off == off else off
        table[row, 0, c] = top
        table[row, 1, c] = inf if abs(y) == inf else off
        table[row, 2, c] = grad[n, c] * kept[n, 1, c]


@kernel
def pack_bags(out, kept, lacks, grad, table, slot, first, last):  # type: ignore[no-untyped-def]
    for n in range(first, last):
        pack(out, kept, lacks, grad, n, table, n)


@kernel
def softpool_backward(  # type: ignore[no-untyped-def]
    x, t, index, ordered, weight, row_ptr, row_elements, out, kept, lacks, grad, table, grad_x, grad_t,
    slot, first, last,
):  # fmt: skip
    """Gradients of ``sum softmax(t x) x`` to the rows ``x``, and to ``t`` as one sum per chunk.

    Bags that are met in order are packed here, one at a time; of others ``table`` holds all.
    """
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    inf = x.dtype.type(np.inf)
    total = np.zeros(channels, x.dtype)
    whole = np.zeros(channels, np.float64)
    rate = x.dtype.type(1 / LN2) * t
    packed = np.empty((1, 3, channels), x.dtype) if ordered else table
    rows_of_bags = packed.reshape(packed.shape[0], 3 * channels)
    latest = -1
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    for c in range(channels):
        grad_t[slot, c] = 0.0
    final = row_ptr[last] if has_ptr else last
    for r in range(first, last):
        for c in range(channels):
            grad_x[r, c] = zero
        start = row_ptr[r] if has_ptr else r
        stop = row_ptr[r + 1] if has_ptr else r + 1
        for j in range(start, stop):
            carry(grad_x, r, whole, j - start)
            if not ordered and j + AHEAD < final:
                i = row_elements[j + AHEAD] if has_elements else j + AHEAD
                fetch_row(rows_of_bags, index[i])
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            n = index[i]
            if ordered:
                if n != latest:
                    pack(out, kept, lacks, grad, n, packed, 0)
                    latest = n
                n = 0
            for c in range(channels):
                v, top, off = x[r, c], packed[n, 0, c], packed[n, 1, c]
                s = zero if v == top else v - top
                a = w * exp2(rate[c] * s)
                # Moving the shares does not move an infinite result.
                d = zero if (a == zero) | (abs(off) == inf) else s - off
                a *= packed[n, 2, c]
                grad_x[r, c] += a * (one + t[c] * d)
                total[c] += a * d * d
        settle(grad_x, r, whole, stop - start)
        add_up(total, grad_t, slot, r, first, last)


def forward(
    x: np.ndarray, t: np.ndarray, at: Arrays, out: np.ndarray, lacks: np.ndarray, kept: np.ndarray
) -> None:
    """Fills what :func:`softpool_forward` fills, of all bags."""
    reduce(softpool_forward, (x, t, t[:0], False), t, at, out, lacks, kept)


def backward(
    grad: np.ndarray,
    x: np.ndarray,
    t: np.ndarray,
    out: np.ndarray,
    lacks: np.ndarray,
    kept: np.ndarray,
    at: Arrays,
    grad_x: np.ndarray,
    grad_t: np.ndarray,
) -> None:
    """Fills the gradients of ``x`` and ``t``."""
    chunks = at.backward_chunks(x.shape[1])
    sums = np.zeros((len(chunks), x.shape[1]))
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    bags = (out, kept, lacks, grad)
    table = fresh((0 if at.in_order else len(out), 3, x.shape[1]), out)
    if not at.in_order:
        run(pack_bags, (*bags, table), row_chunks(len(out), table.size))
    run(softpool_backward, (x, t, *where, *bags, table, grad_x, sums), chunks)
    grad_t[:] = sums.sum(0)


@kernel
def products(left, right, sums, slot, first, last):  # type: ignore[no-untyped-def]
    """Adds up ``left * right`` over the rows of a chunk."""
    total = np.zeros(left.shape[1], left.dtype)
    for c in range(left.shape[1]):
        sums[slot, c] = 0.0
    for n in range(first, last):
        for c in range(left.shape[1]):
            total[c] += left[n, c] * right[n, c]
        add_up(total, sums, slot, n, first, last)


def logsumexp_forward(
    x: np.ndarray,
    tau: np.ndarray,
    over: str,
    at: Arrays,
    lse: np.ndarray,
    slope: np.ndarray,
    kept: np.ndarray,
) -> None:
    """Fills ``lse``, its derivative ``slope`` by ``tau``, and ``kept`` as :func:`forward`."""
    bags = reduce(
        softpool_forward, (x, 1 / tau, tau, over == "mean"), 1 / tau, at, lse, slope, kept
    )
    if bags is None:
        return
    size = at.sizes(at.ptr[bags], at.ptr[bags + 1])[:, None].astype(np.float64)
    top, inverse = kept[bags].astype(np.float64).swapaxes(0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        less = np.log(size) if over == "mean" else 0.0
        rest = less + np.log(np.where(inverse == 0, 1, inverse))
        found = np.where(inverse == 0, -tau * np.inf, top - tau * rest)
        off = lse[bags].astype(np.float64) - top + slope[bags]
        moved = np.where(np.isinf(found), 0, -rest - off / tau)
    lse[bags], slope[bags] = (np.where(size > 0, v, 0) for v in (found, moved))


def logsumexp_backward(
    grad: np.ndarray,
    x: np.ndarray,
    tau: np.ndarray,
    slope: np.ndarray,
    kept: np.ndarray,
    over: str,
    at: Arrays,
    grad_x: np.ndarray,
    grad_tau: np.ndarray,
) -> None:
    """Fills the gradients of ``x`` and ``tau``."""
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements, True)
    args = (x, 1 / tau, *where, kept, grad, grad_x)
    run(share_backward, args, at.backward_chunks(x.shape[1]))
    chunks = row_chunks(len(slope), slope.size)
    sums = np.zeros((len(chunks), x.shape[1]))
    run(products, (grad, slope, sums), chunks)
    grad_tau[:] = sums.sum(0)
