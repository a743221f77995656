"""CPU kernels of the softmax-weighted sum with one score per head (or one per element)."""

from __future__ import annotations

import numpy as np

from graphpool.ops.kernels.numba_core import (
    REDUCTION_FLAGS,
    bag_chunks,
    kernel,
    pieces,
    row_chunks,
    run,
)
from graphpool.ops.kernels.numba_layout import Arrays
from graphpool.ops.kernels.numba_math import exp, largest, log
from graphpool.ops.kernels.numba_softmax import _NO_LIMIT, join


def _dot(a, i, b, j, h):  # type: ignore[no-untyped-def]
    total = a.dtype.type(0)
    for c in range(a.shape[2]):
        total += a[i, h, c] * b[j, h, c]
    return total


dot = kernel(_dot, fastmath=REDUCTION_FLAGS)


@kernel
def heads_forward(  # type: ignore[no-untyped-def]
    score, value, perm, gather, weight, begin, end, limit, absent, out, lse, slot, first, last
):
    heads = score.shape[1]
    width = value.shape[2]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    least = -largest(zero)
    top = np.empty(heads, score.dtype)
    z = np.empty(heads, score.dtype)
    share = np.empty(heads, score.dtype)
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        for h in range(heads):
            top[h] = least
            z[h] = zero
            for c in range(width):
                out[n, h, c] = zero
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            if has_weight and weight[i] == zero:
                continue
            for h in range(heads):
                top[h] = score[i, h] if score[i, h] > top[h] else top[h]
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            r = gather[i] if has_gather else i
            for h in range(heads):
                v = score[i, h]
                share[h] = w * exp(zero if v == top[h] else v - top[h])
                z[h] += share[h]
            for h in range(heads):
                a = share[h]
                if a == zero:
                    # An infinite element without share adds nothing; a NaN does.
                    for c in range(width):
                        x = value[r, h, c]
                        out[n, h, c] += x if x != x else zero
                else:
                    for c in range(width):
                        out[n, h, c] += a * value[r, h, c]
        for h in range(heads):
            lse[n, h] = top[h] + log(z[h]) if z[h] != zero else absent
            scale = one / z[h] if z[h] != zero else zero
            for c in range(width):
                out[n, h, c] *= scale


@kernel
def heads_backward(  # type: ignore[no-untyped-def]
    score,
    value,
    index,
    gather,
    weight,
    lse,
    grad,
    grad_out,
    grad_score,
    grad_value,
    slot,
    first,
    last,
):
    """``grad_out`` ``[S, H]`` is the product of gradient and result, summed over each head."""
    heads = score.shape[1]
    width = value.shape[2]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    has_gather, has_weight, has_value = gather.size > 0, weight.size > 0, grad_value.shape[0] > 0
    for i in range(first, last):
        w = weight[i] if has_weight else one
        n = index[i]
        r = gather[i] if has_gather else i
        for h in range(heads):
            a = w * exp(score[i, h] - lse[n, h])
            grad_score[i, h] = (
                zero if a == zero else a * (dot(grad, n, value, r, h) - grad_out[n, h])
            )
            if has_value:
                for c in range(width):
                    grad_value[i, h, c] = a * grad[n, h, c]


@kernel
def heads_value_backward(  # type: ignore[no-untyped-def]
    score, index, weight, row_ptr, row_elements, lse, grad, grad_value, slot, first, last
):
    """Gradient to gathered values: each row adds up over the elements that read it."""
    heads = score.shape[1]
    width = grad.shape[2]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    has_elements, has_weight = row_elements.size > 0, weight.size > 0
    for r in range(first, last):
        for h in range(heads):
            for c in range(width):
                grad_value[r, h, c] = zero
        for j in range(row_ptr[r], row_ptr[r + 1]):
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            n = index[i]
            for h in range(heads):
                a = w * exp(score[i, h] - lse[n, h])
                for c in range(width):
                    grad_value[r, h, c] += a * grad[n, h, c]


def forward(
    score: np.ndarray, value: np.ndarray, at: Arrays, out: np.ndarray, lse: np.ndarray
) -> bool:
    """Fills ``out`` ``[S, H, C / H]`` and ``lse`` ``[S, H]``; returns what the other ``forward`` does."""
    channels = value.shape[1] * value.shape[2]
    chunks, limit, long_bags = bag_chunks(at.ptr, channels)
    where = (score, value, at.perm, at.gather, at.weight)
    inf = lse.dtype.type(np.inf)
    run(heads_forward, (*where, at.ptr[:-1], at.ptr[1:], limit, inf, out, lse), chunks)
    if long_bags is None:
        return True
    cut = pieces(at.ptr, long_bags, limit)
    part_lse = np.empty((len(cut.begin), lse.shape[1]), lse.dtype)
    part_out = np.empty((len(cut.begin), *out.shape[1:]), out.dtype)
    work = int((cut.end - cut.begin).sum()) * channels
    args = (*where, cut.begin, cut.end, _NO_LIMIT, -inf, part_out, part_lse)
    run(heads_forward, args, row_chunks(len(cut.begin), work))
    flat_out = out.reshape(len(out), channels)
    flat_part = part_out.reshape(len(part_out), channels)
    join(part_lse, flat_part, cut.owner, cut.first, long_bags, flat_out, lse, inf)
    return not bool(np.isposinf(part_lse).any())
