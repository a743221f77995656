"""Drawing some of the admissible labelings, with the weights that make sums unbiased."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool.ragged import ragged_arange, ragged_offsets
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.labelings import Labelings
from graphpool.relational.supports import Support

_LISTABLE = 1 << 20


def draw_ranks(
    counts: Tensor, sizes: Tensor, replacement: bool, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Uniform random ranks ``0..counts-1`` for several populations at once.

    Args:
        counts: Size of each population ``[T]``.
        sizes: How many to draw from each ``[T]``; without replacement at most ``counts``.
        replacement: Whether a rank can be drawn again.
        generator: Source of randomness.

    Returns:
        The population and the rank of every draw, sorted by population, then rank.
    """
    if replacement:
        owner = torch.repeat_interleave(sizes)
        return _sorted(owner, _uniform(counts[owner], generator), counts)
    if int(counts.sum()) <= max(_LISTABLE, 4 * int(sizes.sum())):
        owner, rank = ragged_arange(counts)
        key = torch.rand(
            owner.numel(), dtype=torch.double, device=counts.device, generator=generator
        )
        order = torch.argsort(key)
        order = order[torch.argsort(owner[order], stable=True)]
        place = (
            torch.arange(owner.numel(), device=counts.device) - ragged_offsets(counts)[:-1][owner]
        )
        chosen = order[place < sizes[owner]]
        return _sorted(owner[chosen], rank[chosen], counts)
    # Drawing until enough different ones have come: which set results depends on equalities only,
    # so that all sets of this size are equally likely.
    owner = rank = counts.new_empty(0)
    missing = sizes.clone()
    while int(missing.sum()):
        fresh = torch.repeat_interleave(missing)
        owner, rank = _sorted(
            torch.cat([owner, fresh]), torch.cat([rank, _uniform(counts[fresh], generator)]), counts
        )
        new = torch.ones_like(owner, dtype=torch.bool)
        new[1:] = (owner[1:] != owner[:-1]) | (rank[1:] != rank[:-1])
        owner, rank = owner[new], rank[new]
        missing = sizes - torch.bincount(owner, minlength=sizes.numel())
    return owner, rank


def _uniform(limit: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform integers below each limit."""
    draws = torch.randint(
        torch.iinfo(torch.int64).max, limit.shape, device=limit.device, generator=generator
    )
    # The remainder is uneven by less than limit / 2**63.
    return draws % limit


def _sorted(owner: Tensor, rank: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.argsort(rank)
    order = order[torch.argsort(owner[order], stable=True)]
    return owner[order], rank[order]


def draw_labelings(
    graphs: GraphBatch,
    support: Support,
    sample: int | float | None,
    replacement: bool,
    stratified: bool,
    generator: torch.Generator | None,
) -> Labelings:
    """All labelings of a support, or a sample of them with weights (labelings per draw).

    Raises:
        ValueError: If more are to be drawn without replacement than there are (which graph, how many).
    """
    if sample is None:
        graph, rank = ragged_arange(support.counts)
        return _labelings(support, graph, rank, None)
    strata = support.strata() if stratified else None
    if strata is None:
        where = torch.arange(graphs.num_graphs, device=graphs.device)
        start, counts = torch.zeros_like(where), support.counts
    else:
        where, start, counts = strata
    if isinstance(sample, float):
        sizes = torch.ceil(counts.double() * sample).long()
    else:
        sizes = torch.full_like(counts, sample)
        if not replacement and bool((counts < sample).any()):
            short = int((counts < sample).nonzero()[0])
            what = "labelings that begin with one of its nodes" if stratified else "labelings"
            raise ValueError(
                f"`sample` is {sample}, but graph {int(where[short])} has only {int(counts[short])} {what}; "
                "lower `sample`, give it as a fraction, or set replacement=True."
            )
    sizes = sizes * (counts > 0)
    owner, rank = draw_ranks(counts, sizes, replacement, generator)
    weight = counts[owner].double() / sizes[owner]
    return _labelings(support, where[owner], start[owner] + rank, weight)


def _labelings(support: Support, graph: Tensor, rank: Tensor, weight: Tensor | None) -> Labelings:
    nodes = support.nodes(graph, rank)
    assignments = nodes.size(1)
    if assignments == 1:
        return Labelings(graph, nodes.squeeze(1), weight)
    unit = torch.arange(graph.numel(), device=graph.device)
    return Labelings(
        graph.repeat_interleave(assignments),
        nodes.flatten(0, 1),
        None if weight is None else weight.repeat_interleave(assignments),
        unit.repeat_interleave(assignments),
    )


def check_sample(sample: int | float | None) -> None:
    """Raises a ValueError unless ``sample`` is a positive int, a float in (0, 1], or ``None``."""
    if sample is None:
        return
    if isinstance(sample, bool) or not isinstance(sample, (int, float)) or math.isnan(sample):
        raise TypeError(f"`sample` must be an int, a float or None; got {sample!r}.")
    if isinstance(sample, int) and sample < 1:
        raise ValueError(f"`sample` must be at least 1; got {sample}.")
    if isinstance(sample, float) and not 0 < sample <= 1:
        raise ValueError(f"`sample` as a fraction must be in (0, 1]; got {sample}.")
