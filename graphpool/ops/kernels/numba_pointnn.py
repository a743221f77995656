"""The neighbour stage of Point-NN without the neighbours' encodings in memory.

The encoding of a difference comes from sines and cosines of the two points by the angle-difference
identities, so the transcendental functions are called once per point instead of once per pair.

Channels are kept apart by parity, all even ones before all odd ones: the even channels meet the sines
and the odd ones the cosines, and every loop runs over contiguous memory. The layout of a stage's output
is again of this kind.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Infinities stand for "nothing yet", so they must keep their meaning.
_FAST = {"nnan", "nsz", "contract", "reassoc", "arcp"}


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
def _add_moments(a, b, moments):
    s = np.float32(0)
    s2 = np.float32(0)
    for q in range(a.size):
        v = a[q] - b[q]
        s += v
        s2 += v * v
    moments[0] += s
    moments[1] += s2


@njit(nogil=True, cache=True)
def moments(pos, x, centre_ptr, centre, neighbor, out, low, high):
    """Per cloud: number of pairs, then sum and sum of squares of the differences of ``x`` and ``pos``."""
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
                _add_moments(pos[a], pos[ci], row[3:5])


@njit(nogil=True, cache=True, fastmath=_FAST)
def _weigh(feature, shift, scale, s_a, c_a, s_c, c_c, top, total):
    """``(f + e) * e`` for the even channels (``e`` a sine) and the odd ones (a cosine) of one pair."""
    half = s_a.size
    f_even, f_odd = feature[:half], feature[half:]
    g_even, g_odd = shift[:half], shift[half:]
    top_even, top_odd = top[:half], top[half:]
    total_even, total_odd = total[:half], total[half:]
    for q in range(half):
        e = s_a[q] * c_c[q] - c_a[q] * s_c[q]
        w = ((f_even[q] - g_even[q]) * scale + e) * e
        total_even[q] += w
        top_even[q] = w if w > top_even[q] else top_even[q]
        e = c_a[q] * c_c[q] + s_a[q] * s_c[q]
        w = ((f_odd[q] - g_odd[q]) * scale + e) * e
        total_odd[q] += w
        top_odd[q] = w if w > top_odd[q] else top_odd[q]


@njit(nogil=True, cache=True)
def stage(pos, x, ptr, centre_ptr, centre, neighbor, scale_x, scale_pos, omega, out, low, high):
    """Max plus mean over the neighbours, ``[M, 2 C]``, for the clouds ``low, ..., high - 1``."""
    channels = x.shape[1]
    half = channels // 2
    width = 0
    for cloud in range(low, high):
        width = max(width, ptr[cloud + 1] - ptr[cloud])
    sines = np.empty((width, channels), np.float32)
    cosines = np.empty((width, channels), np.float32)
    top = np.empty((2, channels), np.float32)
    total = np.empty((2, channels), np.float32)
    zeros = np.zeros(channels, np.float32)
    for cloud in range(low, high):
        first = ptr[cloud]
        for p in range(first, ptr[cloud + 1]):
            _sines(pos[p], scale_pos[cloud], omega, sines[p - first], cosines[p - first])
        for i in range(centre_ptr[cloud], centre_ptr[cloud + 1]):
            ci = centre[i]
            top[:] = -np.inf
            total[:] = 0
            s_c, c_c = sines[ci - first], cosines[ci - first]
            count = 0
            for j in range(neighbor.shape[1]):
                a = neighbor[i, j]
                if a < 0:
                    break
                count += 1
                s_a, c_a = sines[a - first], cosines[a - first]
                _weigh(
                    x[a],
                    x[ci],
                    scale_x[cloud],
                    s_a[:half],
                    c_a[:half],
                    s_c[:half],
                    c_c[:half],
                    top[0],
                    total[0],
                )
                _weigh(
                    x[ci],
                    zeros,
                    np.float32(1),
                    s_a[half:],
                    c_a[half:],
                    s_c[half:],
                    c_c[half:],
                    top[1],
                    total[1],
                )
            inverse = np.float32(1) / np.float32(count)
            for part in range(2):
                for q in range(half):
                    out[i, part * half + q] = top[part, q] + total[part, q] * inverse
                    out[i, channels + part * half + q] = (
                        top[part, half + q] + total[part, half + q] * inverse
                    )
