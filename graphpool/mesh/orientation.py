"""Turning faces over until neighbours agree."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

__all__ = ["orient_faces"]


def orient_faces(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Makes the faces of every connected part traverse their common edges in opposite directions.

    Only edges with exactly two faces count. Each face appears twice in a graph, as it is and turned
    over; a common edge joins the two versions that agree there. A part that can be oriented falls
    into two mirror images, and the one that turns fewer faces is taken (on a tie, the one that keeps
    the first face). A part that cannot (a Möbius strip) is left as it is.

    Args:
        faces: ``[F, 3]`` corners; no face may have a corner twice.

    Returns:
        The faces, and a mask ``[F]`` of those that were turned over (their last two corners are
        swapped).

    Example:
        >>> orient_faces(np.array([[0, 1, 2], [1, 2, 3], [2, 4, 3]]))[0].tolist()
        [[0, 2, 1], [1, 2, 3], [2, 4, 3]]
    """
    num_faces = len(faces)
    if num_faces == 0:
        return faces, np.zeros(0, dtype=bool)
    start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key = np.minimum(start, stop) * (int(faces.max()) + 1) + np.maximum(start, stop)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    heads = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    sizes = np.diff(heads, append=len(ordered))
    pairs = heads[sizes == 2]
    first, second = order[pairs], order[pairs + 1]
    f, g = first // 3, second // 3
    disagree = (start[first] == start[second]).astype(np.int64)

    # Node 2f is face f as it is, node 2f + 1 the same face turned over.
    row = np.concatenate([2 * f, 2 * f + 1])
    col = np.concatenate([2 * g + disagree, 2 * g + 1 - disagree])
    links = coo_matrix((np.ones(len(row), dtype=np.int8), (row, col)), shape=(2 * num_faces,) * 2)
    _, part = connected_components(links, directed=False)
    as_is, turned = part[0::2], part[1::2]
    size = int(part.max()) + 1
    kept_in = np.bincount(as_is, minlength=size)
    first_kept = np.full(size, num_faces)
    np.minimum.at(first_kept, as_is, np.arange(num_faces))
    fewer = (kept_in[turned] > kept_in[as_is]) | (
        (kept_in[turned] == kept_in[as_is]) & (first_kept[turned] < first_kept[as_is])
    )
    turn = fewer & (as_is != turned)
    oriented = faces.copy()
    oriented[turn] = faces[turn][:, [0, 2, 1]]
    return oriented, turn
