"""Point files of text: one point per line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphpool.io.points.fields import Array, Columns, table_fields
from graphpool.io.untrusted import parse_table, read_text

_COMMENTS = ("#", "//")
# What these suffixes promise; the others leave the meaning of further columns open.
_BY_SUFFIX = {".xyzn": "x y z nx ny nz", ".xyzrgb": "x y z r g b"}


def read_text_points(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields of a text file.

    Between numbers stand blanks, commas or semicolons. A line of one whole number says how many points
    follow it. The columns are called as ``columns`` says, or else as a line of names above the data
    does, or a comment that names x, y and z.

    Raises:
        ValueError: A word is not a number, rows differ in length, or a count is wrong.
    """
    lines = [line.strip() for line in read_text(path, strict=False).split("\n")]
    used = [line for line in lines if line and not line.startswith(_COMMENTS)]
    if not used:
        raise ValueError(f"{path}: expected at least one point of 3 coordinates; got none.")
    delimiter = next((mark for mark in ";," if mark in used[-1]), None)
    names = _words(used[0], delimiter)
    if any(_is_number(name) for name in names):
        names = []
    else:
        used = used[1:]
    used = _without_counts(used, path)
    if delimiter and all(line.endswith(delimiter) for line in used):
        used = [line[:-1] for line in used]
    table = parse_table(used, path, "one point per line", _COMMENTS, delimiter)
    if columns is None:
        said = _names_in_comments(lines, delimiter, table.shape[1])
        columns = names or said or _BY_SUFFIX.get(path.suffix.lower())
    return table_fields(table, columns, path)


def _words(line: str, delimiter: str | None) -> list[str]:
    return [word.strip(" \t\"'") for word in line.split(delimiter)]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _names_in_comments(lines: Sequence[str], delimiter: str | None, width: int) -> list[str] | None:
    for line in lines:
        if not line.startswith(_COMMENTS):
            continue
        words = _words(line.lstrip("#/"), delimiter)
        lower = {word.lower() for word in words}
        if len(words) == len(lower) == width and {"x", "y", "z"} <= lower:
            return words
    return None


def _without_counts(lines: list[str], path: Path) -> list[str]:
    """The lines without those that say how many others follow, which are checked."""
    if not lines or not lines[0].isdigit():
        return lines
    kept: list[str] = []
    at = 0
    while at < len(lines):
        announced = int(lines[at][:19]) if lines[at].isdigit() else -1
        rows = lines[at + 1 : at + 1 + max(announced, 0)]
        if announced < 0 or len(rows) < announced:
            raise ValueError(
                f"{path}: {lines[at][:40]!r} stands where a number of points must, and "
                f"{len(lines) - at - 1} lines follow."
            )
        kept += rows
        at += 1 + announced
    return kept
