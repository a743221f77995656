"""Making a triangle soup into a mesh with two faces at most, and consistent ones, at every edge."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from graphpool._compiled import kernel

from .orientation import orient_faces

__all__ = ["CleanMesh", "CleaningReport", "clean"]


@dataclass(frozen=True)
class CleaningReport:
    """What :func:`clean` removed or changed; every entry is an array of positions in its input.

    Attributes:
        merged_vertices: Vertices that coincided with an earlier one and were replaced by it.
        duplicate_faces: Faces with the same three corners as an earlier one, in any order.
        degenerate_faces: Faces with a repeated corner or with (nearly) no area.
        flipped_faces: Faces whose orientation was reversed to agree with their neighbours.
        non_manifold_faces: Faces one of whose directed edges an earlier face had used already.
        isolated_vertices: Vertices without a face.
    """

    merged_vertices: np.ndarray
    duplicate_faces: np.ndarray
    degenerate_faces: np.ndarray
    flipped_faces: np.ndarray
    non_manifold_faces: np.ndarray
    isolated_vertices: np.ndarray

    @property
    def changed(self) -> bool:
        """Whether anything at all was removed or changed."""
        return any(len(getattr(self, field.name)) for field in fields(self))

    def __str__(self) -> str:
        found = [
            f"{len(getattr(self, field.name))} {field.name.replace('_', ' ')}"
            for field in fields(self)
            if len(getattr(self, field.name))
        ]
        return ", ".join(found) or "nothing to clean"


class CleanMesh(NamedTuple):
    """What :func:`clean` returns.

    Attributes:
        vertices: ``[V', 3]`` float64.
        faces: ``[F', 3]`` int64, in the order of the input.
        labels: The labels of the faces that were kept, or ``None``.
        kept_faces: ``[F']``, the position of each face in the input.
        report: What was removed or changed.
    """

    vertices: np.ndarray
    faces: np.ndarray
    labels: np.ndarray | None
    kept_faces: np.ndarray
    report: CleaningReport


def clean(
    vertices: np.ndarray,
    faces: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    orientation: str = "repair",
    merge: bool = True,
    min_area: float = 1e-14,
) -> CleanMesh:
    """Removes what the graphs of a mesh cannot represent, and tells what it was.

    In this order: coinciding vertices are merged; degenerate and duplicate faces are dropped; the
    orientation is repaired if asked for; faces are visited in order and one is dropped if any of its
    three *directed* edges was already used by an earlier face that was kept (what remains has at
    most two faces at every edge, with opposite directions there: fans and faces that disagree with
    their neighbours are gone); vertices without a face are dropped.

    Args:
        vertices: ``[V, 3]``, finite.
        faces: ``[F, 3]``, corners counted from 0.
        labels: ``[F]`` or ``[F, ...]``, anything that belongs to the faces; kept in step with them.
        orientation: ``"repair"`` first turns faces over so that each connected part becomes
            consistent, by turning the smaller half; ``"discard"`` leaves this to the visit above, as
            MeshCNN and PD-MeshNet do, which loses every face that disagrees with an earlier one.
        merge: Whether vertices at exactly the same place become one.
        min_area: Faces whose area is at most ``min_area`` times the squared diagonal of the mesh's
            bounding box count as degenerate.

    Raises:
        TypeError: ``faces`` are not integers.
        ValueError: A shape is wrong, a coordinate is not finite, a corner is out of range, the
            number of labels is not the number of faces, or no face is left.

    Example:
        >>> vertices = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]
        >>> result = clean(vertices, [[0, 1, 2], [4, 2, 0], [0, 0, 3]], labels=[5, 6, 7])
        >>> result.faces.tolist(), result.labels.tolist()
        ([[0, 1, 2], [3, 0, 2]], [5, 6])
        >>> print(result.report)
        1 merged vertices, 1 degenerate faces, 1 flipped faces
    """
    points, corners = _check(vertices, faces)
    if orientation not in ("repair", "discard"):
        raise ValueError(f"`orientation` must be 'repair' or 'discard'; got {orientation!r}.")
    tags = None if labels is None else np.asarray(labels)
    if tags is not None and (tags.ndim == 0 or len(tags) != len(corners)):
        raise ValueError(
            f"`labels` must have one entry per face, {len(corners)}; got shape {tags.shape}."
        )

    merged = np.zeros(0, dtype=np.int64)
    if merge:
        representative = _first_equal_row(points)
        merged = np.flatnonzero(representative != np.arange(len(points)))
        corners = representative[corners]
    kept = np.arange(len(corners))

    degenerate = _degenerate(points, corners, min_area)
    dropped_degenerate = kept[degenerate]
    corners, kept = corners[~degenerate], kept[~degenerate]

    duplicate = _first_equal_row(np.sort(corners, axis=1)) != np.arange(len(corners))
    dropped_duplicates = kept[duplicate]
    corners, kept = corners[~duplicate], kept[~duplicate]

    flipped = np.zeros(0, dtype=np.int64)
    if orientation == "repair":
        corners, turned = orient_faces(corners)
        flipped = kept[turned]

    used = _uses_new_directed_edges(corners)
    dropped_non_manifold = kept[~used]
    corners, kept = corners[used], kept[used]
    flipped = np.intersect1d(flipped, kept)

    if len(corners) == 0:
        raise ValueError(
            f"no face is left of {len(np.asarray(faces))}: {len(dropped_degenerate)} were degenerate, "
            f"{len(dropped_duplicates)} duplicates, {len(dropped_non_manifold)} non-manifold."
        )
    present = np.zeros(len(points), dtype=bool)
    present[corners] = True
    isolated = np.setdiff1d(np.flatnonzero(~present), merged, assume_unique=True)
    new_id = np.cumsum(present) - 1
    report = CleaningReport(
        merged, dropped_duplicates, dropped_degenerate, flipped, dropped_non_manifold, isolated
    )
    return CleanMesh(
        points[present], new_id[corners], None if tags is None else tags[kept], kept, report
    )


def _check(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = np.asarray(vertices, dtype=np.float64)
    corners = np.asarray(faces)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"`vertices` must have shape [V, 3]; got {points.shape}.")
    if corners.ndim != 2 or corners.shape[1] != 3:
        raise ValueError(f"`faces` must have shape [F, 3]; got {corners.shape}.")
    if not np.issubdtype(corners.dtype, np.integer):
        raise TypeError(f"`faces` must be integers; got {corners.dtype}.")
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
        raise ValueError(f"`vertices` must be finite; vertex {bad} is {points[bad].tolist()}.")
    outside = ((corners < 0) | (corners >= len(points))).any(1)
    if outside.any():
        bad = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"`faces` must have corners in [0, {len(points)}); face {bad} is "
            f"{corners[bad].tolist()}."
        )
    return points, corners.astype(np.int64)


def _first_equal_row(rows: np.ndarray) -> np.ndarray:
    """For each row, the position of the first row equal to it."""
    if len(rows) == 0:
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    starts = np.ones(len(rows), dtype=bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(1)
    # lexsort is stable, so the head of a run is the first of its rows.
    first = np.empty(len(rows), dtype=np.int64)
    first[order] = order[starts][np.cumsum(starts) - 1]
    return first


def _degenerate(points: np.ndarray, corners: np.ndarray, min_area: float) -> np.ndarray:
    a, b, c = points[corners[:, 0]], points[corners[:, 1]], points[corners[:, 2]]
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    span = np.ptp(points, axis=0) if len(points) else np.zeros(3)
    i, j, k = corners.T
    return (area <= min_area * float(span @ span)) | (i == j) | (j == k) | (k == i)


def _uses_new_directed_edges(corners: np.ndarray) -> np.ndarray:
    if len(corners) == 0:
        return np.zeros(0, dtype=bool)
    size = int(corners.max()) + 1
    keys = corners * size + np.roll(corners, -1, axis=1)
    ids = np.unique(keys.ravel(), return_inverse=True)[1].reshape(keys.shape)
    return _visit(ids, int(ids.max()) + 1)


@kernel
def _visit(ids: np.ndarray, count: int) -> np.ndarray:
    taken = np.zeros(count, dtype=np.bool_)
    kept = np.zeros(ids.shape[0], dtype=np.bool_)
    for face in range(ids.shape[0]):
        i, j, k = ids[face, 0], ids[face, 1], ids[face, 2]
        if not (taken[i] or taken[j] or taken[k]):
            taken[i] = taken[j] = taken[k] = True
            kept[face] = True
    return kept
