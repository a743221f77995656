"""Farthest point sampling with the distances kept in a tree (after QuickFPS, Han et al. 2023).

The k-d tree of a cloud is read sixteen nodes at a time. A *group* holds, lane by lane, the boxes of its
sixteen children and the largest distance below each, so that one sample is tested against all of them at
once. With ``fan`` children of the root (in its last lanes), the child in lane ``i`` of group ``g`` is node
``16 g + fan - 15 + i``, and the nodes from the number of groups on are the leaves. A leaf holds its points
axis by axis, then their distances, padded with points that are out of the race.
"""

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel

LANES = 16
_WAITING = 8
_NOBODY = np.int32(2147483647)
_FAST = {"nnan", "nsz"}
# A group: sixteen lanes each of the box (lower, upper corner), the largest distance, room for the test.
_LARGEST, _TEST, _GROUP = 6 * LANES, 7 * LANES, 8 * LANES


@kernel(fastmath=_FAST)
def _test_group(group, x, y, z):
    """Squared distances to the sixteen boxes; see ``box_distance`` for why they are exact bounds."""
    zero = x - x
    for i in range(LANES):
        a, b = group[i] - x, x - group[3 * LANES + i]
        dx = a if a > b else b
        dx = dx if dx > zero else zero
        a, b = group[LANES + i] - y, y - group[4 * LANES + i]
        dy = a if a > b else b
        dy = dy if dy > zero else zero
        a, b = group[2 * LANES + i] - z, z - group[5 * LANES + i]
        dz = a if a > b else b
        dz = dz if dz > zero else zero
        group[_TEST + i] = dx * dx + dy * dy + dz * dz


@kernel(fastmath=_FAST)
def _lower(leaf, x, y, z):
    """Lowers the distances of a leaf by a sample."""
    room = leaf.size // 4
    xs, ys, zs, distance = leaf[:room], leaf[room:], leaf[2 * room :], leaf[3 * room :]
    for i in range(distance.size):
        dx, dy, dz = xs[i] - x, ys[i] - y, zs[i] - z
        t = dx * dx + dy * dy + dz * dz
        d = distance[i]
        distance[i] = t if t < d else d


@kernel
def _farthest(distance, position):
    """The largest distance, and the lowest position that attains it.

    Distances come as the integers of the same bits, which are in the same order: compilers vectorise the
    maximum of integers.
    """
    best = distance[0]
    for i in range(distance.size):
        d = distance[i]
        best = d if d > best else best
    lowest = _NOBODY
    for i in range(distance.size):
        # Almost never true, and then cheaper as a branch than as a vector of candidates.
        if distance[i] == best:
            lowest = min(lowest, position[i])
    return best, lowest


@kernel
def _fill_leaves(xyz, position, start, count, depth, leaves, owners, place):
    """Copies a cloud into its leaves; ``place`` says where each point has gone."""
    num_leaves = 1 << depth
    room = owners.size // num_leaves
    leaves[:] = 0
    owners[:] = _NOBODY
    for j in range(num_leaves):
        first = start + ((count * j) >> depth)
        size = start + ((count * (j + 1)) >> depth) - first
        at = 4 * room * j
        for axis in range(3):
            leaves[at : at + size] = xyz[axis, first : first + size]
            at += room
        leaves[at : at + size] = np.inf
        leaves[at + size : at + room] = -1
        owners[room * j : room * j + size] = position[first : first + size]
        for i in range(size):
            place[position[first + i] - start] = 4 * room * j + i


@kernel
def _fill_groups(box, base, depth, fan, groups):
    """Copies the boxes of every fourth level, counted from the leaves, into their groups."""
    groups[:] = 0
    for g in range(0, groups.size, _GROUP):
        groups[g + _LARGEST : g + _LARGEST + LANES] = -1
    node = 1
    for level in range(1 if depth else 0, depth + 1):
        if (depth - level) % 4:
            continue
        for j in range(1 << level):
            slot = node + LANES - 1 - fan
            at = slot // LANES * _GROUP + slot % LANES
            for k in range(6):
                groups[at + k * LANES] = box[base + (1 << level) + j, k]
            groups[at + _LARGEST] = np.inf
            node += 1


@kernel
def _sample_cloud(xyz, position, box, base, depth, start, count, first_sample, bits, out):
    """One cloud. Nodes whose largest distance a sample cannot lower are passed over; a leaf whose
    farthest point is not lowered keeps it whatever happens to its other points, so that the sample
    waits there until one comes that matters."""
    num_leaves = 1 << depth
    fan, num_groups = num_leaves, 1
    while fan > LANES:
        fan //= LANES
        num_groups += fan
    group_bits = np.empty(num_groups * _GROUP, bits.dtype)
    groups = group_bits.view(xyz.dtype)
    lowest = np.full(num_groups * LANES, _NOBODY)
    _fill_groups(box, base, depth, fan, groups)
    room = ((count >> depth) + LANES) // LANES * LANES
    leaf_size = 4 * room
    leaf_bits = np.empty(num_leaves * leaf_size, bits.dtype)
    leaves = leaf_bits.view(xyz.dtype)
    owners = np.empty(num_leaves * room, np.int32)
    place = np.empty(count, np.int32)
    _fill_leaves(xyz, position, start, count, depth, leaves, owners, place)
    waiting = np.empty((num_leaves, _WAITING, 3), xyz.dtype)
    num_waiting = np.zeros(num_leaves, np.int32)
    # The farthest point of each leaf; any point of it, as long as all distances are infinite.
    extreme = np.empty((num_leaves, 3), xyz.dtype)
    for j in range(num_leaves):
        for axis in range(3):
            extreme[j, axis] = leaves[j * leaf_size + axis * room]
    stack = np.empty(LANES * (depth + 2), np.int64)
    visited = np.empty(num_groups, np.int64)
    current = np.int32(first_sample)
    samples = out.size
    done = 0
    while done < samples:
        here = place[current - start]
        x, y, z = leaves[here], leaves[here + room], leaves[here + 2 * room]
        # A chosen point leaves the race for good, so that duplicates never return an index twice.
        leaves[here + 3 * room] = -1
        out[done] = current
        done += 1
        if done == samples:
            break
        stack[0] = 0
        top, passed = 1, 0
        while top > 0:
            top -= 1
            node = stack[top]
            if node < num_groups:
                visited[passed] = node
                passed += 1
                group = groups[node * _GROUP : (node + 1) * _GROUP]
                _test_group(group, x, y, z)
                child = LANES * node + fan - LANES + 1
                for i in range(LANES):
                    stack[top] = child + i
                    top += group[_TEST + i] < group[_LARGEST + i]
                continue
            j = node - num_groups
            slot = node + LANES - 1 - fan
            here = slot // LANES * _GROUP + slot % LANES + _LARGEST
            dx, dy, dz = extreme[j, 0] - x, extreme[j, 1] - y, extreme[j, 2] - z
            queue = num_waiting[j]
            if queue < _WAITING and dx * dx + dy * dy + dz * dz >= groups[here]:
                waiting[j, queue, 0], waiting[j, queue, 1], waiting[j, queue, 2] = x, y, z
                num_waiting[j] = queue + 1
                continue
            leaf = leaves[j * leaf_size : (j + 1) * leaf_size]
            for w in range(queue):
                _lower(leaf, waiting[j, w, 0], waiting[j, w, 1], waiting[j, w, 2])
            num_waiting[j] = 0
            _lower(leaf, x, y, z)
            distance = leaf_bits[j * leaf_size + 3 * room : (j + 1) * leaf_size]
            best, owner = _farthest(distance, owners[j * room : (j + 1) * room])
            group_bits[here] = best
            lowest[slot] = owner
            here = place[owner - start]
            for axis in range(3):
                extreme[j, axis] = leaves[here + axis * room]
        for v in range(passed - 1, -1, -1):
            node = visited[v]
            largest = group_bits[node * _GROUP + _LARGEST : node * _GROUP + _TEST]
            best, owner = _farthest(largest, lowest[node * LANES : (node + 1) * LANES])
            if node > 0:
                slot = node + LANES - 1 - fan
                group_bits[slot // LANES * _GROUP + slot % LANES + _LARGEST] = best
                lowest[slot] = owner
        current = owner
        if best <= 0:
            break
    # Where every point coincides with a sample, the rest are the unused points in ascending order.
    p = 0
    while done < samples:
        if leaves[place[p] + 3 * room] != -1:
            out[done] = start + p
            done += 1
        p += 1


@kernel
def sample_clouds(xyz, position, box, base, depth, ptr, first, out_ptr, bits, out, low, high):
    """Samples the clouds ``low, ..., high - 1`` into ``out[out_ptr[cloud] : out_ptr[cloud + 1]]``."""
    for c in range(low, high):
        if out_ptr[c + 1] > out_ptr[c]:
            picks = out[out_ptr[c] : out_ptr[c + 1]]
            count = ptr[c + 1] - ptr[c]
            _sample_cloud(
                xyz, position, box, base[c], depth[c], ptr[c], count, first[c], bits, picks
            )
