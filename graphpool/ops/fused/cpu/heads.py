"""CPU kernels of the softmax-weighted sum with one score per head (or one per element)."""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import (
    REDUCTION_FLAGS,
    carry,
    inlined,
    kernel,
    settle,
)
from graphpool.ops.fused.cpu.math import exp, largest
from graphpool.ops.fused.cpu.softmax import keep, mean, size_of, unit


@inlined
def departure(v, y, lacks):  # type: ignore[no-untyped-def]
    """In this order, unlike the sum that it is part of."""
    return v - y - lacks


def _dot(grad, n, value, r, out, lacks, h):  # type: ignore[no-untyped-def]
    zero = grad.dtype.type(0)
    total = zero
    for c in range(grad.shape[2]):
        d = departure(value[r, h, c], out[n, h, c], lacks[n, h, c])
        total += zero if grad[n, h, c] == zero else grad[n, h, c] * d
    return total


dot = kernel(_dot, fastmath=REDUCTION_FLAGS)


@kernel
def heads_forward(  # type: ignore[no-untyped-def]
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
    heads = score.shape[1]
    width = value.shape[2]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    least = -largest(zero)
    top = np.empty(heads, score.dtype)
    half = score.dtype.type(0.5)
    anchor = np.empty((heads, width), score.dtype)
    z = np.empty((1, heads), score.dtype)
    share = np.empty(heads, score.dtype)
    flat = out.reshape(out.shape[0], heads * width)
    whole_z, whole_out = np.zeros(heads, np.float64), np.zeros(heads * width, np.float64)
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        for h in range(heads):
            top[h] = least
            z[0, h] = zero
            for c in range(width):
                out[n, h, c] = zero
                anchor[h, c] = zero
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            if has_weight and weight[i] == zero:
                continue
            r = gather[i] if has_gather else i
            for h in range(heads):
                if score[i, h] > top[h]:
                    top[h] = score[i, h]
                    for c in range(width):
                        x = value[r, h, c]
                        anchor[h, c] = x if abs(x) < np.inf else zero
        scale = score.dtype.type(unit(size_of(weight, perm, begin[n], end[n])))
        for e in range(begin[n], end[n]):
            carry(z, 0, whole_z, e - begin[n])
            carry(flat, n, whole_out, e - begin[n])
            i = perm[e] if has_perm else e
            w = scale * (weight[i] if has_weight else one)
            if w == zero:
                continue
            r = gather[i] if has_gather else i
            for h in range(heads):
                v = score[i, h]
                share[h] = w * exp(zero if v == top[h] else v - top[h])
                z[0, h] += share[h]
            for h in range(heads):
                a = share[h]
                if a == zero:
                    # An infinite element without share adds nothing; a NaN does.
                    for c in range(width):
                        x = value[r, h, c]
                        out[n, h, c] += x if x != x else zero
                else:
                    for c in range(width):
                        out[n, h, c] += a * (half * value[r, h, c] - half * anchor[h, c])
        settle(z, 0, whole_z, end[n] - begin[n])
        settle(flat, n, whole_out, end[n] - begin[n])
        for h in range(heads):
            total = z[0, h] if z[0, h] != zero else one
            for c in range(width):
                y, rest = mean(anchor[h, c], out[n, h, c], total)
                out[n, h, c] = y if z[0, h] != zero else zero
                lacks[n, h, c] = rest if z[0, h] != zero else zero
        keep(top, z, scale, piece, kept, n)


@kernel
def heads_backward(  # type: ignore[no-untyped-def]
    score,
    value,
    index,
    gather,
    weight,
    out,
    lacks,
    kept,
    finite,
    grad,
    grad_score,
    grad_value,
    slot,
    first,
    last,
):
    """``finite`` is the gradient, 0 to an infinite result, which moving the shares does not move."""
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
            v, top = score[i, h], kept[n, 0, h]
            a = w * exp(zero if v == top else v - top) * kept[n, 1, h] if w != zero else zero
            grad_score[i, h] = zero if a == zero else a * dot(finite, n, value, r, out, lacks, h)
            if has_value:
                for c in range(width):
                    grad_value[i, h, c] = a * grad[n, h, c]


@kernel
def heads_value_backward(  # type: ignore[no-untyped-def]
    score, index, weight, row_ptr, row_elements, kept, grad, grad_value, slot, first, last
):
    """Gradient to gathered values: each row adds up over the elements that read it."""
    heads = score.shape[1]
    width = grad.shape[2]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    has_elements, has_weight = row_elements.size > 0, weight.size > 0
    flat = grad_value.reshape(grad_value.shape[0], heads * width)
    whole = np.zeros(heads * width, np.float64)
    for r in range(first, last):
        for h in range(heads):
            for c in range(width):
                grad_value[r, h, c] = zero
        for j in range(row_ptr[r], row_ptr[r + 1]):
            carry(flat, r, whole, j - row_ptr[r])
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            n = index[i]
            for h in range(heads):
                v, top = score[i, h], kept[n, 0, h]
                a = w * exp(zero if v == top else v - top) * kept[n, 1, h]
                for c in range(width):
                    grad_value[r, h, c] += a * grad[n, h, c]
        settle(flat, r, whole, row_ptr[r + 1] - row_ptr[r])
