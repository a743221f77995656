"""Which pairs of adjacent faces are to be merged."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.coarsen.matching import greedy_matching
from graphpool.mesh.dual.topology import MeshTopology
from graphpool.mesh.structures import expect

_MODES = ("fraction", "count", "threshold")


def check_selection(select: str, keep: float) -> None:
    """Raises ``ValueError`` for an unknown mode or a value out of its range."""
    if select not in _MODES:
        raise ValueError(f"`select` must be one of {_MODES}; got {select!r}.")
    if select == "fraction" and not 0 <= keep <= 1:
        raise ValueError(f"`keep` is a fraction of the edges and must lie in [0, 1]; got {keep}.")
    if select == "count" and (keep < 0 or int(keep) != keep):
        raise ValueError(f"`keep` is a number of edges, an integer >= 0; got {keep}.")


def select_edges(
    score: Tensor,
    topology: MeshTopology,
    select: str = "fraction",
    keep: float = 0.8,
    *,
    largest: bool = True,
    consecutive: bool = True,
) -> Tensor:
    """The pairs of adjacent faces that are merged, mesh by mesh.

    Args:
        score: ``[E]``, one number per pair. Ties go to the pair with the smaller number.
        topology: The meshes.
        select: ``"fraction"``: in a mesh with ``E`` pairs, the ``int((1 - keep) E)`` of the highest
            scores; ``"count"``: the ``max(0, E - keep)`` of the highest scores; ``"threshold"``: all
            pairs with a score above ``keep``.
        keep: See ``select``.
        largest: Highest scores first; otherwise the lowest (and scores below the threshold).
        consecutive: Whether a face may be merged with several others. If not, pairs are accepted in
            the order of their scores as long as neither face is taken (not with a threshold).

    Returns:
        Boolean mask ``[E]``.
    """
    check_selection(select, keep)
    expect(topology, MeshTopology, "topology")
    if score.shape != (topology.num_edges,):
        raise ValueError(
            f"`score` must have one entry per pair, {topology.num_edges}; got {tuple(score.shape)}."
        )
    score = score.detach()
    if select == "threshold":
        if not consecutive:
            raise ValueError("`consecutive=False` needs a quota; select='threshold' has none.")
        return score > keep if largest else score < keep

    order = torch.argsort(score, descending=largest, stable=True)
    order = order[torch.argsort(topology.pair_batch[order], stable=True)]
    if not consecutive:
        order = order[greedy_matching(topology.pairs, order, topology.num_faces)[order]]
    mesh = topology.pair_batch[order]
    available = torch.bincount(mesh, minlength=topology.num_meshes)
    rank = torch.arange(order.numel(), device=order.device)
    rank = rank - (available.cumsum(0) - available)[mesh]
    total = torch.bincount(topology.pair_batch, minlength=topology.num_meshes)
    if select == "fraction":
        quota = ((1.0 - keep) * total.double()).long()
    else:
        quota = (total - int(keep)).clamp(min=0)
    chosen = torch.zeros(topology.num_edges, dtype=torch.bool, device=order.device)
    chosen[order[rank < quota[mesh]]] = True
    return chosen
