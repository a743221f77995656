"""The Wavefront .obj format."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from graphpool.io.meshes.mesh_file import MeshFile
from graphpool.io.meshes.text import number_rows, to_points
from graphpool.io.untrusted import integers, read_text

# Words that hold no polygon and are left alone: what they say has no place in a mesh of triangles.
_QUIET = {"vt", "vn", "vp", "l", "p", "s", "mg", "mtllib", "maplib", "usemap", "bevel", "c_interp"}
_QUIET |= {"d_interp", "lod", "shadow_obj", "trace_obj", "cstype", "deg", "bmat", "step", "parm"}
_QUIET |= {"trim", "hole", "scrv", "sp", "end", "con", "ctech", "stech", "curv", "curv2"}
_WORDS = {"o": "object", "g": "group", "usemtl": "material"}
_NAMED = [[word] for word in (*_WORDS, "mtllib")]


def read_obj(path: Path) -> MeshFile:
    """The vertices and polygons of an .obj file, with the object, group and material of each.

    Colours behind the coordinates of the vertices are read where all have them. What is skipped and
    might have been geometry (free-form surfaces, other files that are called, unknown words) is named
    in one warning per file.
    """
    vertices: list[list[str]] = []
    polygons: list[list[int]] = []
    current = dict.fromkeys(_WORDS.values(), 0)
    codes: dict[str, dict[str, int]] = {kind: {"": 0} for kind in _WORDS.values()}
    tags: dict[str, list[int]] = {kind: [] for kind in _WORDS.values()}
    skipped: dict[str, int] = {}
    for number, line in _lines(path):
        word, _, rest = line.partition(" ")
        if word == "v":
            vertices.append(rest.split())
        elif word in ("f", "fo"):
            polygons.append(_corners(rest, len(vertices), path, number, line))
            for kind, code in current.items():
                tags[kind].append(code)
        elif word in _WORDS:
            names = codes[_WORDS[word]]
            current[_WORDS[word]] = names.setdefault(" ".join(rest.split()), len(names))
        elif word not in _QUIET:
            skipped.setdefault(word, number)
    if skipped:
        words = ", ".join(f"{word[:40]!r} (line {number})" for word, number in skipped.items())
        warnings.warn(
            f"{path}, line {min(skipped.values())}: {next(iter(skipped))[:40]!r} is no keyword of OBJ "
            f"files that is known here; lines with such words were skipped: {words[:200]}.",
            stacklevel=4,
        )
    points = to_points([row[:3] for row in vertices], path)
    colors: dict[str, np.ndarray] = {}
    if vertices and all(len(row) in (6, 7) for row in vertices):
        try:
            table = number_rows([row[-3:] for row in vertices], 3)
        except ValueError:
            raise ValueError(f"{path}: the colours behind the vertices are not numbers.") from None
        colors = dict(zip(("red", "green", "blue"), table.T, strict=True))
    used = {kind: np.array(tags[kind], dtype=np.int64) for kind in tags if any(tags[kind])}
    return MeshFile(
        points,
        np.array([c for polygon in polygons for c in polygon], dtype=np.int64),
        np.array([len(polygon) for polygon in polygons], dtype=np.int64),
        used,
        colors,
        {kind: tuple(codes[kind]) for kind in used},
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1; those that end in a backslash with what they go on in."""
    start, held = 0, ""
    # Names of materials may be in any encoding; numbers are ASCII.
    for number, raw in enumerate(read_text(path, strict=False).split("\n"), 1):
        line = raw.strip()
        # A name may hold a "#" and end in a backslash, as paths of Windows do.
        named = not held and line.split(maxsplit=1)[:1] in _NAMED
        if not named:
            line = line.partition("#")[0].rstrip()
        start = start if held else number
        if line.endswith("\\") and not named:
            held = f"{held} {line[:-1].rstrip()}".strip()
            continue
        line, held = f"{held} {line}".strip(), ""
        if line:
            word, *rest = line.split(maxsplit=1)
            yield start, f"{word} {rest[0] if rest else ''}"
    if held:
        raise ValueError(
            f"{path}: the last line ends in a backslash; the file seems to be cut off."
        )


def _corners(rest: str, seen: int, path: Path, number: int, line: str) -> list[int]:
    try:
        corners = integers([corner.split("/", 1)[0] for corner in rest.split()])
    except ValueError:
        raise ValueError(f"{path}, line {number}: cannot read the face {line[:200]!r}.") from None
    if 0 in corners or len(corners) < 3:
        raise ValueError(
            f"{path}, line {number}: a face needs at least 3 corners, counted from 1 "
            f"(or from -1 backwards); got {line[:200]!r}."
        )
    # A negative corner counts back from the vertices read so far.
    return [c - 1 if c > 0 else seen + c for c in corners]
