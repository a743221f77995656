"""Numbers in the text formats of meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def to_points(rows: list[list[str]], path: Path) -> np.ndarray:
    """Coordinates ``[V, 3]`` from three words per vertex, or an error that names the vertex."""
    try:
        return number_rows(rows, 3)
    except ValueError:
        for number, row in enumerate(rows):
            try:
                number_rows([row], 3)
            except ValueError:
                raise ValueError(f"{path}: vertex {number} is not three numbers: {row}.") from None
        raise


def number_rows(rows: list[list[str]], width: int) -> np.ndarray:
    """``[len(rows), width]`` float64.

    Raises:
        ValueError: A row has another length, or a word is not a number.
    """
    if any("_" in word or not word.isascii() for row in rows for word in row):
        raise ValueError("Python, but no file format, allows 1_000 and other digits.")
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)
