"""The .ply format, ASCII and binary."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from graphpool._files import integers

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_INTEGERS = {name: code for name, code in _TYPES.items() if code[0] != "f"}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

# A property is (name, type) or, for a list, (name, type of its entries, type of its length).
_Property = tuple[str, ...]


def read_ply(
    path: Path,
) -> tuple[np.ndarray, np.ndarray | list[list[int]], dict[str, np.ndarray]]:
    """Vertices ``[V, 3]``, the corners of the faces, and further numbers per vertex.

    The corners are an array if all faces are triangles, else lists.
    """
    data = path.read_bytes()
    order, elements, offset = _parse_header(data, path)
    vertices = np.zeros((0, 3))
    values: dict[str, np.ndarray] = {}
    polygons: np.ndarray | list[list[int]] = np.zeros((0, 3), dtype=np.int64)
    tokens = data[offset:].split() if order == "" else []
    position = 0 if order == "" else offset
    for name, count, properties in elements:
        if count < 0 or not properties:
            raise ValueError(
                f"{path}: {count} elements {name!r} of {len(properties)} properties were announced."
            )
        if order == "":
            columns, position = _read_ascii(tokens, position, count, properties, path, name)
        else:
            columns, position = _read_binary(data, position, count, properties, order, path, name)
        if name == "vertex":
            missing = [axis for axis in "xyz" if axis not in columns]
            if missing:
                raise ValueError(f"{path}: the vertices have no property {missing[0]!r}.")
            vertices = np.stack([np.asarray(columns[a], dtype=np.float64) for a in "xyz"], axis=1)
            single = {p[0] for p in properties if len(p) == 2} - set("xyz")
            values = {key: np.asarray(columns[key]) for key in columns if key in single}
        elif name == "face":
            lists = {p[0] for p in properties if len(p) == 3 and p[1][0] != "f"}
            key = next((k for k in ("vertex_indices", "vertex_index") if k in lists), None)
            if key is None:
                raise ValueError(f"{path}: the faces have no list 'vertex_indices' of integers.")
            polygons = columns[key]
    surplus = len(tokens) - position if order == "" else len(data[position:].strip(b"\0\r\n\t "))
    if surplus:
        raise ValueError(
            f"{path}: {surplus} {'numbers' if order == '' else 'bytes'} follow the last element."
        )
    return vertices, polygons, values


def _parse_header(
    data: bytes, path: Path
) -> tuple[str, list[tuple[str, int, list[_Property]]], int]:
    end = re.search(rb"\nend_header[ \t\r]*\n", data)
    if not re.match(rb"ply\s", data) or end is None:
        raise ValueError(f"{path}: not a PLY file ('ply' ... 'end_header' is missing).")
    order: str | None = None
    elements: list[tuple[str, int, list[_Property]]] = []
    for line in data[: end.start()].decode("ascii", errors="replace").splitlines():
        words = line.split()
        if not words or words[0] in ("ply", "comment", "obj_info"):
            continue
        try:
            if words[0] == "format":
                order = _FORMATS[words[1]]
            elif words[0] == "element":
                (count,) = integers(words[2:3])
                elements.append((words[1], count, []))
            elif words[0] == "property" and words[1] == "list":
                elements[-1][2].append((words[4], _TYPES[words[3]], _INTEGERS[words[2]]))
            elif words[0] == "property":
                elements[-1][2].append((words[2], _TYPES[words[1]]))
            else:
                raise ValueError("unknown keyword")
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"{path}: cannot read the header line {line!r}.") from None
    if order is None:
        raise ValueError(f"{path}: the header has no format line.")
    for names in ([e[0] for e in elements], *([p[0] for p in e[2]] for e in elements)):
        if len(set(names)) != len(names):
            raise ValueError(f"{path}: the header says something twice: {names}.")
    return order, elements, end.end()


def _read_ascii(
    tokens: list[bytes],
    position: int,
    count: int,
    properties: list[_Property],
    path: Path,
    name: str,
) -> tuple[dict, int]:
    if all(len(p) == 2 for p in properties):
        width = len(properties)
        stop = position + count * width
        if stop > len(tokens):
            raise ValueError(f"{path}: the file ends inside its {count} elements {name!r}.")
        try:
            table = np.array(_numbers(tokens[position:stop])).reshape(count, width)
        except ValueError as error:
            raise ValueError(f"{path}, elements {name!r}: {error}.") from None
        return {p[0]: table[:, i] for i, p in enumerate(properties)}, stop
    columns: dict[str, list] = {p[0]: [] for p in properties}
    try:
        for _ in range(count):
            for prop in properties:
                if len(prop) == 2:
                    columns[prop[0]] += _numbers([tokens[position]])
                    position += 1
                else:
                    (size,) = _whole([tokens[position]])
                    if size < 0:
                        raise ValueError(f"a list of length {size}")
                    values = tokens[position + 1 : position + 1 + size]
                    if len(values) < size:
                        raise IndexError
                    read = _numbers if prop[1][0] == "f" else _whole
                    columns[prop[0]].append(read(values))
                    position += 1 + size
    except IndexError:
        raise ValueError(f"{path}: the file ends inside its {count} elements {name!r}.") from None
    except ValueError as error:
        raise ValueError(f"{path}, elements {name!r}: {error}.") from None
    return columns, position


def _numbers(tokens: list[bytes]) -> list[float]:
    for token in tokens:
        if b"_" in token or not token.isascii():
            raise ValueError(f"{token!r} is not a number")
    return [float(token) for token in tokens]


def _whole(tokens: list[bytes]) -> list[int]:
    return integers([token.decode("ascii", errors="replace") for token in tokens])


def _read_binary(
    data: bytes,
    position: int,
    count: int,
    properties: list[_Property],
    order: str,
    path: Path,
    name: str,
) -> tuple[dict, int]:
    # Lists of three are the rule; only other lengths need the slow way.
    fields: list = []
    for prop in properties:
        if len(prop) == 2:
            fields.append((prop[0], order + prop[1]))
        else:
            fields.append((prop[0] + "#", order + prop[2]))
            fields.append((prop[0], order + prop[1], (3,)))
    dtype = np.dtype(fields)
    lists = [prop for prop in properties if len(prop) == 3]
    if position + count * dtype.itemsize <= len(data):
        table = np.frombuffer(data, dtype=dtype, count=count, offset=position)
        if all((table[prop[0] + "#"] == 3).all() for prop in lists):
            columns = {p[0]: table[p[0]] for p in properties}
            for prop in lists:
                if prop[1][0] != "f":
                    columns[prop[0]] = columns[prop[0]].astype(np.int64)
            return columns, position + count * dtype.itemsize
    if not lists:
        raise ValueError(f"{path}: the file ends inside its {count} elements {name!r}.")
    rows: dict[str, list] = {p[0]: [] for p in properties}
    try:
        for _ in range(count):
            for prop in properties:
                if len(prop) == 2:
                    rows[prop[0]].append(np.frombuffer(data, order + prop[1], 1, position)[0])
                    position += np.dtype(prop[1]).itemsize
                else:
                    size = int(np.frombuffer(data, order + prop[2], 1, position)[0])
                    position += np.dtype(prop[2]).itemsize
                    if size < 0:
                        raise ValueError(f"a list of length {size}")
                    values = np.frombuffer(data, order + prop[1], size, position)
                    rows[prop[0]].append(values.tolist())
                    position += values.nbytes
    except ValueError as error:
        raise ValueError(
            f"{path}: the file ends inside its {count} elements {name!r} ({error})."
        ) from None
    return rows, position


def write_ply(
    path: Path, vertices: np.ndarray, faces: np.ndarray, face_colors: np.ndarray | None = None
) -> None:
    """Writes a binary .ply with optional colours per face (see :func:`graphpool.mesh.write_mesh`)."""
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        "property double x",
        "property double y",
        "property double z",
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
    ]
    fields: list = [("size", "u1"), ("corners", "<i4", (3,))]
    if face_colors is not None:
        colors = np.asarray(face_colors)
        if colors.ndim != 2 or colors.shape[0] != len(faces) or colors.shape[1] not in (3, 4):
            raise ValueError(
                f"`face_colors` must have shape [{len(faces)}, 3] or [{len(faces)}, 4]; "
                f"got {colors.shape}."
            )
        if np.issubdtype(colors.dtype, np.floating):
            if colors.size and not (colors.min() >= 0 and colors.max() <= 1):
                raise ValueError("`face_colors` of floating type must lie in [0, 1].")
            colors = np.rint(colors * 255)
        names = ("red", "green", "blue", "alpha")[: colors.shape[1]]
        header += [f"property uchar {name}" for name in names]
        fields += [(name, "u1") for name in names]
    table = np.zeros(len(faces), dtype=np.dtype(fields))
    table["size"], table["corners"] = 3, faces
    if face_colors is not None:
        for i, name in enumerate(names):
            table[name] = colors[:, i]
    head = ("\n".join([*header, "end_header"]) + "\n").encode("ascii")
    path.write_bytes(head + vertices.astype("<f8").tobytes() + table.tobytes())
