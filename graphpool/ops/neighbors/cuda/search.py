"""Triton kernels of the neighbours: a block of queries by one program, which goes through the blocks of
points of its cloud.

A block of points is passed over where its box is farther from the box of the queries than anything that
still counts. Rounded differences, products and sums are monotone, and sums run in the order of the
coordinates, so that nothing is passed over that the distances as computed would find.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

NOBODY = tl.constexpr(2147483647)
# Above every position: places that hold no neighbour yet, each with a number of its own.
VACANT = tl.constexpr(2147483647 - 1024)


@triton.jit
def boxes(axes, ptr, block_ptr, cloud_of, box, N, D, BOXES, BLOCK: tl.constexpr):
    """Lower and upper bounds of each block, ``[D, 2, BOXES]``."""
    b = tl.program_id(0).to(tl.int64)
    cloud = tl.load(cloud_of + b)
    if cloud < 0:
        return
    first = tl.load(ptr + cloud) + (b - tl.load(block_ptr + cloud)) * BLOCK
    i = first + tl.arange(0, BLOCK)
    inside = i < tl.load(ptr + cloud + 1)
    along, side = axes + i, box + b
    for axis in range(D):  # noqa: B007
        v = tl.load(along, mask=inside, other=0)
        tl.store(side, tl.min(tl.where(inside, v, float("inf")), 0))
        tl.store(side + BOXES, tl.max(tl.where(inside, v, float("-inf")), 0))
        along += N
        side += BOXES
        side += BOXES


@triton.jit
def reach_of(side, asked_side, zero, D, BOXES, ASKED):
    """Squared distance of two boxes."""
    reach = zero
    for axis in range(D):  # noqa: B007
        low = tl.load(side) - tl.load(asked_side + ASKED)
        high = tl.load(asked_side) - tl.load(side + BOXES)
        away = tl.maximum(tl.maximum(low, high), 0.0)
        reach += away * away
        side += BOXES
        side += BOXES
        asked_side += ASKED
        asked_side += ASKED
    return reach


@triton.jit
def distances(axes, query_axes, i, exists, q, asked, zero, N, M, D):
    """Squared distances of all pairs of queries and points, summed in the order of the coordinates."""
    d = zero + tl.zeros((q.shape[0], i.shape[0]), zero.dtype)
    along, asked_along = axes + i, query_axes + q
    for axis in range(D):  # noqa: B007
        p = tl.load(along, mask=exists, other=0)
        away = p[None, :] - tl.load(asked_along, mask=asked, other=0)[:, None]
        d += away * away
        along += N
        asked_along += M
    return d


@triton.jit
def next_of(d, who, worst, last):
    """The nearest of each row with its position, and whether it comes before the last that is kept."""
    best = tl.min(d, 1)
    low = tl.min(tl.where(d == best[:, None], who[None, :], NOBODY), 1)
    before = (best < worst) | ((best == worst) & (low < last))
    return best, low, before & (best < float("inf"))


@triton.jit
def queries_of(
    b, cloud, query_position, query_block_ptr, query_ptr, exclude,
    EXCLUDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The queries of a block: their places, which of them there are, their rows, and whom each leaves out."""
    q = tl.load(query_ptr + cloud) + (b - tl.load(query_block_ptr + cloud)) * BLOCK
    q += tl.arange(0, BLOCK)
    asked = q < tl.load(query_ptr + cloud + 1)
    row = tl.load(query_position + q, mask=asked, other=0).to(tl.int64)
    own = tl.load(exclude + row, mask=asked, other=-1) if EXCLUDE else row
    return q, asked, row, own


@triton.jit
def nearest(
    axes, position, box, block_ptr, ptr, query_axes, query_position, query_box, query_block_ptr,
    query_ptr, cloud_of, home, exclude, limit, out_d, out_i, N, M, D, BOXES, ASKED, k,
    EXCLUDE: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The ``k`` nearest within ``limit``, ascending, ties by position; -1 and inf where there are fewer.

    Blocks are visited from ``home`` outwards. ``near`` holds the nearest so far in any order; the last of
    them by distance and position makes room for what comes before it.
    """
    b = tl.program_id(0).to(tl.int64)
    cloud = tl.load(cloud_of + b)
    if cloud < 0:
        return
    q, asked, row, own = queries_of(
        b, cloud, query_position, query_block_ptr, query_ptr, exclude, EXCLUDE, BLOCK
    )
    start, end = tl.load(ptr + cloud), tl.load(ptr + cloud + 1)
    first = tl.load(block_ptr + cloud)
    blocks = tl.load(block_ptr + cloud + 1) - first
    middle = tl.load(home + b)
    zero = tl.load(query_box + b)
    zero = zero - zero
    most = tl.load(limit)
    inf = float("inf")
    slot = tl.arange(0, K)
    open_ = asked[:, None] & (slot < k)[None, :]
    near_d = tl.where(open_, zero + inf, -inf)
    near_i = (slot + VACANT)[None, :] + tl.zeros((BLOCK, K), tl.int32)
    worst = tl.max(near_d, 1)
    last = tl.max(tl.where(near_d == worst[:, None], near_i, -1), 1)
    bound = most
    for s in range(blocks):
        j = tl.where(s % 2 == 1, middle + (s + 1) // 2, middle - s // 2)
        j = tl.where(j < 0, j + blocks, tl.where(j >= blocks, j - blocks, j))
        reach = reach_of(box + first + j, query_box + b, zero, D, BOXES, ASKED)
        if reach <= bound:
            i = start + j * BLOCK + tl.arange(0, BLOCK)
            exists = i < end
            who = tl.load(position + i, mask=exists, other=NOBODY)
            d = distances(axes, query_axes, i, exists, q, asked, zero, N, M, D)
            d = tl.where(exists[None, :] & (d <= most), d, inf)
            if EXCLUDE:
                d = tl.where(who[None, :] == own[:, None], inf, d)
            best, low, before = next_of(d, who, worst, last)
            while tl.max(before.to(tl.int32), 0) > 0:
                room = before[:, None] & (near_i == last[:, None])
                near_d = tl.where(room, best[:, None], near_d)
                near_i = tl.where(room, low[:, None], near_i)
                worst = tl.max(near_d, 1)
                last = tl.max(tl.where(near_d == worst[:, None], near_i, -1), 1)
                d = tl.where(who[None, :] == low[:, None], inf, d)
                best, low, before = next_of(d, who, worst, last)
            bound = tl.minimum(tl.max(worst, 0), most)
    near_d = tl.where(open_, near_d, inf)
    at = row * k
    for t in range(k):
        best = tl.min(near_d, 1)
        low = tl.min(tl.where(near_d == best[:, None], near_i, NOBODY), 1)
        tl.store(out_d + at + t, best, mask=asked)
        tl.store(out_i + at + t, tl.where(best < inf, low, -1), mask=asked)
        taken = near_i == low[:, None]
        near_d = tl.where(taken, inf, near_d)
        near_i = tl.where(taken, NOBODY, near_i)


@triton.jit
def within(
    axes, position, box, block_ptr, ptr, query_axes, query_position, query_box, query_block_ptr,
    query_ptr, cloud_of, exclude, limit, offsets, out_d, out_i, N, M, D, BOXES, ASKED,
    EXCLUDE: tl.constexpr, INCLUSIVE: tl.constexpr, FILL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All points within ``limit``: how many of each query, to ``offsets[q + 1]``, or with ``FILL`` which
    ones, from ``offsets[q]`` on and in any order."""
    b = tl.program_id(0).to(tl.int64)
    cloud = tl.load(cloud_of + b)
    if cloud < 0:
        return
    q, asked, row, own = queries_of(
        b, cloud, query_position, query_block_ptr, query_ptr, exclude, EXCLUDE, BLOCK
    )
    start, end = tl.load(ptr + cloud), tl.load(ptr + cloud + 1)
    first = tl.load(block_ptr + cloud)
    zero = tl.load(query_box + b)
    zero = zero - zero
    most = tl.load(limit)
    found = tl.load(offsets + row, mask=asked, other=0) if FILL else row * 0
    for j in range(tl.load(block_ptr + cloud + 1) - first):
        reach = reach_of(box + first + j, query_box + b, zero, D, BOXES, ASKED)
        if reach <= most:
            i = start + j * BLOCK + tl.arange(0, BLOCK)
            exists = i < end
            who = tl.load(position + i, mask=exists, other=NOBODY)
            d = distances(axes, query_axes, i, exists, q, asked, zero, N, M, D)
            close = (d <= most) if INCLUSIVE else (d < most)
            close = close & exists[None, :] & asked[:, None]
            if EXCLUDE:
                close = close & (who[None, :] != own[:, None])
            hits = close.to(tl.int32)
            if FILL:
                at = found[:, None] + tl.cumsum(hits, 1) - 1
                tl.store(out_d + at, d, mask=close)
                tl.store(out_i + at, who[None, :] + tl.zeros_like(hits), mask=close)
            found += tl.sum(hits, 1)
    if not FILL:
        tl.store(offsets + row + 1, found, mask=asked)
