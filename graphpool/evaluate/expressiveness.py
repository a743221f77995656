"""Which graphs a network can tell apart: random weights, float64, and a tolerance that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from graphpool.datasets.circulant import relabel

#: A model is called as ``model(x, edge_index, batch, batch_size) -> [B, d]``.
MakeModel = Callable[[], nn.Module]

# Relative differences between relabelled copies above this are no rounding errors.
_INVARIANT = 1e-6


@torch.no_grad()
def embed(model: nn.Module, graphs: Sequence[Data], batch_size: int = 32) -> Tensor:
    """Embeds graphs in float64, in evaluation mode.

    Args:
        model: Called as ``model(x, edge_index, batch, batch_size)``, returns ``[B, d]``; it is changed to
            float64 and evaluation mode.
        graphs: Graphs with ``x``.
        batch_size: Graphs per mini-batch.

    Returns:
        ``[len(graphs), d]`` float64.

    Raises:
        ValueError: If the model does not return one row per graph, or returns infinities or NaN.
    """
    model = model.double().eval()
    rows = []
    for start in range(0, len(graphs), batch_size):
        batch = Batch.from_data_list(list(graphs[start : start + batch_size]))
        out = model(batch.x.double(), batch.edge_index, batch.batch, batch.num_graphs)
        if out.dim() != 2 or out.size(0) != batch.num_graphs:
            raise ValueError(
                f"the model must return [{batch.num_graphs}, d], got {list(out.shape)}"
            )
        if not bool(torch.isfinite(out).all()):
            raise ValueError(
                "the model returned infinities or NaN; use smaller weights or fewer layers"
            )
        rows.append(out)
    return torch.cat(rows)


def relabelled(graphs: Iterable[Data], seed: int = 0) -> list[Data]:
    """A randomly relabelled copy of every graph."""
    generator = torch.Generator().manual_seed(seed)
    return [
        relabel(graph, torch.randperm(int(graph.num_nodes or 0), generator=generator))
        for graph in graphs
    ]


def relative_distance(first: Tensor, second: Tensor) -> Tensor:
    """Largest difference of two embeddings relative to their largest entry: ``[..., d]`` to ``[...]``."""
    scale = torch.maximum(first.abs().amax(-1), second.abs().amax(-1))
    gap = (first - second).abs().amax(-1)
    return torch.where(scale > 0, gap / scale.clamp(min=torch.finfo(scale.dtype).tiny), gap)


@dataclass(frozen=True)
class Separation:
    """What random models could tell apart.

    Attributes:
        separated: Whether some model separated each pair, bool ``[P]``.
        gap: Largest relative distance of each pair over the models ``[P]``.
        noise: Largest relative distance between a graph and a relabelled copy of it.
        tolerance: What a gap must exceed; at least 1000 times the noise.
    """

    separated: Tensor
    gap: Tensor
    noise: float
    tolerance: float

    @property
    def count(self) -> int:
        """Number of separated pairs."""
        return int(self.separated.sum())

    @property
    def undecided(self) -> int:
        """Pairs whose gap is above ten times the noise, but below the tolerance."""
        return int(((self.gap > 10 * self.noise) & ~self.separated).sum())


def _noise(
    model: nn.Module, graphs: Sequence[Data], rows: Tensor, seed: int, batch_size: int
) -> float:
    copies = relabelled(graphs, seed)
    noise = float(relative_distance(embed(model, copies, batch_size), rows).max())
    if noise > _INVARIANT:
        raise ValueError(
            f"the model gives relabelled copies of a graph embeddings that differ by {noise:.2g}: it is "
            "not invariant, or it is random; use graphpool.evaluate.compare_pair for such models"
        )
    return noise


def _tolerance(noise: float, factor: float, floor: float) -> float:
    return max(factor * noise, floor)


def separate_pairs(
    make_model: MakeModel,
    graphs: Sequence[Data],
    pairs: Tensor,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    factor: float = 1e3,
    floor: float = 1e-11,
    calibration: int | None = None,
    batch_size: int = 32,
) -> Separation:
    """Tells pairs of graphs apart with freshly drawn random weights.

    For every seed a new model embeds all graphs in float64, and relabelled copies of them: how much a graph
    and its copy differ is rounding noise. A pair counts as separated if some model puts it farther apart than
    ``factor`` times the largest noise. That random weights separate what a model can separate holds with
    probability one; rounding is what has to be kept out.

    Args:
        make_model: Makes a model; called after seeding.
        graphs: The graphs.
        pairs: Positions in ``graphs``, ``[P, 2]``.
        seeds: One model each. Pairs that are separated are not looked at again.
        factor: Tolerance in units of the noise, at least 10.
        floor: Smallest tolerance.
        calibration: Measure the noise on so many graphs, evenly spread; ``None`` for all.
        batch_size: Graphs per mini-batch.

    Returns:
        The result.

    Raises:
        ValueError: If the model is not invariant to relabelling, or ``factor`` is below 10.
    """
    if factor < 10:
        raise ValueError(f"factor must be at least 10, got {factor}")
    open_ = torch.ones(len(pairs), dtype=torch.bool)
    gap = torch.zeros(len(pairs), dtype=torch.double)
    noise = tolerance = 0.0
    for seed in seeds:
        left = pairs[open_]
        if not len(left):
            break
        used, place = torch.unique(left, return_inverse=True)
        torch.manual_seed(seed)
        model = make_model()
        chosen = [graphs[i] for i in used.tolist()]
        rows = embed(model, chosen, batch_size)
        count = len(chosen) if calibration is None else min(calibration, len(chosen))
        probe = torch.linspace(0, len(chosen) - 1, count).long()
        noise_here = _noise(model, [chosen[i] for i in probe], rows[probe], seed, batch_size)
        distance = relative_distance(rows[place[:, 0]], rows[place[:, 1]])
        gap[open_] = torch.maximum(gap[open_], distance)
        noise, tolerance_here = max(noise, noise_here), _tolerance(noise_here, factor, floor)
        tolerance = max(tolerance, tolerance_here)
        open_[open_.clone()] = distance <= tolerance_here
    return Separation(~open_, gap, noise, tolerance)


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
    if factor < 10:
        raise ValueError(f"factor must be at least 10, got {factor}")
    left: Tensor | None = None
    for seed in seeds:
        torch.manual_seed(seed)
        model = make_model()
        used = torch.arange(len(graphs)) if left is None else torch.unique(left)
        chosen = [graphs[i] for i in used.tolist()]
        rows = embed(model, chosen, batch_size)
        count = len(chosen) if calibration is None else min(calibration, len(chosen))
        probe = torch.linspace(0, len(chosen) - 1, count).long()
        noise = _noise(model, [chosen[i] for i in probe], rows[probe], seed, batch_size)
        tolerance = _tolerance(noise, factor, floor)
        if left is None:
            left = similar_pairs(rows, tolerance)
        else:
            at = torch.searchsorted(used, left)
            close = relative_distance(rows[at[:, 0]], rows[at[:, 1]]) <= tolerance
            left = left[close]
        if not len(left):
            break
    return torch.empty(0, 2, dtype=torch.long) if left is None else left
