"""Making a triangle soup into a mesh with two faces at most, and consistent ones, at every edge."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

from graphpool._compiled import kernel
from graphpool.mesh.repair.nearest import nearest_faces
from graphpool.mesh.repair.orientation import from_the_largest, orient_faces, turn_outward
from graphpool.ops import connected_components

_ORIENTATIONS = ("repair", "consistent", "discard")


@dataclass(frozen=True)
class CleaningReport:
    """What :func:`clean` removed or changed; every entry is an array of positions in its input.

    Attributes:
        merged_vertices: Vertices that coincided with an earlier one and were replaced by it.
        duplicate_faces: Faces with the same three corners as an earlier one, in any order.
        degenerate_faces: Faces with a repeated corner or (nearly) without height.
        flipped_faces: Faces whose orientation was reversed, to agree with their neighbours or to
            turn a closed part outwards.
        non_manifold_faces: Faces one of whose directed edges another face had used already.
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
        new_face: ``[F]``, for each face of the *input* the face here that stands for it: itself, and
            for a face that was removed the one nearest to its centre (see
            :func:`graphpool.mesh.nearest_faces`). ``prediction[mesh.new_face]`` is a prediction for
            the mesh as it was.
    """

    vertices: np.ndarray
    faces: np.ndarray
    labels: np.ndarray | None
    kept_faces: np.ndarray
    report: CleaningReport
    new_face: np.ndarray


def clean(
    vertices: np.ndarray,
    faces: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    orientation: str = "repair",
    merge: bool = True,
    tolerance: float = 0.0,
    min_height: float = 1e-8,
) -> CleanMesh:
    """Removes what the graphs of a mesh cannot represent, and tells what it was.

    In this order: coinciding vertices are merged; degenerate and duplicate faces are dropped; the
    orientation is repaired if asked for; faces are visited one by one and one is dropped if any of
    its three *directed* edges was already used by a face that was kept (what remains has at most two
    faces at every edge, with opposite directions there: fans and faces that disagree with their
    neighbours are gone); closed parts are turned outwards; vertices without a face are dropped.

    The visit begins with the part of the largest area and, inside a part, with the largest face, so
    that the main surface stays and a fin goes, whatever the order of the file; equals are taken by
    the coordinates of their corners.

    Args:
        vertices: ``[V, 3]``, finite.
        faces: ``[F, 3]``, corners counted from 0.
        labels: ``[F]`` or ``[F, ...]``, anything that belongs to the faces; kept in step with them.
        orientation: ``"repair"`` turns faces over so that each connected part becomes consistent,
            and closed parts, by their signed volume, outwards, each by itself: a part inside another
            one, too. A part with a boundary keeps the side that more of its faces had (of as many,
            that of its largest face).
            ``"consistent"`` does so with closed parts as well, for a hollow body whose inner wall
            faces inwards. ``"discard"`` turns nothing and visits the faces in the order of the
            input, as MeshCNN and PD-MeshNet do, which loses every face that disagrees with an
            earlier one.
        merge: Whether vertices at the same place become one.
        tolerance: Vertices at most this far apart, in the units of the mesh, count as at the same
            place, and so do chains of them; they become the first of them. Choose it well below the
            length of the edges: an edge that is shorter vanishes with its faces.
        min_height: Faces whose smallest height is at most ``min_height`` times their longest edge
            (twice the area over the square of that edge) count as degenerate, whatever their size.

    Raises:
        TypeError: ``faces`` are not integers.
        ValueError: A shape is wrong, a coordinate is not finite, a corner is out of range, the
            number of labels is not the number of faces, an option is out of its range, ``tolerance``
            joins more than 50 vertices on average, or no face is left.

    Example:
        >>> vertices = [[0, 0, 0], [2, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]
        >>> result = clean(vertices, [[0, 1, 2], [4, 2, 0], [0, 0, 3]], labels=[5, 6, 7])
        >>> result.faces.tolist(), result.labels.tolist(), result.new_face.tolist()
        ([[0, 1, 2], [3, 0, 2]], [5, 6], [0, 1, 1])
        >>> print(result.report)
        1 merged vertices, 1 degenerate faces, 1 flipped faces
    """
    points, original = _check(vertices, faces)
    _check_options(orientation, merge, tolerance, min_height)
    tags = None if labels is None else np.asarray(labels)
    if tags is not None and (tags.ndim == 0 or len(tags) != len(original)):
        raise ValueError(
            f"`labels` must have one entry per face, {len(original)}; got shape {tags.shape}."
        )

    corners, merged = original, np.zeros(0, dtype=np.int64)
    if merge:
        representative = _same_place(points, tolerance)
        merged = np.flatnonzero(representative != np.arange(len(points)))
        corners = representative[original]
    kept = np.arange(len(corners))
    # A power of two, so that nothing is rounded: areas and volumes must not overflow.
    largest = np.abs(points[original]).max(initial=0)
    scaled = np.ldexp(points, -np.frexp(largest)[1])

    degenerate = relative_height(scaled, corners) <= min_height
    dropped_degenerate = kept[degenerate]
    corners, kept = corners[~degenerate], kept[~degenerate]

    duplicate = _first_equal_row(np.sort(corners, axis=1)) != np.arange(len(corners))
    dropped_duplicates = kept[duplicate]
    corners, kept = corners[~duplicate], kept[~duplicate]

    turned = np.zeros(len(original), dtype=bool)
    if orientation != "discard":
        order = from_the_largest(scaled, corners)
        corners, kept = corners[order], kept[order]
        corners, turned[kept] = orient_faces(corners)

    used = _uses_new_directed_edges(corners)
    dropped_non_manifold = np.sort(kept[~used])
    corners, kept = corners[used], kept[used]
    order = np.argsort(kept)
    corners, kept = corners[order], kept[order]
    if orientation == "repair":
        corners, inward = turn_outward(scaled, corners)
        turned[kept] ^= inward
    flipped = kept[turned[kept]]

    if len(corners) == 0:
        raise ValueError(
            f"No face is left of {len(original)}: {len(dropped_degenerate)} were degenerate, "
            f"{len(dropped_duplicates)} duplicates, {len(dropped_non_manifold)} non-manifold."
        )
    new_face = np.full(len(original), -1)
    new_face[kept] = np.arange(len(kept))
    lost = np.flatnonzero(new_face < 0)
    new_face[lost] = nearest_faces((scaled, corners), (scaled, original[lost]))

    present = np.zeros(len(points), dtype=bool)
    present[corners] = True
    isolated = np.setdiff1d(np.flatnonzero(~present), merged, assume_unique=True)
    new_id = np.cumsum(present) - 1
    report = CleaningReport(
        merged, dropped_duplicates, dropped_degenerate, flipped, dropped_non_manifold, isolated
    )
    tags = None if tags is None else tags[kept]
    return CleanMesh(points[present], new_id[corners], tags, kept, report, new_face)


def _check_options(orientation: str, merge: bool, tolerance: float, min_height: float) -> None:
    if orientation not in _ORIENTATIONS:
        raise ValueError(f"`orientation` must be one of {_ORIENTATIONS}; got {orientation!r}.")
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"`tolerance` is a length, finite and >= 0; got {tolerance}.")
    if tolerance > 0 and not merge:
        raise ValueError(f"`tolerance` needs `merge=True`; got tolerance={tolerance}, merge=False.")
    if not 0 <= min_height < 1:
        raise ValueError(f"`min_height` is a share of an edge, in [0, 1); got {min_height}.")


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


def _same_place(points: np.ndarray, tolerance: float) -> np.ndarray:
    """For each vertex the first one at its place."""
    representative = _first_equal_row(points)
    if tolerance == 0:
        return representative
    own = np.unique(representative)
    tree = cKDTree(points[own])
    count = (tree.count_neighbors(tree, tolerance) - len(own)) // 2
    if count > 25 * len(own):
        raise ValueError(
            f"`tolerance`={tolerance} joins {2 * count / len(own):.0f} vertices on average; choose "
            f"one well below the length of the edges."
        )
    pairs = own[tree.query_pairs(tolerance, output_type="ndarray")]
    joined = connected_components(torch.from_numpy(pairs.T), len(points)).numpy()
    first = np.unique(joined, return_index=True)[1]
    return first[joined][representative]


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


def relative_height(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The smallest height of each face over its longest edge, ``[F]``; 0 for a repeated corner."""
    edges = np.roll(points[corners], -1, axis=1) - points[corners]
    # Divided first: the square of a very long edge overflows, that of a very short one vanishes.
    longest = np.abs(edges).max((1, 2), initial=0)
    edges = edges / np.where(longest > 0, longest, 1)[:, None, None]
    double = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    square = np.square(edges).sum(2).max(1, initial=0)
    return double / np.where(square > 0, square, 1)


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
