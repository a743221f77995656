"""Checks of the text files of a TU data set, before PyTorch Geometric reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphpool.io.untrusted import read_table

#: Labels become one-hot columns, as many as the largest less the smallest.
_MAX_LABELS = 2**16


def check_tu_files(folder: Path, name: str) -> None:
    """Raises unless the files of one TU data set fit together.

    Args:
        folder: The folder of the files ``<name>_A.txt``, ``<name>_graph_indicator.txt``, ...
        name: Name of the data set.

    Raises:
        FileNotFoundError: One of the two files that every set has is missing.
        ValueError: A file holds something else than numbers, rows are missing, an edge leaves its graph
            or the numbering, or a label is out of range; the message names the file.
    """
    indicator = folder / f"{name}_graph_indicator.txt"
    graph = _integers(indicator)[:, 0]
    if graph[0] != 1 or not np.isin(np.diff(graph), (0, 1)).all():
        raise ValueError(f"{indicator}: graphs must be numbered 1, 1, ..., 2, ... in order.")
    adjacency = folder / f"{name}_A.txt"
    edges = _integers(adjacency)
    if edges.shape[1] != 2:
        raise ValueError(f"{adjacency}: expected two nodes per line; got {edges.shape[1]}.")
    bad = np.flatnonzero(((edges < 1) | (edges > len(graph))).any(1))
    if bad.size:
        raise ValueError(
            f"{adjacency}: edge {bad[0]} joins {edges[bad[0]].tolist()}; nodes go from 1 to "
            f"{len(graph)}."
        )
    bad = np.flatnonzero(np.diff(graph[edges - 1], axis=1))
    if bad.size:
        raise ValueError(f"{adjacency}: edge {bad[0]} joins nodes of two graphs.")
    rows = {"node": len(graph), "edge": len(edges), "graph": int(graph[-1])}
    for kind, expected in rows.items():
        for content in ("labels", "attributes"):
            path = folder / f"{name}_{kind}_{content}.txt"
            if not path.exists():
                continue
            table = _integers(path) if content == "labels" else _table(path)
            if kind == "graph" and content == "labels" and table.shape[1] != 1:
                raise ValueError(f"{path}: expected one label per line; got {table.shape[1]}.")
            if len(table) != expected:
                raise ValueError(f"{path}: expected {expected} lines; got {len(table)}.")
            if content == "labels" and kind != "graph" and np.ptp(table) >= _MAX_LABELS:
                raise ValueError(f"{path}: labels lie {np.ptp(table)} apart.")


def _table(path: Path) -> np.ndarray:
    table = read_table(path, "numbers with commas between", comments=(), delimiter=",")
    # PyTorch Geometric takes what stands before each line end, and nothing behind the last.
    if not table.size or path.read_bytes().count(b"\n") != len(table):
        raise ValueError(f"{path}: expected rows of numbers, each with a line end, and no other.")
    if not np.isfinite(table).all():
        bad = int(np.flatnonzero(~np.isfinite(table).all(1))[0])
        raise ValueError(
            f"{path}: row {bad} is not finite: {table[bad].tolist()}. Fill it in the file."
        )
    return table


def _integers(path: Path) -> np.ndarray:
    table = _table(path)
    if not np.array_equal(table, np.rint(table)) or np.abs(table).max() >= 2**53:
        raise ValueError(f"{path}: expected integers.")
    return table.astype(np.int64)
