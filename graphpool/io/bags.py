"""Files of multiple-instance learning: many bags in one table, or an array for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphpool.io.untrusted import (
    load_array,
    load_tensors,
    named_rows,
    naming,
    read_table,
    read_text,
)


def read_instances(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A table without header whose rows are instances: label of the bag, number of the bag, features.

    Returns:
        Features ``[rows, F]`` float32, the number of instances of each bag, and its label; bags as they come.

    Raises:
        ValueError: The file is damaged, a bag is torn apart or has two labels, or a number is not finite.
    """
    table = read_table(path, "rows of label, bag, features", delimiter=",")
    if table.shape[1] < 3:
        raise ValueError(f"{path} must have columns label, bag, features; got {table.shape[1]}.")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0] + 1
        raise ValueError(
            f"{path}: the number in row {row}, column {column} is not finite. Fill it, or take the row out."
        )
    label, bag = table[:, 0], table[:, 1]
    first = np.flatnonzero(np.append(True, bag[1:] != bag[:-1]))
    if len(np.unique(bag)) != len(first):
        names, times = np.unique(bag[first], return_counts=True)
        raise ValueError(f"{path}: the rows of bag {names[times > 1][0]:g} lie apart.")
    sizes = np.diff(np.append(first, len(bag)))
    if (wrong := label != label[first].repeat(sizes)).any():
        raise ValueError(f"{path}: bag {bag[wrong][0]:g} has rows with different labels.")
    return table[:, 2:].astype(np.float32), sizes, label[first]


def read_bag(path: Path) -> np.ndarray:
    """The instances of one bag ``[n, F]`` as float32, from ``.npy``, or ``.pt`` with one tensor.

    Raises:
        ValueError: The file is damaged, or holds anything else.
    """
    array = load_array(path) if path.suffix == ".npy" else load_tensors(path)
    with naming(path):
        array = np.asarray(array)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise ValueError(f"A bag must be numbers [n, F]; got {array.dtype} {array.shape}.")
        if not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))[0][0]
            raise ValueError(f"Row {bad} is not finite. Fill it, or take it out.")
        return array.astype(np.float32)


def read_named_columns(path: Path, *names: str) -> list[tuple[str, ...]]:
    """The columns of these names of a ``.csv`` file with a header, row by row.

    Raises:
        ValueError: As in :func:`~graphpool.io.untrusted.named_rows`.
    """
    rows = named_rows(read_text(path, "utf-8").split("\n"), path, names)
    return [tuple(row[name] for name in names) for _, row in rows]
