"""Simple meshes for examples and tests."""

from __future__ import annotations

import numpy as np

from graphpool.io.meshes.formats import MeshArrays


def cross_of(corners: np.ndarray) -> np.ndarray:
    """Twice the area of each triangle ``[F, 3, 3]`` along its normal, ``[F, 3]``."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def icosphere(subdivisions: int = 2, radius: float = 1.0) -> MeshArrays:
    """A sphere of ``20 * 4 ** subdivisions`` nearly equal triangles, oriented outwards.

    Example:
        >>> vertices, faces = icosphere(1)
        >>> vertices.shape, faces.shape
        ((42, 3), (80, 3))
    """
    if subdivisions < 0:
        raise ValueError(f"`subdivisions` must be >= 0; got {subdivisions}.")
    g = (1 + 5**0.5) / 2
    points = np.array(
        [[-1, g, 0], [1, g, 0], [-1, -g, 0], [1, -g, 0], [0, -1, g], [0, 1, g],
         [0, -1, -g], [0, 1, -g], [g, 0, -1], [g, 0, 1], [-g, 0, -1], [-g, 0, 1]],
        dtype=np.float64,
    )  # fmt: skip
    faces = np.array(
        [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4],
         [11, 10, 2], [10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8],
         [3, 8, 9], [4, 9, 5], [2, 4, 11], [6, 2, 10], [8, 6, 7], [9, 8, 1]],
        dtype=np.int64,
    )  # fmt: skip
    for _ in range(subdivisions):
        starts, stops = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
        ends = np.sort(np.stack([starts, stops], axis=1), axis=1)
        edges, number = np.unique(ends, axis=0, return_inverse=True)
        middle = (number.reshape(-1, 3) + len(points)).astype(np.int64)
        points = np.concatenate([points, points[edges].mean(1)])
        a, b, c = faces.T
        ab, bc, ca = middle.T
        faces = np.concatenate(
            [np.stack(t, axis=1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
        )
    return MeshArrays(radius * points / np.linalg.norm(points, axis=1, keepdims=True), faces)
