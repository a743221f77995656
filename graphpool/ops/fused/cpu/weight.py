"""CPU kernel of derivatives with respect to the weights: a sum over the channels of each element.

What an op makes of one more element like it, times the gradient of its bag; ``bag`` ``[S, ., K, C]`` holds
the factors that follow from the bag, ``const`` ``[S]`` what no element adds to.
"""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import REDUCTION_FLAGS, inlined, kernel, run
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.math import LN2, exp2, log2, tiny
from graphpool.ops.fused.cpu.norms.power import log_size, sides

MOMENTS, SHARES, POWERS = range(3)
FAR = 126.0


@inlined
def moment(v, bag, n, c):  # type: ignore[no-untyped-def]
    """Of the sum, of the mean, and of the variance."""
    d = v - bag[n, 2, 0, c]
    off = d - bag[n, 4, 0, c]
    # What nobody asks for may be infinite: squares of 1e20 are.
    zero = bag.dtype.type(0)
    of_sum, of_mean, of_var = bag[n, 0, 0, c], bag[n, 1, 0, c], bag[n, 3, 0, c]
    of_mean = zero if of_mean == 0 else of_mean * d
    of_var = zero if of_var == 0 else of_var * (off * off - bag[n, 5, 0, c])
    return of_sum * v + of_mean + of_var


@inlined
def share(v, rate, bag, n, c):  # type: ignore[no-untyped-def]
    """Of the mean weighted by a softmax, and of log-sum-exp."""
    top, y = bag[n, 0, 0, c], bag[n, 3, 0, c]
    e = 0 * rate if v == top else rate * (v - top)
    # Only an absent element may lie that far above the top.
    a = 0 * e if e > FAR else bag[n, 1, 0, c] * exp2(e)
    d = 0 * y if (a == 0) | (abs(y) == np.inf) else v - y - bag[n, 4, 0, c]
    return 0 * a if a == 0 else a * (bag[n, 2, 0, c] * d + bag[n, 5, 0, c])


@inlined
def power(v, p, side, bag, n, k, c):  # type: ignore[no-untyped-def]
    """Of norm ``k``."""
    u = log2(tiny(v)) if (side != 0) & (side * v <= 0) else log_size(v)
    e = p * (u - bag[n, 0, k, c])
    return 0 * u if (e > FAR) | (bag[n, 1, k, c] == 0) else bag[n, 1, k, c] * exp2(e)


def _total(x, r, kind, rate, side, bag, n):  # type: ignore[no-untyped-def]
    total = x.dtype.type(0)
    if kind == 0:
        for c in range(x.shape[1]):
            total += moment(x[r, c], bag, n, c)
    elif kind == 1:
        for c in range(x.shape[1]):
            total += share(x[r, c], rate[0, c], bag, n, c)
    else:
        for k in range(side.shape[0]):
            for c in range(x.shape[1]):
                total += power(x[r, c], rate[k, c], side[k], bag, n, k, c)
    return total


total = kernel(_total, fastmath=REDUCTION_FLAGS)


@kernel
def of_elements(  # type: ignore[no-untyped-def]
    x, kind, rate, side, index, gather, bag, const, out, slot, first, last
):
    for i in range(first, last):
        r = gather[i] if gather.size > 0 else i
        out[i] = const[index[i]] + total(x, r, kind, rate, side, bag, index[i])


def _fill(x, kind, rate, side, at, rows, const, out):  # type: ignore[no-untyped-def]
    bag = np.stack([np.broadcast_to(v, rows[-1].shape) for v in rows], 1).astype(x.dtype)
    bag = bag.reshape(len(bag), len(rows), *rate.shape)
    args = (x, kind, rate, side, at.bag_of, at.gather, bag, const.astype(x.dtype), out)
    run(of_elements, args, at.row_chunks(len(out), rate.size))


def of_moments(
    grad: dict[str, np.ndarray],
    x: np.ndarray,
    value: dict[str, np.ndarray],
    shift: np.ndarray,
    at: Arrays,
    out: np.ndarray,
) -> None:
    """From the gradients and the values ``[S, C]`` of the sum, mean, var and std that there are."""
    none, size = np.zeros((len(at.ptr) - 1, x.shape[1])), at.divisors()[:, None]
    of_sum, of_mean, of_var = (grad.get(name, none) for name in ("sum", "mean", "var"))
    std = value.get("std", none)
    if "std" in grad:
        of_var = of_var + np.divide(grad["std"], 2 * std, where=std != 0, out=np.zeros_like(std))
    rows = [of_sum, of_mean / size, value.get("mean", none), of_var / size, shift, none]
    rows[5] = value.get("var", std * std)
    ones = np.ones((1, x.shape[1]), x.dtype)
    _fill(x, MOMENTS, ones, ones[:, 0], at, rows, np.zeros(len(none)), out)


def of_softpool(
    grad: np.ndarray,
    x: np.ndarray,
    t: np.ndarray,
    out: np.ndarray,
    lacks: np.ndarray,
    kept: np.ndarray,
    at: Arrays,
    grad_weight: np.ndarray,
) -> None:
    rows = [kept[:, 0], kept[:, 1], grad, out, lacks, np.zeros_like(out)]
    rate = t[None] / x.dtype.type(LN2)
    _fill(x, SHARES, rate, rate[:, 0], at, rows, np.zeros(len(out)), grad_weight)


def of_logsumexp(
    grad: np.ndarray,
    x: np.ndarray,
    tau: np.ndarray,
    slope: np.ndarray,
    kept: np.ndarray,
    over: str,
    at: Arrays,
    grad_weight: np.ndarray,
) -> None:
    grad = grad * tau
    none = np.zeros_like(grad)
    const = (-grad / at.divisors()[:, None]).sum(1) if over == "mean" else none[:, :1].sum(1)
    rate = 1 / (tau[None] * x.dtype.type(LN2))
    rows = [kept[:, 0], kept[:, 1], none, none, none, grad]
    _fill(x, SHARES, rate, rate[:, 0], at, rows, const, grad_weight)


def of_power(
    grad: np.ndarray,
    x: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    out: np.ndarray,
    norm: np.ndarray,
    size: np.ndarray,
    negative: str,
    at: Arrays,
    grad_weight: np.ndarray,
) -> None:
    n = at.divisors()[:, None][..., None]
    # Nothing moves an infinite result.
    moved = np.where(np.isinf(out), 0, grad * out)
    const = -(q * moved / n).sum((1, 2))
    rows = [norm / LN2, moved / p]
    _fill(x, POWERS, p, sides(negative, p), at, rows, const, grad_weight)
