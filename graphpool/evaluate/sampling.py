"""Which graphs a network that is itself random tells apart: a paired test of many draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import f as f_distribution
from torch import Tensor, nn
from torch_geometric.data import Data

from graphpool._arguments import check_at_least
from graphpool.evaluate.expressiveness import MakeModel, evenly, in_parts, relabelled

# Added to the standard deviations, relative to the embeddings: a difference that is the same in all draws
# must exceed this many times more than rounding to count.
_RIDGE = 1e-6


@dataclass(frozen=True)
class SampledSeparation:
    """What a random model could tell apart.

    Attributes:
        evidence: Hotelling's T^2 of each pair over its critical value ``[P]``, at the draw where the pair was
            separated, or at the last one.
        draws: Number of draws that took ``[P]``.
        controls: Largest evidence of each control pair, a graph and a relabelled copy of it ``[C]``.
    """

    evidence: Tensor
    draws: Tensor
    controls: Tensor

    @property
    def separated(self) -> Tensor:
        """Whether each pair was separated, bool ``[P]``."""
        return self.evidence > 1

    @property
    def count(self) -> int:
        """Number of separated pairs."""
        return int(self.separated.sum())

    @property
    def reliable(self) -> bool:
        """Whether no control pair was separated; otherwise the count must not be used."""
        return bool((self.controls <= 1).all())


class _Moments:
    """Mean and scatter of differences ``[P, K, d]``, block by block (Chan, Golub and LeVeque, 1979)."""

    def __init__(self, pairs: int, parts: int, width: int) -> None:
        self.count, self.scale = 0, torch.zeros(parts, dtype=torch.double)
        self.mean = torch.zeros(pairs, parts, width, dtype=torch.double)
        self.scatter = torch.zeros(pairs, parts, width, width, dtype=torch.double)

    def add(self, which: Tensor, difference: Tensor, scale: Tensor) -> None:
        """Adds draws ``[len(which), r, K, d]`` of the pairs ``which``."""
        new = difference.size(1)
        mean = difference.mean(1)
        centred = difference - mean.unsqueeze(1)
        step = mean - self.mean[which]
        total = self.count + new
        self.scatter[which] += torch.einsum("prki,prkj->pkij", centred, centred)
        self.scatter[which] += torch.einsum("pki,pkj->pkij", step, step) * self.count * new / total
        self.mean[which] += step * (new / total)
        self.count = total
        self.scale = torch.maximum(self.scale, scale)

    def statistic(self, which: Tensor) -> Tensor:
        """T^2 of the pairs ``which``, ``[len(which), K]``."""
        mean = self.mean[which].unsqueeze(-1)
        covariance = self.scatter[which] / (self.count - 1)
        ridge = (_RIDGE * self.scale).square().clamp(min=torch.finfo(torch.double).tiny)
        eye = torch.eye(mean.size(-2), dtype=torch.double)
        inner = torch.linalg.solve(covariance + ridge.view(-1, 1, 1) * eye, mean)
        return self.count * (mean * inner).sum((-1, -2))


def separate_pairs_by_sampling(
    make_model: MakeModel,
    graphs: Sequence[Data],
    pairs: Tensor,
    parts: int = 1,
    *,
    looks: Sequence[int] = (64, 256, 1024),
    level: float = 1e-6,
    controls: int = 16,
    seed: int = 0,
    block: int = 64,
) -> list[SampledSeparation]:
    r"""Tells pairs of graphs apart with a model that is random in every call, such as relational pooling.

    A model with random weights embeds every graph q times in float64. If two graphs are isomorphic, their
    embeddings have the same distribution and the differences :math:`D_i` of the i-th draws have mean zero.
    Hotelling's :math:`T^2 = q\, \bar D^\top \Sigma^{-1} \bar D` then exceeds its critical value with
    probability ``level`` at most, over all pairs, parts and looks together (Bonferroni; up to what the mean
    of q draws lacks to be normal). The i-th draws of all graphs use the same random numbers, which the
    difference partly cancels. Pairs that are separated at a look are not drawn again. Control pairs, graphs
    and relabelled copies of them, go through all looks and say whether the procedure can be trusted.

    :math:`\Sigma` gets :math:`10^{-6}` times the largest embedding added to its standard deviations. This can
    only lower the statistic, and covers what does not vary.

    Args:
        make_model: Makes a model; called after seeding. The model gets mini-batches of copies of one graph
            and must treat them independently.
        graphs: The graphs.
        pairs: Positions in ``graphs``, ``[P, 2]``.
        parts: The embedding is cut into so many equal parts (results of several readouts, say), each judged
            on its own.
        looks: Numbers of draws after which pairs are judged, increasing; the first above the width of a
            part.
        level: Probability that any pair is separated by chance.
        controls: Number of control pairs, at most one for each graph.
        seed: Seed of the weights and of the draws.
        block: Copies of a graph in a mini-batch.

    Returns:
        One result for each part.

    Raises:
        ValueError: If an argument is out of range, or the model returns infinities or NaN.
    """
    _check(looks, level, block)
    probe = evenly(len(graphs), controls) if len(graphs) else torch.empty(0, dtype=torch.long)
    everything = [*graphs, *relabelled([graphs[i] for i in probe.tolist()], seed)]
    mirrored = torch.stack([probe, len(graphs) + torch.arange(len(probe))], dim=1)
    tested = torch.cat([pairs.view(-1, 2), mirrored])
    control = torch.arange(len(tested)) >= len(pairs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model().double().eval()
        moments: _Moments | None = None
        evidence = torch.zeros(len(tested), parts, dtype=torch.double)
        draws = torch.zeros(len(tested), parts, dtype=torch.long)
        for last in looks:
            left = ((evidence <= 1).any(1) | control).nonzero().squeeze(1)
            if not bool((~control[left]).any()):
                break
            used, place = torch.unique(tested[left], return_inverse=True)
            chosen = [everything[i] for i in used.tolist()]
            while moments is None or moments.count < last:
                done = 0 if moments is None else moments.count
                size = min(block, last - done)
                rows = in_parts(_draw(model, chosen, size, 1_000_003 * seed + done + 1), parts)
                if moments is None:
                    moments = _Moments(len(tested), parts, rows.size(-1))
                difference = rows[place[:, 0]] - rows[place[:, 1]]
                moments.add(left, difference, rows.abs().amax((0, 1, 3)))
            width, tests = moments.mean.size(-1), max(len(pairs), 1) * parts * len(looks)
            found = moments.statistic(left) / _critical(last, width, level / tests)
            open_ = evidence[left] <= 1
            draws[left] = torch.where(open_, last, draws[left])
            keep = torch.where(open_, found, evidence[left])
            highest = torch.maximum(evidence[left], found)
            evidence[left] = torch.where(control[left].unsqueeze(1), highest, keep)
    return [
        SampledSeparation(evidence[~control, k], draws[~control, k], evidence[control, k])
        for k in range(parts)
    ]


def _check(looks: Sequence[int], level: float, block: int) -> None:
    if not looks or any(b <= a for a, b in zip(looks, looks[1:], strict=False)):
        raise ValueError(f"`looks` must be increasing numbers of draws; got {tuple(looks)}.")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1); got {level}.")
    check_at_least(block, "block", 1)


def _critical(q: int, d: int, level: float) -> float:
    if q <= d:
        raise ValueError(f"The first look must take more draws than the width {d}; got {q}.")
    return (q - 1) * d / (q - d) * float(f_distribution.isf(level, d, q - d))


@torch.no_grad()
def _draw(model: nn.Module, graphs: Sequence[Data], copies: int, seed: int) -> Tensor:
    """Embeddings ``[G, copies, w]``, with the same random numbers for every graph."""
    rows = []
    for graph in graphs:
        n = int(graph.num_nodes or 0)
        shift = n * torch.arange(copies)
        edges = (graph.edge_index.unsqueeze(1) + shift.view(1, -1, 1)).flatten(1)
        batch = torch.arange(copies).repeat_interleave(n)
        torch.manual_seed(seed)
        out = model(graph.x.double().repeat(copies, 1), edges, batch, copies)
        if out.dim() != 2 or out.size(0) != copies:
            raise ValueError(f"The model must return [{copies}, d]; got {list(out.shape)}.")
        if not bool(torch.isfinite(out).all()):
            raise ValueError(
                "The model returned infinities or NaN; use smaller weights or fewer layers."
            )
        rows.append(out)
    return torch.stack(rows)
