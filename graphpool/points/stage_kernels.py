"""The neighbour stage of Point-NN without the neighbours' encodings in memory, with sines and with bells.

The encoding of a difference by sines comes from sines and cosines of the two points by the angle-difference
identities, so the transcendental functions are called once per point instead of once per pair. A bell has
no such identity that stays clear of overflow: it is an exponential for each pair and channel, of vectors.

With sines channels are kept apart by parity, all even ones before all odd ones: the even channels meet the
sines and the odd ones the cosines, and every loop runs over contiguous memory. The layout of a stage's
output is again of this kind. With bells they are in order.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel
from graphpool.ops.fused.cpu.core import FLAGS
from graphpool.ops.fused.cpu.math import LN2, exp2
from graphpool.ops.fused.cpu.vector import BYTES, load, pick, spread, store

# Infinities stand for "nothing yet", so they must keep their meaning.
# Lanes of a block, and what a block holds of a point: sines and cosines of both halves, features.
_W = 16
_PARTS = 6
_FAST = {"nnan", "nsz", "contract", "reassoc", "arcp"}


@kernel
def _sines(values, scale, omega, sines, cosines):
    """``sin`` and ``cos`` of ``values * scale * omega``, ``[3, F]`` flat, in a form that vectorises.

    The reduction by multiples of pi / 2 runs in float64, so that large arguments stay accurate.
    """
    count = omega.size
    for axis in range(3):
        value = np.float64(values[axis]) * scale
        s = sines[axis * count : (axis + 1) * count]
        c = cosines[axis * count : (axis + 1) * count]
        for q in range(count):
            t = value * omega[q]
            turns = np.floor(t * 0.6366197723675814 + 0.5)
            r = np.float32(t - turns * 1.5707963267948966)
            quadrant = np.int32(turns) & np.int32(3)
            r2 = r * r
            sin = r + r * r2 * (
                np.float32(-1.6666654611e-1)
                + r2 * (np.float32(8.3321608736e-3) + r2 * np.float32(-1.9515295891e-4))
            )
            cos = (
                np.float32(1)
                - np.float32(0.5) * r2
                + r2
                * r2
                * (
                    np.float32(4.166664568298827e-2)
                    + r2
                    * (np.float32(-1.388731625493765e-3) + r2 * np.float32(2.443315711809948e-5))
                )
            )
            swap = (quadrant & np.int32(1)) == 1
            first = cos if swap else sin
            second = sin if swap else cos
            s[q] = -first if (quadrant & np.int32(2)) != 0 else first
            c[q] = -second if ((quadrant + np.int32(1)) & np.int32(2)) != 0 else second


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
    _sines(pos, scale, omega, sines, cosines)
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


@kernel(fastmath=FLAGS)
def bell_stage(
    pos, x, ptr, centre_ptr, centre, neighbor, scale_x, scale_pos, axis, anchor, sigma, blend, out,
    low, high,
):  # fmt: skip
    """:func:`stage` with bells of the width ``sigma[cloud]`` and, if ``blend`` has entries, a cosine.

    A bell is ``2^(-t^2)`` of ``t = r (p_a - p_c) - r' v``. The cosine of the same argument over the width is
    ``cos A cos B + sin A sin B`` of the angles of the neighbour and of the centre plus the anchor ``v``.
    """
    channels, lanes = x.shape[1], BYTES // x.itemsize
    one, zero = np.float32(1), np.float32(0)
    waves = blend.size > 0
    parts = 3 if waves else 1
    points = 0
    for cloud in range(low, high):
        points = max(points, ptr[cloud + 1] - ptr[cloud])
    # Of each point the coordinate that every channel looks at, then cosine and sine of its angle.
    table = np.empty((points * parts, 2 * channels), np.float32)
    shift = np.empty((1, 2 * channels), np.float32)
    angle = np.empty((2, 2 * channels), np.float32)
    # Cosine and sine of the angles of the centre plus the anchor, times their share.
    wave = np.empty((2, 2 * channels), np.float32)
    omega, sines, cosines = np.empty(1), np.empty(3, np.float32), np.empty(3, np.float32)
    for cloud in range(low, high):
        first = ptr[cloud]
        rate = np.sqrt(0.5 / LN2) / sigma[cloud]
        omega[0] = 1.0 / sigma[cloud]
        share = np.float32(blend[cloud]) if waves else one
        for q in range(2 * channels):
            shift[0, q] = anchor[q] * rate
            angle[0, q] = np.cos(anchor[q] * omega[0]) if waves else 0.0
            angle[1, q] = np.sin(anchor[q] * omega[0]) if waves else 0.0
        for p in range(first, ptr[cloud + 1]):
            at = (p - first) * parts
            for q in range(2 * channels):
                table[at, q] = pos[p, axis[q]]
            if waves:
                _sines(pos[p], scale_pos[cloud], omega, sines, cosines)
                for q in range(2 * channels):
                    table[at + 1, q] = cosines[axis[q]]
                    table[at + 2, q] = sines[axis[q]]
        slope, slope_x = np.float32(scale_pos[cloud] * rate), scale_x[cloud]
        for i in range(centre_ptr[cloud], centre_ptr[cloud + 1]):
            count = 0
            while count < neighbor.shape[1] and neighbor[i, count] >= 0:
                count += 1
            inverse = one / np.float32(count)
            ci, at = centre[i], (centre[i] - first) * parts
            if waves:
                rest = one - share
                for q in range(2 * channels):
                    c, s = table[at + 1, q], table[at + 2, q]
                    wave[0, q] = rest * (c * angle[0, q] - s * angle[1, q])
                    wave[1, q] = rest * (s * angle[0, q] + c * angle[1, q])
            for c in range(0, channels, lanes):
                own = load(x, ci, c, channels - c, zero)
                for q in (c, channels + c):
                    size = channels - c
                    middle, off = load(table, at, q, size, zero), load(shift, 0, q, size, zero)
                    cos, sin = load(wave, 0, q, size, zero), load(wave, 1, q, size, zero)
                    top, total = spread(x, -np.inf), spread(x, zero)
                    for j in range(count):
                        a = neighbor[i, j]
                        row = (a - first) * parts
                        t = (load(table, row, q, size, zero) - middle) * slope - off
                        e = exp2(t * (zero - t))
                        if waves:
                            near = load(table, row + 1, q, size, zero) * cos
                            e = e * share + near + load(table, row + 2, q, size, zero) * sin
                        f = own if q >= channels else (load(x, a, c, size, zero) - own) * slope_x
                        v = (f + e) * e
                        top = pick(v > top, v, top)
                        total = total + v
                    store(out, i, q, size, top + total * inverse)
