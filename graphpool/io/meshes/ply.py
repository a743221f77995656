"""The .ply format, ASCII and binary."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphpool.io.meshes.mesh_file import MeshFile
from graphpool.io.meshes.ply_rows import Body, Property, read_rows
from graphpool.io.untrusted import integers

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_INTEGERS = {name: code for name, code in _TYPES.items() if code[0] != "f"}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_LISTS = ("vertex_indices", "vertex_index")


class _Element(NamedTuple):
    name: str
    rows: int
    properties: list[Property]


def read_ply(path: Path) -> MeshFile:
    """The vertices and polygons of a .ply file, with all further numbers that each of them has.

    Triangle strips (``tristrips``) become triangles, turned alternately, behind the faces if there are
    both; a triangle with a repeated corner only joins two strips and is no face.
    """
    data = path.read_bytes()
    order, elements, offset = _parse_header(data, path)
    body = Body(data, offset, order, path)
    vertices, corners, sizes = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64)
    face_values: dict[str, np.ndarray] = {}
    vertex_values: dict[str, np.ndarray] = {}
    strips = np.zeros((0, 3), np.int64)
    for name, count, properties in elements:
        if count < 0 or not properties:
            raise ValueError(
                f"{path}: {count} elements {name!r} of {len(properties)} properties were announced."
            )
        key = None
        if name in ("face", "tristrips"):
            lists = {p.name for p in properties if p.length and p.kind[0] != "f"}
            key = next((k for k in _LISTS if k in lists), None)
            if key is None:
                raise ValueError(
                    f"{path}: the elements {name!r} have no list 'vertex_indices' of integers."
                )
        rows = read_rows(body, name, count, properties, key, least=3 if name == "face" else 0)
        if name == "vertex":
            missing = [axis for axis in "xyz" if axis not in rows.values]
            if missing:
                raise ValueError(f"{path}: the vertices have no property {missing[0]!r}.")
            vertices = np.stack([rows.values.pop(a).astype(np.float64) for a in "xyz"], axis=1)
            vertex_values = rows.values
        elif name == "face":
            corners, sizes, face_values = rows.entries, rows.sizes, rows.values
        elif name == "tristrips":
            strips = _triangles_of_strips(rows.entries, rows.sizes)
        elif any(p.name in _LISTS for p in properties):
            warnings.warn(
                f"{path}: the elements {name!r} speak of vertices, too, and were left alone; faces are "
                f"read from 'face' and 'tristrips'.",
                stacklevel=4,
            )
    surplus, unit = body.left()
    if surplus:
        warnings.warn(
            f"{path}: {surplus} {unit} follow the last element that the header announces; they were "
            f"left alone.",
            stacklevel=4,
        )
    if len(strips):
        corners = np.concatenate([corners, strips.reshape(-1)])
        sizes = np.concatenate([sizes, np.full(len(strips), 3)])
        face_values = {}
    return MeshFile(vertices, corners, sizes, face_values, vertex_values)


def _parse_header(data: bytes, path: Path) -> tuple[str, list[_Element], int]:
    end = re.search(rb"\nend_header[ \t\r]*\n", data)
    if not re.match(rb"ply\s", data) or end is None:
        raise ValueError(f"{path}: not a PLY file ('ply' ... 'end_header' is missing).")
    order: str | None = None
    elements: list[_Element] = []
    for line in data[: end.start()].decode("ascii", errors="replace").splitlines():
        words = line.split()
        if not words or words[0] in ("ply", "comment", "obj_info"):
            continue
        try:
            if words[0] == "format":
                order = _FORMATS[words[1]]
            elif words[0] == "element":
                (count,) = integers(words[2:3])
                elements.append(_Element(words[1], count, []))
            elif words[0] == "property" and words[1] == "list":
                entry = Property(words[4], _TYPES[words[3]], _INTEGERS[words[2]])
                elements[-1].properties.append(entry)
            elif words[0] == "property":
                elements[-1].properties.append(Property(words[2], _TYPES[words[1]], ""))
            else:
                raise ValueError("Unknown keyword.")
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"{path}: cannot read the header line {line!r}.") from None
    if order is None:
        raise ValueError(f"{path}: the header has no format line.")
    for names in ([e.name for e in elements], *([p.name for p in e.properties] for e in elements)):
        if len(set(names)) != len(names):
            raise ValueError(f"{path}: the header says something twice: {names}.")
    return order, elements, end.end()


def _triangles_of_strips(entries: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Triangles ``[F, 3]`` of strips, each of which -1 may break into several."""
    strip = np.repeat(np.arange(len(sizes)), sizes)
    begins = np.ones(len(entries), dtype=bool)
    begins[1:] = (strip[1:] != strip[:-1]) | (entries[:-1] == -1)
    run = np.cumsum(begins) - 1
    step = np.arange(len(entries)) - np.flatnonzero(begins)[run]
    last = np.flatnonzero((step[2:] >= 2) & (entries[2:] != -1)) + 2
    a, b, c = entries[last - 2], entries[last - 1], entries[last]
    odd = step[last] % 2 == 1
    triangles = np.stack([np.where(odd, b, a), np.where(odd, a, b), c], axis=1)
    return triangles[(a != b) & (b != c) & (c != a)]


def write_ply(
    path: Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    face_colors: np.ndarray | None = None,
    vertex_colors: np.ndarray | None = None,
) -> None:
    """Writes a binary .ply with optional colours (see :func:`graphpool.mesh.write_mesh`)."""
    header = ["ply", "format binary_little_endian 1.0"]
    tables = []
    for name, rows, colors in (("vertex", vertices, vertex_colors), ("face", faces, face_colors)):
        header.append(f"element {name} {len(rows)}")
        fields: list = []
        if name == "vertex":
            header += [f"property double {axis}" for axis in "xyz"]
            fields += [("row", "<f8", (3,))]
        else:
            header.append("property list uchar int vertex_indices")
            fields += [("size", "u1"), ("row", "<i4", (3,))]
        paint = None if colors is None else _bytes_of_colors(colors, len(rows), f"{name}_colors")
        names = () if paint is None else ("red", "green", "blue", "alpha")[: paint.shape[1]]
        header += [f"property uchar {channel}" for channel in names]
        table = np.zeros(len(rows), dtype=np.dtype(fields + [(n, "u1") for n in names]))
        table["row"] = rows
        if name == "face":
            table["size"] = 3
        for i, channel in enumerate(names):
            table[channel] = paint[:, i]  # type: ignore[index]
        tables.append(table.tobytes())
    head = ("\n".join([*header, "end_header"]) + "\n").encode("ascii")
    path.write_bytes(head + b"".join(tables))


def _bytes_of_colors(colors: np.ndarray, count: int, name: str) -> np.ndarray:
    paint = np.asarray(colors)
    if paint.ndim != 2 or paint.shape[0] != count or paint.shape[1] not in (3, 4):
        raise ValueError(
            f"`{name}` must have shape [{count}, 3] or [{count}, 4]; got {paint.shape}."
        )
    real = np.issubdtype(paint.dtype, np.floating)
    top = 1 if real else 255
    if paint.size and not (paint.min() >= 0 and paint.max() <= top):
        raise ValueError(
            f"`{name}` of {'floating' if real else 'integer'} type must lie in [0, {top}]; got "
            f"{paint.min()} to {paint.max()}."
        )
    return np.rint(paint * 255) if real else paint
