"""Polygons of any size as two flat arrays: their edges, and the triangles they are cut into."""

from __future__ import annotations

import numpy as np

__all__ = ["polygon_edges", "triangulate"]


def triangulate(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Fans of triangles ``[F, 3]``: a polygon of n corners makes n - 2, around its first corner.

    Args:
        corners: ``[C]``, the corners of all polygons, one polygon after the other.
        sizes: ``[P]``, how many corners each has.

    Raises:
        ValueError: A polygon has fewer than three corners.

    Example:
        >>> triangulate(np.arange(7), np.array([3, 4])).tolist()
        [[0, 1, 2], [3, 4, 5], [3, 5, 6]]
    """
    if (sizes < 3).any():
        bad = int(np.flatnonzero(sizes < 3)[0])
        raise ValueError(f"face {bad} has {int(sizes[bad])} corners; at least 3 are needed.")
    if (sizes == 3).all():
        return corners.reshape(-1, 3)
    starts = np.cumsum(sizes) - sizes
    triangles = sizes - 2
    first = np.repeat(starts, triangles)
    step = np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)


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
