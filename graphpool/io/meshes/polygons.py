"""Polygons of any size as two flat arrays: their edges, and the triangles they are cut into."""

from __future__ import annotations

import numpy as np

from graphpool._compiled import kernel

_MOST_CORNERS = 2000


def triangulate(corners: np.ndarray, sizes: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Triangles ``[F, 3]`` of polygons: one of n corners makes n - 2, and no vertex is added.

    A fan around the first corner, where all its triangles face the way of the polygon; otherwise, as in
    a concave polygon or with corners in a line, ears are cut off one by one (Meisters, 1975) in the
    plane of the polygon. What is left of a polygon without an ear, because it crosses itself, is cut
    corner by corner.

    Args:
        corners: ``[C]``, the corners of all polygons, one polygon after the other.
        sizes: ``[P]``, how many corners each has, at least 3.
        vertices: ``[V, 3]``.

    Raises:
        ValueError: A concave polygon has more than 2,000 corners: the time grows with the square.

    Example:
        >>> arrow = np.array([[0.0, 0, 0], [2, 1, 0], [4, 0, 0], [2, 4, 0]])
        >>> triangulate(np.arange(4), np.array([4]), arrow).tolist()
        [[3, 0, 1], [3, 1, 2]]
    """
    if (sizes == 3).all():
        return corners.reshape(-1, 3)
    starts = np.cumsum(sizes) - sizes
    count = sizes - 2
    first = np.repeat(starts, count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    fans = np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)
    polygon = np.repeat(np.arange(len(sizes)), count)
    a, b, c = vertices[fans].transpose(1, 0, 2)
    area = np.cross(b - a, c - a)
    # The sum over a fan is the normal of the polygon, whichever way it is cut (Newell).
    normal = np.stack(
        [np.bincount(polygon, area[:, axis], len(sizes)) for axis in range(3)], axis=1
    )
    forward = np.einsum("fk,fk->f", area, normal[polygon])
    nothing = 1e-12 * np.square(normal).sum(1)[polygon]
    stops = np.cumsum(count)
    for i in np.unique(polygon[(forward <= nothing) & (sizes > 3)[polygon]]):
        if sizes[i] > _MOST_CORNERS:
            if (forward >= -nothing)[polygon == i].all():
                continue
            raise ValueError(
                f"Face {i} is concave and has {sizes[i]} corners; at most {_MOST_CORNERS} can be cut."
            )
        own = corners[starts[i] : starts[i] + sizes[i]]
        # The axis along which the polygon is broadest is left out; the rest keeps its sense.
        axis = int(np.abs(normal[i]).argmax())
        flat = vertices[own][:, [(axis + 1) % 3, (axis + 2) % 3]]
        if normal[i][axis] < 0:
            flat = flat * [1.0, -1.0]
        fans[stops[i] - count[i] : stops[i]] = own[_cut_ears(np.ascontiguousarray(flat))]
    return fans


@kernel
def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Twice the signed area of a triangle, positive if it turns left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@kernel
def _cut_ears(points: np.ndarray) -> np.ndarray:
    """Triangles ``[n - 2, 3]`` of a polygon ``[n, 2]`` that turns left."""
    count = len(points)
    triangles = np.empty((count - 2, 3), dtype=np.int64)
    before = np.arange(-1, count - 1)
    after = np.arange(1, count + 1)
    before[0], after[count - 1] = count - 1, 0
    here, made, tried, stuck = 0, 0, 0, False
    while made < count - 2:
        i, k = before[here], after[here]
        a, b, c = points[i], points[here], points[k]
        # A polygon has an ear unless it crosses itself.
        stuck = stuck or tried == count - made
        ear = stuck or _turn(a, b, c) > 0
        other = after[k]
        while ear and not stuck and other != i:
            p = points[other]
            inside = _turn(a, b, p) >= 0 and _turn(b, c, p) >= 0 and _turn(c, a, p) >= 0
            # Corners may touch, as where a hole is tied to the border.
            touches = (p == a).all() or (p == b).all() or (p == c).all()
            ear = not inside or touches
            other = after[other]
        if ear:
            triangles[made, 0], triangles[made, 1], triangles[made, 2] = i, here, k
            made += 1
            after[i], before[k] = k, i
        tried = 0 if ear else tried + 1
        here = k
    return triangles


def polygon_edges(corners: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges of polygons in the order of first appearance; any number may meet at one.

    Args:
        corners, sizes: As in :func:`triangulate`.

    Returns:
        The ends of each edge ``[E, 2]``, the smaller first, and the edge of each side ``[C]``: side
        c of a polygon runs from its corner c to the next.

    Example:
        >>> edges, edge_of = polygon_edges(np.array([0, 1, 2, 3, 2, 1, 4]), np.array([4, 3]))
        >>> edges.tolist()
        [[0, 1], [1, 2], [2, 3], [0, 3], [1, 4], [2, 4]]
        >>> edge_of.tolist()
        [0, 1, 2, 3, 1, 4, 5]
    """
    after = np.arange(1, len(corners) + 1)
    stops = np.cumsum(sizes)
    after[stops - 1] = stops - sizes
    ends = np.sort(np.stack([corners, corners[after]], axis=1), axis=1)
    span = int(corners.max(initial=0)) + 1
    _, first, edge_of = np.unique(
        ends[:, 0] * span + ends[:, 1], return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return ends[first[order]], number[edge_of.reshape(-1)]
