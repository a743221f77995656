"""CPU kernels that put the elements of each bag in order, and those that take some of them by their rank.

One channel of one bag is a *lane*. Lanes lie side by side, so that a sorting network compares whole rows of
them at once; a long lane, or one that has few beside it, is sorted by its digits. Elements are compared by
integers: the bits of a number, so turned that they have its order, and below them the place of the element
in its bag. No two are equal, so whatever sorts them is a stable sort.
"""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import bag_chunks, inlined, kernel, run
from graphpool.ops.fused.cpu.fetch import AHEAD, fetch_row
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.moments import row
from graphpool.ops.fused.cpu.ranks.sort import counting_sort, digits, network
from graphpool.ops.fused.cpu.ranks.sums import LAST, PLACE, ROWS, masses, shares_of_ranks, sum_lanes
from graphpool.ops.fused.cpu.vector import borrowed

_ORDERS = ("ascending", "descending", "smallest", "largest")
SUMS = ("trim", "cosine")
HOW = (*_ORDERS, "lower", "higher", "nearest", "linear", "midpoint", *SUMS)
_DESCENDING, _LARGEST, _HIGHER, _NEAREST, _LINEAR, _MIDPOINT, _TRIM, _COSINE = 1, 3, *range(5, 11)
_LANES = 64
_FEW_LANES = 8
_NETWORK = 1536
"""Longest lane that a network sorts faster than its digits do, where there are lanes beside it."""
_ALONE = 64
"""The same where there are few."""
_LONG = 4096
"""Bags of more elements are divided among the threads by their channels."""
_COLUMNS = 16
_TABLE = 512
"""Longest bags for which what each rank is worth is kept for the next of the same size."""


@inlined
def turn_row(source, target, magnitude, infinity, least, turn, shift, at):  # type: ignore[no-untyped-def]
    for c in range(source.shape[0]):
        k = np.int64(source[c])
        size = k & magnitude
        k = k if k >= least else -size
        k = (magnitude if size > infinity else k) ^ turn
        target[c] = (k << shift) | at


@kernel
def lay_out(  # type: ignore[no-untyped-def]
    bits, real, down, perm, gather, weight, begin, end, ahead, longest, c0, c1, lane, step, across,
    key, place,
):  # fmt: skip
    """Writes the lanes of one bag, from number ``lane`` on, and returns how many elements are present.

    Integers that have the order of the numbers: both zeros are one, and NaN is the largest. Rows up to
    ``ahead`` are asked for in time.
    """
    single = bits.itemsize == 4
    magnitude = np.int64(0x7FFFFFFF) if single else np.int64(LAST)
    infinity = np.int64(0x7F800000) if single else np.int64(0x7FF0000000000000)
    infinity = infinity if real else np.int64(LAST)
    turn = np.int64(-1 if down else 0)
    least = np.int64(0 if real else -LAST - 1)
    scattered, pairs = perm.size > 0 or gather.size > 0, place.size > 0
    shift, width, count = 0 if pairs else 32, c1 - c0, 0
    seen = bits[:, c0:c1]
    for e in range(begin, end):
        i = perm[e] if perm.size > 0 else e
        if scattered and e + AHEAD < ahead:
            fetch_row(seen, row(perm, gather, e + AHEAD))
        if weight.size > 0 and weight[i] == 0:
            continue
        source = bits[gather[i] if gather.size > 0 else i, c0:c1]
        first, at = count * step + lane * across, np.int64(0 if pairs else e - begin)
        rule = (magnitude, infinity, least, turn, shift, at)
        if across == 1:
            turn_row(source, key[first : first + width], *rule)
        else:
            turn_row(source, key[first : first + width * across : across], *rule)
        if pairs:
            for c in range(width):
                place[first + c * across] = e - begin
        count += 1
    for r in range(count, longest):
        for c in range(width):
            key[r * step + (lane + c) * across] = LAST
            if pairs:
                place[r * step + (lane + c) * across] = LAST
    return count


@inlined
def ranks(levels, how, count, total, reach, low, high, share, like):  # type: ignore[no-untyped-def]
    """The ranks of the one or two elements of each level, -1 if there is none, and the share of the second.

    ``reach``: running total of the weights by rank, if they have any, up to ``total``.
    """
    for k in range(levels.shape[0]):
        position = levels[k] if how <= _LARGEST else levels[k] * max(total - 1, 0)
        floor = np.floor(position)
        f = position - floor
        if how == _HIGHER:
            f = 1.0 if f > 0 else 0.0
        elif how == _NEAREST:
            f = np.rint(position) - floor
        elif how == _MIDPOINT:
            f = 0.5 if f > 0 else 0.0
        elif how != _LINEAR:
            f = 0.0
        if reach.size > 0:
            first = np.searchsorted(reach[:count], floor, side="right")
            second = np.searchsorted(reach[:count], floor + 1, side="right")
        else:
            first, second = np.int64(floor), np.int64(floor) + 1
        f = np.float64(like.dtype.type(f))
        first, second = min(first, count - 1), min(second, count - 1)
        low[k] = second if f == 1 else first
        high[k] = second
        share[k] = 0 if f == 1 else f
        if how <= _LARGEST and position >= total:
            low[k] = -1


@inlined
def values_at(x, rank_of, rank, across, begin, c0, perm, gather, at, values):  # type: ignore[no-untyped-def]
    """Which elements lie at a rank, by channel, and what they are."""
    for c in range(values.shape[0]):
        at[c] = begin + (rank_of[rank + c * across] & PLACE)
    for c in range(values.shape[0]):
        values[c] = x[row(perm, gather, at[c]), c0 + c]
    if perm.size > 0:
        for c in range(values.shape[0]):
            at[c] = perm[at[c]]


@kernel
def write_levels(  # type: ignore[no-untyped-def]
    x, key, rank_of, low, high, part, top, across, nan, begin, c0, c1, perm, gather, m, places, values,
    out, index, share,
):  # fmt: skip
    """Levels of one bag: what lies at ``low``, with a ``part`` of ``high``; NaN where ``top`` is, and 0 where
    ``low`` is -1. One store to each loop, so that LLVM vectorises it."""
    zero, one, width = x.dtype.type(0), x.dtype.type(1), c1 - c0
    named, mixes = index.shape[0] > 0, share.shape[0] > 0
    at, other_at = places[0, :width], places[1, :width]
    value, other = values[0, :width], values[1, :width]
    for k in range(low.shape[0]):
        f = x.dtype.type(part[k])
        rest = one - f
        if low[k] < 0:
            value[:] = zero
            at[:] = -1
        else:
            values_at(x, rank_of, low[k], across, begin, c0, perm, gather, at, value)
        other_at[:] = -1
        if f > 0:
            values_at(x, rank_of, high[k], across, begin, c0, perm, gather, other_at, other)
            for c in range(width):
                # Two equal infinities have no difference.
                other_at[c] = -1 if other[c] == value[c] else other_at[c]
            for c in range(width):
                gap = other[c] - value[c]
                mixed = value[c] + f * gap if f < 0.5 else other[c] - gap * rest
                # What lies between may be finite, or infinite, where the difference is infinite.
                mixed = x.dtype.type(
                    value[c] * rest + other[c] * f if abs(gap) == np.inf else mixed
                )
                value[c] = value[c] if other[c] == value[c] else mixed
        if top >= 0:
            for c in range(width):
                value[c] = np.nan if key[top + c * across] >= nan else value[c]
        out[m + k, c0:c1] = value
        if named and top >= 0:
            for c in range(width):
                at[c] = -1 if key[top + c * across] >= nan else at[c]
            for c in range(width):
                other_at[c] = -1 if key[top + c * across] >= nan else other_at[c]
        if named and not mixes:
            index[m + k, c0:c1] = at
        elif named:
            index[2 * (m + k), c0:c1] = at
            index[2 * (m + k) + 1, c0:c1] = other_at
            for c in range(width):
                share[m + k, c0 + c] = f if other_at[c] >= 0 else zero


@kernel
def order_bags(  # type: ignore[no-untyped-def]
    x, bits, real, pairs, perm, gather, weight, ptr, bag_order, how, levels, out, index, share,
    slope, limit, first, last, from_column, to_column,
):  # fmt: skip
    """Sorts bags of at most ``limit`` elements, and writes all of it, the elements of the levels, or sums."""
    x, bits, perm, gather = borrowed(x), borrowed(bits), borrowed(perm), borrowed(gather)
    weight, out, index, share = borrowed(weight), borrowed(out), borrowed(index), borrowed(share)
    slope = borrowed(slope)
    down = how in (_DESCENDING, _LARGEST)
    sorts, weighted = how <= _DESCENDING, weight.size > 0
    nan = LAST if pairs else np.int64(0x7FFFFFFF) << 32
    columns, number = to_column - from_column, levels.shape[0]
    places, values = np.empty((2, columns), np.int64), np.empty((2, columns), x.dtype)
    together = max(1, _LANES // columns)
    block = np.empty(together, np.int64)
    present = np.empty(together, np.int64)
    low, high = np.empty(number, np.int64), np.empty(number, np.int64)
    part = np.empty(number, np.float64)
    key, place = np.empty(0, np.int64), np.empty(0, np.int64)
    reach = np.empty(0, np.float64)
    counts = np.empty((8, 256), np.int64)
    # Of sums:
    held, scratch = np.int64(-1), np.empty(ROWS * min(columns, _LANES), np.float64)
    kinds, rows = 2 if slope.shape[0] > 0 else 1, _TABLE if how >= _TRIM and not weighted else 0
    table = np.empty((kinds, rows, to_column), np.float64)
    g = first
    while g < last:
        bags, longest = 0, 0
        while g < last and bags < together:
            n = bag_order[g] if bag_order.size > 0 else g
            g += 1
            if ptr[n + 1] - ptr[n] <= limit:
                block[bags] = n
                bags += 1
                longest = max(longest, ptr[n + 1] - ptr[n])
        side_by_side = min(columns, _LANES if longest <= _NETWORK else _FEW_LANES)
        for c0 in range(from_column, to_column, side_by_side):
            c1 = min(c0 + side_by_side, to_column)
            width = c1 - c0
            lanes = bags * width
            networks = longest <= (_NETWORK if lanes >= _FEW_LANES else _ALONE)
            step, across = (lanes, 1) if networks else (1, longest)
            if key.size < longest * lanes:
                key = np.empty(longest * lanes, np.int64)
                place = np.empty(longest * lanes if pairs else 0, np.int64)
            for b in range(bags):
                n = block[b]
                where = (ptr[n], ptr[n + 1], ptr[-1], longest, c0, c1, b * width)
                present[b] = lay_out(
                    bits, real, down, perm, gather, weight, *where, step, across, key, place
                )
            if networks:
                network(key, place, longest, lanes)
            else:
                spare = np.empty(longest, np.int64)
                spare_place = np.empty(longest if pairs else 0, np.int64)
                for lane in range(lanes):
                    of = slice(lane * longest, lane * longest + present[lane // width])
                    digits(key[of], place[of], spare, spare_place, counts)
            rank_of = place if pairs else key
            if weighted and reach.size < longest:
                reach = np.empty(longest, np.float64)
            if sorts and low.size < longest:
                low, part = np.empty(longest, np.int64), np.zeros(longest, np.float64)
            for b in range(bags):
                n, count, lane = block[b], present[b], b * width * across
                begin = ptr[n]
                if how >= _TRIM:
                    uniform, whole = not weighted and count <= _TABLE, 0.0
                    if uniform and count != held:
                        held = count
                        shares_of_ranks(how == _COSINE, levels[:to_column], count, table)
                    if weighted:
                        whole = masses(weight, perm, begin, ptr[n + 1], reach)
                        for e in range(begin, ptr[n + 1] if share.shape[0] > 0 else begin):
                            i = perm[e] if perm.size > 0 else e
                            if weight[i] == 0:
                                share[i, c0:c1] = 0
                    sum_lanes(
                        key, rank_of, pairs, how == _COSINE, levels[c0:c1], table, uniform, reach,
                        whole, n, lane, step, across, count, begin, c0, perm,
                        scratch[: ROWS * width].reshape((ROWS, width)), out, share, slope,
                    )  # fmt: skip
                    continue
                # With weights every channel has ranks of its own.
                at_once = 1 if weighted and not sorts else width
                for c in range(c0, c1, at_once):
                    number, m, top = count, begin, -1
                    if sorts:
                        for r in range(count):
                            low[r] = r * step + lane
                    else:
                        total = np.float64(count)
                        if weighted:
                            total = 0.0
                            for r in range(count):
                                e = begin + (rank_of[r * step + lane] & PLACE)
                                total += weight[perm[e] if perm.size > 0 else e]
                                reach[r] = total
                        number, m = levels.shape[0], n * levels.shape[0]
                        ranks(levels, how, count, total, reach, low, high, part, out)
                        top = (count - 1) * step + lane if how > _LARGEST and count > 0 else -1
                        for k in range(number):
                            low[k] = low[k] * step + lane if low[k] >= 0 else -1
                            high[k] = high[k] * step + lane
                    write_levels(
                        x, key, rank_of, low[:number], high, part, top, across, nan, begin, c,
                        c + at_once, perm, gather, m, places, values, out, index, share,
                    )  # fmt: skip
                    lane += at_once * across


@inlined
def spread(  # type: ignore[no-untyped-def]
    grad, index, share, gather, first, last, c0, c1, target, offset
):
    """Adds rows of ``grad`` to the elements that they come from, in columns ``c - offset``."""
    for m in range(first, last):
        for c in range(c0, c1):
            g = grad[m, c]
            i = index[2 * m if share.size > 0 else m, c]
            if share.size > 0 and index[2 * m + 1, c] >= 0:
                j = index[2 * m + 1, c]
                target[gather[j] if gather.size > 0 else j, c - offset] += g * share[m, c]
                g *= 1 - share[m, c]
            if i >= 0:
                target[gather[i] if gather.size > 0 else i, c - offset] += g


@kernel
def spread_bags(  # type: ignore[no-untyped-def]
    grad, index, share, gather, perm, ptr, start, grad_x, limit, first, last, c0, c1
):
    """Gradients of the elements of bags of at most ``limit``; bag ``n`` has rows from ``start[n]`` on."""
    for n in range(first, last):
        if ptr[n + 1] - ptr[n] <= limit:
            for e in range(ptr[n], ptr[n + 1]):
                grad_x[perm[e] if perm.size > 0 else e, c0:c1] = 0
            spread(grad, index, share, gather, start[n], start[n + 1], c0, c1, grad_x, 0)


@kernel
def spread_columns(grad, index, share, gather, grad_x, c0, c1):  # type: ignore[no-untyped-def]
    """Gradients of rows that several bags may read: in the order of the bags, and in float64."""
    total = np.zeros((grad_x.shape[0], c1 - c0), np.float64)
    spread(grad, index, share, gather, 0, grad.shape[0], c0, c1, total, c0)
    grad_x[:, c0:c1] = total


def _chunks(ptr: np.ndarray, channels: int) -> list[tuple[int, int, int, int, int]]:
    """``(limit, first, last, c0, c1)``: runs of bags of all channels, and long bags by groups of channels."""
    chunks = [(_LONG, a, b, 0, channels) for _, a, b in bag_chunks(ptr, channels)[0]]
    for n in np.flatnonzero(np.diff(ptr) > _LONG).tolist():
        chunks += [(LAST, n, n + 1, *c) for c in _columns(channels, _COLUMNS)]
    return chunks if channels else []


def _columns(channels: int, width: int) -> list[tuple[int, int]]:
    return [(c, min(c + width, channels)) for c in range(0, channels, width)]


def forward(
    x: np.ndarray,
    how: str,
    levels: np.ndarray,
    at: Arrays,
    out: np.ndarray,
    index: np.ndarray,
    share: np.ndarray,
    slope: np.ndarray | None = None,
) -> None:
    """Fills ``out`` ``[M, C]`` and, where they have rows, the ``index`` of its elements ``[M, C]`` or
    ``[2 M, C]``, and ``share``. Of sums, whose ``levels`` are a parameter of each channel: ``out``, the
    ``share`` of each element ``[E, C]`` and the ``slope`` by the parameter ``[S, C]``."""
    real, channels = x.dtype.kind == "f", x.shape[1]
    bits = x.view(np.int32 if x.itemsize == 4 else np.int64)
    ptr, order = at.ptr, np.empty(0, np.int64)
    counts = np.diff(ptr)
    if (2 * channels <= _LANES or how in SUMS) and counts.size and counts.min() != counts.max():
        # Bags share a block, whose rows are those of its longest; and a table of what ranks are worth.
        order = counting_sort(counts, int(counts.max()) + 1)[1]
        ptr = np.append(0, np.cumsum(counts[order]))
    # All elements have a place in the order, those of weight 0 too.
    weight = at.weight if levels.size else at.weight[:0]
    where = (at.perm, at.gather, weight, at.ptr, order)
    slope = np.empty((0, channels), x.dtype) if slope is None else slope
    args = (x, bits, real, x.itemsize == 8, *where, HOW.index(how), levels, out, index, share)
    run(order_bags, (*args, slope), _chunks(ptr, channels))


def backward(
    grad: np.ndarray,
    index: np.ndarray,
    share: np.ndarray,
    start: np.ndarray,
    at: Arrays,
    grad_x: np.ndarray,
) -> None:
    """Fills ``grad_x`` ``[R, C]``; rows ``start[n]:start[n + 1]`` of ``grad`` ``[M, C]`` are bag ``n``'s."""
    args = (grad, index, share, at.gather)
    if at.gathered:
        run(spread_columns, (*args, grad_x), _columns(grad.shape[1], _FEW_LANES))
    else:
        chunks = _chunks(at.ptr, grad.shape[1])
        run(spread_bags, (*args, at.perm, at.ptr, start, grad_x), chunks)
