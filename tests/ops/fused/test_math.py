"""The arithmetic that stands in for libm, against NumPy in extended precision."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from graphpool.ops.fused.cpu import math as cpu_math
from graphpool.ops.fused.cpu.core import FLAGS

FUNCTIONS = ("exp", "exp2", "log", "log2")


@pytest.fixture(scope="module", params=["float32", "float64"])
def evaluate(request):
    """``evaluate(name, values)`` in one precision, in a loop that is compiled as the kernels are."""

    def loop(function):
        @numba.njit(fastmath=FLAGS)
        def run(x, y):
            for i in range(x.size):
                y[i] = function(x[i])

        return run

    compiled = {name: loop(getattr(cpu_math, name)) for name in FUNCTIONS}

    def call(name, values):
        x = np.asarray(values, request.param)
        y = np.empty_like(x)
        compiled[name](x, y)
        return x, y

    call.dtype = np.dtype(request.param)
    return call


def relative(found, expected):
    return float(np.abs(found / expected - 1).max())


@pytest.mark.parametrize("name", ["exp", "exp2"])
def test_exponentials(evaluate, name):
    info = np.finfo(evaluate.dtype)
    to_base = 1.0 if name == "exp2" else np.log(2.0)
    edge = 125.4 if evaluate.dtype == np.float32 else 1020.0
    top = 127.99 if evaluate.dtype == np.float32 else 1023.99
    x, y = evaluate(name, np.linspace(-edge * to_base, top * to_base, 300_001))
    expected = getattr(np, name)(x.astype(np.longdouble))
    # 2^x is e^(x ln 2) in float64, where the product is rounded.
    slack = 1000 if name == "exp2" and evaluate.dtype == np.float64 else 4
    assert relative(y, expected) < slack * info.eps
    x, y = evaluate(name, np.linspace(-2, 2, 100_001))
    assert relative(y, getattr(np, name)(x.astype(np.longdouble))) < 4 * info.eps


@pytest.mark.parametrize("name", ["log", "log2"])
def test_logarithms(evaluate, name):
    info = np.finfo(evaluate.dtype)
    x, y = evaluate(name, np.geomspace(info.tiny, info.max / 2, 300_001))
    expected = getattr(np, name)(x.astype(np.longdouble))
    error = np.abs(y - expected)
    if name == "log":
        assert float((error[expected != 0] / np.abs(expected[expected != 0])).max()) < 4 * info.eps
    else:
        assert float((error / np.maximum(1, np.abs(expected))).max()) < 4 * info.eps
    assert evaluate(name, [1.0])[1] == 0


def test_ends_of_the_line(evaluate):
    payload = np.array([0x7FC00155], np.int32).view(np.float32)
    for name in ("exp", "exp2"):
        y = evaluate(name, [np.inf, -np.inf, 1e4, -1e4, 0.0, -0.0])[1]
        assert y.tolist() == [np.inf, 0, np.inf, 0, 1, 1]
    for name in ("log", "log2"):
        assert evaluate(name, [np.inf])[1] == np.inf
    for name in FUNCTIONS:
        assert np.isnan(evaluate(name, [np.nan])[1]).all()
        # A NaN that carries bits of its own.
        assert np.isnan(evaluate(name, payload)[1]).all()
    largest = np.finfo(evaluate.dtype).max
    assert evaluate("exp", [np.nextafter(evaluate.dtype.type(np.log(largest)), 0)])[1] < np.inf
