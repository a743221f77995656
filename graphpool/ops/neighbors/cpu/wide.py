"""Neighbours on the k-d trees of clouds with any number of coordinates.

Ties go to the lower position, and what is left out is left out exactly, as in
:mod:`graphpool.ops.neighbors.cpu.knn`, whose registers hold three coordinates.
"""

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel
from graphpool.ops.neighbors.cpu.knn import SMALL, insert, sort_pairs

_FAST = {"nnan", "nsz"}


@kernel(fastmath=_FAST)
def _box_distance(box, node, query, limit):
    """Squared distance to a box, or a part of it that exceeds ``limit`` already.

    Rounded differences, products and sums are monotone: it never exceeds a computed distance to a point
    in the box, which is summed in the same order.
    """
    axes = query.size
    total = query[0] - query[0]
    for axis in range(axes):
        below = box[node, axis] - query[axis]
        above = query[axis] - box[node, axis + axes]
        away = below if below > above else above
        if away > 0:
            total += away * away
            if total > limit:
                break
    return total


@kernel(fastmath=_FAST)
def _leaf_distances(xyz, first, end, query, limit, out):
    """Writes the squared distances to the points of a leaf; false if all exceed ``limit`` for sure."""
    size = end - first
    for axis in range(query.size):
        values, q = xyz[axis, first:end], query[axis]
        if axis == 0:
            for p in range(values.size):
                d = values[p] - q
                out[p] = d * d
        else:
            for p in range(values.size):
                d = values[p] - q
                out[p] += d * d
        if axis % 16 == 15:
            least = out[0]
            for p in range(size):
                least = out[p] if out[p] < least else least
            if least > limit:
                return False
    return True


@kernel(fastmath=_FAST)
def nearest(
    xyz, position, box, base, depth, ptr, queries, cloud, order, exclude, limit, k, ascending,
    out_d, out_i, low, high,
):  # fmt: skip
    """Rows ``order[low:high]`` of the answer; arguments as :func:`cpu_knn.nearest`, always ascending."""
    few = k <= SMALL
    capacity = k if few else 2 * k
    d = np.empty(capacity, out_d.dtype)
    i = np.empty(capacity, np.int64)
    stack, levels = np.empty(64, np.int64), np.empty(64, np.int64)
    distances = np.empty(64, out_d.dtype)
    leaf = np.empty(256, out_d.dtype)
    query = np.empty(queries.shape[0], out_d.dtype)
    for row in range(low, high):
        q = order[row]
        c = cloud[q]
        count = ptr[c + 1] - ptr[c]
        query[:] = queries[:, q]
        held, bound, top = 0, limit, 0
        if count > 0:
            stack[0], levels[0], top = 1, 0, 1
            distances[0] = _box_distance(box, base[c] + 1, query, bound)
        while top > 0:
            top -= 1
            node, level = stack[top], levels[top]
            if distances[top] > bound:
                continue
            while level < depth[c]:
                near, far = 2 * node, 2 * node + 1
                near_d = _box_distance(box, base[c] + near, query, bound)
                far_d = _box_distance(box, base[c] + far, query, bound)
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
                j = node - (1 << level)
                first = ptr[c] + ((count * j) >> level)
                end = ptr[c] + ((count * (j + 1)) >> level)
                if not _leaf_distances(xyz, first, end, query, bound, leaf):
                    continue
                for p in range(end - first):
                    who = np.int64(position[first + p])
                    if leaf[p] > bound or who == exclude[q]:
                        continue
                    if few:
                        if held < k or leaf[p] < d[k - 1] or who < i[k - 1]:
                            held = insert(d, i, held, k, leaf[p], who)
                            if held == k:
                                bound = d[k - 1]
                        continue
                    d[held], i[held] = leaf[p], who
                    held += 1
                    if held == capacity:
                        sort_pairs(d, i, 0, held)
                        held, bound = k, d[k - 1]
        if not few:
            sort_pairs(d, i, 0, held)
            held = min(held, k)
        for t in range(held):
            out_d[q, t] = d[t]
            out_i[q, t] = i[t]
        for t in range(held, k):
            out_d[q, t] = np.inf
            out_i[q, t] = -1


@kernel(fastmath=_FAST)
def within(
    xyz, position, box, base, depth, ptr, queries, cloud, order, exclude, limit, inclusive, offsets,
    counting, out_d, out_i, low, high,
):  # fmt: skip
    """All points within ``limit`` (squared); arguments as :func:`cpu_knn.within`."""
    stack, levels = np.empty(64, np.int64), np.empty(64, np.int64)
    leaf = np.empty(256, xyz.dtype)
    query = np.empty(queries.shape[0], xyz.dtype)
    for row in range(low, high):
        q = order[row]
        c = cloud[q]
        count = ptr[c + 1] - ptr[c]
        query[:] = queries[:, q]
        found, top = 0, 0
        if count > 0:
            stack[0], levels[0], top = 1, 0, 1
        while top > 0:
            top -= 1
            node, level = stack[top], levels[top]
            if _box_distance(box, base[c] + node, query, limit) > limit:
                continue
            if level < depth[c]:
                stack[top], stack[top + 1] = 2 * node, 2 * node + 1
                levels[top], levels[top + 1] = level + 1, level + 1
                top += 2
                continue
            j = node - (1 << level)
            first = ptr[c] + ((count * j) >> level)
            end = ptr[c] + ((count * (j + 1)) >> level)
            if not _leaf_distances(xyz, first, end, query, limit, leaf):
                continue
            for p in range(end - first):
                who = np.int64(position[first + p])
                t = leaf[p]
                if (t < limit or (inclusive and t == limit)) and who != exclude[q]:
                    if not counting:
                        out_d[offsets[q] + found] = t
                        out_i[offsets[q] + found] = who
                    found += 1
        if counting:
            offsets[q + 1] = found
        else:
            sort_pairs(out_d, out_i, offsets[q], offsets[q] + found)
