"""CPU kernels of the generalised norm ``n^-q (sum |x|^p)^(1/p)``, in the log domain.

The largest term of a bag (the largest ``|x|`` for p > 0, the smallest for p < 0) is found first, without
logarithms, and all others are taken relative to it, so that nothing overflows and the result of a small
spread is not the difference of large logarithms. Kept is one value per bag and channel, the log of the
plain norm.
"""

from __future__ import annotations

import numpy as np

from graphpool.ops.kernels.numba_core import bag_chunks, kernel, pieces, row_chunks, run
from graphpool.ops.kernels.numba_layout import Arrays
from graphpool.ops.kernels.numba_math import exp, largest, log, tiny

_NO_LIMIT = np.iinfo(np.int64).max
_ROWS_PER_SUM = 64


@kernel
def power_forward(  # type: ignore[no-untyped-def]
    x, p, q, perm, gather, weight, begin, end, limit, out, norm, size, slot, first, last
):
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    inf = x.dtype.type(np.inf)
    least, most = tiny(zero), largest(zero)
    # extreme: sign(p) times the |x| whose term is the largest
    extreme = np.empty(channels, x.dtype)
    anchor = np.empty(channels, x.dtype)
    sign = np.empty(channels, x.dtype)
    z = np.empty(channels, x.dtype)
    for c in range(channels):
        sign[c] = one if p[c] > zero else -one
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        present = zero
        total = zero
        for c in range(channels):
            extreme[c] = -inf
            z[c] = zero
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
            anchor[c] = log(most if a > most else a)
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            r = gather[i] if has_gather else i
            for c in range(channels):
                a = abs(x[r, c])
                z[c] += w * exp(p[c] * (log(least if a < least else a) - anchor[c]))
        scale = log(total)
        # One store to each loop: LLVM vectorises only what it can check for overlap cheaply.
        for c in range(channels):
            spread = log(one if z[c] == zero else z[c]) / p[c]
            z[c] = sign[c] * -inf if z[c] == zero else spread
        for c in range(channels):
            z[c] += anchor[c]
        for c in range(channels):
            norm[n, c] = z[c]
        for c in range(channels):
            z[c] = exp(z[c] - q[c] * scale)
        for c in range(channels):
            # The limit of vanishing elements; a NaN shows in z.
            vanishes = (abs(extreme[c]) < least) & (z[c] == z[c])
            out[n, c] = zero if vanishes else z[c]


@kernel
def power_backward(  # type: ignore[no-untyped-def]
    x, p, index, weight, row_ptr, row_elements, norm, grad, grad_x, grad_p, slot, first, last
):
    """``grad`` is that of the plain norm. ``grad_p`` gets, per chunk, p times the gradient to p."""
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    least = tiny(zero)
    ceiling = log(largest(zero))
    total = np.zeros(channels, x.dtype)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    for c in range(channels):
        grad_p[slot, c] = 0.0
    for r in range(first, last):
        for c in range(channels):
            grad_x[r, c] = zero
        for j in range(row_ptr[r] if has_ptr else r, row_ptr[r + 1] if has_ptr else r + 1):
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            n = index[i]
            for c in range(channels):
                a = abs(x[r, c])
                a = least if a < least else a
                u = log(a)
                u = ceiling if u > ceiling else u
                base = ceiling if norm[n, c] > ceiling else norm[n, c]
                g = w * grad[n, c] * exp((p[c] - one) * (u - base))
                grad_x[r, c] += -g if x[r, c] < zero else g
                total[c] += g * a * (u - base)
        if (r - first) % _ROWS_PER_SUM == _ROWS_PER_SUM - 1 or r == last - 1:
            for c in range(channels):
                grad_p[slot, c] += total[c]
                total[c] = zero


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
    run(power_forward, (*where, at.ptr[:-1], at.ptr[1:], limit, out, norm, size), chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    count = len(cut.begin)
    part_out, part_norm = np.empty((2, count, x.shape[1]), x.dtype)
    part_size = np.empty(count, x.dtype)
    args = (*where, cut.begin, cut.end, _NO_LIMIT, part_out, part_norm, part_size)
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
    # Where the joined norm vanishes, every piece that counts does: all of them for p > 0, one for p < 0.
    zeros = present & (part_out == 0)
    others = present & (part_out != 0)
    vanishes = np.where(
        p > 0,
        ~np.logical_or.reduceat(others, cut.first),
        np.logical_or.reduceat(zeros, cut.first) & ~np.isnan(joined),
    )
    norm[long_bags] = np.where(found[:, None], joined, 0)
    out[long_bags] = np.where(found[:, None] & ~vanishes, y, 0)
    size[long_bags] = total
