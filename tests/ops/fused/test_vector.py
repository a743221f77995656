"""Vectors in kernels, lane by lane against the numbers that they hold."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from graphpool.ops.fused.cpu import math as cpu_math
from graphpool.ops.fused.cpu.core import FLAGS
from graphpool.ops.fused.cpu.vector import (
    load,
    magnitude,
    pick,
    rounded,
    spread,
    store,
    widen,
)

FUNCTIONS = ("exp", "exp2", "log", "log2")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 7, 8, 16, 19])
def test_arithmetic_loads_and_stores(dtype, count):
    @numba.njit(fastmath=FLAGS)
    def run(x, y, out, lanes):
        for c in range(0, x.shape[1], lanes):
            count = x.shape[1] - c
            a, b = load(x, 1, c, count, 2), load(y, 0, c, count, 3.0)
            z = pick(a < b, (magnitude(a) - b) * a / (b + 2), spread(x, -1))
            store(out, 2, c, count, rounded(out, widen(z)))

    x, y = np.random.default_rng(0).standard_normal((2, 3, count)).astype(dtype)
    y = abs(y)
    out = np.full((4, count), 7, dtype)
    run(x, y, out, 64 // x.itemsize)
    expected = np.where(x[1] < y[0], (abs(x[1]) - y[0]) * x[1] / (y[0] + 2), -1)
    np.testing.assert_allclose(out[2], expected, rtol=4 * np.finfo(dtype).eps)
    assert (out[[0, 1, 3]] == 7).all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_are_those_of_numbers(name, dtype):
    function = getattr(cpu_math, name)

    @numba.njit(fastmath=FLAGS)
    def run(x, y, z, lanes):
        for c in range(0, x.shape[1], lanes):
            store(y, 0, c, x.shape[1] - c, function(load(x, 0, c, x.shape[1] - c, 1)))
        for c in range(x.shape[1]):
            z[0, c] = function(x[0, c])

    info = np.finfo(dtype)
    line = (
        np.linspace(-200, 200, 1001) if "exp" in name else np.geomspace(info.tiny, info.max, 1001)
    )
    x = np.concatenate([line, [np.inf, np.nan]])[None].astype(dtype)
    y, z = np.empty((2, *x.shape), dtype)
    run(x, y, z, 64 // x.itemsize)
    np.testing.assert_allclose(y, z, rtol=4 * info.eps, atol=4 * info.eps if "log" in name else 0)
