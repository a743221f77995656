"""CPU kernels of softmax over bags, with one score per channel.

A bag is read twice, the second time from cache: its largest score first, then exponentials and sums.
What is kept is one value per bag and channel, the log of the sum of exponentials (``lse``).
"""

from __future__ import annotations

import numpy as np

from graphpool.ops.kernels.numba_core import add_up, bag_chunks, kernel, pieces, row_chunks, run
from graphpool.ops.kernels.numba_fetch import AHEAD, fetch_row
from graphpool.ops.kernels.numba_layout import Arrays
from graphpool.ops.kernels.numba_math import exp, largest, log

_NO_LIMIT = np.iinfo(np.int64).max


@kernel
def softmax_forward(  # type: ignore[no-untyped-def]
    score,
    value,
    t,
    perm,
    score_gather,
    value_gather,
    weight,
    begin,
    end,
    limit,
    absent,
    out,
    lse,
    slot,
    first,
    last,
):
    """Scores are ``t * score``. Without ``out`` only ``lse`` is computed; ``value`` is not read then.

    ``absent`` is the ``lse`` of a bag without any share.
    """
    channels = score.shape[1]
    one = t.dtype.type(1)
    zero = t.dtype.type(0)
    inf = t.dtype.type(np.inf)
    top = np.empty(channels, t.dtype)
    z = np.empty(channels, t.dtype)
    has_perm, has_weight, has_out = perm.size > 0, weight.size > 0, out.shape[0] > 0
    moves_score, moves_value = score_gather.size > 0, value_gather.size > 0
    # The largest finite number below 0: a bag of nothing but -inf keeps exp(-inf - top) = 0.
    least = -largest(zero)
    final = end[last - 1]
    scattered = has_perm or moves_score or moves_value
    has_value = has_out and value.ctypes.data != score.ctypes.data
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        for c in range(channels):
            top[c] = least
            z[c] = zero
        if has_out:
            for c in range(channels):
                out[n, c] = zero
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            if has_weight and weight[i] == zero:
                continue
            s = score_gather[i] if moves_score else i
            for c in range(channels):
                v = t[c] * score[s, c]
                top[c] = v if v > top[c] else top[c]
        for e in range(begin[n], end[n]):
            # The arithmetic of a row is long enough to fetch one that comes later meanwhile.
            if scattered and e + AHEAD < final:
                i = perm[e + AHEAD] if has_perm else e + AHEAD
                fetch_row(score, score_gather[i] if moves_score else i)
                if has_value:
                    fetch_row(value, value_gather[i] if moves_value else i)
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            s = score_gather[i] if moves_score else i
            if has_out:
                r = value_gather[i] if moves_value else i
                for c in range(channels):
                    v = t[c] * score[s, c]
                    a = w * exp(zero if v == top[c] else v - top[c])
                    z[c] += a
                    # The limit of exp(-s) * s is 0.
                    x = value[r, c]
                    out[n, c] += zero if (a == zero) & (abs(x) == inf) else a * x
            else:
                for c in range(channels):
                    v = t[c] * score[s, c]
                    z[c] += w * exp(zero if v == top[c] else v - top[c])
        if has_out:
            for c in range(channels):
                out[n, c] = out[n, c] / z[c] if z[c] != zero else zero
        for c in range(channels):
            lse[n, c] = top[c] + log(z[c]) if z[c] != zero else absent


@kernel
def softpool_backward(  # type: ignore[no-untyped-def]
    x,
    t,
    index,
    ordered,
    weight,
    row_ptr,
    row_elements,
    out,
    lse,
    grad,
    grad_x,
    grad_t,
    slot,
    first,
    last,
):
    """Gradients of ``sum softmax(t x) x`` to the rows ``x``, and to ``t`` as one sum per chunk."""
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    total = np.zeros(channels, x.dtype)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    for c in range(channels):
        grad_t[slot, c] = 0.0
    final = row_ptr[last] if has_ptr else last
    for r in range(first, last):
        for c in range(channels):
            grad_x[r, c] = zero
        for j in range(row_ptr[r] if has_ptr else r, row_ptr[r + 1] if has_ptr else r + 1):
            if not ordered and j + AHEAD < final:
                i = row_elements[j + AHEAD] if has_elements else j + AHEAD
                fetch_row(out, index[i])
                fetch_row(lse, index[i])
                fetch_row(grad, index[i])
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            n = index[i]
            for c in range(channels):
                v = x[r, c]
                a = w * exp(t[c] * v - lse[n, c])
                d = zero if a == zero else v - out[n, c]
                a *= grad[n, c]
                grad_x[r, c] += a * (one + t[c] * d)
                total[c] += a * d * d
        add_up(total, grad_t, slot, r, first, last)


@kernel
def softmax_backward(  # type: ignore[no-untyped-def]
    score,
    value,
    index,
    ordered,
    gather,
    weight,
    out,
    lse,
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
    has_gather, has_weight, has_value = gather.size > 0, weight.size > 0, grad_value.shape[0] > 0
    for i in range(first, last):
        if i + AHEAD < last:
            if has_gather:
                fetch_row(value, gather[i + AHEAD])
            if not ordered:
                fetch_row(out, index[i + AHEAD])
                fetch_row(lse, index[i + AHEAD])
                fetch_row(grad, index[i + AHEAD])
        w = weight[i] if has_weight else one
        n = index[i]
        r = gather[i] if has_gather else i
        if has_value:
            for c in range(channels):
                a = w * exp(score[i, c] - lse[n, c])
                g = a * grad[n, c]
                grad_score[i, c] = zero if a == zero else g * (value[r, c] - out[n, c])
                grad_value[i, c] = g
        else:
            for c in range(channels):
                a = w * exp(score[i, c] - lse[n, c])
                d = a * grad[n, c] * (value[r, c] - out[n, c])
                grad_score[i, c] = zero if a == zero else d


@kernel
def share_backward(  # type: ignore[no-untyped-def]
    score, index, ordered, weight, row_ptr, row_elements, by_row, lse, grad, out, slot, first, last
):
    """Rows of ``sum_e a_e g_s(e)``: the gradient to gathered values, and that of ``lse`` to its scores.

    ``by_row``: scores lie by row, not by element.
    """
    channels = lse.shape[1]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    final = row_ptr[last] if has_ptr else last
    for r in range(first, last):
        for c in range(channels):
            out[r, c] = zero
        for j in range(row_ptr[r] if has_ptr else r, row_ptr[r + 1] if has_ptr else r + 1):
            if not ordered and j + AHEAD < final:
                i = row_elements[j + AHEAD] if has_elements else j + AHEAD
                fetch_row(lse, index[i])
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
                out[r, c] += w * exp(score[s, c] - lse[n, c]) * grad[n, c]


def forward(
    score: np.ndarray,
    value: np.ndarray,
    t: np.ndarray,
    at: Arrays,
    score_gather: np.ndarray,
    out: np.ndarray,
    lse: np.ndarray,
    absent: float = np.inf,
) -> bool:
    """Fills ``out`` ``[S, C]`` (or not, if it has no rows) and ``lse`` ``[S, C]``.

    A bag without any share has the ``lse`` ``absent``: as ``inf`` it makes ``exp(score - lse)`` 0 in the
    backward pass.

    Returns:
        Whether the result stands; not where scores ``+inf`` may lie in several pieces of a long bag.
    """
    chunks, limit, long_bags = bag_chunks(at.ptr, lse.shape[1])
    where = (score, value, t, at.perm, score_gather, at.gather, at.weight)
    none = lse.dtype.type(absent)
    run(softmax_forward, (*where, at.ptr[:-1], at.ptr[1:], limit, none, out, lse), chunks)
    if long_bags is None:
        return True
    cut = pieces(at.ptr, long_bags, limit)
    part_lse = np.empty((len(cut.begin), lse.shape[1]), lse.dtype)
    part_out = np.empty((len(part_lse) if out.shape[0] else 0, out.shape[1]), out.dtype)
    args = (*where, cut.begin, cut.end, _NO_LIMIT, -lse.dtype.type(np.inf), part_out, part_lse)
    work = int((cut.end - cut.begin).sum()) * lse.shape[1]
    run(softmax_forward, args, row_chunks(len(cut.begin), work))
    join(part_lse, part_out, cut.owner, cut.first, long_bags, out, lse, absent)
    return not bool(np.isposinf(part_lse).any())


def join(  # type: ignore[no-untyped-def]
    part_lse, part_out, owner, first, bags, out, lse, absent
):
    """Joins pieces of long bags, in float64 and in order: each counts as an element of score ``lse``."""
    scores = part_lse.astype(np.float64)
    top = np.maximum.reduceat(scores, first)
    top[top == -np.inf] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = top[owner]
        a = np.exp(np.where(scores == spread, 0, scores - spread))
        z = np.add.reduceat(a, first)
        lse[bags] = np.where(z == 0, absent, top + np.log(z))
        if out.shape[0]:
            heads = scores.shape[1]
            a = np.repeat(a, out.shape[1] // heads, 1)
            z = np.repeat(z, out.shape[1] // heads, 1)
            product = np.where((a == 0) & ~np.isnan(part_out), 0, a * part_out)
            out[bags] = np.add.reduceat(product, first) / np.where(z == 0, 1, z)
