"""Derivatives of :mod:`graphpool.ops.fused.cpu.norms.mixed`, from one more reading of the elements."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from graphpool._memory import fresh
from graphpool.ops.fused.cpu.core import (
    BLOCK,
    NO_LIMIT,
    add_up,
    bag_chunks,
    inlined,
    kernel,
    pieces,
    row_chunks,
    run,
)
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.math import LN2, exp2, log2, tiny
from graphpool.ops.fused.cpu.norms.mixed import BEYOND, KEPT, OF_BAG, SHARED, log_of
from graphpool.ops.fused.cpu.vector import (
    BYTES,
    borrowed,
    load,
    magnitude,
    pick,
    rounded,
    spread,
    store,
    widen,
)


@inlined
def add(part, row, c, count, v):
    store(part, row, c, count, load(part, row, c, count, 0) + v)


@inlined
def of_bag(p, mix, n, total, grown, kept, out, grad, c, count, counted, part):
    """What the elements of bag ``n`` need for their derivatives, eight vectors: the logs of the norms, the
    derivatives to them, the same for the exponents, and the derivatives of sign and mean for an element
    above 0 and below.

    Where ``counted``, the derivatives to ``mix`` and, but for a factor, the growth are added to ``part``.
    """
    one = kept.dtype.type(1)
    zero = kept.dtype.type(0)
    log_n = kept.dtype.type(log2(total))
    log1, log2_ = load(kept, n * KEPT, c, count, zero), load(kept, n * KEPT + 1, c, count, zero)
    infinite1, infinite2 = log1 > BEYOND / 2, log2_ > BEYOND / 2
    log1, log2_ = pick(infinite1, log1 - BEYOND, log1), pick(infinite2, log2_ - BEYOND, log2_)
    over1, over2 = one / p[0], one / p[1]
    m1 = pick(infinite1, np.inf, exp2(log1 - log_n * over1))
    m2 = pick(infinite2, np.inf, exp2(log2_ - log_n * over2))
    sum_, sizes = load(kept, n * KEPT + 2, c, count, zero), load(kept, n * KEPT + 3, c, count, zero)
    same = magnitude(sum_) == sizes
    size_ = pick(same, one, sizes)
    sign = pick(sum_ == sizes, one, pick(sum_ == zero - sizes, -one, sum_ / size_))
    given = load(grad, n, c, count, zero)
    g = given * grown
    mix1, mix2 = load(mix, 0, c, count, zero), load(mix, 1, c, count, zero)
    g1, g2 = g * mix1 * sign, g * mix2 * sign
    c1, c2 = g1 * exp2(-log_n * over1), g2 * exp2(-log_n * over2)
    of_sign = pick(same, zero, g * (mix1 * m1 + mix2 * m2) / size_)
    of_mean = g * load(mix, 2, c, count, zero) / kept.dtype.type(total)
    if counted:
        add(part, 0, c, count, g * sign * m1)
        add(part, 1, c, count, g * sign * m2)
        add(part, 2, c, count, g * sum_ / kept.dtype.type(total))
        y = load(out, n, c, count, zero)
        # Nothing moves an infinite result.
        add(part, 3, c, count, pick(magnitude(y) == np.inf, zero, given * y) * log_n)
    still1, still2 = pick(infinite1, zero, c1), pick(infinite2, zero, c2)
    below = of_mean + of_sign * (one + sign)
    return log1, log2_, c1, c2, still1, still2, of_mean + of_sign * (one - sign), below


@inlined
def of_element(
    v, least, slope1, slope2, shift1, shift2, log1, log2_, c1, c2, still1, still2, above, below
):
    """The derivative to an element ``v``, and what it adds to that of either exponent, but for a factor."""
    a = magnitude(v)
    u = log_of(a, least)
    a = pick(a < np.inf, pick(a < least, least, a), 0)
    d1, d2 = u - log1, u - log2_
    power1, power2 = exp2(d1 * slope1), exp2(d2 * slope2)
    g = c1 * power1 + c2 * power2
    # Relative to the power mean: relative to the plain norm, sums would nearly cancel.
    t1 = still1 * power1 * a * (d1 + shift1)
    t2 = still2 * power2 * a * (d2 + shift2)
    return pick(v < 0, below - g, above + g), t1, t2


@kernel
def mixed_backward(
    x,
    p,
    mix,
    growth,
    perm,
    weight,
    begin,
    end,
    owner,
    start,
    limit,
    kept,
    out,
    size,
    grad,
    grad_x,
    shared,
    slot,
    first,
    last,
):
    """Of runs of elements in their bags; ``owner``: the bag of each run, where these are pieces of bags.

    What bags share is counted with the run that is the ``start`` of its bag.
    """
    channels, lanes = x.shape[1], BYTES // x.itemsize
    one, zero = x.dtype.type(1), x.dtype.type(0)
    least = tiny(zero)
    slope1, slope2, over1, over2 = p[0] - one, p[1] - one, one / p[0], one / p[1]
    has_perm, has_weight = perm.size > 0, weight.size > 0
    zeros = np.zeros((SHARED, channels), x.dtype)
    flat, part = zeros.reshape(SHARED * channels), borrowed(zeros)
    p, mix, kept = borrowed(p), borrowed(mix), borrowed(kept)
    out, grad = borrowed(out), borrowed(grad)
    final = end[last - 1]
    for n in range(first, last):
        if end[n] - begin[n] <= limit:
            bag = owner[n] if owner.size > 0 else n
            first_run = begin[n] == start[bag] and size[bag] > 0
            total = np.float64(size[bag]) if size[bag] > 0 else 1.0
            log_n = x.dtype.type(log2(total))
            grown = x.dtype.type(exp2(np.float64(growth[0]) * log2(total)))
            for c in range(0, channels, lanes):
                count = channels - c
                args = of_bag(p, mix, bag, total, grown, kept, out, grad, c, count, first_run, part)
                whole1 = widen(spread(x, zero))
                whole2 = whole1
                for block in range(begin[n], end[n], BLOCK):
                    sum1 = spread(x, zero)
                    sum2 = sum1
                    for e in range(block, min(block + BLOCK, end[n])):
                        i = perm[e] if has_perm else e
                        if c == 0 and has_perm and e + AHEAD < final:
                            fetch_row(x, perm[e + AHEAD])
                        w = weight[i] if has_weight else one
                        if w == zero:
                            store(grad_x, i, c, count, spread(x, zero))
                            continue
                        g, t1, t2 = of_element(
                            load(x, i, c, count, one),
                            least,
                            slope1,
                            slope2,
                            log_n * over1,
                            log_n * over2,
                            *args,
                        )
                        store(grad_x, i, c, count, g * w)
                        sum1 = sum1 + t1 * w
                        sum2 = sum2 + t2 * w
                    whole1 = whole1 + widen(sum1)
                    whole2 = whole2 + widen(sum2)
                add(part, 4, c, count, rounded(x, whole1))
                add(part, 5, c, count, rounded(x, whole2))
        add_up(flat, shared, slot, n, first, last)


@kernel
def mixed_bags(p, mix, growth, kept, out, size, grad, bags, shared, slot, first, last):
    """Fills ``bags`` ``[S * 8, C]`` with what :func:`of_bag` finds."""
    channels, lanes = kept.shape[1], BYTES // kept.itemsize
    part = np.zeros((SHARED, channels), kept.dtype)
    flat = part.reshape(SHARED * channels)
    for n in range(first, last):
        total = np.float64(size[n]) if size[n] > 0 else 1.0
        grown = kept.dtype.type(exp2(np.float64(growth[0]) * log2(total)))
        for c in range(0, channels, lanes):
            count = channels - c
            log1, log2_, c1, c2, still1, still2, above, below = of_bag(
                p, mix, n, total, grown, kept, out, grad, c, count, size[n] > 0, part
            )
            store(bags, n * OF_BAG, c, count, log1)
            store(bags, n * OF_BAG + 1, c, count, log2_)
            store(bags, n * OF_BAG + 2, c, count, c1)
            store(bags, n * OF_BAG + 3, c, count, c2)
            store(bags, n * OF_BAG + 4, c, count, still1)
            store(bags, n * OF_BAG + 5, c, count, still2)
            store(bags, n * OF_BAG + 6, c, count, above)
            store(bags, n * OF_BAG + 7, c, count, below)
        add_up(flat, shared, slot, n, first, last)


@kernel
def mixed_rows(
    x, p, index, weight, row_ptr, row_elements, log_n, bags, grad_x, shared, slot, first, last
):
    """Of rows that elements read in place: row ``r`` is read by ``row_elements[row_ptr[r]], ...``."""
    channels, lanes = x.shape[1], BYTES // x.itemsize
    one, zero = x.dtype.type(1), x.dtype.type(0)
    least = tiny(zero)
    slope1, slope2, over1, over2 = p[0] - one, p[1] - one, one / p[0], one / p[1]
    has_elements, has_weight = row_elements.size > 0, weight.size > 0
    by_bag = bags.reshape(bags.shape[0] // OF_BAG, OF_BAG * channels)
    part = np.zeros((SHARED, channels), x.dtype)
    flat = part.reshape(SHARED * channels)
    final = row_ptr[last]
    for r in range(first, last):
        for c in range(0, channels, lanes):
            count = channels - c
            v = load(x, r, c, count, one)
            whole = widen(spread(x, zero))
            whole1, whole2 = whole, whole
            for block in range(row_ptr[r], row_ptr[r + 1], BLOCK):
                sum_ = spread(x, zero)
                sum1 = sum_
                sum2 = sum_
                for j in range(block, min(block + BLOCK, row_ptr[r + 1])):
                    if c == 0 and j + AHEAD < final:
                        fetch_row(
                            by_bag, index[row_elements[j + AHEAD] if has_elements else j + AHEAD]
                        )
                    i = row_elements[j] if has_elements else j
                    w = weight[i] if has_weight else one
                    if w == zero:
                        continue
                    n = index[i] * OF_BAG
                    g, t1, t2 = of_element(
                        v,
                        least,
                        slope1,
                        slope2,
                        log_n[index[i]] * over1,
                        log_n[index[i]] * over2,
                        load(bags, n, c, count, zero),
                        load(bags, n + 1, c, count, zero),
                        load(bags, n + 2, c, count, zero),
                        load(bags, n + 3, c, count, zero),
                        load(bags, n + 4, c, count, zero),
                        load(bags, n + 5, c, count, zero),
                        load(bags, n + 6, c, count, zero),
                        load(bags, n + 7, c, count, zero),
                    )
                    sum_ = sum_ + g * w
                    sum1 = sum1 + t1 * w
                    sum2 = sum2 + t2 * w
                whole = whole + widen(sum_)
                whole1 = whole1 + widen(sum1)
                whole2 = whole2 + widen(sum2)
            store(grad_x, r, c, count, rounded(x, whole))
            add(part, 4, c, count, rounded(x, whole1))
            add(part, 5, c, count, rounded(x, whole2))
        add_up(flat, shared, slot, r, first, last)


def backward(
    grad: np.ndarray,
    x: np.ndarray,
    p: np.ndarray,
    mix: np.ndarray,
    growth: np.ndarray,
    out: np.ndarray,
    kept: np.ndarray,
    size: np.ndarray,
    at: Arrays,
    grad_x: np.ndarray,
    grad_p: np.ndarray,
    grad_mix: np.ndarray,
    grad_growth: np.ndarray,
) -> None:
    """Fills the gradients of all inputs from ``grad`` ``[S, C]``."""
    channels, count = x.shape[1], len(out)
    rows = kept.reshape(kept.shape[0] * KEPT, channels)

    def shared(chunks):
        return np.zeros((len(chunks), SHARED * channels))

    found = []
    if at.gathered:
        bags = fresh((count * OF_BAG, channels), x)
        chunks = row_chunks(count, kept.size)
        found.append(shared(chunks))
        run(mixed_bags, (p, mix, growth, rows, out, size, grad, bags, found[0]), chunks)
        chunks = at.backward_chunks(2 * channels)
        found.append(shared(chunks))
        where = (at.bag_of, at.weight, at.row_ptr, at.row_elements)
        log_n = np.log2(np.where(size > 0, size, 1)).astype(x.dtype)
        run(mixed_rows, (x, p, *where, log_n, bags, grad_x, found[1]), chunks)
    else:
        chunks, limit, long_bags = bag_chunks(at.ptr, channels)
        start, stop = at.ptr[:-1], at.ptr[1:]
        runs = [(start, stop, np.empty(0, np.int64), limit, chunks)]
        if long_bags is not None:
            cut = pieces(at.ptr, long_bags, limit)
            work = int((cut.end - cut.begin).sum()) * channels
            owner = long_bags[cut.owner]
            runs.append((cut.begin, cut.end, owner, NO_LIMIT, row_chunks(len(owner), work)))
        for begin, end, owner, limit, chunks in runs:
            found.append(shared(chunks))
            args = (x, p, mix, growth, at.perm, at.weight, begin, end, owner, start, limit)
            run(mixed_backward, (*args, rows, out, size, grad, grad_x, found[-1]), chunks)
    of_mix, of_growth, of_p = np.split(
        sum(v.sum(0) for v in found).reshape(SHARED, channels), (3, 4)
    )
    grad_mix[:] = of_mix
    grad_growth[:] = LN2 * of_growth.sum(1)
    grad_p[:] = LN2 * of_p.sum(1) / p
