"""Neighbours weighed by bells, the stage of Point-GN and NPNet, without their encodings in memory.

A bell has no identity for differences that stays clear of overflow: it is an exponential for each pair and
channel, of vectors. Channels are in order.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel
from graphpool.ops.fused.cpu.core import FLAGS
from graphpool.ops.fused.cpu.math import LN2, exp2
from graphpool.ops.fused.cpu.vector import BYTES, load, pick, spread, store


@kernel
def sines_of(values, scale, omega, sines, cosines):
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


@kernel(fastmath=FLAGS)
def bell_stage(
    pos, x, ptr, centre_ptr, centre, neighbor, scale_x, scale_pos, axis, anchor, sigma, blend, out,
    low, high,
):  # fmt: skip
    """Max plus mean over the neighbours, ``[M, 2 C]``, for the clouds ``low, ..., high - 1``: with bells of
    the width ``sigma[cloud]`` and, if ``blend`` has entries, a cosine.

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
                sines_of(pos[p], scale_pos[cloud], omega, sines, cosines)
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
