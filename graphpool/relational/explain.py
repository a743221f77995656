"""Explainers of PyTorch Geometric over copies: a copied edge has the mask of the edge that it copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def masks_of_copies(gnn: nn.Module, edge_id: Tensor) -> Iterator[None]:
    """Where an explainer has masked the edges of the graph, the layers read masks of the copied edges.

    Args:
        gnn: The network.
        edge_id: The edge that each copied one is a copy of ``[E']``.

    Raises:
        ValueError: An explainer listens to the attention of the layers, which is that of copies.
    """
    layers: list[Any] = [m for m in gnn.modules() if hasattr(m, "_message_forward_hooks")]
    for layer in layers:
        hooks = layer._message_forward_hooks.values()
        if any(hook.__module__.startswith("torch_geometric.explain") for hook in hooks):
            raise ValueError(
                f"{type(layer).__name__} attends to copies of the edges, which AttentionExplainer takes for "
                "the edges; use an explainer that masks them, such as GNNExplainer."
            )
    masked = [layer for layer in layers if layer.explain and layer._edge_mask is not None]
    before = [(layer._edge_mask, layer._loop_mask) for layer in masked]
    for layer, (mask, loops) in zip(masked, before, strict=True):
        # It may be registered as a parameter, in place of which no plain tensor can be set.
        layer._parameters.pop("_edge_mask", None)
        layer._edge_mask, layer._loop_mask = mask[edge_id], loops[edge_id]
    try:
        yield
    finally:
        for layer, (mask, loops) in zip(masked, before, strict=True):
            del layer._edge_mask
            layer._edge_mask, layer._loop_mask = mask, loops
