"""Turning faces over until neighbours agree, and closed parts until they face outwards."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csgraph

from graphpool.mesh.shapes import cross_of

# A closed part whose volume is this small a share of what its faces could span encloses nothing.
_NO_VOLUME = 1e-12


def orient_faces(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Makes the faces of every connected part traverse their common edges in opposite directions.

    Only edges with exactly two faces count. Each face appears twice in a graph, as it is and turned
    over; a common edge joins the two versions that agree there. A part that can be oriented falls
    into two mirror images, and the one that turns fewer faces is taken (on a tie, the one that keeps
    the first face). A part that cannot (a Möbius strip) is left as it is.

    Args:
        faces: ``[F, 3]`` corners; no face may have a corner twice.

    Returns:
        The faces, and a mask ``[F]`` of those that were turned over (their last two corners are
        swapped).

    Example:
        >>> orient_faces(np.array([[0, 1, 2], [1, 2, 3], [2, 4, 3]]))[0].tolist()
        [[0, 2, 1], [1, 2, 3], [2, 4, 3]]
    """
    num_faces = len(faces)
    if num_faces == 0:
        return faces, np.zeros(0, dtype=bool)
    first, second = _two_sided_edges(faces)
    f, g = first // 3, second // 3
    start = faces.ravel()
    disagree = (start[first] == start[second]).astype(np.int64)

    # Node 2f is face f as it is, node 2f + 1 the same face turned over.
    row = np.concatenate([2 * f, 2 * f + 1])
    col = np.concatenate([2 * g + disagree, 2 * g + 1 - disagree])
    part = components(row, col, 2 * num_faces)
    as_is, turned = part[0::2], part[1::2]
    size = int(part.max()) + 1
    kept_in = np.bincount(as_is, minlength=size)
    first_kept = np.full(size, num_faces)
    np.minimum.at(first_kept, as_is, np.arange(num_faces))
    fewer = (kept_in[turned] > kept_in[as_is]) | (
        (kept_in[turned] == kept_in[as_is]) & (first_kept[turned] < first_kept[as_is])
    )
    turn = fewer & (as_is != turned)
    return _turned(faces, turn), turn


def agree(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes neighbours agree, as :func:`graphpool.mesh.clean` does, in the parts where any disagree.

    Closed ones of these parts are turned outwards; a part whose faces agree stays as it is, whichever
    way it faces.

    Args:
        points: ``[V, 3]``.
        faces: ``[F, 3]``, at most two at an edge.

    Returns:
        The faces, and masks ``[F]`` of those that were turned over, and of those in a part that cannot be
        oriented, which is left alone.
    """
    # A power of two, so that nothing is rounded: areas and volumes must not overflow.
    points = np.ldexp(points, -np.frexp(np.abs(points[faces]).max(initial=0))[1])
    part = connected_parts(faces)
    order = from_the_largest(points, faces)
    turned = np.zeros(len(faces), dtype=bool)
    turned[order] = orient_faces(faces[order])[1]
    result = _turned(faces, turned)
    mixed, twisted = (np.isin(part, part[_disagreeing(f)]) for f in (faces, result))
    turned ^= turn_outward(points, result)[1] & mixed & ~twisted
    return _turned(faces, turned), turned, twisted


def from_the_largest(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The faces from the part of the largest area to the smallest, and in a part likewise.

    Knows nothing of the order of faces, corners or vertices.
    """
    place = np.empty(len(points), dtype=np.int64)
    place[np.lexsort(points.T[::-1])] = np.arange(len(points))
    by_place = np.sort(place[corners], axis=1)
    area = np.linalg.norm(cross_of(points[np.argsort(place)][by_place]), axis=1)
    order = np.lexsort((*by_place.T[::-1], -area))
    part = connected_parts(corners)[order]
    total = np.bincount(part, area[order])
    return order[np.argsort(-total[part], kind="stable")]


def turn_outward(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns over every closed part that encloses a negative volume.

    Every connected part is judged by itself, a part inside another one too. A part with a boundary
    has no outside and is left as it is, and so is one that encloses nothing.

    Args:
        points: ``[V, 3]``.
        faces: ``[F, 3]``, at most two at an edge, consistently oriented.

    Returns:
        The faces and a mask of those that were turned over, as :func:`orient_faces`.
    """
    part = connected_parts(faces)
    size = int(part.max(initial=-1)) + 1
    sides = np.zeros(3 * len(faces), dtype=bool)
    sides[np.concatenate(_two_sided_edges(faces))] = True
    is_open = np.bincount(part, ~sides.reshape(-1, 3).all(1), size) > 0
    corners = points[faces]
    counts = np.bincount(part, minlength=size)
    # Seen from far away a volume is the small difference of large ones.
    center = [np.bincount(part, corners[:, :, k].mean(1), size) / counts for k in range(3)]
    a, b, c = (corners - np.stack(center, axis=1)[part][:, None]).transpose(1, 0, 2)
    volume = np.bincount(part, np.einsum("fk,fk->f", a, np.cross(b, c)), size)
    length = [np.linalg.norm(x, axis=1) for x in (a, b, c)]
    largest = np.bincount(part, np.prod(length, axis=0), size)
    inward = ~is_open & (volume < -_NO_VOLUME * largest)
    turn = inward[part]
    return _turned(faces, turn), turn


def connected_parts(faces: np.ndarray) -> np.ndarray:
    """The part ``[F]`` of each face; parts are joined by edges with exactly two faces."""
    first, second = _two_sided_edges(faces)
    return components(first // 3, second // 3, len(faces))


def _disagreeing(faces: np.ndarray) -> np.ndarray:
    """Faces that traverse a common edge as their neighbour there does; one of each two of them."""
    first, second = _two_sided_edges(faces)
    start = faces.ravel()
    return first[start[first] == start[second]] // 3


def _turned(faces: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return np.where(turn[:, None], faces[:, [0, 2, 1]], faces)


def components(row: np.ndarray, col: np.ndarray, size: int) -> np.ndarray:
    """The component ``[size]`` of each node of the graph with these edges, counted from 0."""
    links = coo_matrix((np.ones(len(row), dtype=np.int8), (row, col)), shape=(size, size))
    return csgraph.connected_components(links, directed=False)[1]


def _two_sided_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two half-edges ``3 f + c`` of every edge with exactly two faces."""
    start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key = np.minimum(start, stop) * (int(faces.max(initial=0)) + 1) + np.maximum(start, stop)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    head = np.ones(len(ordered), dtype=bool)
    head[1:] = ordered[1:] != ordered[:-1]
    heads = np.flatnonzero(head)
    pairs = heads[np.diff(heads, append=len(ordered)) == 2]
    return order[pairs], order[pairs + 1]
