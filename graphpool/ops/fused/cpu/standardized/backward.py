"""CPU kernels of the derivatives of standardised moments.

Of each element these are a polynomial in its standardised deviation ``z``, with coefficients of the bag:

    ``d m_k / d x = w k (z^(k - 1) - m_(k - 1) - m_k z) / (L n)``,

where ``m_k`` is the mean of ``z^k``, ``L`` the length that deviations are divided by and ``n`` the size of
the bag. The derivative by the weight is ``L / w`` times the integral of that over ``z``, less its mean over
the bag.
"""

from __future__ import annotations

import numpy as np

from graphpool._memory import fresh
from graphpool.ops.fused.cpu.core import carry, inlined, kernel, row_chunks, run, settle
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.standardized.forward import parsed
from graphpool.ops.fused.cpu.vector import BYTES, load, spread, store

_HEAD = 3
"""Before its coefficients ``[order]`` a bag has its mean, what that lacks, and ``1 / L``."""


@kernel
def fill_coefficients(grad, out, var, lacks, size, eps, coef, slot, first, last):  # type: ignore[no-untyped-def]
    order = out.shape[1]
    for n in range(first, last):
        for c in range(out.shape[2]):
            square = np.float64(var[n, c])
            length = np.sqrt(square + eps)
            constant, linear = np.float64(grad[n, 0, c]), 0.0
            if order > 1 and square != 0.0:
                linear = grad[n, 1, c] * (length / np.sqrt(square))
            for k in range(3, order + 1):
                rate = k * np.float64(grad[n, k - 1, c]) / length
                constant -= rate * (out[n, k - 2, c] if k > 3 else square / (square + eps))
                linear -= rate * out[n, k - 1, c]
                coef[n, _HEAD + k - 1, c] = rate / size[n]
            coef[n, 0, c] = out[n, 0, c]
            coef[n, 1, c] = lacks[n, c]
            coef[n, 2, c] = 1.0 / length
            coef[n, _HEAD, c] = constant / size[n]
            if order > 1:
                coef[n, _HEAD + 1, c] = linear / size[n]


@inlined
def deviation(x, r, coef, top, c):  # type: ignore[no-untyped-def]
    """``z`` of row ``r`` of ``x``, in the channels from ``c`` on."""
    count = x.shape[1] - c
    off = load(x, r, c, count, 0) - load(coef, top, c, count, 0) - load(coef, top + 1, c, count, 0)
    return off * load(coef, top + 2, c, count, 0)


@kernel
def polynomials(  # type: ignore[no-untyped-def]
    x, index, ordered, weight, row_ptr, row_elements, coef, rows, grad_x, slot, first, last
):
    """Rows ``first, ..., last - 1`` of ``grad_x``; a bag has ``rows`` rows of ``coef``."""
    channels, one, zero = x.shape[1], x.dtype.type(1), x.dtype.type(0)
    has_ptr, has_elements, has_weight = row_ptr.size > 0, row_elements.size > 0, weight.size > 0
    final = row_ptr[last] if has_ptr else last
    whole = np.zeros(channels, np.float64)
    for r in range(first, last):
        for c in range(channels):
            grad_x[r, c] = zero
        start = row_ptr[r] if has_ptr else r
        stop = row_ptr[r + 1] if has_ptr else r + 1
        for j in range(start, stop):
            carry(grad_x, r, whole, j - start)
            if not ordered and j + AHEAD < final:
                n = index[row_elements[j + AHEAD] if has_elements else j + AHEAD]
                for k in range(n * rows, (n + 1) * rows):
                    fetch_row(coef, k)
            i = row_elements[j] if has_elements else j
            w = weight[i] if has_weight else one
            if w == zero:
                continue
            top = index[i] * rows
            for c in range(0, channels, BYTES // x.itemsize):
                count = channels - c
                z = deviation(x, r, coef, top, c)
                y = load(coef, top + rows - 1, c, count, 0)
                for k in range(top + rows - 2, top + _HEAD - 1, -1):
                    y = y * z + load(coef, k, c, count, 0)
                store(grad_x, r, c, count, load(grad_x, r, c, count, 0) + y * w)
        settle(grad_x, r, whole, stop - start)


@kernel
def integrals(x, index, gather, coef, rows, const, out, slot, first, last):  # type: ignore[no-untyped-def]
    """For the weight of each element, ``const`` of its bag and the sum over the channels."""
    lanes = BYTES // x.itemsize
    parts = np.empty((1, lanes), x.dtype)
    for i in range(first, last):
        top, total = index[i] * rows, spread(x, 0)
        for c in range(0, x.shape[1], lanes):
            count = x.shape[1] - c
            z = deviation(x, gather[i] if gather.size > 0 else i, coef, top, c)
            y = load(coef, top + rows - 1, c, count, 0) / x.dtype.type(rows - _HEAD)
            for k in range(rows - _HEAD - 1, 0, -1):
                y = y * z + load(coef, top + _HEAD + k - 1, c, count, 0) / x.dtype.type(k)
            total = total + y * z / load(coef, top + 2, c, count, 1)
        store(parts, 0, 0, lanes, total)
        found = const[index[i]]
        for k in range(lanes):
            found += parts[0, k]
        out[i] = found


def _coefficients(grad, out, values, lacks, option, at):  # type: ignore[no-untyped-def]
    bags, order, channels = out.shape
    coef = fresh((bags, _HEAD + order, channels), out)
    args = (grad, out, values[1], lacks[0], at.divisors(), parsed(option)[1], coef)
    run(fill_coefficients, args, row_chunks(bags, coef.size))
    return coef


def backward(grad, x, out, values, lacks, option, at, grad_x):  # type: ignore[no-untyped-def]
    """Fills ``grad_x`` ``[R, C]`` from ``grad`` ``[S, order, C]``."""
    coef = _coefficients(grad, out, values, lacks, option, at)
    where = (x, at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    args = (*where, coef.reshape(-1, x.shape[1]), coef.shape[1], grad_x)
    run(polynomials, args, at.backward_chunks(x.shape[1]))


def of_weight(grad, x, out, values, lacks, option, at, grad_weight):  # type: ignore[no-untyped-def]
    """Fills ``grad_weight`` ``[E]``. Weights that all grow by one factor change nothing."""
    coef = _coefficients(grad, out, values, lacks, option, at)
    const, square = np.zeros(len(out)), values[1].astype(np.float64)
    for k in range(2, out.shape[1] + 1):
        mean = out[:, k - 1] if k > 2 else square / (square + parsed(option)[1])
        const -= (coef[:, _HEAD + k - 1] * mean / coef[:, 2]).sum(1) / k
    args = (x, at.bag_of, at.gather, coef.reshape(-1, x.shape[1]), coef.shape[1], const)
    run(integrals, (*args, grad_weight), at.row_chunks(len(grad_weight), x.shape[1]))
