"""Triton kernels of the softmax itself: the share of each element in its bag, and its derivative.

Both need sums over the bags first, which :mod:`cuda_bags` finds.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def share_forward(
    score, bag_of, gather, weight, top, z, out, E, C,
    GATHER: tl.constexpr, WEIGHT: tl.constexpr, ACC: tl.constexpr, BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """``w exp(score - top) * z`` of each element, ``z`` one over the sum; 0 in a bag without any share."""
    i = tl.program_id(0).to(tl.int64) * BE + tl.arange(0, BE)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = i < E
    n = tl.load(bag_of + i, mask=inside, other=0)
    r = tl.load(gather + i, mask=inside, other=0) if GATHER else i
    w = tl.load(weight + i, mask=inside, other=0).to(ACC) if WEIGHT else inside.to(ACC)
    here = inside[:, None] & (c < C)[None, :]
    at = n[:, None] * C + c[None, :]
    best = tl.load(top + at, mask=here, other=0).to(ACC)
    inverse = tl.load(z + at, mask=here, other=0).to(ACC)
    s = tl.load(score + r[:, None] * C + c[None, :], mask=here, other=0).to(ACC)
    a = w[:, None] * tl.exp(tl.where(s == best, 0.0, s - best))
    share = tl.where((inverse != 0) & (w != 0)[:, None], a * inverse, 0.0)
    tl.store(out + i[:, None] * C + c[None, :], share, mask=here)


@triton.jit
def share_backward(
    share, grad, bag_of, total, out, E, C,
    ACC: tl.constexpr, BE: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """``a (g - total)``, where ``total`` is the sum of ``a g`` over the bag."""
    i = tl.program_id(0).to(tl.int64) * BE + tl.arange(0, BE)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = i < E
    n = tl.load(bag_of + i, mask=inside, other=0)
    here = inside[:, None] & (c < C)[None, :]
    row = i[:, None] * C + c[None, :]
    a = tl.load(share + row, mask=here, other=0).to(ACC)
    g = tl.load(grad + row, mask=here, other=0).to(ACC)
    mean = tl.load(total + n[:, None] * C + c[None, :], mask=here, other=0).to(ACC)
    tl.store(out + row, a * (g - mean), mask=here)
