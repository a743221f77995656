"""The .stl format, ASCII and binary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphpool.io.meshes.mesh_file import MeshFile
from graphpool.io.meshes.text import to_points
from graphpool.io.untrusted import read_text

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEAD = 84


def read_stl(path: Path) -> MeshFile:
    """The triangles of an .stl file; corners at exactly the same place become one vertex.

    A binary file is told by its length, for many begin with ``solid`` as ASCII files do. Its attribute
    bytes are the face value ``"attribute"`` where one is not 0; the solids of an ASCII file are the face
    value ``"group"``.
    """
    data = path.read_bytes()
    count = int(np.frombuffer(data, "<u4", 1, _HEAD - 4)[0]) if len(data) >= _HEAD else 0
    if len(data) >= _HEAD and len(data) == _HEAD + count * _TRIANGLE.itemsize:
        table = np.frombuffer(data, _TRIANGLE, count, _HEAD)
        used = (
            {"attribute": table["attribute"].astype(np.int64)} if table["attribute"].any() else {}
        )
        return _merged(table["corners"].reshape(-1, 3).astype(np.float64), used)
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip()[:5].lower() == b"solid" or b"\0" in data:
        raise ValueError(
            f"{path}: not an STL file: ASCII begins with 'solid', and as a binary file its "
            f"{len(data)} bytes differ from the {_HEAD + count * _TRIANGLE.itemsize} of the {count} "
            f"triangles it announces."
        )
    return _read_ascii(path)


def _read_ascii(path: Path) -> MeshFile:
    rows: list[list[str]] = []
    solids: list[int] = []
    names: dict[str, int] = {"": 0}
    solid, corners = 0, 0
    for number, line in enumerate(read_text(path, strict=False).split("\n"), 1):
        words = line.split()
        word = words[0].lower() if words else ""
        if word == "vertex":
            rows.append(words[1:])
            corners += 1
        elif word == "solid":
            solid = names.setdefault(" ".join(words[1:]), len(names))
        elif word in ("endloop", "endfacet"):
            if corners != (3 if word == "endloop" else 0):
                raise ValueError(f"{path}, line {number}: a facet has {corners} vertices, not 3.")
            solids += [solid] if word == "endloop" else []
            corners = 0
        elif word not in ("", "facet", "outer", "endsolid"):
            raise ValueError(f"{path}, line {number}: {word[:40]!r} is no keyword of STL files.")
    if corners:
        raise ValueError(f"{path}: the file ends inside a facet.")
    points = to_points(rows, path)
    if not any(solids):
        return _merged(points, {})
    return _merged(points, {"group": np.array(solids)}, {"group": tuple(names)})


def _merged(
    points: np.ndarray, face_values: dict, names: dict[str, tuple[str, ...]] | None = None
) -> MeshFile:
    # Adding zero makes one number of 0 and -0.
    _, first, vertex_of = np.unique(points + 0.0, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    corners = rank[vertex_of.reshape(-1)].astype(np.int64)
    sizes = np.full(len(corners) // 3, 3, dtype=np.int64)
    return MeshFile(points[first[order]], corners, sizes, face_values, {}, names or {})
