"""``exp`` and ``log``, to base e and 2, as plain arithmetic: LLVM vectorises the loop around them.

A call into libm per element costs five times as much.
"""

# mypy: disable-error-code="call-arg, var-annotated"
from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from graphpool.ops.fused.cpu.vector import as_bits, from_bits, has, pick, short, to_float


def exp(x: float) -> float:
    """e^x to about 1e-7 (float32) or 3e-16 (float64) relative, NaN and infinities included.

    Results below 2e-38 (float32) or 5e-308 (float64) are 0.
    """
    return float(np.exp(x))


def log(x: float) -> float:
    """ln x for positive normal x, infinity and NaN, to about 1e-7 (float32) or 3e-16 (float64) relative."""
    return float(np.log(x))


def exp2(x: float) -> float:
    """2^x to about 1e-7 (float32) or 3e-16 (float64) relative, beside the rounding of ``x`` itself; NaN
    and infinities included. Results below 2e-38 (float32) or 5e-308 (float64) are 0.
    """
    return float(np.exp2(x))


def log2(x: float) -> float:
    """The logarithm to base 2 of positive normal x, infinity and NaN, to about 1e-7 (float32) or 3e-16
    (float64) absolute, beside the rounding of the result: powers need no more, and it is cheaper.
    """
    return float(np.log2(x))


def log2_finite(x: float) -> float:
    """:func:`log2` where it does not matter that infinity has a finite one, and a NaN some number."""
    return float(np.log2(x))


def tiny(x: float) -> float:
    """The least magnitude that ``segment_power`` tells from zero, in the precision of ``x``."""
    return 2.0**-125 if np.asarray(x).dtype == np.float32 else 2.0**-1021


def largest(x: float) -> float:
    """The largest finite number in the precision of ``x``."""
    return float(np.finfo(np.asarray(x).dtype).max)


f, d, i4, i8 = np.float32, np.float64, np.int32, np.int64

LN2 = 0.6931471805599453

# Added to a float32 of size up to 2^22, it leaves the nearest whole number k in the lower bits, as k + 126:
# shifted up by 23 they are 2^(k-1). One less than k, because 2^128 is not a float32; 0 for k = -126.
_ROUND32 = 12582912.0 + 126.0
# Likewise for float64.
_ROUND64 = 6755399441055744.0 + 1022.0


@overload(tiny, inline="always")
def _tiny(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: f(2.0**-125)
    return lambda x: d(2.0**-1021)


@overload(largest, inline="always")
def _largest(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: f(3.4028234663852886e38)
    return lambda x: d(1.7976931348623157e308)


@overload(exp, jit_options={"forceinline": True})
def _exp(x):  # type: ignore[no-untyped-def]
    if has(x, types.float32):

        def exp32(x):  # type: ignore[no-untyped-def]
            # Comparisons are written so that NaN fails them and goes through.
            v = pick(x < f(-87.3), f(-87.3), x)
            v = pick(v > f(89.0), f(89.0), v)
            k = v * f(1.44269504) + f(_ROUND32)
            power = from_bits(short(as_bits(k) << i4(23)))
            k = k - f(_ROUND32)
            r = v - k * f(0.693359375) + k * f(2.12194440e-4)
            y = r * f(2 * 1.9875691500e-4) + f(2 * 1.3981999507e-3)
            y = y * r + f(2 * 8.3334519073e-3)
            y = y * r + f(2 * 4.1665795894e-2)
            y = y * r + f(2 * 1.6666665459e-1)
            y = y * r + f(2 * 5.0000001201e-1)
            return (y * r * r + (r + r) + f(2.0)) * power

        return exp32

    def exp64(x):  # type: ignore[no-untyped-def]
        v = pick(x < d(-708.0), d(-708.0), x)
        v = pick(v > d(709.782712893384), d(709.782712893384), v)
        k = v * d(1.4426950408889634) + d(_ROUND64)
        power = from_bits(as_bits(k) << i8(52))
        k = k - d(_ROUND64)
        r = v - k * d(6.93145751953125e-1) - k * d(1.42860682030941723212e-6)
        y = r * d(1.0 / 6227020800.0) + d(1.0 / 479001600.0)
        y = y * r + d(1.0 / 39916800.0)
        y = y * r + d(1.0 / 3628800.0)
        y = y * r + d(1.0 / 362880.0)
        y = y * r + d(1.0 / 40320.0)
        y = y * r + d(1.0 / 5040.0)
        y = y * r + d(1.0 / 720.0)
        y = y * r + d(1.0 / 120.0)
        y = y * r + d(1.0 / 24.0)
        y = y * r + d(1.0 / 6.0)
        y = y * r + d(0.5)
        y = y * r * r + r + d(1.0)
        y = (y + y) * power
        y = pick(x < d(-708.0), d(0.0), y)
        return pick(x > d(709.782712893384), d(np.inf), y)

    return exp64


@register_jitable(forceinline=True)
def log_finite64(x):  # type: ignore[no-untyped-def]
    b = as_bits(x)
    e = (b - i8(0x3FE6A09E667F3BCD)) >> i8(52)
    m = from_bits(b - (e << i8(52))) - d(1.0)
    k = to_float(e)
    s = m / (m + d(2.0))
    z = s * s
    y = z * d(1.479819860511658591e-01) + d(1.531383769920937332e-01)
    y = y * z + d(1.818357216161805012e-01)
    y = y * z + d(2.222219843214978396e-01)
    y = y * z + d(2.857142874366239149e-01)
    y = y * z + d(3.999999999940941908e-01)
    y = y * z + d(6.666666666666735130e-01)
    y = y * z
    half = m * d(0.5) * m
    y = k * d(6.93147180369123816490e-01) - (
        (half - (s * (half + y) + k * d(1.90821492927058770002e-10))) - m
    )
    return y


@overload(log, jit_options={"forceinline": True})
def _log(x):  # type: ignore[no-untyped-def]
    if has(x, types.float32):

        def log32(x):  # type: ignore[no-untyped-def]
            b = as_bits(x)
            # mantissa in [sqrt(1/2), sqrt(2)): subtract the bits of sqrt(1/2), keep the exponent field.
            # Each result is cut to 32 bits, so that vectors of them need no wider ones in between.
            e = short(short(b - i4(0x3F3504F3)) >> i4(23))
            m = from_bits(short(b - short(e << i4(23)))) - f(1.0)
            k = to_float(e)
            z = m * m
            y = m * f(7.0376836292e-2) - f(1.1514610310e-1)
            y = y * m + f(1.1676998740e-1)
            y = y * m - f(1.2420140846e-1)
            y = y * m + f(1.4249322787e-1)
            y = y * m - f(1.6668057665e-1)
            y = y * m + f(2.0000714765e-1)
            y = y * m - f(2.4999993993e-1)
            y = y * m + f(3.3333331174e-1)
            y = y * m * z
            y = y - k * f(2.12194440e-4) - z * f(0.5)
            y = m + y + k * f(0.693359375)
            return pick(x < f(np.inf), y, x)

        return log32

    return lambda x: pick(x < d(np.inf), log_finite64(x), x)


@overload(exp2, jit_options={"forceinline": True})
def _exp2(x):  # type: ignore[no-untyped-def]
    if has(x, types.float32):

        def exp2_32(x):  # type: ignore[no-untyped-def]
            v = pick(x < f(-126.0), f(-126.0), x)
            v = pick(v > f(128.0), f(128.0), v)
            k = v + f(_ROUND32)
            power = from_bits(short(as_bits(k) << i4(23)))
            r = v - (k - f(_ROUND32))
            y = r * f(2.6529455185e-3) + f(1.9343025253e-2)
            y = y * r + f(1.1101467484e-1)
            y = y * r + f(4.8044484171e-1)
            y = y * r + f(1.3862939552)
            return (y * r + f(2.0)) * power

        return exp2_32

    return lambda x: exp(x * d(0.6931471805599453))


@overload(log2_finite, jit_options={"forceinline": True})
def _log2_finite(x):  # type: ignore[no-untyped-def]
    if has(x, types.float32):

        def log2_32(x):  # type: ignore[no-untyped-def]
            b = as_bits(x)
            e = short(short(b - i4(0x3F3504F3)) >> i4(23))
            m = from_bits(short(b - short(e << i4(23)))) - f(1.0)
            y = m * f(-1.4599061801e-1) + f(2.3674604692e-1)
            y = y * m - f(2.4992366333e-1)
            y = y * m + f(2.8672733847e-1)
            y = y * m - f(3.6010382660e-1)
            y = y * m + f(4.8093846994e-1)
            y = y * m - f(7.2135664775e-1)
            y = y * m + f(1.4426947917)
            return y * m + to_float(e)

        return log2_32

    return lambda x: log_finite64(x) * d(1.4426950408889634)


@overload(log2, jit_options={"forceinline": True})
def _log2(x):  # type: ignore[no-untyped-def]
    return lambda x: pick(x < np.inf, log2_finite(x), x)
