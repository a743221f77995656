"""Triton kernels of farthest point sampling: one program per cloud, which makes all of its picks.

The host launches once and waits for nothing. Ties go to the lowest position, and a picked point is out
of the race at distance -1, so that duplicates never return a position twice.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

NOBODY = tl.constexpr(2147483647)


@triton.jit
def sample_on_chip(
    axes, ptr, first, out_ptr, out, N, D, KEPT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Distances in registers; ``KEPT``: the three coordinates, too, else they are read for every pick."""
    cloud = tl.program_id(0).to(tl.int64)
    start = tl.load(ptr + cloud)
    begin = tl.load(out_ptr + cloud)
    samples = tl.load(out_ptr + cloud + 1) - begin
    i = tl.arange(0, BLOCK)
    exists = i < tl.load(ptr + cloud + 1) - start
    points = axes + start
    x = tl.load(points + i, mask=exists, other=0)
    distance = tl.where(exists, tl.zeros_like(x) + float("inf"), -1.0)
    if KEPT:
        y = tl.load(points + N + i, mask=exists, other=0)
        z = tl.load(points + N + N + i, mask=exists, other=0)
    current = (tl.load(first + cloud) - start).to(tl.int32)
    for t in range(samples):
        tl.store(out + begin + t, start + current)
        if KEPT:
            dx = x - tl.load(points + current)
            dy = y - tl.load(points + N + current)
            dz = z - tl.load(points + N + N + current)
            d = dx * dx + dy * dy + dz * dz
        else:
            d = tl.zeros_like(x)
            along = points
            for axis in range(D):  # noqa: B007
                away = tl.load(along + i, mask=exists, other=0) - tl.load(along + current)
                d += away * away
                along += N
        distance = tl.where(i == current, -1.0, tl.minimum(distance, d))
        farthest, current = tl.max(distance, 0, return_indices=True)  # noqa: F841


@triton.jit
def sample_blocks(
    axes, position, box, block_ptr, ptr, points, first, out_ptr, out, distance, N, D, BOXES,
    NB: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Distances in memory, in blocks of points that lie together; a pick goes through those of them alone
    whose largest distance it may lower, ``GROUP`` at a time."""
    cloud = tl.program_id(0).to(tl.int64)
    start = tl.load(ptr + cloud)
    count = tl.load(ptr + cloud + 1) - start
    begin = tl.load(out_ptr + cloud)
    samples = tl.load(out_ptr + cloud + 1) - begin
    b = tl.arange(0, NB)
    here = b < tl.load(block_ptr + cloud + 1) - tl.load(block_ptr + cloud)
    boxes = box + tl.load(block_ptr + cloud)
    zero = tl.load(boxes + b, mask=here, other=0) * 0
    # Of each block: the largest distance, and the lowest position that attains it.
    largest = tl.where(here, zero + float("inf"), -1.0)
    lowest = tl.full((NB,), NOBODY, tl.int32)
    g = tl.arange(0, GROUP)
    current = tl.load(first + cloud)
    for t in range(samples):
        tl.store(out + begin + t, current)
        pick = points + current * D
        reach = zero
        side = boxes + b
        for axis in range(D):
            q = tl.load(pick + axis)
            low = tl.load(side, mask=here, other=0) - q
            high = q - tl.load(side + BOXES, mask=here, other=0)
            away = tl.maximum(tl.maximum(low, high), 0.0)
            reach += away * away
            side += BOXES
            side += BOXES
        # Rounded sums are monotone: no distance that is computed to a point in the box is below reach.
        near = here & (reach <= largest)
        rank = tl.cumsum(near.to(tl.int32), 0)
        visits = tl.sum(near.to(tl.int32), 0)
        done = visits * 0
        while done < visits:
            hit = near[None, :] & (rank[None, :] == (done + 1 + g)[:, None])
            j = tl.max(tl.where(hit, b[None, :], -1), 1)
            i = j.to(tl.int64)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
            inside = (j >= 0)[:, None] & (i < count)
            i = start + i
            d = tl.load(distance + i, mask=inside, other=-1.0)
            who = tl.load(position + i, mask=inside, other=NOBODY)
            total = tl.zeros_like(d)
            along = axes + i
            for axis in range(D):
                away = tl.load(along, mask=inside, other=0) - tl.load(pick + axis)
                total += away * away
                along += N
            d = tl.where(who == current, -1.0, tl.minimum(d, total))
            tl.store(distance + i, d, mask=inside)
            # What one thread wrote another may read for the next pick.
            tl.debug_barrier()
            best = tl.max(d, 1)
            owner = tl.min(tl.where(d == best[:, None], who, NOBODY), 1)
            found = tl.max(hit.to(tl.int32), 0) > 0
            largest = tl.where(found, tl.max(tl.where(hit, best[:, None], -1.0), 0), largest)
            lowest = tl.where(found, tl.max(tl.where(hit, owner[:, None], -1), 0), lowest)
            done += GROUP
        best = tl.max(largest, 0)
        current = tl.min(tl.where(largest == best, lowest, NOBODY), 0).to(tl.int64)
