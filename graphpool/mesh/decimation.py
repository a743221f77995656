"""Fewer faces, through Open3D."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from graphpool._optional import require

from .cleaning import clean

__all__ = ["DecimatedMesh", "decimate"]


class DecimatedMesh(NamedTuple):
    """Attributes: ``vertices`` ``[V', 3]``, ``faces`` ``[F', 3]``, and ``labels`` ``[F']`` or ``None``."""

    vertices: np.ndarray
    faces: np.ndarray
    labels: np.ndarray | None


def decimate(
    vertices: np.ndarray, faces: np.ndarray, num_faces: int, labels: np.ndarray | None = None
) -> DecimatedMesh:
    """Simplifies a mesh to about ``num_faces`` faces by quadric error (Garland and Heckbert, 1997).

    A mesh that has no more faces than that is only cleaned (:func:`graphpool.mesh.clean`, as is the
    result).

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``.
        num_faces: The face budget.
        labels: ``[F]``; a new face takes the label of the old face whose centre is nearest to its
            own.

    Raises:
        ImportError: Open3D is not installed; the message says how to get it.
        ValueError: ``num_faces`` is less than 4, or the mesh is malformed.
    """
    if num_faces < 4:
        raise ValueError(f"`num_faces` must be >= 4; got {num_faces}.")
    mesh = clean(vertices, faces, labels)
    if len(mesh.faces) <= num_faces:
        return DecimatedMesh(mesh.vertices, mesh.faces, mesh.labels)
    open3d = require("open3d", purpose="mesh.decimate")
    shape = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces)
    )
    shape = shape.simplify_quadric_decimation(target_number_of_triangles=num_faces)
    smaller = clean(np.asarray(shape.vertices), np.asarray(shape.triangles))
    new_labels = None
    if mesh.labels is not None:
        centers = mesh.vertices[mesh.faces].mean(1)
        _, nearest = cKDTree(centers).query(smaller.vertices[smaller.faces].mean(1))
        new_labels = mesh.labels[nearest]
    return DecimatedMesh(smaller.vertices, smaller.faces, new_labels)
