"""Edge collapses in a fixed order, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpool._compiled import kernel


class Work(NamedTuple):
    """The work arrays of one mesh, which the functions here change.

    Attributes:
        edge, twin, origin: ``[H]``, the half-edges.
        half_of: ``[E]``, a half-edge of each edge.
        face_alive, edge_alive: ``[F]`` and ``[E]``, all true at first.
        node: ``[E]``, the record of what each edge is made of.
        links: ``[N, 3]``; record r < E is edge r itself, a later one the union of three older records.
        totals: ``[2]``, the number of edges left, and of records.
    """

    edge: np.ndarray
    twin: np.ndarray
    origin: np.ndarray
    half_of: np.ndarray
    face_alive: np.ndarray
    edge_alive: np.ndarray
    node: np.ndarray
    links: np.ndarray
    totals: np.ndarray


@kernel(inline=True)
def _next(h):
    return h - h % 3 + (h + 1) % 3


@kernel(inline=True)
def _previous(h):
    return h - h % 3 + (h + 2) % 3


@kernel
def _merge(work, into, a, b):
    """The record of ``into`` becomes the union of it and the records ``a`` and ``b``."""
    new = work.totals[1]
    work.links[new, 0] = work.node[into]
    work.links[new, 1] = a
    work.links[new, 2] = b
    work.node[into] = new
    work.totals[1] = new + 1


@kernel
def _glue(twin, one, two):
    if one >= 0:
        twin[one] = two
    if two >= 0:
        twin[two] = one


@kernel
def _near_boundary(twin, h):
    """Whether the edge of ``h`` or one of its four neighbours lies at a boundary."""
    if twin[h] < 0:
        return True
    back = twin[h]
    on_one_side = twin[_next(h)] < 0 or twin[_previous(h)] < 0
    return on_one_side or twin[_next(back)] < 0 or twin[_previous(back)] < 0


@kernel
def _remove_valence_three(h, work):
    """If the vertex across from ``h`` has three faces, makes them one; 1 done, 0 not so, -1 refused."""
    edge, twin, half_of, node = work.edge, work.twin, work.half_of, work.node
    a, b = _next(h), _previous(h)
    in_a, in_b = twin[a], twin[b]
    if in_a // 3 == in_b // 3:
        return -1
    outer_a, middle_a = _next(in_a), _previous(in_a)
    middle_b, outer_b = _next(in_b), _previous(in_b)
    if edge[outer_a] == edge[outer_b] or edge[outer_a] == edge[middle_b]:
        return -1
    if edge[middle_a] == edge[outer_b]:
        return -1
    if edge[middle_a] != edge[middle_b]:
        return 0
    e, key_a, key_b, middle = edge[h], edge[a], edge[b], edge[middle_a]
    key_outer_a, key_outer_b = edge[outer_a], edge[outer_b]
    if key_outer_a == e or key_outer_b == e:
        return -1
    back = twin[h] // 3
    if twin[outer_a] // 3 == back and twin[outer_b] // 3 == back:
        return -1  # a tetrahedron: two faces on the same three vertices would remain
    _merge(work, e, node[key_a], node[key_b])
    _merge(work, key_outer_a, node[key_a], node[middle])
    _merge(work, key_outer_b, node[key_b], node[middle])
    edge[a], edge[b] = key_outer_a, key_outer_b
    half_of[key_outer_a], half_of[key_outer_b] = a, b
    work.origin[b] = work.origin[middle_a]
    _glue(twin, a, twin[outer_a])
    _glue(twin, b, twin[outer_b])
    work.face_alive[in_a // 3] = False
    work.face_alive[in_b // 3] = False
    work.edge_alive[key_a] = False
    work.edge_alive[key_b] = False
    work.edge_alive[middle] = False
    work.totals[0] -= 3
    return 1


@kernel
def _ring(h, twin, origin, out):
    """The neighbours of the vertex where ``h`` starts, in ``out``; their number (-1: too many)."""
    size = 0
    current = h
    while True:
        if size >= out.size - 1:
            return -1
        out[size] = origin[_next(current)]
        size += 1
        before = _previous(current)
        current = twin[before]
        if current < 0:
            out[size] = origin[before]
            size += 1
            break
        if current == h:
            return size
    current = twin[h]
    while current >= 0:
        if size >= out.size - 1:
            return -1
        follow = _next(current)
        out[size] = origin[_next(follow)]
        size += 1
        current = twin[follow]
    return size


@kernel
def _link_condition(h, twin, origin, ring_a, ring_b):
    """Whether the ends of the edge of ``h`` have exactly two common neighbours."""
    size_a = _ring(h, twin, origin, ring_a)
    size_b = _ring(twin[h], twin, origin, ring_b)
    if size_a < 0 or size_b < 0:
        return False
    common = 0
    for i in range(size_a):
        for j in range(size_b):
            if ring_a[i] == ring_b[j]:
                common += 1
    return common == 2


@kernel
def _relabel(h, twin, origin, vertex):
    """Gives the whole fan around the vertex where ``h`` starts another number."""
    current = h
    while True:
        origin[current] = vertex
        current = twin[_previous(current)]
        if current < 0 or current == h:
            break
    if current == h:
        return
    current = twin[h]
    while current >= 0:
        follow = _next(current)
        origin[follow] = vertex
        current = twin[follow]


@kernel
def _collapse_one(h, target, work, ring_a, ring_b):
    edge, twin, origin, node = work.edge, work.twin, work.origin, work.node
    if _near_boundary(twin, h):
        return
    for side in (h, twin[h]):
        while True:
            if work.totals[0] <= target:
                return
            done = _remove_valence_three(side, work)
            if done < 0:
                return
            if done == 0:
                break
            if work.totals[0] <= target or _near_boundary(twin, h):
                return
    if not _link_condition(h, twin, origin, ring_a, ring_b):
        return
    e, other = edge[h], twin[h]
    _relabel(other, twin, origin, origin[h])
    for side in (h, other):
        a, b = _next(side), _previous(side)
        key_a, key_b = edge[a], edge[b]
        _merge(work, key_a, node[key_b], node[e])
        edge[twin[b]] = key_a
        work.half_of[key_a] = twin[b]
        _glue(twin, twin[a], twin[b])
        work.face_alive[side // 3] = False
        work.edge_alive[key_b] = False
    work.edge_alive[e] = False
    work.totals[0] -= 3


@kernel
def collapse_edges(order, target, work):
    """Tries the edges in ``order`` until at most ``target`` are left; changes ``work``.

    Args:
        order: Edges, the first to go first.
        target: The number of edges to get down to.
        work: The mesh.
    """
    ring_a = np.empty(4096, dtype=np.int64)
    ring_b = np.empty(4096, dtype=np.int64)
    for position in range(order.size):
        if work.totals[0] <= target:
            break
        e = order[position]
        if not work.edge_alive[e]:
            continue
        h = work.half_of[e]
        # The smaller half-edge comes first, as in the table of neighbours.
        if 0 <= work.twin[h] < h:
            h = work.twin[h]
        _collapse_one(h, target, work, ring_a, ring_b)


@kernel
def collect_members(work):
    """Pairs (original edge, surviving edge): what each surviving edge is made of, each once."""
    node, links = work.node, work.links
    seen = np.full(work.totals[1], -1, dtype=np.int64)
    stack = np.empty(work.totals[1] + 1, dtype=np.int64)
    members = np.empty(max(16, 2 * node.size), dtype=np.int64)
    owners = np.empty(max(16, 2 * node.size), dtype=np.int64)
    size = 0
    for e in range(node.size):
        if not work.edge_alive[e]:
            continue
        depth = 1
        stack[0] = node[e]
        seen[node[e]] = e
        while depth > 0:
            depth -= 1
            record = stack[depth]
            if record < node.size:
                if size == members.size:
                    more = np.empty(2 * size, dtype=np.int64)
                    more[:size] = members
                    members = more
                    more = np.empty(2 * size, dtype=np.int64)
                    more[:size] = owners
                    owners = more
                members[size] = record
                owners[size] = e
                size += 1
                continue
            for k in range(3):
                child = links[record, k]
                if seen[child] != e:
                    seen[child] = e
                    stack[depth] = child
                    depth += 1
    return members[:size], owners[:size]
