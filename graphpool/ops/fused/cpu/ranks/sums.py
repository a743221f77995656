"""CPU kernels of sums over the elements of each bag in order, each times what its ranks are worth.

In the order of their values the elements of a bag divide [0, 1] among them by their weights. What the part
``begin`` to ``end`` is worth is ``F(end) - F(begin)``.
"""

from __future__ import annotations

import math

import numpy as np

from graphpool.ops.fused.cpu.core import inlined, kernel, run
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.vector import from_bits, short

LAST = np.iinfo(np.int64).max
PLACE = (1 << 32) - 1
ROWS = 10
"""Rows of one number for each channel that :func:`sum_lanes` works with."""

SINE = tuple(
    (-1) ** k * (2 * math.pi) ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(11)
)
"""``sin(2 pi t)`` for ``|t| <= 1/4``, to the last bits of float64."""


@inlined
def sine(t):  # type: ignore[no-untyped-def]
    """``sin(2 pi t)``, as plain arithmetic, which LLVM vectorises."""
    r = t - np.rint(t)
    r = r if abs(r) <= 0.25 else (0.5 if r > 0 else -0.5) - r
    z = r * r
    y = SINE[10] * z + SINE[9]
    y = y * z + SINE[8]
    y = y * z + SINE[7]
    y = y * z + SINE[6]
    y = y * z + SINE[5]
    y = y * z + SINE[4]
    y = y * z + SINE[3]
    y = y * z + SINE[2]
    y = y * z + SINE[1]
    return (y * z + SINE[0]) * r


@inlined
def reach(cosine, parameter, u, value, slope):  # type: ignore[no-untyped-def]
    """``F(u)``, and its derivative by the parameter where that has room.

    Of a cosine ``int_0^u cos(2 pi f v) dv``; of a trimmed mean the part of ``[0, u]`` in ``[a, 1 - a]``
    over ``1 - 2 a``, in the limit 1/2 a step.
    """
    width = u.shape[0]
    if cosine:
        for c in range(width):
            value[c] = sine(parameter[c] * u[c]) / (2 * math.pi * parameter[c])
        for c in range(slope.shape[0]):
            f = parameter[c]
            angle = 2 * math.pi * f * u[c]
            near = -u[c] * angle * angle / 3 * (1 - angle * angle / 10)
            by = u[c] * sine(f * u[c] + 0.25) - value[c]
            slope[c] = (near if angle * angle < 1e-4 else by) / f
    else:
        for c in range(width):
            a = parameter[c]
            step = 0.5 if u[c] == 0.5 else (1.0 if u[c] > 0.5 else 0.0)
            inside = min(max(u[c], a), 1 - a) / (1 if a == 0.5 else 1 - 2 * a)
            value[c] = step if a == 0.5 else inside
        for c in range(slope.shape[0]):
            a = parameter[c]
            edge = -1.0 if max(u[c], a) > 1 - a else (1.0 if u[c] < a else 0.0)
            slope[c] = 0.0 if a == 0.5 else (edge + 2 * value[c]) / (1 - 2 * a)


@kernel
def shares_of_ranks(cosine, parameter, n, table):  # type: ignore[no-untyped-def]
    """``table[0]``: what each of the ``n`` ranks is worth without weights ``[n, C]``; ``table[1]``: by the
    parameter."""
    width = parameter.shape[0]
    u, last = np.empty(width, np.float64), np.empty((2, 2, width), np.float64)
    u[:] = 0
    reach(cosine, parameter, u, last[0, 0], last[0, 1])
    for r in range(n):
        now, before = (r + 1) % 2, r % 2
        u[:] = (r + 1) / n
        reach(cosine, parameter, u, last[now, 0], last[now, 1])
        for k in range(table.shape[0]):
            for c in range(width):
                table[k, r, c] = last[now, k, c] - last[before, k, c]


@inlined
def values_of(keys, pairs, value):  # type: ignore[no-untyped-def]
    """The numbers whose order integers have, see :mod:`order`; both zeros are one."""
    for c in range(value.shape[0]):
        if pairs:
            k = keys[c]
            value[c] = from_bits(k if k >= 0 else -k | np.int64(-(1 << 63)))
        else:
            k = keys[c] >> 32
            value[c] = from_bits(short(k if k >= 0 else -k | np.int64(1 << 31)))


@inlined
def add_mass(places, mass, end):  # type: ignore[no-untyped-def]
    for c in range(end.shape[0]):
        end[c] += mass[places[c] & PLACE]


@inlined
def masses(weight, perm, begin, end, mass):  # type: ignore[no-untyped-def]
    """Weights of one bag as whole numbers of steps, the step befitting their total, which is returned.

    Sums of them are exact: a weight is the same as so many copies, and every channel ends at 1, to the last
    bit.
    """
    total = 0.0
    for e in range(begin, end):
        mass[e - begin] = weight[perm[e] if perm.size > 0 else e]
        total += mass[e - begin]
    step = np.exp2(np.ceil(np.log2(total)) - 52) if total > 0 else 1.0
    total = 0.0
    for e in range(begin, end):
        mass[e - begin] = np.rint(mass[e - begin] / step)
        total += mass[e - begin]
    return total


@kernel
def sum_lanes(  # type: ignore[no-untyped-def]
    key, rank_of, pairs, cosine, parameter, table, tabulated, mass, whole, n, lane, step, across, count,
    begin, c0, perm, scratch, out, share, slope,
):  # fmt: skip
    """The sums of channels from ``c0`` on of bag ``n``, what each element was worth, and how the sums change
    with the parameter."""
    width, slopes = parameter.shape[0], slope.shape[0] > 0
    value, end, u, worth = scratch[0], scratch[1], scratch[2], scratch[3]
    total, change = scratch[4], scratch[5]
    last = scratch[6:10]
    scratch[:] = 0
    if not tabulated:
        reach(cosine, parameter, u, last[0], last[2] if slopes else last[2, :0])
    for r in range(count):
        at = r * step + lane
        if across == 1:
            values_of(key[at : at + width], pairs, value)
        else:
            values_of(key[at : at + width * across : across], pairs, value)
        if tabulated:
            worth[:] = table[0, r, c0 : c0 + width]
            if slopes:
                by = table[1, r]
                for c in range(width):
                    change[c] += 0.0 if by[c0 + c] == 0 else by[c0 + c] * value[c]
        else:
            if mass.size > 0:
                if across == 1:
                    add_mass(rank_of[at : at + width], mass, end)
                else:
                    add_mass(rank_of[at : at + width * across : across], mass, end)
                for c in range(width):
                    u[c] = end[c] / whole
            else:
                u[:] = (r + 1) / count
            now, before = (r + 1) % 2, r % 2
            by = last[2 + now] if slopes else last[2 + now, :0]
            reach(cosine, parameter, u, last[now], by)
            for c in range(width):
                worth[c] = last[now, c] - last[before, c]
            for c in range(by.shape[0]):
                d = by[c] - last[2 + before, c]
                change[c] += 0.0 if d == 0 else d * value[c]
        for c in range(width):
            total[c] += 0.0 if worth[c] == 0 else worth[c] * value[c]
        if share.shape[0] > 0:
            for c in range(width):
                e = begin + (rank_of[at + c * across] & PLACE)
                share[perm[e] if perm.size > 0 else e, c0 + c] = worth[c]
    if count > 0:
        for c in range(width):
            # The last is the largest, and a NaN counts as such.
            top = key[(count - 1) * step + lane + c * across]
            total[c] = np.nan if top >= (LAST if pairs else LAST & ~PLACE) else total[c]
    out[n, c0 : c0 + width] = total
    if slopes:
        slope[n, c0 : c0 + width] = change


@kernel
def of_elements(grad, share, bag_of, out, slot, first, last):  # type: ignore[no-untyped-def]
    for e in range(first, last):
        for c in range(out.shape[1]):
            a = share[e, c]
            out[e, c] = 0 if a == 0 else a * grad[bag_of[e], c]


@kernel
def of_rows(  # type: ignore[no-untyped-def]
    grad, share, bag_of, row_ptr, row_elements, out, slot, first, last
):
    """Of rows that elements of several bags may read: in their order, and in float64."""
    total = np.empty(out.shape[1], np.float64)
    for r in range(first, last):
        total[:] = 0
        for k in range(row_ptr[r], row_ptr[r + 1]):
            e = row_elements[k] if row_elements.size > 0 else k
            for c in range(out.shape[1]):
                a = share[e, c]
                total[c] += 0.0 if a == 0 else a * grad[bag_of[e], c]
        out[r] = total


def backward(
    grad: np.ndarray,
    share: np.ndarray,
    slope: np.ndarray,
    option: str,
    at: Arrays,
    grad_x: np.ndarray,
    grad_parameter: np.ndarray,
) -> None:
    """Fills the gradients of the rows ``[R, C]`` and of the parameter ``[C]``."""
    chunks = at.backward_chunks(grad.shape[1])
    if at.gathered:
        run(of_rows, (grad, share, at.bag_of, at.row_ptr, at.row_elements, grad_x), chunks)
    else:
        run(of_elements, (grad, share, at.bag_of, grad_x), chunks)
    terms = np.where(grad == 0, 0, grad.astype(np.float64) * slope)
    grad_parameter[:] = terms.sum(0)
