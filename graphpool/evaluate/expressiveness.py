"""Which graphs a network can tell apart: random weights, float64, and a tolerance that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from graphpool.datasets.graphs.circulant import relabel

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
                f"The model must return [{batch.num_graphs}, d]; got {list(out.shape)}."
            )
        if not bool(torch.isfinite(out).all()):
            raise ValueError(
                "The model returned infinities or NaN; use smaller weights or fewer layers."
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


def measure_noise(
    model: nn.Module, graphs: Sequence[Data], rows: Tensor, seed: int, batch_size: int
) -> Tensor:
    """Largest relative distance between graphs and relabelled copies, of each part of ``[G, parts, d]``."""
    copies = embed(model, relabelled(graphs, seed), batch_size).view_as(rows)
    noise = relative_distance(copies, rows).amax(0)
    if float(noise.max()) > _INVARIANT:
        raise ValueError(
            "The model gives relabelled copies of a graph embeddings that differ by "
            f"{float(noise.max()):.2g}: it is not invariant, or it is random; use "
            "graphpool.evaluate.separate_pairs_by_sampling for such models."
        )
    return noise


def tolerance_for(noise: Tensor, factor: float, floor: float) -> Tensor:
    return (factor * noise).clamp(min=floor)


def evenly(count: int, of: int | None) -> Tensor:
    """``of`` positions among ``count``, evenly spread; all of them for ``None``."""
    return torch.linspace(0, count - 1, count if of is None else min(of, count)).long()


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
    return separate_pairs_by_part(
        make_model,
        graphs,
        pairs,
        1,
        seeds=seeds,
        factor=factor,
        floor=floor,
        calibration=calibration,
        batch_size=batch_size,
    )[0]


def separate_pairs_by_part(
    make_model: MakeModel,
    graphs: Sequence[Data],
    pairs: Tensor,
    parts: int,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    factor: float = 1e3,
    floor: float = 1e-11,
    calibration: int | None = None,
    batch_size: int = 32,
) -> list[Separation]:
    """:func:`separate_pairs` for several models at once that share most of their work.

    The embedding is cut into ``parts`` equal parts, such as the results of several readouts of one network,
    and each is judged on its own. Pairs that every part has separated are not looked at again.

    Args:
        make_model: Makes a model; called after seeding.
        graphs: The graphs.
        pairs: Positions in ``graphs``, ``[P, 2]``.
        parts: Number of parts, a divisor of the width of the embedding.
        seeds: As in :func:`separate_pairs`, like all that follows.
        factor: Tolerance in units of the noise.
        floor: Smallest tolerance.
        calibration: Number of graphs to measure the noise on.
        batch_size: Graphs per mini-batch.

    Returns:
        One result for each part.

    Raises:
        ValueError: If the model is not invariant to relabelling, ``factor`` is below 10, or ``parts`` does
            not divide the width.
    """
    if factor < 10:
        raise ValueError(f"`factor` must be at least 10; got {factor}.")
    open_ = torch.ones(len(pairs), parts, dtype=torch.bool)
    gap = torch.zeros(len(pairs), parts, dtype=torch.double)
    noise, tolerance = gap.new_zeros(parts), gap.new_zeros(parts)
    for seed in seeds:
        left = open_.any(1).nonzero().squeeze(1)
        if not len(left):
            break
        used, place = torch.unique(pairs[left], return_inverse=True)
        chosen = [graphs[i] for i in used.tolist()]
        rows, noise_here = embed_parts(make_model, chosen, parts, seed, calibration, batch_size)
        noise = torch.maximum(noise, noise_here)
        tolerance_here = tolerance_for(noise_here, factor, floor)
        tolerance = torch.maximum(tolerance, tolerance_here)
        distance = relative_distance(rows[place[:, 0]], rows[place[:, 1]])
        gap[left] = torch.where(open_[left], torch.maximum(gap[left], distance), gap[left])
        open_[left] &= distance <= tolerance_here
    return [
        Separation(~open_[:, k], gap[:, k], float(noise[k]), float(tolerance[k]))
        for k in range(parts)
    ]


def embed_parts(
    make_model: MakeModel,
    graphs: Sequence[Data],
    parts: int,
    seed: int,
    calibration: int | None,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """What a model with fresh weights makes of the graphs ``[G, parts, d]``, and the noise of each part."""
    torch.manual_seed(seed)
    model = make_model()
    rows = in_parts(embed(model, graphs, batch_size), parts)
    probe = evenly(len(graphs), calibration)
    return rows, measure_noise(model, [graphs[i] for i in probe], rows[probe], seed, batch_size)


def in_parts(rows: Tensor, parts: int) -> Tensor:
    """``[..., parts * d]`` to ``[..., parts, d]``.

    Raises:
        ValueError: If the width is no multiple of ``parts``.
    """
    if parts < 1 or rows.size(-1) % parts:
        raise ValueError(f"`parts` must divide the width {rows.size(-1)}; got {parts}.")
    return rows.unflatten(-1, (parts, -1))
