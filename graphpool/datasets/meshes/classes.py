"""From the labels of a folder of meshes, as its files have them, to classes 0, 1, 2, ..."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphpool.datasets.meshes.labels import UNLABELLED, whole_labels
from graphpool.mesh import MeshFile

_COLOR = ("red", "green", "blue")


class FoundLabels(NamedTuple):
    """Labels as a file has them.

    Attributes:
        values: ``[N]``: integers, or words as positions in ``words``.
        words: What these stand for, if the labels are words; an empty word is no label.
        per: What they belong to, ``"face"`` or ``"vertex"``; ``None`` if only their number tells.
    """

    values: np.ndarray
    words: Sequence[str] | None = None
    per: str | None = None


def values_in(mesh: MeshFile, name: str, path: Path) -> FoundLabels:
    """The labels that the file of a mesh itself holds under ``name``.

    ``"color"`` stands for the colours: each different one is a word such as ``"#ff0000"``.

    Raises:
        ValueError: The file has nothing of that name, or what it has is not integers.
    """
    sources = (("face", mesh.face_values), ("vertex", mesh.vertex_values))
    for per, held in sources:
        if name == "color" and all(channel in held for channel in _COLOR):
            return _colors(np.stack([held[channel] for channel in _COLOR], axis=1), per)
        if name in held and name in mesh.names:
            return FoundLabels(held[name], mesh.names[name], per)
        if name in held:
            return FoundLabels(whole_labels(held[name].astype(np.float64), path), None, per)
    there = ", ".join(f"{per} value {key!r}" for per, held in sources for key in held)
    raise ValueError(
        f"{path} has no value {name!r} of its faces or vertices, only: {there or 'none'}."
    )


def _colors(table: np.ndarray, per: str) -> FoundLabels:
    shares = table.dtype.kind == "f" and table.size and table.max() <= 1
    levels = np.rint(table * 255 if shares else table).astype(np.int64)
    colors, which = np.unique(levels, axis=0, return_inverse=True)
    words = tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colors.tolist())
    return FoundLabels(which.reshape(-1), words, per)


def numbered(
    found: FoundLabels, classes: Sequence[int | str], unlabelled: Sequence[int], path: Path
) -> np.ndarray:
    """For each label its position in ``classes``, ``[N]``; -1 where there is none.

    Raises:
        ValueError: A label is no class, and does not mean "unlabelled".
    """
    kinds, which = _kinds(found)
    place = {name: i for i, name in enumerate(classes)}
    for kind in kinds:
        if kind not in place and not _is_none(kind, unlabelled):
            raise ValueError(
                f"{path}: label {kind!r} is none of the {len(classes)} classes {list(classes)[:20]}, and "
                f"`unlabelled` is {tuple(unlabelled)}."
            )
    return np.array([place.get(kind, UNLABELLED) for kind in kinds], dtype=np.int64)[which]


def classes_of(found: Sequence[FoundLabels], unlabelled: Sequence[int]) -> list[int] | list[str]:
    """The words of all files in alphabetical order, or all integers from the smallest to the largest.

    Raises:
        ValueError: Nothing has a label.
    """
    used = {k for labels in found for k in _kinds(labels)[0] if not _is_none(k, unlabelled)}
    if words := sorted(kind for kind in used if isinstance(kind, str)):
        return words
    numbers = [kind for kind in used if isinstance(kind, int)]
    if not numbers:
        raise ValueError("No face of any mesh has a label.")
    return list(range(min(numbers), max(numbers) + 1))


def _kinds(found: FoundLabels) -> tuple[list[int | str], np.ndarray]:
    """The different labels, and which of them each is."""
    values, which = np.unique(found.values, return_inverse=True)
    kinds: list[int | str] = values.tolist()
    return kinds if found.words is None else [found.words[i] for i in values], which.reshape(-1)


def _is_none(kind: int | str, unlabelled: Sequence[int]) -> bool:
    return kind == "" if isinstance(kind, str) else kind < 0 or kind in unlabelled
