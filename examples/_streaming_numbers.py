"""Sums of many numbers in several formats, compiled: windows that slide, and states that merge."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numba import njit

# What a false return measures, in metres.
FALSE = 1e6


def ranges(lidar: Path | None, count: int = 120_000, seed: int = 0) -> np.ndarray:
    """Distances of the points of a sweep, in the order of their measurement, of which one is false.

    The sweep is a file of KITTI (float32: x, y, z, reflectance), or generated.
    """
    if lidar is None:
        noise = np.random.default_rng(seed).standard_normal(count)
        found = 20 + 5 * np.sin(np.arange(count) / 2000) + 0.05 * noise
    else:
        points = np.fromfile(lidar, np.float32)
        if points.size == 0 or points.size % 4:
            raise ValueError(
                f"`lidar` must be rows of four float32; {lidar} holds {points.size} of them."
            )
        found = np.linalg.norm(points.reshape(-1, 4)[:, :3].astype(np.float64), axis=1)
    found = found.astype(np.float32)
    found[len(found) // 3] = FALSE
    return found


@njit(cache=True)
def added_and_taken_out(one, two, width, steps, every):  # type: ignore[no-untyped-def]
    """Sums of both over the last ``width`` elements, of which a step adds one and takes one out."""
    count, s, q = len(one), one[0] - one[0], one[0] - one[0]
    out = np.empty((steps // every, 2))
    for i in range(steps):
        new, old = i % count, (i - width) % count
        s += one[new]
        q += two[new]
        if i >= width:
            s -= one[old]
            q -= two[old]
        if i % every == every - 1:
            out[i // every, 0], out[i // every, 1] = s, q
    return out


@njit(cache=True)
def two_stacks(one, two, width, steps, every):  # type: ignore[no-untyped-def]
    """The same by two stacks: ``older`` holds the sums from each element to the last of its stack."""
    count, s, q = len(one), one[0] - one[0], one[0] - one[0]
    older = np.zeros((width + 1, 2), one.dtype)
    out = np.empty((steps // every, 2))
    for i in range(steps):
        k = i % width
        if k == 0 and i:
            for j in range(width - 1, -1, -1):
                at = (i - width + j) % count
                older[j, 0] = older[j + 1, 0] + one[at]
                older[j, 1] = older[j + 1, 1] + two[at]
            s = q = one[0] - one[0]
        s += one[i % count]
        q += two[i % count]
        if i % every == every - 1:
            out[i // every, 0] = older[k + 1, 0] + s
            out[i // every, 1] = older[k + 1, 1] + q
    return out


def windows(r: np.ndarray, width: int, steps: int, bits: int = 12) -> list[list[str]]:
    """Per format: time of a step, and how far the deviation of a window without the false return is off, in
    metres: at worst, and in the last of some thousand windows; how many have a negative variance."""
    every = max(1, steps // 5000)
    last = np.arange(every - 1, steps, every)
    centre = np.float32(20)
    d = {np.float32: r - centre, np.float64: r.astype(np.float64) - 20}
    whole = (np.round(v * 2.0**bits).astype(np.int64) for v in (d[np.float64], d[np.float64] ** 2))
    formats = {
        "float32, added and taken out": (added_and_taken_out, d[np.float32], d[np.float32] ** 2),
        "float64, added and taken out": (added_and_taken_out, d[np.float64], d[np.float64] ** 2),
        f"int64 of {bits} digits, added and taken out": (added_and_taken_out, *whole),
        "float32, two stacks": (two_stacks, d[np.float32], d[np.float32] ** 2),
        "float64, two stacks": (two_stacks, d[np.float64], d[np.float64] ** 2),
    }
    at = last[:, None] - np.arange(width)
    full = at[:, -1] >= 0
    wide = r.astype(np.float64)[at[full] % len(r)]
    sound = (wide < FALSE).all(1)
    exact = wide[sound].std(1)
    rows = []
    for name, (loop, one, two) in formats.items():
        loop(one, two, width, 2 * width, every)
        start = time.process_time()
        found = loop(one, two, width, steps, every)
        took = (time.process_time() - start) / steps
        s, q = found[full][sound].T / width / (2.0**bits if one.dtype == np.int64 else 1)
        with np.errstate(invalid="ignore"):
            apart = np.abs(np.sqrt(q - s * s) - exact)
        lost = f"{100 * np.isnan(apart).mean():.0f} %"
        rows.append(
            [name, f"{1e6 * took:.3f} us", f"{np.nanmax(apart):.0e}", f"{apart[-1]:.0e}", lost]
        )
    return rows


@njit(cache=True)
def _two_sum(a, lost, b):  # type: ignore[no-untyped-def]
    total = a + b
    back = total - a
    lost += (a - (total - back)) + (b - back)
    kept = total + lost
    return kept, lost - (kept - total)


@njit(cache=True)
def merged_one_by_one(x, at, compensated):  # type: ignore[no-untyped-def]
    """Variances of the first ``at[k]`` elements: the merge of ``graphpool.states.Central``, one by one."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    n, c = one, x[0]
    d, q, lost_d, lost_q = zero, zero, zero, zero
    out = np.empty(len(at))
    k = 0
    for i in range(1, len(x)):
        new = (n * c + one * x[i]) / (n + one) if x[i] != c else c
        by, own = c - new, x[i] - new
        moved = n * by
        of_q = (by * d + by * d) + moved * by
        if compensated:
            # What rounding took is carried over as the sums are.
            lost_q += by * lost_d + by * lost_d
            q, lost_q = _two_sum(q, lost_q, of_q)
            d, lost_d = _two_sum(d, lost_d, moved)
            q, lost_q = _two_sum(q, lost_q, own * own)
            d, lost_d = _two_sum(d, lost_d, own)
        else:
            q = (q + of_q) + own * own
            d = (d + moved) + own
        n, c = n + one, new
        if i + 1 == at[k]:
            first, second = np.float64(d) + np.float64(lost_d), np.float64(q) + np.float64(lost_q)
            out[k] = (second - first * first / np.float64(n)) / np.float64(n)
            k += 1
    return out


@njit(cache=True)
def fixed_point(x, at, bits):  # type: ignore[no-untyped-def]
    """The same in integers, about a centre that a first pass has found."""
    centre = np.float64(np.round(x.mean() * 16) / 16)
    d = q = 0
    out = np.empty(len(at))
    k = 0
    for i in range(len(x)):
        v = np.float64(x[i]) - centre
        d += np.int64(np.round(v * 2.0**bits))
        q += np.int64(np.round(v * v * 2.0**bits))
        if i + 1 == at[k]:
            first = d * 2.0**-bits / at[k]
            out[k] = q * 2.0**-bits / at[k] - first * first
            k += 1
    return out
