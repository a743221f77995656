"""Readers and a writer of point clouds."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphpool.io.meshes.formats import SUFFIXES as MESHES
from graphpool.io.meshes.formats import read_mesh_file
from graphpool.io.points.arrays import read_bin, read_npy, read_npz
from graphpool.io.points.fields import Array, CloudArrays, Columns, assemble, describe
from graphpool.io.points.las_hdf5 import read_h5, read_las
from graphpool.io.points.pcd import read_pcd
from graphpool.io.points.text import read_text_points

_Reader = Callable[[Path, Columns], tuple[np.ndarray, dict[str, np.ndarray]]]

_READERS: dict[str, _Reader] = {
    **dict.fromkeys((".xyz", ".txt", ".pts", ".asc", ".csv", ".xyzn", ".xyzrgb"), read_text_points),
    ".npy": read_npy,
    ".npz": read_npz,
    ".bin": read_bin,
    ".pcd": lambda path, columns: read_pcd(path),
    ".las": read_las,
    ".laz": read_las,
    ".h5": read_h5,
    ".hdf5": read_h5,
}
_SAY_THEMSELVES = (*MESHES, ".pcd", ".las", ".laz")
_ELSEWHERE = {
    ".e57": "the package pye57, or CloudCompare",
    ".zip": "an archiver: unpack it",
    ".gz": "an archiver: unpack it",
}

#: Suffixes of point clouds and meshes that are read.
SUFFIXES: tuple[str, ...] = (*MESHES, *_READERS)


def read_cloud(path: str | os.PathLike[str], columns: Columns = None) -> CloudArrays:
    """All that a point file says: coordinates, triangles, and colours, normals, labels and the like.

    ================================ ================================================================
    suffix                           what is read
    ================================ ================================================================
    ``.ply``                         ASCII and binary: every number of a point, by name
    ``.pcd``                         the same, compressed too; points with a coordinate NaN are none
    ``.off``, ``.obj``               the same, with the triangles of a mesh
    ``.stl``, ``.glb``, ``.gltf``    coordinates and triangles only
    ``.xyz .txt .pts .asc .csv``     one point per line; blanks, commas or semicolons between. Names from
                                     ``columns``, or a line of names. A line of one whole number says how
                                     many points follow
    ``.xyzn``, ``.xyzrgb``           the same, with normals and with colours
    ``.npy``, ``.npz``, ``.h5``      an array ``[N, C]``; beside it, arrays with a row per point
    ``.bin``                         float32 records of x, y, z and intensity (KITTI), unless ``columns``
                                     says otherwise; refused, or a warning, where others may be meant
    ``.las``, ``.laz``               scaled coordinates, and all dimensions
    ================================ ================================================================

    ``.las`` and ``.laz`` need laspy, ``.h5`` h5py; the extra ``formats`` brings both.

    Args:
        path: The file.
        columns: What the columns of a table are: ``"x y z nx ny nz"``, a list of such names, or their
            number. A name that begins with ``_`` leaves its column out.

    Returns:
        Points ``[N, 3]`` in float64, faces ``[F, 3]`` or ``None``, and fields by name. Colours lie in
        [0, 1]; where the type of a number does not tell its range (text, floats), a file whose largest is
        above 1 counts to 255, or to 65535.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The suffix is unknown, or the file is not what it says; the message names it.
        ImportError: An optional package is needed; the message says how to get it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    suffix = path.suffix.lower()
    if columns is not None and suffix in _SAY_THEMSELVES:
        raise ValueError(f"{path} says what its columns are; `columns` must be None.")
    faces = None
    if suffix in MESHES:
        mesh = read_mesh_file(path)
        faces = mesh.faces if len(mesh.faces) else None
        coordinates = dict(zip("xyz", mesh.vertices.T, strict=True))
        points, fields = assemble({**mesh.vertex_values, **coordinates}, path)
    elif suffix in _READERS:
        points, fields = _READERS[suffix](path, columns)
    else:
        known = f"; {_ELSEWHERE[suffix]} can read it" if suffix in _ELSEWHERE else ""
        raise ValueError(
            f"{path}: unknown suffix {suffix!r}{known}. Read are {' '.join(SUFFIXES)}; a cloud of any "
            f"other kind can be kept as .npy, an array [N, 3]."
        )
    return CloudArrays(_checked(points, path), faces, fields)


def read_points(
    path: str | os.PathLike[str], columns: Columns = None
) -> tuple[Array, NDArray[np.int64] | None]:
    """Coordinates ``[N, 3]`` in float64, and the triangles where the file holds a mesh.

    As :func:`read_cloud`, with a warning where the file says more of its points.
    """
    cloud = read_cloud(path, columns)
    if cloud.fields:
        warnings.warn(
            f"{path} also holds {describe(cloud.fields)}; read_points leaves it out, "
            f"read_cloud keeps it.",
            stacklevel=2,
        )
    return cloud.points, cloud.faces


def write_cloud(
    path: str | os.PathLike[str],
    points: np.ndarray,
    fields: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a cloud as binary ``.ply``, which mesh viewers show in its colours.

    Args:
        path: Where to; missing folders are made.
        points: ``[N, 3]``, kept in float64.
        fields: What to say of every point: ``color`` ``[N, 3]``, in [0, 1] or uint8 from 0 to 255, ``normal``
            ``[N, 3]``, and any others, ``[N]``, under their names. :func:`read_cloud` gives the same back,
            colours in steps of 1/255.

    Raises:
        ValueError: The suffix is another, or a field does not have one row per point.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cloud.ply"
        >>> write_cloud(path, np.zeros((2, 3)), {"color": np.eye(2, 3), "label": np.array([4, 7])})
        >>> read_cloud(path).fields["label"].tolist(), read_cloud(path).fields["color"].tolist()
        ([4, 7], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    """
    path = Path(path)
    points = np.asarray(points)
    if path.suffix.lower() != ".ply":
        raise ValueError(f"Clouds are written as .ply; got {path.name!r}.")
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise ValueError(f"`points` must be numbers [N, 3]; got {points.dtype} {points.shape}.")
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points).all(1)).argmax())
        raise ValueError(f"`points` must be finite; got {points[bad].tolist()} at point {bad}.")
    columns = dict(zip("xyz", points.astype(np.float64).T, strict=True))
    for name, raw in (fields or {}).items():
        values = np.asarray(raw)
        shape = (len(points), 3) if name in ("color", "normal") else (len(points),)
        if values.shape != shape:
            raise ValueError(f"Field {name!r} must have shape {shape}; got {values.shape}.")
        if name == "color":
            if values.dtype != np.uint8:
                if not ((values >= 0) & (values <= 1)).all():
                    raise ValueError(
                        f"Field 'color' must be uint8, or lie in [0, 1]; got {values.dtype} from "
                        f"{values.min():g} to {values.max():g}."
                    )
                values = np.rint(values * 255).astype(np.uint8)
            written = dict(zip(("red", "green", "blue"), values.T, strict=True))
        elif name == "normal":
            written = dict(zip(("nx", "ny", "nz"), values.T, strict=True))
        else:
            written = {name: values}
        taken = sorted(written.keys() & columns.keys())
        if taken:
            raise ValueError(f"Field {name!r} would be written as {taken}, which is there already.")
        columns |= written
    kinds = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort", "u4": "uint"}
    kinds |= {"i1": "char", "i2": "short", "i4": "int"}
    layout = []
    for name, values in columns.items():
        kind = values.dtype.str[1:]
        if kind == "i8" and np.abs(values).max(initial=0) < 2**31:
            kind = "i4"
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ValueError(f"Names in a .ply file must be one word of ASCII; got {name!r}.")
        if kind not in kinds:
            raise ValueError(
                f"Field {name!r} must be floats, or integers of at most 32 bits, as a .ply file holds; got "
                f"{values.dtype}."
            )
        layout.append((name, f"<{kind}"))
    table = np.zeros(len(points), np.dtype(layout))
    for name, values in columns.items():
        table[name] = values
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property {kinds[kind[1:]]} {name}" for name, kind in layout]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*head, "end_header\n"]).encode("ascii") + table.tobytes())


def _checked(points: np.ndarray, path: Path) -> Array:
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise ValueError(
            f"{path}: expected at least one point of 3 coordinates; got {points.shape}."
        )
    if points.dtype.kind not in "fiu":
        raise ValueError(f"{path}: coordinates must be real numbers; got {points.dtype}.")
    points = points.astype(np.float64)
    bad = ~np.isfinite(points).all(1)
    if bad.any():
        more = f", nor are {int(bad.sum()) - 1} more" * (int(bad.sum()) > 1)
        raise ValueError(
            f"{path}: point {int(bad.argmax())} is not finite{more}. Take such points out of the file, as "
            f"numpy does by points[numpy.isfinite(points).all(1)]; in .pcd alone NaN says that there is none."
        )
    return points
