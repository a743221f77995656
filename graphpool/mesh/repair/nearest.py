"""From the faces of one mesh to those of another that covers the same surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

from graphpool.mesh.shapes import cross_of

_CHUNK = 4096
# Distances this close, as a share of the longest edge of the face that asks, count as equal.
_TIE = 1e-9


def nearest_faces(source: Any, target: Any) -> np.ndarray:
    """For each face of ``target`` the face of ``source`` that is nearest to its centre.

    Distance is that to the nearest point of the face. Of faces equally near, the one whose normal
    is closest to that of the target counts. Where the nearest face looks the other way, as on the
    far side of a thin part, the nearest one that does not is taken, if it is farther by no more than
    the longest edge of the target. So both meshes should be oriented alike;
    :func:`graphpool.mesh.clean` turns closed parts outwards.

    Args:
        source, target: Meshes: anything with ``vertices`` and ``faces``, or a pair of these.

    Returns:
        ``[F_target]``, positions in the faces of ``source``.

    Raises:
        ValueError: ``source`` has no face.

    Example:
        >>> from graphpool.mesh import icosphere
        >>> fine, coarse = icosphere(2), icosphere(1)
        >>> np.bincount(nearest_faces(coarse, fine)).tolist() == [4] * 80
        True
    """
    corners, wanted = _corners(source), _corners(target)
    if not len(corners):
        raise ValueError("`source` has no face that could be the nearest.")
    starts = tqdm(range(0, len(wanted), _CHUNK), "nearest faces", leave=False, delay=2)
    search = _BySize(corners)
    found = [_nearest(corners, search, wanted[start : start + _CHUNK]) for start in starts]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def project_labels(source: Any, target: Any, labels: Any) -> np.ndarray:
    """Labels of the faces of ``target`` from those of ``source``, by :func:`nearest_faces`.

    Args:
        source, target: As there.
        labels: ``[F_source]`` or ``[F_source, ...]``, anything that belongs to the faces of
            ``source``: labels, or predictions on a decimated mesh that are to go back to the original.

    Returns:
        ``[F_target, ...]``.

    Raises:
        ValueError: There is not one label per face of ``source``.

    Example:
        >>> from graphpool.mesh import icosphere
        >>> fine, coarse = icosphere(2), icosphere(1)
        >>> top = coarse.vertices[coarse.faces].mean(1)[:, 2] > 0
        >>> project_labels(coarse, fine, top).shape
        (320,)
    """
    values = np.asarray(labels)
    count = len(_corners(source))
    if values.ndim == 0 or len(values) != count:
        raise ValueError(
            f"`labels` must have one entry per face of `source`, {count}; got shape {values.shape}."
        )
    return values[nearest_faces(source, target)]


def _corners(mesh: Any) -> np.ndarray:
    """``[F, 3, 3]``, the corners of each face."""
    if hasattr(mesh, "vertices"):
        vertices, faces = mesh.vertices, mesh.faces
    else:
        vertices, faces = mesh
    return np.asarray(vertices, dtype=np.float64)[np.asarray(faces)]


def _normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals ``[F, 3]``; zero for a face without area."""
    normal = cross_of(corners)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return normal / np.where(length > 0, length, 1)


class _BySize:
    """Faces in trees of their centres, one for each power of two of their radius.

    Among faces of one size, those within a distance of a point have centres within that distance
    plus the size; one giant would make every other search as wide as itself.
    """

    def __init__(self, corners: np.ndarray) -> None:
        middle = corners.mean(1)
        radius = np.linalg.norm(corners - middle[:, None], axis=2).max(1)
        exponent = np.frexp(radius)[1]
        self.all = cKDTree(middle)
        self.classes = []
        for size in np.unique(exponent):
            members = np.flatnonzero(exponent == size)
            self.classes.append((members, radius[members].max(), cKDTree(middle[members])))

    def within(self, points: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (point, face) among which are all that are at most ``distance`` apart."""
        points_found, faces_found = [], []
        for members, radius, tree in self.classes:
            lists = tree.query_ball_point(points, (distance + radius) * (1 + 1e-12))
            sizes = np.array([len(found) for found in lists], dtype=np.int64)
            points_found.append(np.repeat(np.arange(len(points)), sizes))
            faces_found.append(members[np.concatenate([*lists, []]).astype(np.int64)])
        return np.concatenate(points_found), np.concatenate(faces_found)


def _nearest(corners: np.ndarray, search: _BySize, wanted: np.ndarray) -> np.ndarray:
    centers, normals = wanted.mean(1), _normals(wanted)
    longest = np.linalg.norm(np.roll(wanted, -1, axis=1) - wanted, axis=2).max(1)
    # No face can be farther than the one with the nearest centre.
    guess = search.all.query(centers)[1]
    bound = _distance(centers, corners[guess]) + _TIE * longest

    def best(points: np.ndarray, radius: np.ndarray, facing: bool) -> np.ndarray:
        point, face = search.within(centers[points], radius)
        distance = _distance(centers[points][point], corners[face])
        alignment = np.einsum("pk,pk->p", normals[points][point], _normals(corners[face]))
        kept = (distance <= radius[point]) & (alignment > 0 if facing else True)
        point, face, distance, alignment = (x[kept] for x in (point, face, distance, alignment))
        least = np.full(len(points), np.inf)
        np.minimum.at(least, point, distance)
        alignment[distance > (least + _TIE * longest[points])[point]] = -np.inf
        order = np.lexsort((face, -alignment, point))
        chosen = np.full(len(points), -1)
        chosen[point[order][::-1]] = face[order][::-1]
        return chosen

    every = np.arange(len(centers))
    result = best(every, bound, facing=False)
    away = np.einsum("pk,pk->p", normals, _normals(corners[result])) < 0
    turned = np.flatnonzero(away)
    reach = _distance(centers[turned], corners[result[turned]]) + longest[turned]
    other = best(turned, reach, facing=True)
    result[turned] = np.where(other >= 0, other, result[turned])
    return result


def _distance(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """From each point ``[P, 3]`` to the triangle of the same row ``[P, 3, 3]``."""
    ends = corners - points[:, None]
    edges = np.roll(ends, -1, axis=1) - ends
    square = np.square(edges).sum(2)
    along = -np.einsum("pck,pck->pc", ends, edges) / np.where(square > 0, square, 1)
    foot = ends + along.clip(0, 1)[:, :, None] * edges
    nearest = np.linalg.norm(foot, axis=2).min(1)
    normal = _normals(corners)
    # Inside, if the foot on the plane lies on the inner side of all three edges.
    inner = np.cross(normal[:, None], edges)
    inside = (np.einsum("pck,pck->pc", inner, ends) <= 0).all(1) & normal.any(1)
    height = np.abs(np.einsum("pk,pk->p", normal, ends[:, 0]))
    return np.where(inside, np.minimum(height, nearest), nearest)
