"""Triton kernels of the backward passes: each row of x adds up over the elements that read it.

The gradient of a row depends on the row and on a few values per bag and channel, so nothing of the size
of the elements is kept from the forward pass. No atomics.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

SOFTPOOL = tl.constexpr(0)
POWER = tl.constexpr(1)
SHARE = tl.constexpr(2)
SELF_SHARE = tl.constexpr(3)
LINEAR = tl.constexpr(4)
SPREAD = tl.constexpr(5)
EXTREMUM = tl.constexpr(6)


@triton.jit
def share(s, rate, kept, n, h, m, H, ACC: tl.constexpr):
    """``exp(rate (s - top)) / z`` from the ``kept`` ``[S, 2, H]``: top, and one over z."""
    at = kept + n * 2 * H + h
    top = tl.load(at, mask=m, other=0).to(ACC)
    return tl.exp(tl.where(s == top, 0.0, rate * (s - top))) * tl.load(at + H, mask=m, other=0).to(
        ACC
    )


@triton.jit
def terms(
    x, w, n, c, m, score, i, h, u, v, grad, t, C, H,
    TINY: tl.constexpr, CEILING: tl.constexpr, MODE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """What one reading of ``x`` adds to the gradient of the row, and to that of the parameter."""
    at = n * C + c
    g = tl.load(grad + at, mask=m, other=0).to(ACC)
    side = g * 0
    if MODE == SOFTPOOL:
        y = tl.load(u + at + n * C, mask=m, other=0).to(ACC)
        lacks = tl.load(u + at + n * C + C, mask=m, other=0).to(ACC)
        a = w * share(x, t, v, n, h, m, H, ACC)
        # Moving the shares does not move an infinite result.
        d = tl.where((a == 0) | (tl.abs(y) == float("inf")), 0.0, x - y - lacks)
        a = a * g
        main = a * (1.0 + t * d)
        side = a * d * d
    elif MODE == POWER:
        base = tl.load(u + at, mask=m, other=0).to(ACC)
        size = tl.abs(x)
        size = tl.where(size < TINY, TINY, size)
        log = tl.log(size)
        d = tl.where(log > CEILING, CEILING, log) - base
        power = w * tl.exp((t - 1.0) * d)
        a = g * power
        main = tl.where(x < 0, -a, a)
        side = tl.where(
            size == float("inf"), 0.0, tl.load(v + at, mask=m, other=0).to(ACC) * power * size * d
        )
    elif MODE == SHARE:
        s = tl.load(score + i * H + h, mask=m, other=0).to(ACC)
        main = w * share(s, 1.0, u, n, h, m, H, ACC) * g
    elif MODE == SELF_SHARE:
        main = w * share(x, t, u, n, h, m, H, ACC) * g
    elif MODE == LINEAR:
        main = w * g
    elif MODE == SPREAD:
        mean = tl.load(u + at, mask=m, other=0).to(ACC)
        main = w * g * (x - mean - tl.load(v + at, mask=m, other=0).to(ACC))
    else:
        best = tl.load(u + at, mask=m, other=0).to(ACC)
        main = tl.where((x == best) | (x != x), w * g, 0.0)
    return tl.where(m, main, 0.0), tl.where(m, side, 0.0)


@triton.jit
def walk(
    x, t, score, bag_of, weight, row_ptr, row_elements, u, v, grad, out, partial, R, C, H, WIDTH,
    TINY: tl.constexpr, CEILING: tl.constexpr, MODE: tl.constexpr, PTR: tl.constexpr, ELEMENTS: tl.constexpr,
    WEIGHT: tl.constexpr, PARAMETER: tl.constexpr, ACC: tl.constexpr, ROWS: tl.constexpr,
    BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """``ROWS`` rows by one program; ``PARAMETER``: also their share of the gradient of ``t``."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    last = tl.minimum(first + ROWS, R)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside_c = c < C
    h = c // WIDTH
    total = tl.zeros((BC,), tl.float64)
    factor = tl.load(t + c, mask=inside_c, other=1).to(ACC)[None, :] if PARAMETER else 1.0
    if PTR:
        for r in range(first, last):
            row = tl.load(x + r * C + c, mask=inside_c, other=0).to(ACC)[None, :]
            acc = tl.zeros((BC,), tl.float64)
            hi = tl.load(row_ptr + r + 1)
            for start in range(tl.load(row_ptr + r), hi, BE):
                j = start + tl.arange(0, BE)
                inside = j < hi
                i = tl.load(row_elements + j, mask=inside, other=0) if ELEMENTS else j
                n = tl.load(bag_of + i, mask=inside, other=0)
                w = tl.load(weight + i, mask=inside, other=0).to(ACC) if WEIGHT else inside.to(ACC)
                m = (w != 0)[:, None] & inside_c[None, :]
                main, side = terms(
                    row, w[:, None], n[:, None], c[None, :], m, score, i[:, None], h[None, :],
                    u, v, grad, factor, C, H, TINY, CEILING, MODE, ACC,
                )  # fmt: skip
                acc += tl.sum(main, 0)
                total += tl.sum(side, 0)
            tl.store(out + r * C + c, acc, mask=inside_c)
    else:
        for start in range(first, last, BE):
            i = start + tl.arange(0, BE)
            inside = i < last
            n = tl.load(bag_of + i, mask=inside, other=0)
            w = tl.load(weight + i, mask=inside, other=0).to(ACC) if WEIGHT else inside.to(ACC)
            here = inside[:, None] & inside_c[None, :]
            at = i[:, None] * C + c[None, :]
            m = (w != 0)[:, None] & here
            row = tl.load(x + at, mask=here, other=0).to(ACC)
            main, side = terms(
                row, w[:, None], n[:, None], c[None, :], m, score, i[:, None], h[None, :],
                u, v, grad, factor, C, H, TINY, CEILING, MODE, ACC,
            )  # fmt: skip
            tl.store(out + at, main, mask=here)
            total += tl.sum(side, 0)
    if PARAMETER:
        tl.store(partial + tl.program_id(0) * C + c, total, mask=inside_c)


@triton.jit
def score_backward(
    score, value, bag_of, gather, weight, result, lacks, kept, grad, out, E, C, H, WIDTH,
    GATHER: tl.constexpr, WEIGHT: tl.constexpr, ACC: tl.constexpr,
    BE: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """``a * sum_c g (v - y)`` over the channels of each head."""
    i = tl.program_id(0).to(tl.int64) * BE + tl.arange(0, BE)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    inside = i < E
    r = tl.load(gather + i, mask=inside, other=0) if GATHER else i
    n = tl.load(bag_of + i, mask=inside, other=0)
    w = tl.load(weight + i, mask=inside, other=0).to(ACC) if WEIGHT else inside.to(ACC)
    here = inside[:, None] & (h < H)[None, :]
    s = tl.load(score + i[:, None] * H + h[None, :], mask=here, other=0).to(ACC)
    part = share(s, 1.0, kept, n[:, None], h[None, :], here, H, ACC)
    a = tl.where(here & (w != 0)[:, None], w[:, None] * part, 0.0)
    total = tl.zeros((BE, BH), ACC)
    for start in range(0, WIDTH, BW):
        k = start + tl.arange(0, BW)
        c = h[:, None] * WIDTH + k[None, :]
        m = here[:, :, None] & (k < WIDTH)[None, None, :]
        at = n[:, None, None] * C + c[None, :, :]
        v = tl.load(value + r[:, None, None] * C + c[None, :, :], mask=m, other=0).to(ACC)
        y = tl.load(result + at, mask=m, other=0).to(ACC)
        g = tl.load(grad + at, mask=m, other=0).to(ACC)
        d = v - y - tl.load(lacks + at, mask=m, other=0).to(ACC)
        # Moving the shares does not move an infinite result.
        total += tl.sum(tl.where(m & (tl.abs(y) != float("inf")), g * d, 0.0), 2)
    tl.store(out + i[:, None] * H + h[None, :], tl.where(a == 0, 0.0, a * total), mask=here)
