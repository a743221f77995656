"""CPU kernel of standardised moments: powers of deviations from a mean that is known, over a length."""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu import moments
from graphpool.ops.fused.cpu.core import (
    BLOCK,
    NO_LIMIT,
    bag_chunks,
    inlined,
    kernel,
    pieces,
    row_chunks,
    run,
)
from graphpool.ops.fused.cpu.vector import BYTES, borrowed, load, rounded, spread, store, widen

_MEAN_AND_VAR = np.array([-1, 0, 1, -1, -1, -1])
_NONE = np.empty(0, np.int64)


@inlined
def powers(x, perm, gather, weight, begin, end, middle, lacks, scale, k, c):  # type: ignore[no-untyped-def]
    """The sums of ``w z^k`` and ``w z^(k + 1)`` with ``z = (x - middle - lacks) scale``, in the channels from
    ``c`` on, in float64."""
    has_weight, one, count = weight.size > 0, x.dtype.type(1), x.shape[1] - c
    whole_low = widen(spread(x, 0))
    whole_high = whole_low
    for block in range(begin, end, BLOCK):
        low = spread(x, 0)
        high = low
        for e in range(block, min(block + BLOCK, end)):
            w = weight[perm[e] if perm.size > 0 else e] if has_weight else one
            if has_weight and w == 0:
                continue
            v = load(x, moments.row(perm, gather, e), c, count, 0)
            z = (v - middle - lacks) * scale
            power = z * z * w
            for _ in range(k - 2):
                power = power * z
            low = low + power
            high = high + power * z
        whole_low = whole_low + widen(low)
        whole_high = whole_high + widen(high)
    return whole_low, whole_high


@kernel
def powers_of_runs(  # type: ignore[no-untyped-def]
    x, perm, gather, weight, begin, end, limit, bag, mean, var, lacks, factor, eps, order, out,
    slot, first, last,
):  # fmt: skip
    """Runs ``first, ..., last - 1``, each from ``begin[n]`` to ``end[n]`` and from bag ``bag[n]``: its mean,
    its deviation, and ``factor[n]`` times the sums of powers, of those no longer than ``limit``."""
    channels = x.shape[1]
    x, perm, gather, weight = borrowed(x), borrowed(perm), borrowed(gather), borrowed(weight)
    scale = np.empty((1, channels), x.dtype)
    for n in range(first, last):
        b = bag[n] if bag.size > 0 else n
        for c in range(channels):
            out[n * order, c] = mean[b, c]
        if order > 1:
            for c in range(channels):
                square = np.float64(var[b, c])
                out[n * order + 1, c] = np.sqrt(square)
                scale[0, c] = 1.0 / np.sqrt(square + eps)
        if end[n] - begin[n] > limit:
            continue
        where = (x, perm, gather, weight, begin[n], end[n])
        for k in range(3, order + 1, 2):
            for c in range(0, channels, BYTES // x.itemsize):
                count = channels - c
                middle, lack = load(mean, b, c, count, 0), load(lacks, b, c, count, 0)
                low, high = powers(*where, middle, lack, load(scale, 0, c, count, 0), k, c)
                store(out, n * order + k - 1, c, count, rounded(out, low * factor[n]))
                if k < order:
                    store(out, n * order + k, c, count, rounded(out, high * factor[n]))


def forward(x, option, at, out, values, lacks):  # type: ignore[no-untyped-def]
    """Fills ``out`` ``[S, order, C]``, and for the derivatives ``values``, mean and variance, and what the
    mean ``lacks`` by rounding."""
    order, eps = parsed(option)
    moments.forward(x, at, _MEAN_AND_VAR, values, lacks)
    where, of_bag = (x, at.perm, at.gather, at.weight), (*values, lacks[0])
    chunks, limit, long_bags = bag_chunks(at.ptr, x.shape[1])
    inverse = 1 / at.divisors()
    rows = out.reshape(-1, x.shape[1])
    runs = (at.ptr[:-1], at.ptr[1:], limit, _NONE)
    run(powers_of_runs, (*where, *runs, *of_bag, inverse, eps, order, rows), chunks)
    if long_bags is None or order < 3:
        return
    cut = pieces(at.ptr, long_bags, limit)
    part = np.empty((len(cut.begin), order, x.shape[1]))
    chunks = row_chunks(len(part), int((cut.end - cut.begin).sum()) * x.shape[1])
    bag = long_bags[cut.owner]
    args = (*where, cut.begin, cut.end, NO_LIMIT, bag, *of_bag, inverse[bag], eps, order)
    run(powers_of_runs, (*args, part.reshape(-1, x.shape[1])), chunks)
    out[long_bags, 2:] = np.add.reduceat(part, cut.first)[:, 2:]


def parsed(option: str) -> tuple[int, float]:
    """The highest order, and what is added to the variance."""
    order, eps = option.split(",")
    return int(order), float(eps)
