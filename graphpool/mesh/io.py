"""Reading and writing triangle meshes: Wavefront .obj, .off and .ply."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphpool._files import integers, read_text

from .ply import read_ply, write_ply

__all__ = [
    "SUFFIXES",
    "MeshArrays",
    "MeshFile",
    "read_mesh",
    "read_mesh_file",
    "triangulate",
    "write_mesh",
]

#: What can be read.
SUFFIXES = (".obj", ".off", ".ply")


_OBJ_WORDS = {"v", "vt", "vn", "vp", "f", "l", "p", "fo", "o", "g", "s", "mg", "usemtl", "mtllib"}
_OBJ_WORDS |= {
    "maplib",
    "usemap",
    "bevel",
    "c_interp",
    "d_interp",
    "lod",
    "shadow_obj",
    "trace_obj",
}
_OBJ_WORDS |= {"cstype", "deg", "bmat", "step", "curv", "curv2", "surf", "parm", "trim", "hole"}
_OBJ_WORDS |= {"scrv", "sp", "end", "con", "ctech", "stech", "call", "csh"}


class MeshArrays(NamedTuple):
    """A triangle mesh as two arrays: ``vertices`` ``[V, 3]`` float64, ``faces`` ``[F, 3]`` int64."""

    vertices: np.ndarray
    faces: np.ndarray


class MeshFile(NamedTuple):
    """A mesh, and further numbers per vertex, each ``[V]``, that a ``.ply`` file names."""

    vertices: np.ndarray
    faces: np.ndarray
    vertex_values: dict[str, np.ndarray]


def read_mesh_file(path: str | Path) -> MeshFile:
    """Reads a mesh; the format follows from the suffix (``.obj``, ``.off``, ``.ply``).

    Faces stay in the order of the file, so that label files keep their meaning. A polygon with more
    than three corners becomes a fan of triangles around its first corner; such a file has more
    faces here than lines in the file, so labels per face must have been made for the triangles.
    Of ``.obj`` and ``.off``, normals, texture coordinates, colours and materials are skipped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The format is unknown, the file is malformed, or it has no vertex; the message says
            where.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    polygons: np.ndarray | list[list[int]]
    values: dict[str, np.ndarray] = {}
    if suffix == ".obj":
        vertices, polygons = _read_obj(path)
    elif suffix == ".off":
        vertices, polygons = _read_off(path)
    elif suffix == ".ply":
        vertices, polygons, values = read_ply(path)
    else:
        raise ValueError(f"{path}: unknown mesh format {suffix!r}; expected .obj, .off or .ply.")
    if not len(vertices):
        raise ValueError(f"{path} has no vertex.")
    if not np.isfinite(vertices).all():
        bad = int(np.flatnonzero(~np.isfinite(vertices).all(1))[0])
        raise ValueError(f"{path}: vertex {bad} is not finite: {vertices[bad].tolist()}.")
    try:
        faces = polygons if isinstance(polygons, np.ndarray) else triangulate(polygons)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        bad = int(np.flatnonzero(((faces < 0) | (faces >= len(vertices))).any(1))[0])
        raise ValueError(
            f"{path}: face {bad} has corners {faces[bad].tolist()} (counted from 0), "
            f"but the file has {len(vertices)} vertices."
        )
    return MeshFile(vertices, faces, values)


def read_mesh(path: str | Path) -> MeshArrays:
    """Vertices and triangles of a file, as :func:`read_mesh_file`."""
    mesh = read_mesh_file(path)
    return MeshArrays(mesh.vertices, mesh.faces)


def triangulate(polygons: list[list[int]]) -> np.ndarray:
    """Fans of triangles ``[F, 3]`` for polygons given as lists of corners.

    Example:
        >>> triangulate([[0, 1, 2], [3, 4, 5, 6]]).tolist()
        [[0, 1, 2], [3, 4, 5], [3, 5, 6]]
    """
    sizes = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    if (sizes < 3).any():
        bad = int(np.flatnonzero(sizes < 3)[0])
        raise ValueError(f"face {bad} has {int(sizes[bad])} corners; at least 3 are needed.")
    if sizes.size == 0:
        return np.zeros((0, 3), dtype=np.int64)
    corners = np.concatenate([np.asarray(polygon, dtype=np.int64) for polygon in polygons])
    if (sizes == 3).all():
        return corners.reshape(-1, 3)
    starts = np.cumsum(sizes) - sizes
    triangles = sizes - 2
    first = np.repeat(starts, triangles)
    step = np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)


def _read_obj(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    vertices: list[list[str]] = []
    polygons: list[list[int]] = []
    # Names of materials may be in any encoding; numbers are ASCII.
    for number, line in enumerate(read_text(path, strict=False).split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "v":
            vertices.append(words[1:4])
        elif words[0] == "f":
            try:
                corners = integers([corner.split("/", 1)[0] for corner in words[1:]])
            except ValueError:
                raise ValueError(
                    f"{path}, line {number}: cannot read the face {line.strip()!r}."
                ) from None
            if 0 in corners or len(corners) < 3:
                raise ValueError(
                    f"{path}, line {number}: a face needs at least 3 corners, counted from 1 "
                    f"(or from -1 backwards); got {line.strip()!r}."
                )
            # A negative corner counts back from the vertices read so far.
            seen = len(vertices)
            polygons.append([c - 1 if c > 0 else seen + c for c in corners])
        elif words[0] not in _OBJ_WORDS:
            raise ValueError(
                f"{path}, line {number}: {words[0][:40]!r} is no keyword of OBJ files."
            )
    return _to_points(vertices, path), polygons


def _read_off(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    text = read_text(path, strict=False)
    lines = [line for line in (raw.split("#", 1)[0].strip() for raw in text.split("\n")) if line]
    if not lines or not lines[0].startswith("OFF"):
        raise ValueError(f"{path}: an OFF file starts with 'OFF'; got {lines[:1]}.")
    # Some ModelNet files carry the counts on the first line, right behind "OFF".
    rest = lines[0][3:].strip()
    body = ([rest] if rest else []) + lines[1:]
    try:
        num_vertices, num_faces = integers(body[0].split()[:2])
    except (IndexError, ValueError):
        raise ValueError(f"{path}: the numbers of vertices and faces are missing.") from None
    if num_vertices < 0 or num_faces < 0 or len(body) != 1 + num_vertices + num_faces:
        raise ValueError(
            f"{path}: {num_vertices} vertices and {num_faces} faces were announced, but "
            f"{len(body) - 1} lines follow."
        )
    vertices = _to_points([line.split()[:3] for line in body[1 : 1 + num_vertices]], path)
    polygons = []
    for number, line in enumerate(body[1 + num_vertices :]):
        values = line.split()
        try:
            (size,) = integers(values[:1])
            corners = integers(values[1 : 1 + max(size, 0)])
        except ValueError:
            raise ValueError(f"{path}: cannot read face {number}, {line!r}.") from None
        if size < 3 or len(corners) < size:
            raise ValueError(
                f"{path}: face {number} announces {size} corners, of at least 3: {line!r}."
            )
        polygons.append(corners)
    return vertices, polygons


def _to_points(rows: list[list[str]], path: Path) -> np.ndarray:
    if not rows:
        return np.zeros((0, 3))
    try:
        if any("_" in word for row in rows for word in row):
            raise ValueError("Python, but no file format, allows 1_000")
        return np.array(rows, dtype=np.float64).reshape(len(rows), 3)
    except ValueError:
        for number, row in enumerate(rows):
            try:
                if len([float(value) for value in row]) == 3 and "_" not in "".join(row):
                    continue
            except ValueError:
                pass
            raise ValueError(f"{path}: vertex {number} is not three numbers: {row}.") from None
        raise


def write_mesh(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    face_colors: np.ndarray | None = None,
) -> None:
    """Writes a mesh as ``.obj``, ``.off`` or ``.ply``, by suffix.

    Args:
        path: Where to; missing folders are made.
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``, counted from 0.
        face_colors: ``[F, 3]`` or ``[F, 4]``, in ``[0, 1]`` (float) or ``0, ..., 255`` (integer);
            only for ``.ply``.
    """
    path = Path(path)
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    suffix = path.suffix.lower()
    if face_colors is not None and suffix != ".ply":
        raise ValueError(f"`face_colors` can only be written to .ply files; got {path.name!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".ply":
        write_ply(path, vertices, faces, face_colors)
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
        raise ValueError(f"{path}: unknown mesh format {suffix!r}; expected .obj, .off or .ply.")
