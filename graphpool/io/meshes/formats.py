"""Reading and writing meshes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphpool.io.meshes.gltf import FOREIGN, read_foreign
from graphpool.io.meshes.mesh_file import MeshFile
from graphpool.io.meshes.obj import read_obj
from graphpool.io.meshes.off import read_off
from graphpool.io.meshes.ply import read_ply, write_ply
from graphpool.io.meshes.stl import read_stl
from graphpool.io.untrusted import naming

_READERS: dict[str, Callable[[Path], MeshFile]] = {
    ".obj": read_obj,
    ".off": read_off,
    ".ply": read_ply,
    ".stl": read_stl,
}

#: What can be read, the last ones through trimesh.
SUFFIXES: tuple[str, ...] = (*_READERS, *FOREIGN)


class MeshArrays(NamedTuple):
    """A triangle mesh as two arrays: ``vertices`` ``[V, 3]`` float64, ``faces`` ``[F, 3]`` int64."""

    vertices: np.ndarray
    faces: np.ndarray


def read_mesh(path: str | Path) -> MeshArrays:
    """Reads a mesh; the format follows from the suffix.

    ======================= ==================================================================
    suffix                  what is read
    ======================= ==================================================================
    ``.obj``                polygons (``f``, ``fo``), lines that go on behind a backslash
    ``.off``                ASCII and binary, with colours, normals, texture coordinates
    ``.ply``                ASCII and binary, polygons and triangle strips
    ``.stl``                ASCII and binary; equal corners become one vertex
    ``.glb``, ``.gltf``     through trimesh (``pip install 'graphpool[formats]'``)
    ======================= ==================================================================

    Faces stay in the order of the file. A polygon with more than three corners is cut into triangles
    (:func:`graphpool.io.meshes.polygons.triangulate`), so that there are more faces here than in the file;
    ``polygon_of`` of :class:`graphpool.mesh.MeshFile` leads back. Normals, texture coordinates, lines
    and points are skipped; labels, colours, groups and materials are in :func:`read_mesh_file`.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The format needs trimesh, which is not installed.
        ValueError: The format is unknown, the file is malformed, or it has no vertex or no face; the
            message says where.
    """
    mesh = read_mesh_file(path, need_faces=True)
    return MeshArrays(mesh.vertices, mesh.faces)


def read_mesh_file(path: str | Path, need_faces: bool = False) -> MeshFile:
    """Reads all that a mesh file says: polygons, values of faces and vertices, names.

    Formats and errors are those of :func:`read_mesh`; a file without faces is read, too, unless
    ``need_faces``.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.obj"
        >>> _ = file.write_text("v 0 0 0\\nv 1 0 0\\nv 1 1 0\\nv 0 1 0\\ng roof\\nf 1 2 3 4\\n")
        >>> mesh = read_mesh_file(file)
        >>> mesh
        MeshFile(4 vertices, 1 faces of 4 to 4 corners; face group)
        >>> mesh.names["group"][mesh.face_values["group"][0]], mesh.polygon_of.tolist()
        ('roof', [0, 0])
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: unknown mesh format {suffix!r}; expected one of {', '.join(SUFFIXES)}."
        )
    with naming(path):
        mesh = _READERS.get(suffix, read_foreign)(path)
        _check(mesh)
        len(mesh.faces)  # cut here, so that a polygon that cannot be is an error of this file
    if need_faces and not len(mesh.sizes):
        raise ValueError(
            f"{path} has {len(mesh.vertices)} vertices, but no face. If it is a point cloud, "
            f"graphpool.datasets.read_points reads it."
        )
    return mesh


def _check(mesh: MeshFile) -> None:
    if not len(mesh.vertices):
        raise ValueError("The file has no vertex.")
    finite = np.isfinite(mesh.vertices).all(1)
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"Vertex {bad} is not finite: {mesh.vertices[bad].tolist()}. Take it out of the file, with any "
            f"faces that name it."
        )
    short = np.flatnonzero(mesh.sizes < 3)
    if len(short):
        raise ValueError(
            f"Face {short[0]} has {mesh.sizes[short[0]]} corners; at least 3 are needed."
        )
    outside = (mesh.corners < 0) | (mesh.corners >= len(mesh.vertices))
    if outside.any():
        bad = int(np.searchsorted(np.cumsum(mesh.sizes), int(outside.argmax()), side="right"))
        stop = int(mesh.sizes[: bad + 1].sum())
        raise ValueError(
            f"Face {bad} has corners {mesh.corners[stop - mesh.sizes[bad] : stop].tolist()[:20]} "
            f"(counted from 0), but the file has {len(mesh.vertices)} vertices."
        )


def write_mesh(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    face_colors: np.ndarray | None = None,
    vertex_colors: np.ndarray | None = None,
) -> None:
    """Writes a mesh as ``.obj``, ``.off`` or ``.ply``, by suffix.

    Args:
        path: Where to; missing folders are made.
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``, counted from 0.
        face_colors: ``[F, 3]`` or ``[F, 4]``, in ``[0, 1]`` (float) or ``0, ..., 255`` (integer);
            only for ``.ply``.
        vertex_colors: ``[V, 3]`` or ``[V, 4]``, likewise.
    """
    path = Path(path)
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    suffix = path.suffix.lower()
    for name, colors in (("face_colors", face_colors), ("vertex_colors", vertex_colors)):
        if colors is not None and suffix != ".ply":
            raise ValueError(f"`{name}` can only be written to .ply files; got {path.name!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".ply":
        write_ply(path, vertices, faces.reshape(-1, 3), face_colors, vertex_colors)
    elif suffix == ".obj":
        lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
        lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif suffix == ".off":
        lines = ["OFF", f"{len(vertices)} {len(faces)} 0"]
        lines += [f"{x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
        lines += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        raise ValueError(f"{path}: cannot write {suffix!r}; expected .obj, .off or .ply.")
