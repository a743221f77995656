"""CPU kernels of generalised norms ``n^-q (sum a^p)^(1/p)``, in the log domain, several at once.

Norm ``k`` has its own exponents and its own ``a``: the absolute value of an element (``side[k]`` 0), what it
has above zero (1), or below (-1). All are found from one reading of the elements, with one logarithm each.

The largest term of a bag (the largest ``a`` for p > 0, the smallest for p < 0) is found first, without
logarithms, and all others are taken relative to it, so that nothing overflows and the result of a small
spread is not the difference of large logarithms. Kept is one value per bag, norm and channel, the log of the
plain norm.

Exponents, sums and results of the norms lie one after the other: ``[K C]``.
"""

from __future__ import annotations

import numpy as np

from graphpool._memory import fresh
from graphpool.ops.fused.cpu.core import (
    NO_LIMIT,
    add_up,
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
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.math import LN2, exp2, largest, log2, tiny
from graphpool.ops.reference import SIDES


@inlined
def log_size(v):  # type: ignore[no-untyped-def]
    """``log2 |v|``: zero is the limit of a small number, infinity that of a large one."""
    a = abs(v)
    a = tiny(v) if a < tiny(v) else a
    return log2(largest(v) if a > largest(v) else a)


@kernel
def power_forward(  # type: ignore[no-untyped-def]
    x,
    p,
    q,
    side,
    perm,
    gather,
    weight,
    begin,
    end,
    limit,
    piece,
    out,
    norm,
    size,
    slot,
    first,
    last,
):
    """Of a ``piece``, ``out`` is the ``a`` whose term is the largest."""
    norms, channels = p.shape
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    inf = x.dtype.type(np.inf)
    natural = x.dtype.type(LN2)
    floor = log2(tiny(zero))
    # extreme: sign(p) times the a whose term is the largest
    extreme = np.empty((norms, channels), x.dtype)
    anchor = np.empty((norms, channels), x.dtype)
    sign = np.where(p > 0, one, -one)
    log = np.empty(channels, x.dtype)
    z = np.empty((norms, channels), x.dtype)
    flat = z.reshape(1, norms * channels)
    whole = np.zeros(norms * channels, np.float64)
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        present = zero
        total = 0.0
        for k in range(norms):
            for c in range(channels):
                extreme[k, c] = -inf
                z[k, c] = zero
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            present = one
            total += w
            r = gather[i] if has_gather else i
            for k in range(norms):
                if side[k] == 0:
                    for c in range(channels):
                        v = sign[k, c] * abs(x[r, c])
                        extreme[k, c] = v if v > extreme[k, c] else extreme[k, c]
                else:
                    for c in range(channels):
                        v = side[k] * x[r, c]
                        v = sign[k, c] * (zero if v < zero else v)
                        extreme[k, c] = v if v > extreme[k, c] else extreme[k, c]
        size[n] = total
        if present == zero:
            for k in range(norms):
                for c in range(channels):
                    out[n, k, c] = zero
                    norm[n, k, c] = zero
            continue
        for k in range(norms):
            for c in range(channels):
                anchor[k, c] = log_size(extreme[k, c])
        for e in range(begin[n], end[n]):
            carry(flat, 0, whole, e - begin[n])
            # The arithmetic of a row is long enough to fetch one that comes later meanwhile.
            if e + AHEAD < final and (has_perm or has_gather):
                i = perm[e + AHEAD] if has_perm else e + AHEAD
                fetch_row(x, gather[i] if has_gather else i)
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            r = gather[i] if has_gather else i
            for c in range(channels):
                log[c] = log_size(x[r, c])
            for k in range(norms):
                if side[k] == 0:
                    for c in range(channels):
                        z[k, c] += w * exp2(p[k, c] * (log[c] - anchor[k, c]))
                else:
                    for c in range(channels):
                        u = floor if side[k] * x[r, c] <= zero else log[c]
                        z[k, c] += w * exp2(p[k, c] * (u - anchor[k, c]))
        settle(flat, 0, whole, end[n] - begin[n])
        scale = log2(x.dtype.type(total))
        # One store to each loop: LLVM vectorises only what it can check for overlap cheaply.
        for k in range(norms):
            for c in range(channels):
                spread = log2(one if z[k, c] == zero else z[k, c]) / p[k, c]
                z[k, c] = sign[k, c] * -inf if z[k, c] == zero else spread
            for c in range(channels):
                z[k, c] += anchor[k, c]
            for c in range(channels):
                norm[n, k, c] = natural * z[k, c]
            for c in range(channels):
                z[k, c] = exp2(z[k, c] - q[k, c] * scale)
            for c in range(channels):
                # The limits of vanishing elements and of infinite ones; a NaN shows in z.
                a, y = abs(extreme[k, c]), z[k, c]
                y = inf if (a == inf) & (y == y) else y
                y = zero if (a < tiny(zero)) & (y == y) else y
                out[n, k, c] = a if piece else y


@kernel
def power_bags(  # type: ignore[no-untyped-def]
    q, norm, out, size, grad, of_bag, grad_q, slot, first, last
):
    """Fills ``of_bag`` ``[S, 3, K C]``: the log of the norm to base 2, the gradient of the plain norm, and
    the same for the exponents, which do not move an infinite result.

    ``grad_q`` gets, per chunk, the gradient to q over ln 2.
    """
    width = norm.shape[1]
    one = norm.dtype.type(1)
    zero = norm.dtype.type(0)
    inf = norm.dtype.type(np.inf)
    binary = norm.dtype.type(1 / LN2)
    total = np.zeros(width, norm.dtype)
    for c in range(width):
        grad_q[slot, c] = 0.0
    for n in range(first, last):
        scale = log2(size[n] if size[n] > zero else one)
        for c in range(width):
            of_bag[n, 0, c] = binary * norm[n, c]
        for c in range(width):
            of_bag[n, 1, c] = grad[n, c] * exp2(-q[c] * scale)
        for c in range(width):
            of_bag[n, 2, c] = zero if abs(out[n, c]) == inf else of_bag[n, 1, c]
        for c in range(width):
            # Nothing moves an infinite result.
            total[c] -= zero if abs(out[n, c]) == inf else scale * grad[n, c] * out[n, c]
        add_up(total, grad_q, slot, n, first, last)


@kernel
def power_backward(  # type: ignore[no-untyped-def]
    x,
    p,
    side,
    index,
    ordered,
    weight,
    row_ptr,
    row_elements,
    of_bag,
    grad_x,
    grad_p,
    slot,
    first,
    last,
):
    """``of_bag``: see :func:`power_bags`. ``grad_p`` gets, per chunk, the gradient to p times p over ln 2."""
    norms, channels = p.shape
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    least = tiny(zero)
    floor = log2(least)
    inf = x.dtype.type(np.inf)
    total = np.zeros((norms, channels), x.dtype)
    flat = total.reshape(norms * channels)
    size = np.empty(channels, x.dtype)
    log = np.empty(channels, x.dtype)
    power = np.empty(channels, x.dtype)
    slope = p - one
    rows_of_bags = of_bag.reshape(of_bag.shape[0], 3 * norms * channels)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    final = row_ptr[last] if has_ptr else last
    whole = np.zeros(channels, np.float64)
    for c in range(norms * channels):
        grad_p[slot, c] = 0.0
    for r in range(first, last):
        start = row_ptr[r] if has_ptr else r
        stop = row_ptr[r + 1] if has_ptr else r + 1
        for c in range(channels):
            grad_x[r, c] = zero
        for c in range(channels):
            log[c] = log_size(x[r, c])
        for c in range(channels):
            # No exponent moves the term of an infinite element.
            a = abs(x[r, c])
            a = least if a < least else a
            size[c] = zero if a == inf else a
        for j in range(start, stop):
            carry(grad_x, r, whole, j - start)
            if j + AHEAD < final and not ordered:
                i = row_elements[j + AHEAD] if has_elements else j + AHEAD
                fetch_row(rows_of_bags, index[i])
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            n = index[i]
            for k in range(norms):
                if side[k] == 0:
                    for c in range(channels):
                        power[c] = w * exp2(slope[k, c] * (log[c] - of_bag[n, 0, k, c]))
                    for c in range(channels):
                        u = log[c] - of_bag[n, 0, k, c]
                        total[k, c] += of_bag[n, 2, k, c] * power[c] * size[c] * u
                    for c in range(channels):
                        g = of_bag[n, 1, k, c] * power[c]
                        grad_x[r, c] += -g if x[r, c] < zero else g
                else:
                    for c in range(channels):
                        u = floor if side[k] * x[r, c] <= zero else log[c]
                        power[c] = w * exp2(slope[k, c] * (u - of_bag[n, 0, k, c]))
                    for c in range(channels):
                        off = side[k] * x[r, c] <= zero
                        u = (floor if off else log[c]) - of_bag[n, 0, k, c]
                        a = least if off else size[c]
                        total[k, c] += of_bag[n, 2, k, c] * power[c] * a * u
                    for c in range(channels):
                        g = side[k] * of_bag[n, 1, k, c] * power[c]
                        grad_x[r, c] += zero if side[k] * x[r, c] <= zero else g
        settle(grad_x, r, whole, stop - start)
        add_up(flat, grad_p, slot, r, first, last)


def sides(negative: str, p: np.ndarray) -> np.ndarray:
    """The side of each norm: those of one side come first, then those of the other."""
    sides = np.array(SIDES[negative], p.dtype)
    return np.repeat(sides, len(p) // len(sides))


def joined(  # type: ignore[no-untyped-def]
    p, logs, extremes, sizes, cut
):
    """Of long bags, from their pieces ``[P, K, C]``, in float64 and in order: a piece counts as one element
    whose log is its norm. The logs of the norms, the extreme elements, and the sizes ``[S]``."""
    present = sizes[:, None, None] > 0
    scores = np.where(present, p * logs, -np.inf)
    top = np.maximum.reduceat(scores, cut.first)
    top[np.isneginf(top)] = 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        spread = top[cut.owner]
        terms = np.exp(np.where(scores == spread, 0, scores - spread))
        log = (top + np.log(np.add.reduceat(terms, cut.first))) / p
    extreme = np.where(
        p > 0,
        np.maximum.reduceat(np.where(present, extremes, -np.inf), cut.first),
        np.minimum.reduceat(np.where(present, extremes, np.inf), cut.first),
    )
    return log, extreme, np.add.reduceat(sizes.astype(np.float64), cut.first)


def forward(
    x: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    negative: str,
    at: Arrays,
    out: np.ndarray,
    norm: np.ndarray,
    size: np.ndarray,
) -> None:
    """Fills ``out`` ``[S, K, C]``, ``norm`` ``[S, K, C]`` (the log of the norm without the factor of the
    size) and ``size`` ``[S]``."""
    side = sides(negative, p)
    chunks, limit, long_bags = bag_chunks(at.ptr, x.shape[1])
    where = (x, p, q, side, at.perm, at.gather, at.weight)
    run(power_forward, (*where, at.ptr[:-1], at.ptr[1:], limit, False, out, norm, size), chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    count = len(cut.begin)
    part_extreme, part_norm = np.empty((2, count, *p.shape), x.dtype)
    part_size = np.empty(count, x.dtype)
    args = (*where, cut.begin, cut.end, NO_LIMIT, True, part_extreme, part_norm, part_size)
    run(power_forward, args, row_chunks(count, int((cut.end - cut.begin).sum()) * p.size))
    orders = p.astype(np.float64)
    joined_, extreme, total = joined(orders, part_norm, part_extreme, part_size, cut)
    found = total[:, None, None] > 0
    with np.errstate(over="ignore"):
        y = np.exp(joined_ - q * np.log(np.where(found, total[:, None, None], 1)))
    least = 2.0 ** (-1021 if x.dtype == np.float64 else -125)
    limit_of = np.where(extreme < least, 0, np.where(np.isinf(extreme), np.inf, y))
    y = np.where(np.isnan(joined_), joined_, limit_of)
    norm[long_bags] = np.where(found, joined_, 0)
    out[long_bags] = np.where(found, y, 0)
    size[long_bags] = total


def backward(
    grad: np.ndarray,
    x: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    out: np.ndarray,
    norm: np.ndarray,
    size: np.ndarray,
    negative: str,
    at: Arrays,
    grad_x: np.ndarray,
    grad_p: np.ndarray,
    grad_q: np.ndarray,
) -> None:
    """Fills the gradients of ``x`` ``[R, C]``, ``p`` and ``q`` ``[K, C]`` from ``grad`` ``[S, K, C]``."""
    bags = row_chunks(norm.shape[0], norm.size)
    of_bag = fresh((norm.shape[0], 3, *p.shape), norm)
    of_q = np.zeros((len(bags), p.size))
    norm, out, grad = (v.reshape(len(v), p.size) for v in (norm, out, grad))
    of_norm = of_bag.reshape(len(of_bag), 3, p.size)
    run(power_bags, (q.ravel(), norm, out, size, grad, of_norm, of_q), bags)
    chunks = at.backward_chunks(p.size)
    of_p = np.zeros((len(chunks), p.size))
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    run(power_backward, (x, p, sides(negative, p), *where, of_bag, grad_x, of_p), chunks)
    grad_p[:] = LN2 * of_p.sum(0).reshape(p.shape) / p
    grad_q[:] = LN2 * of_q.sum(0).reshape(p.shape)
