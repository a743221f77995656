"""The poolers of torch-geometric-pool as selectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphpool import _optional
from graphpool.coarsen.select import Selected, Selection
from graphpool.segments import Segments


class PoolerSelector(nn.Module):
    """Selects and connects as a pooler of torch-geometric-pool does, and keeps its losses.

    Its own reduction is left out. Entries of a sparse assignment are factors of the features, as in its
    ``AggrReduce``; a dense assignment is weights.

    Args:
        pooler: The pooler; one with a dense assignment made with ``batched=False, sparse_output=True``.
    """

    def __init__(self, pooler: nn.Module) -> None:
        super().__init__()
        if pooler.is_dense and (getattr(pooler, "batched", False) or not pooler.sparse_output):
            raise ValueError(
                f"{type(pooler).__name__} must be made with batched=False, sparse_output=True, so that "
                "coarse graphs come as lists of edges."
            )
        self.pooler = pooler

    def reset_parameters(self) -> None:
        self.pooler.reset_parameters()  # type: ignore[operator]

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Segments, edge_weight: Tensor | None = None
    ) -> Selected:
        graphs = batch.index
        if graphs.numel() and bool((graphs.diff() < 0).any()):
            raise ValueError(
                "`batch` must be ascending for a pooler of torch-geometric-pool: it takes the nodes of a "
                "graph to stand together."
            )
        out = self.pooler(x=x, adj=edge_index, edge_weight=edge_weight, batch=graphs)
        assignment, edges = out.so.s, (out.edge_index, out.edge_weight)
        loss = dict(out.loss) if out.loss else None
        if not assignment.is_sparse:
            selection = Selection.from_assignment(
                assignment.reshape(-1, assignment.size(-1)), batch
            )
            return Selected(selection, None, edges, loss)
        fine, coarse = assignment.indices()
        count = assignment.size(1)
        # They number coarse nodes by score, we by graph, too.
        graph = torch.full((count,), batch.num_segments, device=x.device)
        graph = graph.index_copy(0, coarse, graphs[fine])
        place = torch.empty_like(graph)
        place[graph.argsort(stable=True)] = torch.arange(count, device=x.device)
        selection = Selection.from_memberships(fine, place[coarse], x.size(0), count)
        return Selected(selection, assignment.values(), (place[edges[0]], edges[1]), loss)


def is_pooler(module: nn.Module) -> bool:
    """Whether it comes from torch-geometric-pool, which is not imported to find out."""
    return any(cls.__name__ == "SRCPooling" for cls in type(module).__mro__)


def make_pooler(name: str, channels: int, ours: list[str], arguments: dict[str, Any]) -> nn.Module:
    """A pooler by its name there.

    Raises:
        ImportError: The package is not installed.
        ValueError: It knows no such name.
        TypeError: The pooler needs other arguments.
    """
    poolers = _optional.require("tgp.poolers", f"coarsen={name!r}, none of {', '.join(ours)},")
    if name not in poolers.pooler_map:
        theirs = ", ".join(sorted(poolers.pooler_map))
        raise ValueError(
            f"`coarsen` must be one of {', '.join(ours)}, or of torch-geometric-pool {theirs}; got {name!r}."
        )
    usual = {"in_channels": channels, "batched": False, "sparse_output": True}
    known = poolers.pooler_map[name].get_signature().args
    if unknown := sorted(set(arguments) - set(known)):
        raise TypeError(
            f"{name!r} does not take {', '.join(unknown)}. It takes: {', '.join(known)}."
        )
    usual = {key: value for key, value in usual.items() if key in known}
    return poolers.get_pooler(name, **{**usual, **arguments})
