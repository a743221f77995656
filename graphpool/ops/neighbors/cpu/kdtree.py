"""A balanced k-d tree over the points of many clouds, in flat arrays.

The tree of a cloud of ``n`` points is complete: node ``j`` of level ``L`` (heap number ``2^L + j``)
holds the points ``[n j / 2^L, n (j + 1) / 2^L)`` of the cloud in tree order, so nothing but the boxes
has to be stored. Coordinates lie axis by axis, ``[A, N]``: a leaf is a few contiguous cache lines.
A box is its ``A`` lower bounds and then its ``A`` upper ones.
"""

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel
from graphpool.ops.neighbors.cpu.select import select


@kernel
def _keys(values, keys):
    """Puts ``values`` (rounded to float32) above the positions that ``keys`` carry, in sortable bits."""
    one = np.empty(1, np.float32)
    bits = one.view(np.uint32)
    for i in range(keys.size):
        position = keys[i] & np.uint64(0xFFFFFFFF)
        one[0] = values[position]
        word = bits[0]
        # Negative floats order backwards by their bits; the sign bit puts them below the others.
        flip = np.uint32(0xFFFFFFFF) if word >> np.uint32(31) else np.uint32(0x80000000)
        keys[i] = (np.uint64(word ^ flip) << np.uint64(32)) | position


@kernel
def split_subtree(source, keys, box, base, start, count, root, root_level, last_level):
    """Splits the points below node ``root`` (of level ``root_level``) down to ``last_level``.

    Only ``keys``, which carry the positions, are moved. The box of ``root`` must be there; those of the
    nodes below are its parts, good enough to choose the axis that is split.
    """
    stack = np.empty(64, np.int64)
    levels = np.empty(64, np.int64)
    axes = source.shape[0]
    stack[0] = root
    levels[0] = root_level
    top = 1
    while top > 0:
        top -= 1
        node, level = stack[top], levels[top]
        if level == last_level:
            continue
        j = node - (1 << level)
        first = start + ((count * j) >> level)
        end = start + ((count * (j + 1)) >> level)
        middle = start + ((count * (2 * j + 1)) >> (level + 1))
        here, left, right = box[base + node], box[base + 2 * node], box[base + 2 * node + 1]
        axis = 0
        for a in range(1, axes):
            if here[a + axes] - here[a] > here[axis + axes] - here[axis]:
                axis = a
        left[:] = here
        right[:] = here
        if here[axis + axes] > here[axis]:
            _keys(source[axis], keys[first:end])
            select(keys, first, end - 1, middle)
            border = source[axis, np.int64(keys[middle] & np.uint64(0xFFFFFFFF))]
            left[axis + axes] = border
            right[axis] = border
        stack[top] = 2 * node
        stack[top + 1] = 2 * node + 1
        levels[top] = level + 1
        levels[top + 1] = level + 1
        top += 2


@kernel(fastmath={"nnan", "nsz"})
def bound(xyz, start, end, box, node):
    """The box of the points ``start, ..., end - 1``."""
    axes = xyz.shape[0]
    for axis in range(axes):
        values = xyz[axis, start:end]
        low = values[0]
        high = low
        # From 0 to the size: the compiler then knows that no index is negative, and vectorises.
        for i in range(values.size):
            v = values[i]
            low = v if v < low else low
            high = v if v > high else high
        box[node, axis] = low
        box[node, axis + axes] = high


@kernel
def join_boxes(box, base, low, high):
    """Boxes of the nodes ``low, ..., high - 1`` from those of their children, the last node first."""
    axes = box.shape[1] // 2
    for node in range(high - 1, low - 1, -1):
        here, left, right = box[base + node], box[base + 2 * node], box[base + 2 * node + 1]
        for axis in range(axes):
            here[axis] = min(left[axis], right[axis])
            here[axis + axes] = max(left[axis + axes], right[axis + axes])


@kernel
def finish_subtree(source, keys, xyz, position, box, base, start, count, root, root_level, depth):
    """Writes the points below ``root`` in tree order, and their boxes."""
    j = root - (1 << root_level)
    first = start + ((count * j) >> root_level)
    end = start + ((count * (j + 1)) >> root_level)
    for i in range(first, end):
        p = np.int64(keys[i] & np.uint64(0xFFFFFFFF))
        position[i] = p
        for axis in range(source.shape[0]):
            xyz[axis, i] = source[axis, p]
    below = depth - root_level
    for node in range(root << below, (root + 1) << below):
        j = node - (1 << depth)
        bound(
            xyz, start + ((count * j) >> depth), start + ((count * (j + 1)) >> depth), box,
            base + node,
        )  # fmt: skip
    for level in range(below - 1, -1, -1):
        join_boxes(box, base, root << level, (root + 1) << level)


@kernel
def build_clouds(source, keys, xyz, position, box, ptr, base, depth, low, high):
    """Builds the trees of the clouds ``low, ..., high - 1``."""
    for cloud in range(low, high):
        start, n = ptr[cloud], ptr[cloud + 1] - ptr[cloud]
        if n > 0:
            bound(source, start, start + n, box, base[cloud] + 1)
            split_subtree(source, keys, box, base[cloud], start, n, 1, 0, depth[cloud])
            finish_subtree(
                source, keys, xyz, position, box, base[cloud], start, n, 1, 0, depth[cloud]
            )


@kernel(inline=True)
def box_distance(box, node, x, y, z):
    """Squared distance of a point to a box in three axes.

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
