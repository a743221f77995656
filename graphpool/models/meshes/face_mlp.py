"""The baseline of mesh segmentation: every face on its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphpool import ops
from graphpool._recorded import savable
from graphpool.mesh import MeshGraph, MeshStandardizer
from graphpool.mesh.dual.conv import apply_norm


@savable
class FaceMLP(nn.Module):
    """A network that sees one face at a time: what can be told without looking around.

    Its input is the feature of a face and the mean, minimum and maximum over its dual nodes.

    Args:
        num_classes: Number of labels.
        in_channels: Widths of the features, primal and dual.
        hidden: Width of the two hidden layers.
    """

    def __init__(
        self, num_classes: int, in_channels: tuple[int, int] = (1, 8), hidden: int = 128
    ) -> None:
        super().__init__()
        self.standardizer = MeshStandardizer(in_channels)
        self.layers = nn.Sequential(
            nn.Linear(in_channels[0] + 3 * in_channels[1], hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, graph: MeshGraph) -> Tensor:
        """Logits ``[F, num_classes]`` of all faces."""
        primal, dual = self.standardizer(graph)
        topology = graph.topology()
        around = topology.per_directed_edge(dual)
        parts = [
            pool(around, topology.face_sources)
            for pool in (ops.segment_mean, ops.segment_min, ops.segment_max)
        ]
        x = torch.cat([primal, *parts], dim=1)
        for layer in self.layers:
            x = apply_norm(layer, x)
        return x
