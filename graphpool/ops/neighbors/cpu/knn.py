"""k nearest neighbours and fixed-radius neighbours on the k-d trees of many clouds.

Candidates are ordered by (squared distance, position): ties go to the lower position, on every path.
"""

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel
from graphpool.ops.neighbors.cpu.kdtree import box_distance
from graphpool.ops.neighbors.cpu.select import select, sort

_FAST = {"nnan", "nsz"}
# Up to this many neighbours an insertion is cheaper than a selection.
SMALL = 32
# The points of a leaf at most; arrays of points have so many more columns, which may be read in vain.
LANES = 32
_NOBODY = np.int32(2147483647)
_ALL = np.uint32(0xFFFFFFFF)
_DE_BRUIJN = np.uint32(0x077CB531)


@kernel(inline=True)
def _before(da, ia, db, ib):
    return da < db or (da == db and ia < ib)


@kernel
def sort_pairs(d, i, first, end):
    """Sorts ``d[first:end]`` ascending, ties by ``i``, in place."""
    stack = np.empty(128, np.int64)
    stack[0], stack[1] = first, end - 1
    top = 2
    while top > 0:
        top -= 2
        low, high = stack[top], stack[top + 1]
        while high - low > 16:
            pd, pi = d[(low + high) >> 1], i[(low + high) >> 1]
            a, b = low, high
            while a <= b:
                while _before(d[a], i[a], pd, pi):
                    a += 1
                while _before(pd, pi, d[b], i[b]):
                    b -= 1
                if a <= b:
                    d[a], d[b] = d[b], d[a]
                    i[a], i[b] = i[b], i[a]
                    a += 1
                    b -= 1
            if b - low < high - a:
                stack[top], stack[top + 1] = a, high
                high = b
            else:
                stack[top], stack[top + 1] = low, b
                low = a
            top += 2
        for a in range(low + 1, high + 1):
            vd, vi = d[a], i[a]
            b = a - 1
            while b >= low and _before(vd, vi, d[b], i[b]):
                d[b + 1] = d[b]
                i[b + 1] = i[b]
                b -= 1
            d[b + 1] = vd
            i[b + 1] = vi


@kernel(fastmath=_FAST)
def _leaf_distances(xs, ys, zs, x, y, z, out):
    # From 0 to the size: the compiler then knows that no index is negative, and vectorises.
    for p in range(xs.size):
        dx = xs[p] - x
        dy = ys[p] - y
        dz = zs[p] - z
        out[p] = dx * dx + dy * dy + dz * dz


@kernel
def insert(d, i, held, k, t, who):
    """Keeps the ``k`` smallest in ascending order; returns how many there are now."""
    slot = held if held < k else k - 1
    while slot > 0 and _before(t, who, d[slot - 1], i[slot - 1]):
        d[slot] = d[slot - 1]
        i[slot] = i[slot - 1]
        slot -= 1
    d[slot] = t
    i[slot] = who
    return held + 1 if held < k else k


@kernel
def _bits():
    """The bit of each lane, and the lane of each bit, by the five upper bits of its product."""
    bit, place = np.empty(LANES, np.uint32), np.empty(LANES, np.int64)
    for p in range(LANES):
        bit[p] = np.uint32(1) << np.uint32(p)
        place[np.uint32(bit[p] * _DE_BRUIJN) >> np.uint32(27)] = p
    return bit, place


@kernel(fastmath=_FAST)
def _to_lanes(xs, ys, zs, first, x, y, z, bound, bit, out):
    """Squared distances to ``LANES`` points, and a bit for each that is not beyond ``bound``."""
    # Numba computes with small unsigned numbers in larger ones unless told otherwise.
    at, mask = np.uint64(first), np.uint32(0)
    for p in range(np.uint64(0), np.uint64(LANES)):
        dx = xs[at + p] - x
        dy = ys[at + p] - y
        dz = zs[at + p] - z
        t = dx * dx + dy * dy + dz * dz
        out[p] = t
        mask = np.uint32(mask + bit[p] * np.uint32(t <= bound))
    return mask


@kernel(fastmath=_FAST)
def _boxes_to_lanes(xs, ys, zs, first, box, node, out):
    """:func:`box_distance` of ``LANES`` points."""
    at, zero = np.uint64(first), box[node, 0] - box[node, 0]
    x0, y0, z0 = box[node, 0], box[node, 1], box[node, 2]
    x1, y1, z1 = box[node, 3], box[node, 4], box[node, 5]
    for p in range(np.uint64(0), np.uint64(LANES)):
        a, b = x0 - xs[at + p], xs[at + p] - x1
        dx = a if a > b else b
        dx = dx if dx > zero else zero
        a, b = y0 - ys[at + p], ys[at + p] - y1
        dy = a if a > b else b
        dy = dy if dy > zero else zero
        a, b = z0 - zs[at + p], zs[at + p] - z1
        dz = a if a > b else b
        dz = dz if dz > zero else zero
        out[p] = dx * dx + dy * dy + dz * dz


@kernel(fastmath=_FAST, inline=True)
def _gap(box, node, other, group):
    """Squared distance of two boxes: never above that of a point in the one to the other box."""
    zero = box[node, 0] - box[node, 0]
    total = zero
    for axis in range(3):
        a = box[node, axis] - other[group, axis + 3]
        b = other[group, axis] - box[node, axis + 3]
        away = a if a > b else b
        away = away if away > zero else zero
        total += away * away
    return total


@kernel
def _rank_lanes(leaf, who, first, rank):
    """How many of ``LANES`` candidates come before each of them: a sort without a branch."""
    at = np.uint64(first)
    for p in range(np.uint64(0), np.uint64(LANES)):
        rank[p] = 0
    for j in range(np.uint64(0), np.uint64(LANES)):
        t, w = leaf[j], who[at + j]
        for p in range(np.uint64(0), np.uint64(LANES)):
            rank[p] += np.int32((t < leaf[p]) | ((t == leaf[p]) & (w < who[at + p])))


@kernel
def _first_leaf(leaf, who, first, mask, exclude, k, d, i, rank):
    """The ``k`` smallest of a leaf into ``d, i``, in order; returns how many there are."""
    held, none = 0, leaf.dtype.type(np.inf)
    for p in range(LANES):
        counts = np.int64((mask >> np.uint32(p)) & np.uint32(1)) & np.int64(
            who[first + p] != exclude
        )
        held += counts
        leaf[p] = leaf[p] if counts else none
    _rank_lanes(leaf, who, first, rank)
    held = min(held, k)
    for p in range(LANES):
        if rank[p] < held:
            d[rank[p]] = leaf[p]
            i[rank[p]] = who[first + p]
    return held


@kernel
def _select_keys(keys, k, held, word):
    """Brings the ``k`` smallest of ``held`` keys to the front; distance and position of the last of them."""
    select(keys, 0, held - 1, k - 1)
    word[0] = np.uint32(keys[k - 1] >> np.uint64(32))
    return word.view(np.float32)[0], np.int32(keys[k - 1] & np.uint64(0x7FFFFFFF))


@kernel(fastmath=_FAST)
def nearest(
    xyz, position, box, base, depth, ptr, asked, row, asked_box, asked_base, asked_depth, asked_ptr,
    exclude, limit, k, ascending, out_d, out_i, low, high,
):  # fmt: skip
    """The ``k`` nearest within ``limit``, -1 / inf where missing, for the leaves ``low, ..., high - 1`` of
    the tree of the queries (``asked`` to ``asked_ptr``, as the tree of the points).

    A leaf of queries goes through the tree once, nearest boxes first, as far as the query that is worst
    off needs it; each box is tested for all of its queries at once. ``exclude[q]`` is the position of a
    point that does not count for query ``q``, or -1.

    Up to ``SMALL`` neighbours are kept in order. More of them are gathered as keys, up to ``capacity``
    before the ``k`` smallest are selected, so that a candidate costs O(1) amortised. A key is the bits of
    the float32 distance above the position: one integer with the order of the pair.
    """
    in_order = k <= SMALL or out_d.itemsize != 4
    capacity = k if in_order else k + max(k // 2, 16)
    d, i = np.empty((LANES, k), out_d.dtype), np.empty((LANES, k), np.int32)
    keys = np.empty((LANES, 0 if in_order else capacity), np.uint64)
    word, swap = np.empty(1, np.uint32), np.empty(128, np.int64)
    held = np.empty(LANES, np.int64)
    bound, last = np.empty(LANES, out_d.dtype), np.empty(LANES, np.int32)
    test, leaf = np.empty(LANES, out_d.dtype), np.empty(LANES, out_d.dtype)
    leaf_bits, d_bits = leaf.view(np.uint32), d.view(np.uint32)
    rank = np.empty(LANES, np.int32)
    bit, place = _bits()
    stack, levels = np.empty(64, np.int64), np.empty(64, np.int64)
    distances = np.empty(64, out_d.dtype)
    xs, ys, zs = xyz[0], xyz[1], xyz[2]
    ax, ay, az = asked[0], asked[1], asked[2]
    c = 0
    for g in range(low, high):
        while c + 1 < base.size and asked_base[c + 1] >> 1 <= g:
            c += 1
        # Each tree before it has as many leaves as half of its nodes.
        j = g - (asked_base[c] >> 1)
        many, count = asked_ptr[c + 1] - asked_ptr[c], ptr[c + 1] - ptr[c]
        start = asked_ptr[c] + ((many * j) >> asked_depth[c])
        size = asked_ptr[c] + ((many * (j + 1)) >> asked_depth[c]) - start
        group = asked_base[c] + (1 << asked_depth[c]) + j
        for q in range(LANES):
            held[q], bound[q], last[q] = 0, limit, _NOBODY
        worst, top = limit, 0
        if count > 0 and size > 0:
            stack[0], levels[0], top = 1, 0, 1
            distances[0] = _gap(box, base[c] + 1, asked_box, group)
        while top > 0:
            top -= 1
            node, level = stack[top], levels[top]
            if distances[top] > worst:
                continue
            while level < depth[c]:
                near, far = 2 * node, 2 * node + 1
                near_d = _gap(box, base[c] + near, asked_box, group)
                far_d = _gap(box, base[c] + far, asked_box, group)
                if far_d < near_d:
                    near, far = far, near
                    near_d, far_d = far_d, near_d
                level += 1
                if far_d <= worst:
                    stack[top], levels[top], distances[top] = far, level, far_d
                    top += 1
                node = near
                if near_d > worst:
                    break
            else:
                first = ptr[c] + ((count * (node - (1 << level))) >> level)
                end = ptr[c] + ((count * (node + 1 - (1 << level))) >> level)
                inside = _ALL >> np.uint32(LANES - (end - first))
                _boxes_to_lanes(ax, ay, az, start, box, base[c] + node, test)
                for q in range(size):
                    b, w, h = bound[q], last[q], held[q]
                    if test[q] > b:
                        continue
                    s = start + q
                    mask = _to_lanes(xs, ys, zs, first, ax[s], ay[s], az[s], b, bit, leaf)
                    mask = np.uint32(mask & inside)
                    never, own_d, own_i = exclude[row[s]], d[q], i[q]
                    if in_order and h == 0:
                        h = _first_leaf(leaf, position, first, mask, never, k, own_d, own_i, rank)
                        if h == k:
                            b, w = own_d[k - 1], own_i[k - 1]
                        mask = np.uint32(0)
                    while mask:
                        lowest = np.uint32(mask & (~mask + np.uint32(1)))
                        mask = np.uint32(mask ^ lowest)
                        p = place[np.uint32(lowest * _DE_BRUIJN) >> np.uint32(27)]
                        t, who = leaf[p], position[first + p]
                        if who == never or not (t < b or (t == b and who < w)):
                            continue
                        if in_order:
                            h = insert(own_d, own_i, h, k, t, who)
                            if h == k:
                                b, w = own_d[k - 1], own_i[k - 1]
                        else:
                            keys[q, h] = (np.uint64(leaf_bits[p]) << np.uint64(32)) | np.uint64(who)
                            h += 1
                            if h == capacity:
                                b, w = _select_keys(keys[q], k, h, word)
                                h = k
                    if not in_order and h >= k and w == _NOBODY:
                        b, w = _select_keys(keys[q], k, h, word)
                        h = k
                    bound[q], last[q], held[q] = b, w, h
                worst = bound[0]
                for q in range(1, size):
                    worst = bound[q] if bound[q] > worst else worst
        for q in range(size):
            h, to = min(held[q], k), row[start + q]
            if not in_order:
                if held[q] > k:
                    select(keys[q], 0, held[q] - 1, k - 1)
                if ascending:
                    sort(keys[q], h, swap)
                for t in range(h):
                    d_bits[q, t] = np.uint32(keys[q, t] >> np.uint64(32))
                    i[q, t] = np.int32(keys[q, t] & np.uint64(0x7FFFFFFF))
            for t in range(h):
                out_d[to, t] = d[q, t]
                out_i[to, t] = i[q, t]
            for t in range(h, k):
                out_d[to, t] = np.inf
                out_i[to, t] = -1


@kernel(fastmath=_FAST)
def within(
    xyz, position, box, base, depth, ptr, queries, cloud, order, exclude, limit, inclusive, offsets,
    counting, out_d, out_i, low, high,
):  # fmt: skip
    """All points within ``limit`` (squared). ``counting`` writes only the number of each query to
    ``offsets[q + 1]``; otherwise the rows start at ``offsets[q]`` and are sorted."""
    stack = np.empty(64, np.int64)
    stack_level = np.empty(64, np.int64)
    leaf = np.empty(256, xyz.dtype)
    for row in range(low, high):
        q = order[row]
        c = cloud[q]
        count = ptr[c + 1] - ptr[c]
        found = 0
        if count > 0:
            x, y, z = queries[0, q], queries[1, q], queries[2, q]
            stack[0], stack_level[0] = 1, 0
            top = 1
            while top > 0:
                top -= 1
                node, level = stack[top], stack_level[top]
                if box_distance(box, base[c] + node, x, y, z) > limit:
                    continue
                if level < depth[c]:
                    stack[top], stack[top + 1] = 2 * node, 2 * node + 1
                    stack_level[top], stack_level[top + 1] = level + 1, level + 1
                    top += 2
                    continue
                j = node - (1 << level)
                first = ptr[c] + ((count * j) >> level)
                end = ptr[c] + ((count * (j + 1)) >> level)
                _leaf_distances(
                    xyz[0, first:end], xyz[1, first:end], xyz[2, first:end], x, y, z, leaf
                )
                for p in range(end - first):
                    t = leaf[p]
                    who = position[first + p]
                    if (t < limit or (inclusive and t == limit)) and who != exclude[q]:
                        if not counting:
                            out_d[offsets[q] + found] = t
                            out_i[offsets[q] + found] = who
                        found += 1
        if counting:
            offsets[q + 1] = found
        else:
            sort_pairs(out_d, out_i, offsets[q], offsets[q] + found)
