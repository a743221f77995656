"""CPU kernels of the generalised norm ``n^-q (sum |x|^p)^(1/p)``, in the log domain.

The largest term of a bag (the largest ``|x|`` for p > 0, the smallest for p < 0) is found first, without
logarithms, and all others are taken relative to it, so that nothing overflows and the result of a small
spread is not the difference of large logarithms. Kept is one value per bag and channel, the log of the
plain norm.
"""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import (
    add_up,
    bag_chunks,
    carry,
    kernel,
    pieces,
    row_chunks,
    run,
    settle,
)
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.math import exp2, largest, log2, tiny
from graphpool.ops.fused.memory import fresh

_NO_LIMIT = np.iinfo(np.int64).max
_LN2 = float(np.log(2.0))


@kernel
def power_forward(  # type: ignore[no-untyped-def]
    x, p, q, perm, gather, weight, begin, end, limit, piece, out, norm, size, slot, first, last
):
    """Of a ``piece``, ``out`` is the ``|x|`` whose term is the largest."""
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    inf = x.dtype.type(np.inf)
    natural = x.dtype.type(_LN2)
    least, most = tiny(zero), largest(zero)
    # extreme: sign(p) times the |x| whose term is the largest
    extreme = np.empty(channels, x.dtype)
    anchor = np.empty(channels, x.dtype)
    sign = np.empty(channels, x.dtype)
    z = np.empty((1, channels), x.dtype)
    whole = np.zeros(channels, np.float64)
    for c in range(channels):
        sign[c] = one if p[c] > zero else -one
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        present = zero
        total = 0.0
        for c in range(channels):
            extreme[c] = -inf
            z[0, c] = zero
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            present = one
            total += w
            r = gather[i] if has_gather else i
            for c in range(channels):
                v = sign[c] * abs(x[r, c])
                extreme[c] = v if v > extreme[c] else extreme[c]
        size[n] = total
        if present == zero:
            for c in range(channels):
                out[n, c] = zero
                norm[n, c] = zero
            continue
        for c in range(channels):
            a = abs(extreme[c])
            a = least if a < least else a
            anchor[c] = log2(most if a > most else a)
        for e in range(begin[n], end[n]):
            carry(z, 0, whole, e - begin[n])
            # The arithmetic of a row is long enough to fetch one that comes later meanwhile.
            if e + AHEAD < final and (has_perm or has_gather):
                i = perm[e + AHEAD] if has_perm else e + AHEAD
                r = gather[i] if has_gather else i
                fetch_row(x, r)
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            r = gather[i] if has_gather else i
            for c in range(channels):
                a = abs(x[r, c])
                a = least if a < least else a
                # An infinite element is the limit of a large one.
                z[0, c] += w * exp2(p[c] * (log2(most if a > most else a) - anchor[c]))
        settle(z, 0, whole, end[n] - begin[n])
        scale = log2(x.dtype.type(total))
        # One store to each loop: LLVM vectorises only what it can check for overlap cheaply.
        for c in range(channels):
            spread = log2(one if z[0, c] == zero else z[0, c]) / p[c]
            z[0, c] = sign[c] * -inf if z[0, c] == zero else spread
        for c in range(channels):
            z[0, c] += anchor[c]
        for c in range(channels):
            norm[n, c] = natural * z[0, c]
        for c in range(channels):
            z[0, c] = exp2(z[0, c] - q[c] * scale)
        for c in range(channels):
            # The limits of vanishing elements and of infinite ones; a NaN shows in z.
            y = z[0, c]
            y = inf if (abs(extreme[c]) == inf) & (y == y) else y
            y = zero if (abs(extreme[c]) < least) & (y == y) else y
            out[n, c] = abs(extreme[c]) if piece else y


@kernel
def power_bags(  # type: ignore[no-untyped-def]
    q, norm, out, size, grad, of_bag, grad_q, slot, first, last
):
    """Fills ``of_bag`` ``[S, 3, C]``: the log of the norm to base 2, the gradient of the plain norm, and the
    same for the exponents, which do not move an infinite result.

    ``grad_q`` gets, per chunk, the gradient to q over ln 2.
    """
    channels = norm.shape[1]
    one = norm.dtype.type(1)
    zero = norm.dtype.type(0)
    inf = norm.dtype.type(np.inf)
    binary = norm.dtype.type(1 / _LN2)
    total = np.zeros(channels, norm.dtype)
    for c in range(channels):
        grad_q[slot, c] = 0.0
    for n in range(first, last):
        scale = log2(size[n] if size[n] > zero else one)
        for c in range(channels):
            of_bag[n, 0, c] = binary * norm[n, c]
        for c in range(channels):
            of_bag[n, 1, c] = grad[n, c] * exp2(-q[c] * scale)
        for c in range(channels):
            of_bag[n, 2, c] = zero if abs(out[n, c]) == inf else of_bag[n, 1, c]
        for c in range(channels):
            # Nothing moves an infinite result.
            total[c] -= zero if abs(out[n, c]) == inf else scale * grad[n, c] * out[n, c]
        add_up(total, grad_q, slot, n, first, last)


@kernel
def power_backward(  # type: ignore[no-untyped-def]
    x, p, index, ordered, weight, row_ptr, row_elements, of_bag, grad_x, grad_p, slot, first, last
):
    """``of_bag``: see :func:`power_bags`. ``grad_p`` gets, per chunk, the gradient to p times p over ln 2."""
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    least = tiny(zero)
    inf = x.dtype.type(np.inf)
    ceiling = log2(largest(zero))
    total = np.zeros(channels, x.dtype)
    slope = p - one
    rows_of_bags = of_bag.reshape(of_bag.shape[0], 3 * channels)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    final = row_ptr[last] if has_ptr else last
    whole = np.zeros(channels, np.float64)
    for c in range(channels):
        grad_p[slot, c] = 0.0
    for r in range(first, last):
        for c in range(channels):
            grad_x[r, c] = zero
        start = row_ptr[r] if has_ptr else r
        stop = row_ptr[r + 1] if has_ptr else r + 1
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
            for c in range(channels):
                a = abs(x[r, c])
                a = least if a < least else a
                u = log2(a)
                u = (ceiling if u > ceiling else u) - of_bag[n, 0, c]
                power = w * exp2(slope[c] * u)
                g = of_bag[n, 1, c] * power
                grad_x[r, c] += -g if x[r, c] < zero else g
                total[c] += zero if a == inf else of_bag[n, 2, c] * power * a * u
        settle(grad_x, r, whole, stop - start)
        add_up(total, grad_p, slot, r, first, last)


def forward(
    x: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    at: Arrays,
    out: np.ndarray,
    norm: np.ndarray,
    size: np.ndarray,
) -> None:
    """Fills ``out`` ``[S, C]``, ``norm`` ``[S, C]`` (the log of the norm without the factor of the size)
    and ``size`` ``[S]``."""
    chunks, limit, long_bags = bag_chunks(at.ptr, x.shape[1])
    where = (x, p, q, at.perm, at.gather, at.weight)
    run(power_forward, (*where, at.ptr[:-1], at.ptr[1:], limit, False, out, norm, size), chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    count = len(cut.begin)
    part_extreme, part_norm = np.empty((2, count, x.shape[1]), x.dtype)
    part_size = np.empty(count, x.dtype)
    args = (*where, cut.begin, cut.end, _NO_LIMIT, True, part_extreme, part_norm, part_size)
    run(power_forward, args, row_chunks(count, int((cut.end - cut.begin).sum()) * x.shape[1]))
    # In float64 and in order: a piece counts as one element whose log is its norm.
    present = part_size[:, None] > 0
    scores = np.where(present, p.astype(np.float64) * part_norm, -np.inf)
    top = np.maximum.reduceat(scores, cut.first)
    top[np.isneginf(top)] = 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        spread = top[cut.owner]
        terms = np.exp(np.where(scores == spread, 0, scores - spread))
        joined = (top + np.log(np.add.reduceat(terms, cut.first))) / p
        total = np.add.reduceat(part_size.astype(np.float64), cut.first)
        found = total > 0
        y = np.exp(joined - q * np.log(np.where(found, total, 1))[:, None])
    extreme = np.where(
        p > 0,
        np.maximum.reduceat(np.where(present, part_extreme, -np.inf), cut.first),
        np.minimum.reduceat(np.where(present, part_extreme, np.inf), cut.first),
    )
    least = 2.0 ** (-1021 if x.dtype == np.float64 else -125)
    limit_of = np.where(extreme < least, 0, np.where(np.isinf(extreme), np.inf, y))
    y = np.where(np.isnan(joined), joined, limit_of)
    norm[long_bags] = np.where(found[:, None], joined, 0)
    out[long_bags] = np.where(found[:, None], y, 0)
    size[long_bags] = total


def backward(
    grad: np.ndarray,
    x: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    out: np.ndarray,
    norm: np.ndarray,
    size: np.ndarray,
    at: Arrays,
    grad_x: np.ndarray,
    grad_p: np.ndarray,
    grad_q: np.ndarray,
) -> None:
    """Fills the gradients of ``x`` ``[R, C]``, ``p`` and ``q`` ``[C]`` from ``grad`` ``[S, C]``."""
    bags = row_chunks(norm.shape[0], norm.size)
    of_bag = fresh((norm.shape[0], 3, norm.shape[1]), norm)
    of_q = np.zeros((len(bags), x.shape[1]))
    run(power_bags, (q, norm, out, size, grad, of_bag, of_q), bags)
    chunks = at.backward_chunks(x.shape[1])
    of_p = np.zeros((len(chunks), x.shape[1]))
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    run(power_backward, (x, p, *where, of_bag, grad_x, of_p), chunks)
    grad_p[:] = _LN2 * of_p.sum(0) / p
    grad_q[:] = _LN2 * of_q.sum(0)
