"""Point files of text: one point per line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphpool.io.points.fields import Array, Columns, check_agree, table_fields
from graphpool.io.untrusted import is_number, numbered_lines, parse_table, read_text

_COMMENTS = ("#", "//")
# What these suffixes promise; the others leave the meaning of further columns open.
_BY_SUFFIX = {".xyzn": "x y z nx ny nz", ".xyzrgb": "x y z r g b"}


def read_text_points(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields of a text file.

    Between numbers stand blanks, commas or semicolons; those at the end of a line mean nothing. A line of
    one whole number says how many points follow it. The columns are called as ``columns`` says, or else as
    a line of names above the data does, or a comment that names x, y and z.

    Raises:
        ValueError: A word is not a number, rows differ in length, or a count is wrong; the message has the
            number of the line. Molecules (``.xyz`` of chemistry) are refused.
    """
    lines = read_text(path, strict=False).split("\n")
    _refuse_molecules(lines, path)
    used = numbered_lines(lines, _COMMENTS)
    if not used:
        raise ValueError(f"{path}: expected at least one point of 3 coordinates; got none.")
    delimiter = next((mark for mark in ";," if mark in used[-1][1]), None)
    used = [(at, line.replace('"', "").rstrip(f"{delimiter or ''} \t")) for at, line in used]
    names = _words(used[0][1], delimiter)
    if any(is_number(name) for name in names):
        names = []
    else:
        used = used[1:]
    table = parse_table(_without_counts(used, path), path, "one point per line", delimiter)
    said = names or _names_in_comments(lines, delimiter, table.shape[1])
    if columns is None:
        columns = said or _BY_SUFFIX.get(path.suffix.lower())
    elif said:
        check_agree(columns, said, path)
    return table_fields(table, columns, path)


def _refuse_molecules(lines: Sequence[str], path: Path) -> None:
    """Molecules share the suffix: a number of atoms, a comment or nothing, and a symbol before each x, y, z.

    With atomic numbers for symbols and no comment they would pass for clouds.
    """
    count = lines[0].strip()[:19]
    atoms = [line.split() for line in lines[2 : 2 + int(count)]] if count.isdigit() else []
    if not atoms or any(len(words) < 4 for words in atoms):
        return
    first = atoms[0]
    symbol = first[0].isalpha() and all(is_number(word) for word in first[1:4])
    number = path.suffix.lower() == ".xyz" and len(lines[1].split()) != len(first)
    if symbol or (number and all(words[0].isdigit() for words in atoms)):
        raise ValueError(
            f"{path} holds molecules, a number of atoms and a symbol before each x, y, z, not points. Read "
            f"it with a package for chemistry, or leave three columns of numbers."
        )


def _words(line: str, delimiter: str | None) -> list[str]:
    words = [word.strip(" \t\"'") for word in line.split(delimiter)]
    # Names may stand between blanks where numbers stand between commas.
    return words if len(words) > 1 else line.replace(",", " ").split()


def _names_in_comments(lines: Sequence[str], delimiter: str | None, width: int) -> list[str] | None:
    for line in lines:
        if not line.strip().startswith(_COMMENTS):
            continue
        words = _words(line.strip().lstrip("#/").rstrip(f"{delimiter or ''} \t"), delimiter)
        lower = {word.lower() for word in words}
        if len(words) == len(lower) == width and {"x", "y", "z"} <= lower:
            return words
    return None


def _without_counts(lines: list[tuple[int, str]], path: Path) -> list[tuple[int, str]]:
    """The lines without those that say how many others follow, which are checked."""
    if not lines or not lines[0][1].isdigit():
        return lines
    kept: list[tuple[int, str]] = []
    at = 0
    while at < len(lines):
        number, line = lines[at]
        announced = int(line[:19]) if line.isdigit() else -1
        rows = lines[at + 1 : at + 1 + max(announced, 0)]
        if announced < 0 or len(rows) < announced:
            raise ValueError(
                f"{path}: {line[:40]!r} in line {number} stands where a number of points must, and "
                f"{len(lines) - at - 1} lines follow."
            )
        kept += rows
        at += 1 + announced
    return kept
