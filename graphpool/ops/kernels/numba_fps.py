"""Farthest point sampling with the distances kept in a k-d tree (after QuickFPS, Han et al. 2023)."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphpool.ops.kernels.numba_kdtree import box_distance

_FAST = {"nnan", "nsz"}


@njit(nogil=True, cache=True, fastmath=_FAST)
def _update_leaf(xs, ys, zs, position, distance, x, y, z):
    """Lowers the distances of a leaf by a new sample; returns the largest and its lowest position."""
    best = x - x - 2
    for i in range(xs.size):
        dx = xs[i] - x
        dy = ys[i] - y
        dz = zs[i] - z
        t = dx * dx + dy * dy + dz * dz
        d = distance[i]
        d = t if t < d else d
        distance[i] = d
        best = d if d > best else best
    lowest = np.int32(2147483647)
    for i in range(xs.size):
        candidate = position[i] if distance[i] == best else np.int32(2147483647)
        lowest = candidate if candidate < lowest else lowest
    return best, lowest


@njit(nogil=True, cache=True, fastmath=_FAST)
def _sample_cloud(
    xyz,
    position,
    place,
    distance,
    box,
    farthest,
    owner,
    base,
    depth,
    start,
    count,
    first_sample,
    samples,
    out,
    at,
):
    """One cloud. ``farthest[node]`` is the largest distance below a node, ``owner[node]`` the lowest
    position that attains it. Nodes whose largest distance a sample cannot lower are passed over."""
    for i in range(start, start + count):
        distance[i] = np.inf
    for node in range(1, 2 << depth):
        farthest[base + node] = np.inf
    stack = np.empty(2 * depth + 4, np.int64)
    stack_level = np.empty(2 * depth + 4, np.int64)
    visited = np.empty(1 << depth, np.int64)
    current = np.int32(first_sample)
    done = 0
    while done < samples:
        here = place[current]
        x, y, z = xyz[0, here], xyz[1, here], xyz[2, here]
        out[at + done] = current
        done += 1
        # A chosen point leaves the race for good, so that duplicates never return an index twice.
        distance[here] = -1
        if done == samples:
            break
        stack[0] = 1
        stack_level[0] = 0
        top, passed = 1, 0
        while top > 0:
            top -= 1
            node, level = stack[top], stack_level[top]
            if box_distance(box, base + node, x, y, z) >= farthest[base + node]:
                continue
            if level < depth:
                visited[passed] = node
                passed += 1
                stack[top] = 2 * node
                stack[top + 1] = 2 * node + 1
                stack_level[top] = level + 1
                stack_level[top + 1] = level + 1
                top += 2
                continue
            j = node - (1 << level)
            first = start + ((count * j) >> level)
            end = start + ((count * (j + 1)) >> level)
            best, lowest = _update_leaf(
                xyz[0, first:end],
                xyz[1, first:end],
                xyz[2, first:end],
                position[first:end],
                distance[first:end],
                x,
                y,
                z,
            )
            farthest[base + node] = best
            owner[base + node] = lowest
        for v in range(passed - 1, -1, -1):
            node = base + visited[v]
            left = base + 2 * visited[v]
            a, b = farthest[left], farthest[left + 1]
            if a > b or (a == b and owner[left] < owner[left + 1]):
                farthest[node], owner[node] = a, owner[left]
            else:
                farthest[node], owner[node] = b, owner[left + 1]
        if farthest[base + 1] <= 0:
            break
        current = owner[base + 1]
    if done < samples:
        # Every point coincides with a sample: the rest are the unused points in ascending order.
        for p in range(start, start + count):
            if done == samples:
                break
            if distance[place[p]] != -1:
                out[at + done] = p
                done += 1


@njit(nogil=True, cache=True)
def sample_clouds(
    xyz,
    position,
    place,
    distance,
    box,
    farthest,
    owner,
    base,
    depth,
    ptr,
    first,
    out_ptr,
    out,
    low,
    high,
):
    """Samples the clouds ``low, ..., high - 1`` into ``out[out_ptr[cloud] : out_ptr[cloud + 1]]``."""
    for cloud in range(low, high):
        m = out_ptr[cloud + 1] - out_ptr[cloud]
        if m > 0:
            n = ptr[cloud + 1] - ptr[cloud]
            for i in range(ptr[cloud], ptr[cloud + 1]):
                place[position[i]] = i
            _sample_cloud(
                xyz,
                position,
                place,
                distance,
                box,
                farthest,
                owner,
                base[cloud],
                depth[cloud],
                ptr[cloud],
                n,
                first[cloud],
                m,
                out,
                out_ptr[cloud],
            )
