"""CPU kernel of the derivatives of sum, mean, variance, deviation, minimum and maximum, all in one pass."""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import carry, kernel, run, settle
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.moments import MAX, MEAN, MIN, STD, SUM, VAR, kept_rows


@kernel
def moments_backward(  # type: ignore[no-untyped-def]
    x, index, ordered, weight, row_ptr, row_elements, want, linear, twice, mean, shift, low,
    low_share, high, high_share, grad_x, slot, first, last,
):  # fmt: skip
    """Per bag and channel: ``linear + twice * (x - mean - shift)``, and a share for each element at an
    extremum."""
    channels = x.shape[1]
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    sums, spreads = want[0] >= 0 or want[1] >= 0, want[2] >= 0 or want[5] >= 0
    lows, highs = want[3] >= 0, want[4] >= 0
    final = row_ptr[last] if has_ptr else last
    whole = np.zeros(channels, np.float64)
    for r in range(first, last):
        for c in range(channels):
            grad_x[r, c] = zero
        start = row_ptr[r] if has_ptr else r
        stop = row_ptr[r + 1] if has_ptr else r + 1
        for j in range(start, stop):
            carry(grad_x, r, whole, j - start)
            if not ordered and j + AHEAD < final:
                n = index[row_elements[j + AHEAD] if has_elements else j + AHEAD]
                if sums:
                    fetch_row(linear, n)
                if spreads:
                    fetch_row(twice, n)
                    fetch_row(mean, n)
                    fetch_row(shift, n)
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
            if spreads:
                for c in range(channels):
                    grad_x[r, c] += w * (twice[n, c] * (x[r, c] - mean[n, c] - shift[n, c]))
            if lows:
                for c in range(channels):
                    hit = (x[r, c] == low[n, c]) | (x[r, c] != x[r, c])
                    grad_x[r, c] += w * low_share[n, c] if hit else zero
            if highs:
                for c in range(channels):
                    hit = (x[r, c] == high[n, c]) | (x[r, c] != x[r, c])
                    grad_x[r, c] += w * high_share[n, c] if hit else zero
        settle(grad_x, r, whole, stop - start)


def backward(
    x: np.ndarray,
    at: Arrays,
    want: np.ndarray,
    out: np.ndarray,
    kept: np.ndarray,
    grad: np.ndarray,
    grad_x: np.ndarray,
) -> None:
    """Fills ``grad_x`` ``[R, C]`` from ``grad`` ``[K, S, C]``."""
    none = np.empty((0, x.shape[1]), x.dtype)
    linear, twice, mean, shift, shares = none, none, none, none, [none, none]
    keep = kept_rows(want)
    if max(want[MEAN], want[VAR], want[STD]) >= 0:
        inverse = (1 / at.divisors()).astype(x.dtype)[:, None]
    if want[SUM] >= 0:
        linear = grad[want[SUM]]
    if want[MEAN] >= 0:
        share = grad[want[MEAN]] * inverse
        linear = share if want[SUM] < 0 else linear + share
    if want[VAR] >= 0:
        twice = grad[want[VAR]] * (2 * inverse)
    if want[STD] >= 0:
        # 0 where the deviation is, and the true derivative infinite.
        of_std, std = grad[want[STD]] * inverse, out[want[STD]]
        of_std = np.divide(of_std, std, where=std != 0, out=np.zeros_like(std))
        twice = of_std if want[VAR] < 0 else twice + of_std
    if keep[VAR] >= 0:
        mean, shift = out[want[MEAN]], kept[keep[VAR]]
    for side, k in enumerate((MIN, MAX)):
        if want[k] >= 0:
            count = kept[keep[k]]
            shares[side] = np.divide(
                grad[want[k]], count, where=count > 0, out=np.zeros_like(count)
            )
    low = out[want[MIN]] if want[MIN] >= 0 else none
    high = out[want[MAX]] if want[MAX] >= 0 else none
    where = (x, at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    args = (*where, want, linear, twice, mean, shift, low, shares[0], high, shares[1], grad_x)
    run(moments_backward, args, at.backward_chunks(x.shape[1]))
