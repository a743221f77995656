"""Edge convolutions on the nearest neighbours of every point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphpool._recorded import savable
from graphpool.aggr.registry import resolve_pool
from graphpool.conv import EdgeConv
from graphpool.ops.neighbors import knn_groups
from graphpool.points.inputs import (
    absolute,
    check_features,
    check_positions,
    cloud_segments,
    parameter_dtype,
)
from graphpool.points.pooling import Pool, choose_norm, dense_block, head
from graphpool.segments import Segments


@savable
class EdgeConvClassifier(nn.Module):
    """Edge convolutions on k-NN graphs (Wang et al., "Dynamic Graph CNN", ACM TOG 2019), with any pool.

    Args:
        num_classes: Number of classes.
        in_channels: Width of the features beside the coordinates.
        pool: The pool over neighbours.
        readout: The pool over the cloud, ``["max", "mean"]`` in the original.
        widths: Widths of the convolutions.
        k: Neighbours per point, itself among them. A smaller cloud uses all of its points.
        dynamic: Whether the graph is rebuilt from the features of every layer.
        dropout: Dropout of the classifier.
        norm: ``"batch"``, or ``"layer"``, which has no running statistics that could lag behind the weights.

    Shape:
        Arguments and result as :class:`graphpool.models.PointNet2Classifier`.

    Example:
        >>> model = EdgeConvClassifier(4, pool="softmax", widths=(16, 16), k=5).eval()
        >>> model(torch.rand(50, 3), ptr=torch.tensor([0, 20, 50])).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 0,
        pool: Any = "max",
        readout: Any = ("max", "mean"),
        widths: tuple[int, ...] = (64, 64, 128, 256),
        k: int = 20,
        dynamic: bool = True,
        dropout: float = 0.5,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.in_channels, self.k, self.dynamic = in_channels, k, dynamic
        convs, joins, width = [], [], 3 + in_channels
        for out in widths:
            conv = EdgeConv(width, out, resolve_pool(pool, out), nn=dense_block(2 * width, out))
            convs.append(conv)
            pooled = conv.out_channels
            joins.append(nn.Identity() if pooled == out else nn.Linear(pooled, out))
            width = out
        self.convs, self.joins = nn.ModuleList(convs), nn.ModuleList(joins)
        embedding = 4 * widths[-1]
        self.embed = dense_block(sum(widths), embedding)
        self.readout = Pool(list(readout) if isinstance(readout, tuple) else readout, embedding)
        self.head = head(embedding, (embedding // 2, embedding // 4), num_classes, dropout)
        choose_norm(self, norm)

    def forward(
        self,
        pos: Tensor,
        batch: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        check_positions(pos)
        check_features(x, pos.size(0), self.in_channels)
        segments = cloud_segments(pos.size(0), batch, ptr, batch_size, pos.device)
        dtype = parameter_dtype(self.embed)
        h = absolute(pos, segments, dtype)
        if x is not None:
            h = torch.cat([h, x.to(dtype)], 1)
        edge_index = knn_groups(pos, self.k, segments=segments).edge_index
        outputs: list[Tensor] = []
        for conv, join in zip(self.convs, self.joins, strict=True):
            if outputs and self.dynamic:
                edge_index = knn_groups(h, self.k, segments=segments).edge_index
            h = join(conv(h, edge_index))
            outputs.append(h)
        return self.head(self.readout(self.embed(torch.cat(outputs, 1)), segments))
