"""The .off format of Geomview, ASCII and binary."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from graphpool.io.meshes.mesh_file import MeshFile
from graphpool.io.meshes.text import number_rows, to_points
from graphpool.io.untrusted import integers, read_text

# Texture coordinates, colours, normals; four coordinates and other dimensions are no triangle meshes.
_HEAD = re.compile(r"(st)?(c)?(n)?(4)?(n)?off(\s+binary\b)?(?=[\s\d-]|$)", re.IGNORECASE)
_COMMENTS = re.compile(rb"(\s*#[^\r\n]*[\r\n]+)*\s*")
_COLORS = ("red", "green", "blue", "alpha")


def read_off(path: Path) -> MeshFile:
    """The vertices and polygons of an .off file, with colours of vertices and faces where all have them.

    The first word may be ``OFF``, ``COFF``, ``NOFF``, ``STOFF`` or a combination, in any case, and carry
    the numbers of vertices and faces (as some files of ModelNet do).
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    start = _COMMENTS.match(data).end()  # type: ignore[union-attr]
    first = data[start : start + 100].decode("latin-1")
    head = _HEAD.match(first)
    if head is None:
        raise ValueError(f"{path}: an OFF file starts with 'OFF'; got {first[:40]!r}.")
    texture, color, normal, four, dimension, binary = (group is not None for group in head.groups())
    if four or dimension:
        raise ValueError(f"{path}: the vertices of {head[0]!r} have other than 3 coordinates.")
    if binary:
        body = data.find(b"\n", start) + 1 or len(data)
        return _read_binary(data, body, normal, color, texture, path)
    text = read_text(path, strict=False)
    lines = [words for line in text.split("\n") if (words := line.split("#", 1)[0].split())]
    lines[0] = " ".join(lines[0])[head.end() :].split()
    return _read_ascii(lines, normal, color, texture, path)


def _read_ascii(
    lines: list[list[str]], normal: bool, color: bool, texture: bool, path: Path
) -> MeshFile:
    counts: list[str] = []
    used = 0
    while used < len(lines) and len(counts) < 2:
        counts += lines[used]
        used += 1
    # The third number, of edges, means nothing and is missing in some files.
    if len(counts) == 2 and used < len(lines) and len(lines[used]) == 1:
        used += 1
    try:
        num_vertices, num_faces = integers(counts[:2])
    except ValueError:
        raise ValueError(f"{path}: the numbers of vertices and faces are missing.") from None
    body = lines[used:]
    fits = num_vertices >= 0 and num_faces >= 0 and len(body) == num_vertices + num_faces
    if not fits:
        rows = _rows_of_words(body, num_vertices, num_faces, 3 + 3 * normal + 2 * texture)
        if rows is None or color or num_vertices < 0 or num_faces < 0:
            raise ValueError(
                f"{path}: {num_vertices} vertices and {num_faces} faces were announced, but "
                f"{len(body)} lines follow."
            )
        body = rows
    points = to_points([row[:3] for row in body[:num_vertices]], path)
    vertex_values = {}
    expected = 3 + 3 * normal + 2 * texture
    if not color and any(len(row) > expected for row in body[:num_vertices]):
        warnings.warn(
            f"{path}: some vertices have more numbers than the first word of the file says; the first "
            f"three are read.",
            stacklevel=5,
        )
    if color:
        skip, tail = 3 + 3 * normal, 2 * texture
        vertex_values = _colors([row[skip : len(row) - tail] for row in body[:num_vertices]])
    polygons, behind = [], []
    for number, words in enumerate(body[num_vertices:]):
        try:
            (size,) = integers(words[:1])
            corners = integers(words[1 : 1 + max(size, 0)])
        except ValueError:
            raise ValueError(f"{path}: cannot read face {number}, {' '.join(words)!r}.") from None
        if size < 3 or len(corners) < size:
            raise ValueError(
                f"{path}: face {number} announces {size} corners, of at least 3: {' '.join(words)!r}."
            )
        polygons.append(corners)
        behind.append(words[1 + size :])
    return MeshFile(
        points,
        np.array([c for polygon in polygons for c in polygon], dtype=np.int64),
        np.array([len(polygon) for polygon in polygons], dtype=np.int64),
        _colors(behind),
        vertex_values,
    )


def _rows_of_words(
    lines: list[list[str]], num_vertices: int, num_faces: int, width: int
) -> list[list[str]] | None:
    """One row per vertex and face where lines are broken elsewhere; ``None`` if the words do not fit."""
    words = [word for line in lines for word in line]
    rows, at = [], 0
    for i in range(min(num_vertices + num_faces, len(words) + 1)):
        if at >= len(words):
            return None
        size = width
        if i >= num_vertices:
            if not words[at].isdigit() or len(words[at]) > 9:
                return None
            size = 1 + int(words[at])
        rows.append(words[at : at + size])
        at += size
    return rows if at == len(words) and len(rows) == num_vertices + num_faces else None


def _colors(rows: list[list[str]]) -> dict[str, np.ndarray]:
    """Three or four numbers per row; one number is an index into a table of colours."""
    width = len(rows[0]) if rows else 0
    if width not in (1, 3, 4):
        return {}
    try:
        table = number_rows(rows, width)
    except ValueError:
        return {}
    return dict(zip(("color_index",) if width == 1 else _COLORS, table.T, strict=False))


def _read_binary(
    data: bytes, start: int, normal: bool, color: bool, texture: bool, path: Path
) -> MeshFile:
    """Big-endian: three counts, float32 vertices, and per face its size, corners, and colour."""
    shade = 3 + 3 * normal
    width = shade + 4 * color + 2 * texture
    try:
        num_vertices, num_faces, _ = np.frombuffer(data, ">i4", 3, start).tolist()
        if num_vertices < 0 or num_faces < 0 or 4 * width * num_vertices > len(data):
            raise ValueError(f"It announces {num_vertices} vertices and {num_faces} faces.")
        start += 12
        table = np.frombuffer(data, ">f4", width * num_vertices, start).reshape(-1, width)
        start += table.nbytes
        # What follows are words of four bytes throughout.
        words = np.frombuffer(data, ">i4", (len(data) - start) // 4, start)
        reals = words.view(">f4")
        corners, sizes, colors, at = [], [], [], 0
        for face in range(num_faces):
            size = int(words[at])
            parts = int(words[at + 1 + size]) if 3 <= size < len(words) - at else -1
            if parts < 0 or at + 2 + size + parts > len(words):
                raise ValueError(f"Face {face} has {size} corners and {parts} parts of a colour.")
            corners.append(words[at + 1 : at + 1 + size])
            colors.append(reals[at + 2 + size : at + 2 + size + parts])
            sizes.append(size)
            at += 2 + size + parts
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: cannot read the binary OFF file: {error}") from None
    if len(data) != start + 4 * at:
        raise ValueError(f"{path}: {len(data) - start - 4 * at} bytes follow the last face.")
    face_values = {}
    if colors and len(colors[0]) in (3, 4) and len({len(parts) for parts in colors}) == 1:
        face_values = dict(zip(_COLORS, np.stack(colors).T.astype(np.float64), strict=False))
    vertex_values = {}
    if color:
        columns = table[:, shade : shade + 4].T.astype(np.float64)
        vertex_values = dict(zip(_COLORS, columns, strict=True))
    return MeshFile(
        table[:, :3].astype(np.float64),
        np.concatenate(corners).astype(np.int64) if corners else np.zeros(0, dtype=np.int64),
        np.array(sizes, dtype=np.int64),
        face_values,
        vertex_values,
    )
