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
def _leaf_distances(xyz, first, end, x, y, z, out):
    xs, ys, zs = xyz[0, first:end], xyz[1, first:end], xyz[2, first:end]
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


@kernel(inline=True)
def leaf_rows(start, count, node, level):
    """The first point of a leaf, and the one behind its last; the cloud has ``count`` from ``start`` on."""
    j = node - (1 << level)
    return start + ((count * j) >> level), start + ((count * (j + 1)) >> level)


@kernel(inline=True)
def _smallest(keys, held, k, last):
    """Puts the ``k`` smallest first; the bits of the last of them go to ``last``, its position comes back."""
    select(keys, 0, held - 1, k - 1)
    last[0] = np.uint32(keys[k - 1] >> np.uint64(32))
    return np.int32(keys[k - 1] & np.uint64(0x7FFFFFFF))


@kernel(fastmath=_FAST)
def _query(
    xyz, position, box, base, depth, start, count, x, y, z, limit, exclude, k, capacity,
    d, i, keys, stack, levels, distances, leaf, leaf_bits,
):  # fmt: skip
    """Finds the nearest candidates of one query and returns how many there are.

    With ``capacity == k`` they are kept sorted in ``d, i``. Otherwise up to ``capacity`` are gathered in
    ``keys`` before the ``k`` smallest are selected, so that a candidate costs O(1) amortised. A key is
    the bits of the float32 distance above the position: one integer with the order of the pair.
    """
    held = 0
    sorting = capacity == k
    # No leaf fills the last place of `leaf`: there the bits of a key become a number.
    last_value, last = leaf[leaf.size - 1 :], leaf_bits[leaf.size - 1 :]
    bound, bound_position = limit, np.int32(2147483647)
    stack[0], levels[0] = 1, 0
    distances[0] = box_distance(box, base + 1, x, y, z)
    top = 1
    while top > 0:
        top -= 1
        node, level = stack[top], levels[top]
        if distances[top] > bound:
            continue
        while level < depth:
            near, far = 2 * node, 2 * node + 1
            near_d = box_distance(box, base + near, x, y, z)
            far_d = box_distance(box, base + far, x, y, z)
            if far_d < near_d:
                near, far = far, near
                near_d, far_d = far_d, near_d
            level += 1
            if far_d <= bound:
                stack[top], levels[top], distances[top] = far, level, far_d
                top += 1
            node = near
            if near_d > bound:
                break
        else:
            first, end = leaf_rows(start, count, node, level)
            _leaf_distances(xyz, first, end, x, y, z, leaf)
            who = position[first:end]
            for p in range(who.size):
                t = leaf[p]
                if t <= bound and (t < bound or who[p] < bound_position) and who[p] != exclude:
                    if sorting:
                        held = insert(d, i, held, k, t, who[p])
                        if held == k:
                            bound, bound_position = d[k - 1], i[k - 1]
                    else:
                        keys[held] = (np.uint64(leaf_bits[p]) << np.uint64(32)) | np.uint64(who[p])
                        held += 1
                        if held == capacity:
                            held, bound_position = k, _smallest(keys, held, k, last)
                            bound = last_value[0]
            # The first k candidates give a bound, however many more there is room for.
            if not sorting and held >= k and bound_position == 2147483647:
                held, bound_position = k, _smallest(keys, held, k, last)
                bound = last_value[0]
    if held > k:
        select(keys, 0, held - 1, k - 1)
        held = k
    return held


@kernel(inline=True)
def write_row(d, i, held, out_d, out_i, q):
    """The answer to one query: -1 and inf where there are too few points."""
    for t in range(held):
        out_d[q, t], out_i[q, t] = d[t], i[t]
    for t in range(held, out_d.shape[1]):
        out_d[q, t], out_i[q, t] = np.inf, -1


@kernel
def nearest(tree, asked, limit, k, ascending, out_d, out_i, low, high):
    """Rows ``order[low:high]`` of the answer: the ``k`` nearest within ``limit``, -1 / inf where missing.

    ``asked.axes`` is ``[3, M]``; ``asked.exclude[q]`` is the position of a point that does not count, or -1.
    """
    in_order = k <= SMALL or out_d.itemsize != 4
    capacity = k if in_order else k + max(k // 2, 16)
    d, i, keys = np.empty(k, out_d.dtype), np.empty(k, np.int32), np.empty(capacity, np.uint64)
    stack, levels = np.empty(128, np.int64), np.empty(64, np.int64)
    distances, leaf = np.empty(64, out_d.dtype), np.empty(256, out_d.dtype)
    leaf_bits = leaf.view(np.uint32)
    d_bits = d.view(np.uint32)
    for row in range(low, high):
        q = asked.order[row]
        c = asked.cloud[q]
        start, count, held = tree.ptr[c], tree.ptr[c + 1] - tree.ptr[c], 0
        if count > 0:
            x, y, z = asked.axes[0, q], asked.axes[1, q], asked.axes[2, q]
            held = _query(
                tree.xyz, tree.position, tree.box, tree.base[c], tree.depth[c], start, count,
                x, y, z, limit, asked.exclude[q], k, capacity,
                d, i, keys, stack, levels, distances, leaf, leaf_bits,
            )  # fmt: skip
            if not in_order:
                if ascending:
                    sort(keys, held, stack)
                for t in range(held):
                    d_bits[t] = np.uint32(keys[t] >> np.uint64(32))
                    i[t] = np.int32(keys[t] & np.uint64(0x7FFFFFFF))
        write_row(d, i, held, out_d, out_i, q)


@kernel(inline=True)
def take(tree, first, end, leaf, limit, inclusive, exclude, at, counting, out_d, out_i):
    """Writes, or counts, what of a leaf lies within ``limit``, from row ``at`` on; returns the row behind."""
    for p in range(end - first):
        t, who = leaf[p], np.int64(tree.position[first + p])
        if (t < limit or (inclusive and t == limit)) and who != exclude:
            if not counting:
                out_d[at], out_i[at] = t, who
            at += 1
    return at


@kernel(fastmath=_FAST)
def within(tree, asked, limit, inclusive, offsets, counting, out_d, out_i, low, high):
    """All points within ``limit`` (squared). ``counting`` writes only the number of each query to
    ``offsets[q + 1]``; otherwise the rows start at ``offsets[q]`` and are sorted."""
    stack, levels = np.empty(64, np.int64), np.empty(64, np.int64)
    leaf = np.empty(256, tree.xyz.dtype)
    for row in range(low, high):
        q = asked.order[row]
        c = asked.cloud[q]
        start, count = tree.ptr[c], tree.ptr[c + 1] - tree.ptr[c]
        at, top = np.int64(0) if counting else offsets[q], 0
        if count > 0:
            stack[0], levels[0], top = 1, 0, 1
        x, y, z = asked.axes[0, q], asked.axes[1, q], asked.axes[2, q]
        while top > 0:
            top -= 1
            node, level = stack[top], levels[top]
            if box_distance(tree.box, tree.base[c] + node, x, y, z) > limit:
                continue
            if level < tree.depth[c]:
                stack[top], stack[top + 1] = 2 * node, 2 * node + 1
                levels[top], levels[top + 1] = level + 1, level + 1
                top += 2
                continue
            first, end = leaf_rows(start, count, node, level)
            _leaf_distances(tree.xyz, first, end, x, y, z, leaf)
            own = asked.exclude[q]
            at = take(tree, first, end, leaf, limit, inclusive, own, at, counting, out_d, out_i)
        if counting:
            offsets[q + 1] = at
        else:
            sort_pairs(out_d, out_i, offsets[q], at)
