"""CPU kernels of the softmax itself, the share of each element in its bag; and of running totals."""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import (
    NO_LIMIT,
    bag_chunks,
    carry,
    kernel,
    pieces,
    row_chunks,
    run,
    settle,
)
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.math import exp, largest


@kernel
def share_forward(  # type: ignore[no-untyped-def]
    score, perm, gather, weight, begin, end, limit, known, top, z, out, slot, first, last
):
    """``known``: ``top`` and ``z`` are given, else computed. Without ``out`` that is all."""
    channels = score.shape[1]
    one = score.dtype.type(1)
    zero = score.dtype.type(0)
    least = -largest(zero)
    has_perm, has_weight, has_out = perm.size > 0, weight.size > 0, out.shape[0] > 0
    moves = gather.size > 0
    whole = np.zeros(channels, np.float64)
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        if not known:
            for c in range(channels):
                top[n, c] = least
                z[n, c] = zero
            for e in range(begin[n], end[n]):
                i = perm[e] if has_perm else e
                if has_weight and weight[i] == zero:
                    continue
                r = gather[i] if moves else i
                for c in range(channels):
                    v = score[r, c]
                    top[n, c] = v if v > top[n, c] else top[n, c]
            for e in range(begin[n], end[n]):
                carry(z, n, whole, e - begin[n])
                i = perm[e] if has_perm else e
                w = weight[i] if has_weight else one
                if w == zero:
                    continue
                r = gather[i] if moves else i
                for c in range(channels):
                    v = score[r, c]
                    z[n, c] += w * exp(zero if v == top[n, c] else v - top[n, c])
            settle(z, n, whole, end[n] - begin[n])
        if not has_out:
            continue
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            r = gather[i] if moves else i
            for c in range(channels):
                v = score[r, c]
                a = w * exp(zero if v == top[n, c] else v - top[n, c])
                out[i, c] = a / z[n, c] if (z[n, c] != zero) & (w != zero) else zero


@kernel
def share_backward(  # type: ignore[no-untyped-def]
    share, grad, perm, begin, end, limit, known, total, out, slot, first, last
):
    """``a (g - sum a g)``; ``known``: the sum is given, else computed. Without ``out`` that is all."""
    channels = share.shape[1]
    zero = share.dtype.type(0)
    has_perm, has_out = perm.size > 0, out.shape[0] > 0
    whole = np.zeros(channels, np.float64)
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        if not known:
            for c in range(channels):
                total[n, c] = zero
            for e in range(begin[n], end[n]):
                carry(total, n, whole, e - begin[n])
                i = perm[e] if has_perm else e
                for c in range(channels):
                    total[n, c] += share[i, c] * grad[i, c]
            settle(total, n, whole, end[n] - begin[n])
        if not has_out:
            continue
        for e in range(begin[n], end[n]):
            i = perm[e] if has_perm else e
            for c in range(channels):
                out[i, c] = share[i, c] * (grad[i, c] - total[n, c])


@kernel
def rows_backward(  # type: ignore[no-untyped-def]
    share, grad, total, index, row_ptr, row_elements, out, slot, first, last
):
    """The same, added up over the elements that read each row of the scores."""
    channels = share.shape[1]
    has_elements = row_elements.size > 0
    whole = np.zeros(channels, np.float64)
    for r in range(first, last):
        for c in range(channels):
            out[r, c] = 0
        for j in range(row_ptr[r], row_ptr[r + 1]):
            carry(out, r, whole, j - row_ptr[r])
            i = row_elements[j] if has_elements else j
            n = index[i]
            for c in range(channels):
                out[r, c] += share[i, c] * (grad[i, c] - total[n, c])
        settle(out, r, whole, row_ptr[r + 1] - row_ptr[r])


def forward(score: np.ndarray, at: Arrays, out: np.ndarray) -> None:
    """Fills ``out`` ``[E, C]``."""
    channels, bags = score.shape[1], len(at.ptr) - 1
    top, z = np.empty((2, bags, channels), score.dtype)
    chunks, limit, long_bags = bag_chunks(at.ptr, channels)
    where = (score, at.perm, at.gather, at.weight)
    run(share_forward, (*where, at.ptr[:-1], at.ptr[1:], limit, False, top, z, out), chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    count = len(cut.begin)
    chunks = row_chunks(count, int((cut.end - cut.begin).sum()) * channels)
    top, z = np.empty((2, count, channels), score.dtype)
    runs = (*where, cut.begin, cut.end, NO_LIMIT)
    run(share_forward, (*runs, False, top, z, out[:0]), chunks)
    # In float64 and in order: the pieces of a bag are brought to its common top.
    best = np.maximum.reduceat(top, cut.first)
    with np.errstate(invalid="ignore"):
        shift = np.where(top == best[cut.owner], 0.0, top.astype(np.float64) - best[cut.owner])
        total = np.add.reduceat(z * np.exp(shift), cut.first)
    top, z = best[cut.owner], total[cut.owner].astype(z.dtype)
    run(share_forward, (*runs, True, top, z, out), chunks)


def backward(grad: np.ndarray, share: np.ndarray, at: Arrays, out: np.ndarray) -> None:
    """Fills ``out``, the gradient of the scores: one row per element, or per row that is gathered."""
    channels, bags = share.shape[1], len(at.ptr) - 1
    total = np.empty((bags, channels), share.dtype)
    gathered = at.row_ptr.size > 0
    inline = out[:0] if gathered else out
    chunks, limit, long_bags = bag_chunks(at.ptr, channels)
    where = (share, grad, at.perm)
    run(share_backward, (*where, at.ptr[:-1], at.ptr[1:], limit, False, total, inline), chunks)
    if long_bags is not None:
        cut = pieces(at.ptr, long_bags, limit)
        count = len(cut.begin)
        chunks = row_chunks(count, int((cut.end - cut.begin).sum()) * channels)
        part = np.empty((count, channels), share.dtype)
        runs = (*where, cut.begin, cut.end, NO_LIMIT)
        run(share_backward, (*runs, False, part, out[:0]), chunks)
        total[long_bags] = np.add.reduceat(part.astype(np.float64), cut.first)
        run(share_backward, (*runs, True, total[long_bags][cut.owner], inline), chunks)
    if gathered:
        read_by = (at.bag_of, at.row_ptr, at.row_elements)
        run(rows_backward, (share, grad, total, *read_by, out), at.backward_chunks(channels))


@kernel
def add_on(x, perm, ptr, backwards, out, slot, first, last):  # type: ignore[no-untyped-def]
    """The totals of each bag up to each of its elements, or from it on, added up in float64."""
    channels = x.shape[1]
    total = np.empty(channels, np.float64)
    for n in range(first, last):
        for c in range(channels):
            total[c] = 0.0
        for k in range(ptr[n], ptr[n + 1]):
            place = ptr[n] + ptr[n + 1] - 1 - k if backwards else k
            e = perm[place] if perm.size > 0 else place
            for c in range(channels):
                total[c] += x[e, c]
                out[e, c] = total[c]


def running_totals(
    x: np.ndarray, perm: np.ndarray, ptr: np.ndarray, backwards: bool, out: np.ndarray
) -> None:
    """Fills ``out`` ``[E, C]``. A total waits for the one before it: a bag is one thread's, however long."""
    run(add_on, (x, perm, ptr, backwards, out), bag_chunks(ptr, x.shape[1])[0])
