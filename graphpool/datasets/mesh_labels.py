"""Label files of meshes: per face, per edge, and soft per edge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from graphpool._files import read_table
from graphpool.mesh.halfedges import half_edges

__all__ = [
    "edge_labels",
    "edge_to_face_labels",
    "face_labels",
    "face_to_edge_labels",
    "find_labels",
    "read_labels",
    "read_soft_labels",
]


def read_labels(path: str | Path) -> np.ndarray:
    """One integer per line, ``[N]``.

    Raises:
        ValueError: A line holds something else, or a label is not in (-65536, 65536): tables of votes
            are as wide as the largest.
    """
    values = read_table(Path(path), "one integer per line")
    if values.size and (values.shape[1] != 1 or not np.array_equal(values, np.rint(values))):
        raise ValueError(f"{path}: expected one integer per line; got shape {values.shape}.")
    if values.size and not np.abs(values).max() < 2**16:
        raise ValueError(f"{path}: labels must lie in (-65536, 65536); got {values.max():g}.")
    return values.reshape(-1).astype(np.int64)


def read_soft_labels(path: str | Path, num_edges: int, num_classes: int) -> np.ndarray:
    """Soft labels of edges (``.seseg``) ``[E, num_classes]``; a class counts where it is above 0.

    Raises:
        ValueError: The table has another shape, or a number is not finite.
    """
    table = read_table(Path(path), f"{num_edges} lines of {num_classes} numbers")
    if table.shape != (num_edges, num_classes):
        raise ValueError(
            f"{path}: expected {num_edges} lines of {num_classes} numbers; got {table.shape}."
        )
    if not np.isfinite(table).all():
        bad = int(np.flatnonzero(~np.isfinite(table).all(1))[0])
        raise ValueError(f"{path}: line {bad} of the table is not finite.")
    return table


def find_labels(folder: Path, name: str) -> tuple[Path, np.ndarray]:
    """The label file ``folder/<name>.eseg`` or ``.seg``, and what it holds."""
    candidates = [folder / f"{name}{suffix}" for suffix in (".eseg", ".seg")]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no label file {candidates[0]} (or .seg).")
    return path, read_labels(path)


def face_labels(
    labels: np.ndarray, vertices: np.ndarray, faces: np.ndarray, path: Path | str = "labels"
) -> np.ndarray:
    """Labels of the faces, from labels per face or per edge: their number tells which.

    Raises:
        ValueError: There are neither as many labels as faces nor as edges; ``path`` is named.
    """
    if len(labels) == len(faces):
        return labels
    num_edges = len(half_edges(torch.from_numpy(faces), len(vertices)).edges)
    if len(labels) != num_edges:
        raise ValueError(
            f"{path} has {len(labels)} lines, but its mesh has {len(faces)} faces and "
            f"{num_edges} edges."
        )
    return edge_to_face_labels(faces, labels)


def edge_labels(labels: np.ndarray, faces: np.ndarray, of_faces: np.ndarray) -> np.ndarray:
    """Labels of the edges of ``faces``: ``labels`` themselves if there are as many, and otherwise
    those of the faces, by :func:`face_to_edge_labels`."""
    num_edges = len(half_edges(torch.from_numpy(faces), int(faces.max()) + 1).edges)
    return labels if len(labels) == num_edges else face_to_edge_labels(faces, of_faces)


def edge_to_face_labels(faces: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label that most of a face's three edges carry.

    A face whose edges carry three different labels waits until neighbours are decided and takes the
    label most of these have (the smallest on a tie); where none ever is, it takes the smallest of
    its own.

    Args:
        faces: ``[F, 3]``.
        labels: ``[E]``, non-negative, edges in the order of first appearance (see
            :func:`graphpool.mesh.halfedges.half_edges`).

    Example:
        >>> edge_to_face_labels(np.array([[0, 1, 2], [2, 1, 3]]), np.array([1, 1, 0, 2, 1]))
        array([1, 1])
    """
    corners = torch.from_numpy(np.asarray(faces, dtype=np.int64))
    table = half_edges(corners, int(corners.max()) + 1)
    if len(labels) != len(table.edges):
        raise ValueError(
            f"`labels` must have one entry per edge, {len(table.edges)}; got {len(labels)}."
        )
    three = np.asarray(labels)[table.edge_of.numpy()].reshape(-1, 3)
    a, b, c = three.T
    result = np.where((a == b) | (a == c), a, np.where(b == c, b, -1))
    sides = table.sides[(table.sides[:, 1] >= 0)].numpy() // 3
    links = np.concatenate([sides, sides[:, ::-1]])
    classes = int(three.max()) + 1
    while True:
        votes = np.zeros((len(result), classes), dtype=np.int64)
        useful = (result[links[:, 0]] < 0) & (result[links[:, 1]] >= 0)
        np.add.at(votes, (links[useful, 0], result[links[useful, 1]]), 1)
        decided = votes.any(1)
        if not decided.any():
            return np.where(result < 0, three.min(1), result)
        result[decided] = votes[decided].argmax(1)


def face_to_edge_labels(faces: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of the face in which each edge appears first, ``[E]``."""
    corners = torch.from_numpy(np.asarray(faces, dtype=np.int64))
    table = half_edges(corners, int(corners.max()) + 1)
    return np.asarray(labels)[table.sides[:, 0].numpy() // 3]
