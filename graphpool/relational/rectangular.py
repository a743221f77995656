"""Labelled copies as a further axis of the features: the rectangular form.

Copy ``s`` of every graph lies in slice ``[:, s]`` of a ``[N, S, d]`` tensor, the edges stay as they are. A
layer that gathers and scatters along dimension 0 and acts on the last axis runs all copies at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from graphpool.ragged import ragged_offsets
from graphpool.relational.copies import distances
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.labelings import Labelings

# Layers known to leave all axes but dimension 0 and the last alone.
_LAYERS: tuple[type, ...] = (
    pyg.GINConv,
    pyg.GINEConv,
    pyg.GraphConv,
    pyg.SAGEConv,
)
_POINTWISE: tuple[type, ...] = (
    nn.Linear,
    nn.Identity,
    nn.Dropout,
    nn.LayerNorm,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    pyg.Linear,
    pyg.aggr.SumAggregation,
    pyg.aggr.MeanAggregation,
    pyg.aggr.MaxAggregation,
)
_CONTAINERS: tuple[type, ...] = (
    nn.Sequential,
    nn.ModuleList,
    pyg.MLP,
    pyg.GIN,
    pyg.GraphSAGE,
)


def accepts_copy_axis(gnn: nn.Module) -> bool:
    """Whether a network is known to treat a middle axis of copies correctly.

    True for PyG's GIN, GraphSAGE and sequences of their layers, without batch normalisation. A network of
    one's own says so with an attribute ``supports_copy_axis = True``; its layers then get features
    ``[N, S, d]`` and edge features ``[E, 1, d_e]``, and gather and scatter along dimension 0.
    """
    said = getattr(gnn, "supports_copy_axis", None)
    if said is not None:
        return bool(said)
    known = _LAYERS + _POINTWISE + _CONTAINERS
    # type(), not isinstance: a subclass may do anything in its forward.
    return all(
        # What PyG's models keep for hierarchical sampling; a private class that does nothing here.
        type(module) in known or type(module).__name__ == "TrimToLayer"
        for module in gnn.modules()
    ) and not any(
        getattr(module, "jk_mode", None) == "lstm" or getattr(module, "project", False)
        for module in gnn.modules()
    )


@contextmanager
def copy_axis(gnn: nn.Module) -> Iterator[None]:
    """Message passing along dimension 0 instead of -2, which is the same for 2-D features."""
    layers: list[Any] = [module for module in gnn.modules() if hasattr(module, "node_dim")]
    before = [layer.node_dim for layer in layers]
    for layer in layers:
        layer.node_dim = 0
    try:
        yield
    finally:
        for layer, dim in zip(layers, before, strict=True):
            layer.node_dim = dim


class Slices:
    """Where the copies of a batch lie in ``[N, S]``.

    Attributes:
        num_slices: S, the largest number of copies of a graph.
        slice_of: Slice of each copy ``[M]``.
    """

    @torch.compiler.disable
    def __init__(self, graphs: GraphBatch, graph: Tensor) -> None:
        counts = torch.bincount(graph, minlength=graphs.num_graphs)
        self.graphs, self.graph, self.counts = graphs, graph, counts
        self.num_slices = int(counts.max()) if counts.numel() else 0
        self.first = ragged_offsets(counts)[:-1]
        self.slice_of = torch.arange(graph.numel(), device=graph.device) - self.first[graph]

    def valid(self, first: int, last: int) -> Tensor:
        """Which entries of slices ``first..last-1`` belong to a copy: bool ``[N, last - first]``."""
        slices = torch.arange(first, last, device=self.graph.device)
        return slices < self.counts[self.graphs.batch].unsqueeze(1)

    def copy(self, first: int, last: int) -> Tensor:
        """Copy of every entry ``[N, last - first]``; meaningful where :meth:`valid`."""
        slices = torch.arange(first, last, device=self.graph.device)
        return self.first[self.graphs.batch].unsqueeze(1) + slices

    def marks(self, labelings: Labelings, first: int, last: int) -> Tensor:
        """Which nodes carry labels: bool ``[N, last - first, l]``."""
        here = (self.slice_of >= first) & (self.slice_of < last)
        labels, place = labelings.nodes[here], self.slice_of[here] - first
        count = labelings.num_labels
        marks = torch.zeros(
            self.graphs.num_nodes, last - first, count, dtype=torch.bool, device=self.graph.device
        )
        marks[labels, place.unsqueeze(1), torch.arange(count, device=self.graph.device)] = True
        return marks

    def distances(self, labelings: Labelings, max_distance: int, first: int, last: int) -> Tensor:
        """Hops from the labels ``[N, last - first, l]``, ``max_distance + 1`` beyond and where no copy is."""
        valid = self.valid(first, last)
        node = valid.nonzero()[:, 0]
        labels = labelings.nodes[self.copy(first, last)[valid]]
        out = node.new_full((*valid.shape, labelings.num_labels), max_distance + 1)
        out[valid] = distances(self.graphs, labels, node, max_distance)
        return out


def rectangular_is_cheaper(graphs: GraphBatch, graph: Tensor) -> bool:
    """Whether ``N S`` padded entries cost no more than the index work of the ragged form.

    The ragged form builds and reads an index entry per copied node and edge; it moves about a quarter more
    for that, so that the rectangular form is chosen up to this much padding.
    """
    counts = torch.bincount(graph, minlength=graphs.num_graphs)
    if counts.numel() == 0:
        return False
    sizes = graphs.counts + (graphs.edge_ptr[1:] - graphs.edge_ptr[:-1])
    return int(sizes.sum() * counts.max()) <= 1.25 * int((sizes * counts).sum())
