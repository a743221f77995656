"""Triton kernels that reduce bags: one program per bag (or piece of a bag) and block of channels.

No atomics: every output is written by one program, and the pieces of a bag are joined afterwards, so that
results are the same in every run.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def element(
    e, inside, perm, gather, weight,
    PERM: tl.constexpr, GATHER: tl.constexpr, WEIGHT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Element, row of x and weight at the positions ``e``; weight 0 outside."""
    i = tl.load(perm + e, mask=inside, other=0) if PERM else e
    r = tl.load(gather + i, mask=inside, other=0) if GATHER else i
    w = tl.load(weight + i, mask=inside, other=0).to(ACC) if WEIGHT else inside.to(ACC)
    return i, r, w


@triton.jit
def softmax_forward(
    score, value, t, perm, gather, weight, begin, end, out, lacks, kept, C, H, WIDTH,
    PERM: tl.constexpr, GATHER: tl.constexpr, WEIGHT: tl.constexpr, SELF: tl.constexpr,
    OUT: tl.constexpr, ACC: tl.constexpr, BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Softmax-weighted sum in one pass, the running top corrected as it rises.

    ``SELF``: the scores are ``t`` times the values themselves; else one per element and head. ``kept``
    ``[S, 2, H]`` gets the top (the element itself, where it is its score) and the sum of the exponentials
    relative to it. Sums are in float64, of halves
    of what values differ from that of the largest score; ``lacks`` is what the result lacks by rounding.
    """
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside_c = c < C
    h = c // WIDTH
    lo, hi = tl.load(begin + n), tl.load(end + n)
    inf = float("inf")
    top = tl.full((BC,), -inf, ACC)
    z = tl.zeros((BC,), tl.float64)
    o = tl.zeros((BC,), tl.float64)
    anchor = tl.zeros((BC,), tl.float64)
    if SELF:
        rate = tl.load(t + c, mask=inside_c, other=0).to(ACC)
        sign = tl.where(rate < 0, -1.0, 1.0).to(ACC)
        rate = tl.abs(rate)
    else:
        rate = tl.full((BC,), 1.0, ACC)
        sign = rate
    for start in range(lo, hi, BE):
        e = start + tl.arange(0, BE)
        i, r, w = element(e, e < hi, perm, gather, weight, PERM, GATHER, WEIGHT, ACC)
        m = (w != 0)[:, None] & inside_c[None, :]
        if SELF:
            v = tl.load(value + r[:, None] * C + c[None, :], mask=m, other=0).to(ACC)
            s = tl.where(m, sign[None, :] * v, -inf)
        else:
            s = tl.load(score + i[:, None] * H + h[None, :], mask=m, other=-inf).to(ACC)
            if OUT:
                v = tl.load(value + r[:, None] * C + c[None, :], mask=m, other=0).to(ACC)
        rise = tl.maximum(top, tl.max(tl.where(s == s, s, -inf), 0))
        a = tl.where(s == rise[None, :], 0.0, rate[None, :] * (s - rise[None, :]))
        a = w[:, None] * tl.exp(a)
        a = tl.where(s == -inf, 0.0, a)
        keep = tl.where(top == rise, 1.0, tl.exp(rate * (top - rise)))
        keep = tl.where((top == -inf) & (rise != -inf), 0.0, keep).to(tl.float64)
        before = z
        z = z * keep + tl.sum(a, 0)
        if OUT:
            best = tl.max(tl.where((s == rise[None, :]) & (tl.abs(v) < inf), v, -inf), 0)
            new = tl.where((rise > top) & (best > -inf), best.to(tl.float64), anchor)
            o += before * (0.5 * anchor - 0.5 * new)
            # The limit of exp(-s) * s is 0.
            o = tl.where((keep == 0) & (o == o), 0.0, o * keep)
            lost = (a == 0) & (tl.abs(v) == inf)
            half = 0.5 * v.to(tl.float64) - 0.5 * new[None, :]
            o += tl.sum(a.to(tl.float64) * tl.where(lost | (w == 0)[:, None], 0.0, half), 0)
            anchor = new
        top = rise
    if OUT:
        half = o / tl.where(z != 0, z, 1.0)
        y = tl.where(z != 0, anchor + half + half, 0.0).to(ACC)
        rest = anchor - y.to(tl.float64) + 2.0 * half
        tl.store(out + n * C + c, y, mask=inside_c)
        rest = tl.where((z != 0) & (tl.abs(rest) < inf), rest, 0.0)
        tl.store(lacks + n * C + c, rest, mask=inside_c)
    at = kept + n * 2 * H + h
    once = inside_c & (c % WIDTH == 0)
    tl.store(at, tl.where((z != 0) & (z == z), sign * top, 0.0), mask=once)
    tl.store(at + H, z, mask=once)


@triton.jit
def moments_forward(
    x, perm, gather, weight, begin, end, total, low, high, tied_low, tied_high, C,
    PERM: tl.constexpr, GATHER: tl.constexpr, WEIGHT: tl.constexpr, EXTREMA: tl.constexpr,
    ACC: tl.constexpr, BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sum, in float64; minimum and maximum with the weight that attains them."""
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside_c = c < C
    lo, hi = tl.load(begin + n), tl.load(end + n)
    inf = float("inf")
    s = tl.zeros((BC,), tl.float64)
    least = tl.full((BC,), inf, ACC)
    most = tl.full((BC,), -inf, ACC)
    at_least = tl.zeros((BC,), ACC)
    at_most = tl.zeros((BC,), ACC)
    lost = tl.zeros((BC,), ACC)
    for start in range(lo, hi, BE):
        e = start + tl.arange(0, BE)
        _, r, w = element(e, e < hi, perm, gather, weight, PERM, GATHER, WEIGHT, ACC)
        m = (w != 0)[:, None] & inside_c[None, :]
        v = tl.load(x + r[:, None] * C + c[None, :], mask=m, other=0).to(ACC)
        s += tl.sum(w[:, None].to(tl.float64) * v, 0)
        if EXTREMA:
            nan = m & (v != v)
            lost += tl.sum(tl.where(nan, w[:, None], 0.0), 0)
            down = tl.where(m & (v == v), v, inf)
            up = tl.where(m & (v == v), v, -inf)
            new = tl.minimum(least, tl.min(down, 0))
            hits = tl.sum(tl.where(m & (v == new[None, :]), w[:, None], 0.0), 0)
            at_least = tl.where(new == least, at_least, 0.0) + hits
            least = new
            new = tl.maximum(most, tl.max(up, 0))
            hits = tl.sum(tl.where(m & (v == new[None, :]), w[:, None], 0.0), 0)
            at_most = tl.where(new == most, at_most, 0.0) + hits
            most = new
    at = n * C + c
    tl.store(total + at, s, mask=inside_c)
    if EXTREMA:
        empty = (at_least == 0) & (lost == 0)
        nan = lost > 0
        tl.store(low + at, tl.where(nan, float("nan"), tl.where(empty, 0.0, least)), mask=inside_c)
        tl.store(high + at, tl.where(nan, float("nan"), tl.where(empty, 0.0, most)), mask=inside_c)
        tl.store(tied_low + at, tl.where(nan, lost, at_least), mask=inside_c)
        tl.store(tied_high + at, tl.where(nan, lost, at_most), mask=inside_c)


@triton.jit
def deviations(
    x, perm, gather, weight, begin, end, center, first, second, C, PIECES,
    PERM: tl.constexpr, GATHER: tl.constexpr, WEIGHT: tl.constexpr,
    ACC: tl.constexpr, BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sums of the deviations from the ``center`` of the bag that a piece belongs to, and of their squares."""
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside_c = c < C
    lo, hi = tl.load(begin + n), tl.load(end + n)
    mean = tl.load(center + n // PIECES * C + c, mask=inside_c, other=0).to(ACC)
    one = tl.zeros((BC,), tl.float64)
    two = tl.zeros((BC,), tl.float64)
    for start in range(lo, hi, BE):
        e = start + tl.arange(0, BE)
        _, r, w = element(e, e < hi, perm, gather, weight, PERM, GATHER, WEIGHT, ACC)
        m = (w != 0)[:, None] & inside_c[None, :]
        v = tl.load(x + r[:, None] * C + c[None, :], mask=m, other=0).to(ACC)
        d = tl.where(m, v - mean[None, :], 0.0).to(tl.float64)
        one += tl.sum(w[:, None] * d, 0)
        two += tl.sum(w[:, None] * d * d, 0)
    tl.store(first + n * C + c, one, mask=inside_c)
    tl.store(second + n * C + c, two, mask=inside_c)


@triton.jit
def power_forward(
    x, p, perm, gather, weight, begin, end, norm, extreme, C,
    TINY: tl.constexpr, MOST: tl.constexpr,
    PERM: tl.constexpr, GATHER: tl.constexpr, WEIGHT: tl.constexpr,
    ACC: tl.constexpr, BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Log of ``(sum w |x|^p)^(1/p)``, and the ``|x|`` whose term is the largest (-inf: an empty bag)."""
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside_c = c < C
    lo, hi = tl.load(begin + n), tl.load(end + n)
    inf = float("inf")
    exponent = tl.load(p + c, mask=inside_c, other=1).to(ACC)
    sign = tl.where(exponent > 0, 1.0, -1.0).to(ACC)
    best = tl.full((BC,), -inf, ACC)
    for start in range(lo, hi, BE):
        e = start + tl.arange(0, BE)
        _, r, w = element(e, e < hi, perm, gather, weight, PERM, GATHER, WEIGHT, ACC)
        m = (w != 0)[:, None] & inside_c[None, :]
        v = tl.abs(tl.load(x + r[:, None] * C + c[None, :], mask=m, other=0).to(ACC))
        v = tl.where(m & (v == v), sign[None, :] * v, -inf)
        best = tl.maximum(best, tl.max(v, 0))
    size = tl.abs(best)
    anchor = tl.log(tl.minimum(tl.maximum(size, TINY), MOST))
    z = tl.zeros((BC,), tl.float64)
    for start in range(lo, hi, BE):
        e = start + tl.arange(0, BE)
        _, r, w = element(e, e < hi, perm, gather, weight, PERM, GATHER, WEIGHT, ACC)
        m = (w != 0)[:, None] & inside_c[None, :]
        v = tl.abs(tl.load(x + r[:, None] * C + c[None, :], mask=m, other=0).to(ACC))
        # An infinite element is the limit of a large one.
        u = tl.log(tl.where(v < TINY, TINY, tl.where(v > MOST, MOST, v)))
        a = w[:, None] * tl.exp(exponent[None, :] * (u - anchor[None, :]))
        z += tl.sum(tl.where(m, a, 0.0), 0)
    spread = tl.log(tl.where(z == 0, 1.0, z)).to(ACC) / exponent
    y = anchor + tl.where(z == 0, -inf * sign, spread)
    tl.store(norm + n * C + c, y, mask=inside_c)
    tl.store(extreme + n * C + c, size, mask=inside_c)
