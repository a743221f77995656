"""Which of all pairs of many graphs no network with random weights tells apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch_geometric.data import Data

from graphpool.evaluate.expressiveness import (
    MakeModel,
    embed_parts,
    relative_distance,
    tolerance_for,
)


def similar_pairs(rows: Tensor, tolerance: float) -> Tensor:
    """Pairs of embeddings within a relative distance, ``[K, 2]``, the smaller position first.

    Args:
        rows: ``[G, d]``.
        tolerance: Largest relative distance (see :func:`relative_distance`).
    """
    scale = float(rows.abs().max()) if rows.numel() else 0.0
    # Within the tolerance of its own scale is within the tolerance of the largest.
    near = cKDTree(rows.numpy()).query_pairs(
        tolerance * scale * (1 + 1e-6), p=float("inf"), output_type="ndarray"
    )
    pairs = torch.from_numpy(near.astype("int64")).view(-1, 2)
    keep = relative_distance(rows[pairs[:, 0]], rows[pairs[:, 1]]) <= tolerance
    pairs = pairs[keep].sort(1).values
    return pairs[torch.argsort(pairs[:, 0] * len(rows) + pairs[:, 1])]


def undistinguished_pairs(
    make_model: MakeModel,
    graphs: Sequence[Data],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    factor: float = 1e3,
    floor: float = 1e-11,
    calibration: int | None = 256,
    batch_size: int = 512,
) -> Tensor:
    """Of all pairs of graphs, those that no random model tells apart.

    The tolerance is measured as in :func:`separate_pairs`. Graphs are compared in the neighbourhood of their
    embeddings only, so that tens of thousands of graphs (graph8c: 61 788 286 pairs) are no problem.

    Args:
        make_model: Makes a model; called after seeding.
        graphs: The graphs.
        seeds: One model each.
        factor: Tolerance in units of the noise, at least 10.
        floor: Smallest tolerance.
        calibration: Measure the noise on so many graphs, evenly spread; ``None`` for all.
        batch_size: Graphs per mini-batch.

    Returns:
        Positions of the undistinguished pairs ``[K, 2]``.

    Raises:
        ValueError: If the model is not invariant to relabelling, or ``factor`` is below 10.
    """
    return undistinguished_pairs_by_part(
        make_model,
        graphs,
        1,
        seeds=seeds,
        factor=factor,
        floor=floor,
        calibration=calibration,
        batch_size=batch_size,
    )[0]


def undistinguished_pairs_by_part(
    make_model: MakeModel,
    graphs: Sequence[Data],
    parts: int,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    factor: float = 1e3,
    floor: float = 1e-11,
    calibration: int | None = 256,
    batch_size: int = 512,
) -> list[Tensor]:
    """:func:`undistinguished_pairs` for each of ``parts`` equal parts of the embedding on its own.

    Args:
        make_model: Makes a model; called after seeding.
        graphs: The graphs.
        parts: Number of parts, a divisor of the width of the embedding.
        seeds: As in :func:`undistinguished_pairs`, like all that follows.
        factor: Tolerance in units of the noise.
        floor: Smallest tolerance.
        calibration: Number of graphs to measure the noise on.
        batch_size: Graphs per mini-batch.

    Returns:
        Positions of the undistinguished pairs ``[K, 2]`` of each part.

    Raises:
        ValueError: If the model is not invariant to relabelling, ``factor`` is below 10, or ``parts`` does
            not divide the width.
    """
    if factor < 10:
        raise ValueError(f"`factor` must be at least 10; got {factor}.")
    left: list[Tensor] = []
    for seed in seeds:
        used = torch.unique(torch.cat(left)) if left else torch.arange(len(graphs))
        if not len(used):
            break
        chosen = [graphs[i] for i in used.tolist()]
        rows, noise = embed_parts(make_model, chosen, parts, seed, calibration, batch_size)
        tolerance = tolerance_for(noise, factor, floor).tolist()
        if left:
            left = [
                _still_close(pairs, used, rows[:, k], tolerance[k]) for k, pairs in enumerate(left)
            ]
        else:
            left = [similar_pairs(rows[:, k], tolerance[k]) for k in range(parts)]
    return left or [torch.empty(0, 2, dtype=torch.long)] * parts


def _still_close(pairs: Tensor, used: Tensor, rows: Tensor, tolerance: float) -> Tensor:
    at = torch.searchsorted(used, pairs)
    return pairs[relative_distance(rows[at[:, 0]], rows[at[:, 1]]) <= tolerance]
