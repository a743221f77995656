"""CPU kernels of sum, mean, variance, minimum and maximum: all of them in one pass over the elements."""

from __future__ import annotations

import numpy as np

from graphpool.ops.kernels.numba_core import bag_chunks, kernel, pieces, row_chunks, run
from graphpool.ops.kernels.numba_fetch import AHEAD, fetch_row
from graphpool.ops.kernels.numba_layout import Arrays

SUM, MEAN, VAR, MIN, MAX = range(5)


@kernel
def moments_forward(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, limit, want, ties, out, tied, slot, first, last
):
    """``want[k]`` is the row of ``out`` for moment k, or -1; ``ties`` likewise for ``tied``."""
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    inf = x.dtype.type(np.inf)
    total = np.empty(channels, x.dtype)
    low = np.empty(channels, x.dtype)
    high = np.empty(channels, x.dtype)
    at_low = np.empty(channels, x.dtype)
    at_high = np.empty(channels, x.dtype)
    has_perm, has_gather, has_weight = perm.size > 0, gather.size > 0, weight.size > 0
    sums = want[0] >= 0 or want[1] >= 0 or want[2] >= 0
    lows, highs = want[3] >= 0, want[4] >= 0
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] > limit:
            continue
        present = zero
        for c in range(channels):
            total[c] = zero
            low[c] = inf
            high[c] = -inf
            at_low[c] = zero
            at_high[c] = zero
        for e in range(begin[n], end[n]):
            if (has_perm or has_gather) and e + AHEAD < final:
                i = perm[e + AHEAD] if has_perm else e + AHEAD
                fetch_row(x, gather[i] if has_gather else i)
            i = perm[e] if has_perm else e
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            present += one
            r = gather[i] if has_gather else i
            if sums:
                for c in range(channels):
                    total[c] += w * x[r, c]
            if lows:
                for c in range(channels):
                    v = x[r, c]
                    lost = low[c] != low[c]
                    new = (v < low[c]) | ((v != v) & (not lost))
                    same = (v == low[c]) | ((v != v) & lost)
                    at_low[c] = w if new else (at_low[c] + w if same else at_low[c])
                    low[c] = v if new else low[c]
            if highs:
                for c in range(channels):
                    v = x[r, c]
                    lost = high[c] != high[c]
                    new = (v > high[c]) | ((v != v) & (not lost))
                    same = (v == high[c]) | ((v != v) & lost)
                    at_high[c] = w if new else (at_high[c] + w if same else at_high[c])
                    high[c] = v if new else high[c]
        size = present
        if has_weight:
            size = zero
            for e in range(begin[n], end[n]):
                size += weight[perm[e] if has_perm else e]
        share = one / size if size != zero else zero
        if present == zero:
            for c in range(channels):
                low[c] = zero
                high[c] = zero
        if want[0] >= 0:
            for c in range(channels):
                out[want[0], n, c] = total[c]
        if want[1] >= 0:
            for c in range(channels):
                out[want[1], n, c] = total[c] * share
        if lows:
            for c in range(channels):
                out[want[3], n, c] = low[c]
                tied[ties[0], n, c] = at_low[c]
        if highs:
            for c in range(channels):
                out[want[4], n, c] = high[c]
                tied[ties[1], n, c] = at_high[c]
        if want[2] >= 0:
            # The bag is still in cache; deviations from the mean keep a large common offset harmless.
            # The mean is rounded, so the mean deviation is taken out once more.
            for c in range(channels):
                total[c] = total[c] * share
                high[c] = zero
                low[c] = zero
            for e in range(begin[n], end[n]):
                i = perm[e] if has_perm else e
                w = weight[i] if has_weight else one
                if w == zero:
                    continue
                r = gather[i] if has_gather else i
                for c in range(channels):
                    v = x[r, c] - total[c]
                    high[c] += w * v
                    low[c] += w * v * v
            for c in range(channels):
                shift = high[c] * share
                v = low[c] * share - shift * shift
                out[want[2], n, c] = zero if v < zero else v


@kernel
def moments_backward(  # type: ignore[no-untyped-def]
    x,
    index,
    ordered,
    weight,
    row_ptr,
    row_elements,
    want,
    linear,
    twice,
    mean,
    low,
    low_share,
    high,
    high_share,
    grad_x,
    slot,
    first,
    last,
):
    """Per bag and channel: ``linear + twice * (x - mean)``, and a share for each element at an extremum."""
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    sums, lows, highs = want[0] >= 0 or want[1] >= 0, want[3] >= 0, want[4] >= 0
    final = row_ptr[last] if has_ptr else last
    for r in range(first, last):
        for c in range(channels):
            grad_x[r, c] = zero
        for j in range(row_ptr[r] if has_ptr else r, row_ptr[r + 1] if has_ptr else r + 1):
            if not ordered and j + AHEAD < final:
                n = index[row_elements[j + AHEAD] if has_elements else j + AHEAD]
                if sums:
                    fetch_row(linear, n)
                if want[2] >= 0:
                    fetch_row(twice, n)
                    fetch_row(mean, n)
                if lows:
                    fetch_row(low, n)
                    fetch_row(low_share, n)
                if highs:
                    fetch_row(high, n)
                    fetch_row(high_share, n)
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            n = index[i]
            if sums:
                for c in range(channels):
                    grad_x[r, c] += w * linear[n, c]
            if want[2] >= 0:
                for c in range(channels):
                    grad_x[r, c] += w * (twice[n, c] * (x[r, c] - mean[n, c]))
            if lows:
                for c in range(channels):
                    hit = (x[r, c] == low[n, c]) | (x[r, c] != x[r, c])
                    grad_x[r, c] += w * low_share[n, c] if hit else zero
            if highs:
                for c in range(channels):
                    hit = (x[r, c] == high[n, c]) | (x[r, c] != x[r, c])
                    grad_x[r, c] += w * high_share[n, c] if hit else zero


def forward(x: np.ndarray, at: Arrays, want: np.ndarray, out: np.ndarray, tied: np.ndarray) -> None:
    """Fills ``out`` ``[K, S, C]`` and ``tied``: the weight of the elements at the minimum and maximum."""
    begin, end = at.ptr[:-1], at.ptr[1:]
    chunks, limit, long_bags = bag_chunks(at.ptr, x.shape[1])
    ties = _tie_rows(want)
    where = (x, at.perm, at.gather, at.weight)
    run(moments_forward, (*where, begin, end, limit, want, ties, out, tied), chunks)
    if long_bags is None:
        return
    cut = pieces(at.ptr, long_bags, limit)
    # Pieces are joined from their sums, means, variances and extrema.
    need = np.where(want >= 0, 0, -1)
    if (want[:3] >= 0).any():
        need[:2] = 0
    need[need >= 0] = np.arange((need >= 0).sum())
    count = len(cut.begin)
    part = np.empty((int(need.max()) + 1, count, x.shape[1]), x.dtype)
    part_tied = np.empty((len(tied), count, x.shape[1]), x.dtype)
    last = np.iinfo(np.int64).max
    work = int((cut.end - cut.begin).sum()) * x.shape[1]
    args = (*where, cut.begin, cut.end, last, need, ties, part, part_tied)
    run(moments_forward, args, row_chunks(count, work))
    _join(at, long_bags, cut, want, need, ties, part, part_tied, out, tied)


def _tie_rows(want: np.ndarray) -> np.ndarray:
    low = want[MIN] >= 0
    return np.array([0 if low else -1, (1 if low else 0) if want[MAX] >= 0 else -1], np.int64)


def _join(at, bags, cut, want, need, ties, part, part_tied, out, tied):  # type: ignore[no-untyped-def]
    """Moments of long bags from those of their pieces, in float64 and in order."""
    if (want[:3] >= 0).any():
        weights = at.sizes(cut.begin, cut.end)[:, None]
        size = np.add.reduceat(weights, cut.first)
        size[size == 0] = 1
        total = np.add.reduceat(part[need[SUM]].astype(np.float64), cut.first)
        mean = total / size
        if want[SUM] >= 0:
            out[want[SUM], bags] = total
        if want[MEAN] >= 0:
            out[want[MEAN], bags] = mean
        if want[VAR] >= 0:
            between = part[need[MEAN]] - mean[cut.owner]
            spread = weights * (part[need[VAR]] + between * between)
            out[want[VAR], bags] = np.add.reduceat(spread, cut.first) / size
    present = at.present(cut.begin, cut.end)[:, None]
    for k, reduce, tie, neutral in (
        (MIN, np.minimum, ties[0], np.inf),
        (MAX, np.maximum, ties[1], -np.inf),
    ):
        if want[k] >= 0:
            values = np.where(present, part[need[k]], neutral)
            best = reduce.reduceat(values, cut.first)
            hit = (values == best[cut.owner]) | np.isnan(values)
            weight = np.where(present & hit, part_tied[tie], 0).astype(np.float64)
            tied[tie, bags] = np.add.reduceat(weight, cut.first)
            empty = ~np.logical_or.reduceat(present, cut.first)
            out[want[k], bags] = np.where(empty, 0, best)


def backward(
    x: np.ndarray,
    at: Arrays,
    want: np.ndarray,
    out: np.ndarray,
    tied: np.ndarray,
    grad: np.ndarray,
    grad_x: np.ndarray,
) -> None:
    """Fills ``grad_x`` ``[R, C]`` from ``grad`` ``[K, S, C]``."""
    none = np.empty((0, x.shape[1]), x.dtype)
    linear, twice, mean, shares = none, none, none, [none, none]
    if want[MEAN] >= 0 or want[VAR] >= 0:
        size = at.sizes(at.ptr[:-1], at.ptr[1:])
        size[size == 0] = 1
        inverse = (1 / size).astype(x.dtype)[:, None]
    if want[SUM] >= 0:
        linear = grad[want[SUM]]
    if want[MEAN] >= 0:
        share = grad[want[MEAN]] * inverse
        linear = share if want[SUM] < 0 else linear + share
    if want[VAR] >= 0:
        twice = grad[want[VAR]] * (2 * inverse)
        mean = out[want[MEAN]]
    ties = _tie_rows(want)
    for side, k in enumerate((MIN, MAX)):
        if want[k] >= 0:
            count = tied[ties[side]]
            shares[side] = np.divide(
                grad[want[k]], count, where=count > 0, out=np.zeros_like(count)
            )
    low = out[want[MIN]] if want[MIN] >= 0 else none
    high = out[want[MAX]] if want[MAX] >= 0 else none
    where = (x, at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    args = (*where, want, linear, twice, mean, low, shares[0], high, shares[1], grad_x)
    run(moments_backward, args, at.backward_chunks(x.shape[1]))
