"""A balanced k-d tree over the points of many clouds, in flat arrays.

The tree of a cloud of ``n`` points is complete: node ``j`` of level ``L`` (heap number ``2^L + j``)
holds the points ``[n j / 2^L, n (j + 1) / 2^L)`` of the cloud in tree order, so nothing but the boxes
has to be stored. Coordinates lie axis by axis, ``[3, N]``: a leaf is a few contiguous cache lines.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def _select(key, xyz, position, low, high, target):
    """Quickselect: brings the element of rank ``target`` to its place in ``[low, high]``."""
    state = np.uint64(low * 2654435761 + high + 12345)
    while high > low:
        # Pivots at pseudo-random places: no order of the input makes the selection quadratic.
        span = np.uint64(high - low + 1)
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        a = key[low + np.int64((state >> np.uint64(33)) % span)]
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        b = key[low + np.int64((state >> np.uint64(33)) % span)]
        c = key[(low + high) >> 1]
        if a > b:
            a, b = b, a
        pivot = a if c < a else (b if c > b else c)
        i, j = low, high
        while i <= j:
            while key[i] < pivot:
                i += 1
            while key[j] > pivot:
                j -= 1
            if i <= j:
                for axis in range(3):
                    t = xyz[axis, i]
                    xyz[axis, i] = xyz[axis, j]
                    xyz[axis, j] = t
                p = position[i]
                position[i] = position[j]
                position[j] = p
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            return


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _bound(xyz, start, end, box, node):
    for axis in range(3):
        values = xyz[axis, start:end]
        low = values[0]
        high = low
        # From 0 to the size: the compiler then knows that no index is negative, and vectorises.
        for i in range(values.size):
            v = values[i]
            low = v if v < low else low
            high = v if v > high else high
        box[node, axis] = low
        box[node, axis + 3] = high


@njit(nogil=True, cache=True)
def build_subtree(xyz, position, box, base, start, count, root, root_level, last_level):
    """Splits the points below node ``root`` (of level ``root_level``) down to ``last_level``.

    ``base`` is where the boxes of the cloud begin, ``start`` and ``count`` its points.
    """
    stack = np.empty(64, np.int64)
    levels = np.empty(64, np.int64)
    stack[0] = root
    levels[0] = root_level
    top = 1
    while top > 0:
        top -= 1
        node, level = stack[top], levels[top]
        j = node - (1 << level)
        first = start + ((count * j) >> level)
        end = start + ((count * (j + 1)) >> level)
        _bound(xyz, first, end, box, base + node)
        if level == last_level:
            continue
        middle = start + ((count * (2 * j + 1)) >> (level + 1))
        widest, axis = -1.0, 0
        for a in range(3):
            extent = box[base + node, a + 3] - box[base + node, a]
            if extent > widest:
                widest, axis = extent, a
        if widest > 0:
            _select(xyz[axis], xyz, position, first, end - 1, middle)
        stack[top] = 2 * node
        stack[top + 1] = 2 * node + 1
        levels[top] = level + 1
        levels[top + 1] = level + 1
        top += 2


@njit(nogil=True, cache=True)
def build_clouds(xyz, position, box, ptr, base, depth, low, high):
    """Builds the trees of the clouds ``low, ..., high - 1``."""
    for cloud in range(low, high):
        n = ptr[cloud + 1] - ptr[cloud]
        if n > 0:
            build_subtree(xyz, position, box, base[cloud], ptr[cloud], n, 1, 0, depth[cloud])


@njit(nogil=True, cache=True, inline="always")
def box_distance(box, node, x, y, z):
    """Squared distance of a point to a box.

    Rounded subtraction, product and sum are monotone, so with the order of operations of the point
    distances it never exceeds the *computed* distance to a point in the box: pruning is exact.
    """
    zero = x - x
    dx = box[node, 0] - x
    t = x - box[node, 3]
    dx = t if t > dx else dx
    dx = dx if dx > zero else zero
    dy = box[node, 1] - y
    t = y - box[node, 4]
    dy = t if t > dy else dy
    dy = dy if dy > zero else zero
    dz = box[node, 2] - z
    t = z - box[node, 5]
    dz = t if t > dz else dz
    dz = dz if dz > zero else zero
    return dx * dx + dy * dy + dz * dz
