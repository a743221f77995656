"""The neighbour stage of Point-NN without the neighbours' encodings in memory.

The encoding of a difference comes from sines and cosines of the two points by the angle-difference
identities, so the transcendental functions are called once per point instead of once per pair.

Channels are kept apart by parity, all even ones before all odd ones: the even channels meet the sines
and the odd ones the cosines, and every loop runs over contiguous memory. The layout of a stage's output
is again of this kind.
"""

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel
from graphpool.ops.neighbors.cpu.bells import sines_of

# Infinities stand for "nothing yet", so they must keep their meaning.
# Lanes of a block, and what a block holds of a point: sines and cosines of both halves, features.
_W = 16
_PARTS = 6
_FAST = {"nnan", "nsz", "contract", "reassoc", "arcp"}


@kernel(fastmath=_FAST)
def _add_moments(a, b, moments):
    s = np.float32(0)
    s2 = np.float32(0)
    for q in range(a.size):
        v = a[q] - b[q]
        s += v
        s2 += v * v
    moments[0] += s
    moments[1] += s2


@kernel
def moments(pos, x, centre_ptr, centre, neighbor, out, low, high):
    """Per cloud: number of pairs, then sum and sum of squares of the differences of ``x``, the sums of those
    of ``pos`` along each axis, and their squares."""
    for cloud in range(low, high):
        row = out[cloud]
        row[:] = 0
        for i in range(centre_ptr[cloud], centre_ptr[cloud + 1]):
            ci = centre[i]
            for j in range(neighbor.shape[1]):
                a = neighbor[i, j]
                if a < 0:
                    break
                row[0] += 1
                _add_moments(x[a], x[ci], row[1:3])
                for axis in range(3):
                    d = pos[a, axis] - pos[ci, axis]
                    row[3 + axis] += d
                    row[6 + axis] += d * d


@kernel
def _fill_row(row, pos, x, scale, omega, half, sines, cosines):
    """Sines, cosines and features of one point, in blocks of ``_W`` lanes."""
    sines_of(pos, scale, omega, sines, cosines)
    for block in range((half + _W - 1) // _W):
        for lane in range(_W):
            q = block * _W + lane
            at = block * _PARTS * _W + lane
            if q < half:
                row[at] = sines[q]
                row[at + _W] = cosines[q]
                row[at + 2 * _W] = sines[half + q]
                row[at + 3 * _W] = cosines[half + q]
                row[at + 4 * _W] = x[q]
                row[at + 5 * _W] = x[half + q]
            else:
                for part in range(_PARTS):
                    row[at + part * _W] = 0


@kernel(fastmath=_FAST)
def _pool(table, width, first, neighbor, centre, scale, acc):
    """Maximum and sum of ``(f + e) * e`` over the neighbours of one centre; returns how many there are.

    Everything of a block lies at fixed offsets from three places (the neighbour, the centre, and the
    accumulator), so that the lanes vectorise without checking a dozen arrays for overlap on every pair.
    Unsigned places spare the check for negative ones.
    """
    w1, w2, w3 = np.uint64(_W), np.uint64(2 * _W), np.uint64(3 * _W)
    w4, w5, w6, w7 = np.uint64(4 * _W), np.uint64(5 * _W), np.uint64(6 * _W), np.uint64(7 * _W)
    row_c = np.uint64(centre - first) * np.uint64(width)
    count = 0
    for j in range(neighbor.size):
        if neighbor[j] < 0:
            break
        count += 1
        ta = np.uint64(neighbor[j] - first) * np.uint64(width)
        tc = row_c
        at = np.uint64(0)
        for _ in range(width // (_PARTS * _W)):
            for lane in range(_W):
                q = np.uint64(lane)
                a, c, o = ta + q, tc + q, at + q
                e = table[a] * table[c + w1] - table[a + w1] * table[c]
                v = ((table[a + w4] - table[c + w4]) * scale + e) * e
                acc[o] = v if v > acc[o] else acc[o]
                acc[o + w4] += v
                e = table[a + w1] * table[c + w1] + table[a] * table[c]
                v = ((table[a + w5] - table[c + w5]) * scale + e) * e
                acc[o + w1] = v if v > acc[o + w1] else acc[o + w1]
                acc[o + w5] += v
                e = table[a + w2] * table[c + w3] - table[a + w3] * table[c + w2]
                v = (table[c + w4] + e) * e
                acc[o + w2] = v if v > acc[o + w2] else acc[o + w2]
                acc[o + w6] += v
                e = table[a + w3] * table[c + w3] + table[a + w2] * table[c + w2]
                v = (table[c + w5] + e) * e
                acc[o + w3] = v if v > acc[o + w3] else acc[o + w3]
                acc[o + w7] += v
            ta += w6
            tc += w6
            at += w4 + w4
    return count


@kernel
def stage(pos, x, ptr, centre_ptr, centre, neighbor, scale_x, scale_pos, omega, out, low, high):
    """Max plus mean over the neighbours, ``[M, 2 C]``, for the clouds ``low, ..., high - 1``."""
    channels = x.shape[1]
    half = channels // 2
    blocks = (half + _W - 1) // _W
    width = blocks * _PARTS * _W
    points = 0
    for cloud in range(low, high):
        points = max(points, ptr[cloud + 1] - ptr[cloud])
    table = np.empty(points * width, np.float32)
    sines, cosines = np.empty(channels, np.float32), np.empty(channels, np.float32)
    acc = np.empty(blocks * 8 * _W, np.float32)
    for cloud in range(low, high):
        first = ptr[cloud]
        for p in range(first, ptr[cloud + 1]):
            row = table[(p - first) * width : (p - first + 1) * width]
            _fill_row(row, pos[p], x[p], scale_pos[cloud], omega, half, sines, cosines)
        for i in range(centre_ptr[cloud], centre_ptr[cloud + 1]):
            for block in range(blocks):
                acc[block * 8 * _W : (block * 8 + 4) * _W] = -np.inf
                acc[(block * 8 + 4) * _W : (block * 8 + 8) * _W] = 0
            count = _pool(table, width, first, neighbor[i], centre[i], scale_x[cloud], acc)
            inverse = np.float32(1) / np.float32(count)
            for q in range(half):
                at = q // _W * 8 * _W + q % _W
                for part in range(2):
                    o = at + 2 * part * _W
                    out[i, part * half + q] = acc[o] + acc[o + 4 * _W] * inverse
                    o += _W
                    out[i, channels + part * half + q] = acc[o] + acc[o + 4 * _W] * inverse
