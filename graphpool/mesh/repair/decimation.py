"""Fewer faces, through Open3D."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpool._optional import require
from graphpool.mesh.repair.cleaning import clean
from graphpool.mesh.repair.nearest import nearest_faces


class DecimatedMesh(NamedTuple):
    """What :func:`decimate` returns.

    Attributes:
        vertices: ``[V', 3]``.
        faces: ``[F', 3]``.
        labels: ``[F']`` or ``None``.
        old_face: ``[F']``, for each face the face of the input whose label it has.
        new_face: ``[F]``, for each face of the *input* the nearest face here:
            ``prediction[mesh.new_face]`` is a prediction for the mesh as it was.
    """

    vertices: np.ndarray
    faces: np.ndarray
    labels: np.ndarray | None
    old_face: np.ndarray
    new_face: np.ndarray


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
        labels: ``[F]``; a new face takes the label of the old face that is nearest to its centre and
            looks the same way, see :func:`graphpool.mesh.nearest_faces`.

    Raises:
        ImportError: Open3D is not installed; the message says how to get it.
        ValueError: ``num_faces`` is less than 4, or the mesh is malformed.
    """
    if num_faces < 4:
        raise ValueError(f"`num_faces` must be >= 4; got {num_faces}.")
    mesh = clean(vertices, faces, labels)
    if len(mesh.faces) <= num_faces:
        return DecimatedMesh(mesh.vertices, mesh.faces, mesh.labels, mesh.kept_faces, mesh.new_face)
    open3d = require("open3d", purpose="mesh.decimate")
    shape = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces)
    )
    shape = shape.simplify_quadric_decimation(target_number_of_triangles=num_faces)
    smaller = clean(np.asarray(shape.vertices), np.asarray(shape.triangles))
    old = nearest_faces(mesh, smaller)
    return DecimatedMesh(
        smaller.vertices,
        smaller.faces,
        None if mesh.labels is None else mesh.labels[old],
        mesh.kept_faces[old],
        nearest_faces(smaller, mesh)[mesh.new_face],
    )
