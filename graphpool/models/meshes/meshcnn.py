"""The networks of MeshCNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphpool import aggr
from graphpool._recorded import savable
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.mesh.edges.conv import MeshConv
from graphpool.mesh.edges.graph import EdgeGraph
from graphpool.mesh.edges.pool import EdgeCollapsePool, EdgeCollapses, unpool_edges
from graphpool.mesh.edges.topology import EdgeTopology
from graphpool.mesh.standardize import EdgeStandardizer
from graphpool.models.meshes.blocks import NodeGroupNorm, instance_norm


class _Residual(nn.Module):
    """conv, then ``num_skips`` times conv(BN(ReLU(x))), plus the first, ReLU; no biases."""

    def __init__(self, in_channels: int, out_channels: int, num_skips: int) -> None:
        super().__init__()
        self.first = MeshConv(in_channels, out_channels, bias=False)
        self.convs = nn.ModuleList(
            MeshConv(out_channels, out_channels, bias=False) for _ in range(num_skips)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(out_channels) for _ in range(num_skips))

    def forward(self, x: Tensor, topology: EdgeTopology) -> Tensor:
        x = start = self.first(x, topology)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(norm(x.relu()), topology)
        return (x + start).relu()


@savable
class MeshCNNClassifier(nn.Module):
    """The classifier of MeshCNN (Hanocka et al., SIGGRAPH 2019), with any aggregation as its pool.

    Levels of residual convolutions, group normalisation, ReLU and edge collapse; a readout; two
    linear layers. The defaults are the published network for SHREC: 1,323,386 parameters for 30
    classes.

    Args:
        num_classes: Number of classes.
        channels: Widths of the levels.
        targets: Numbers of edges after each level.
        reduce: What pools the edges that became one: anything :func:`graphpool.aggr.resolve` takes.
        readout: What pools a whole mesh; likewise.
        in_channels: Width of the features.
        hidden: Width between the two linear layers.
        groups: Of the normalisation.
        num_skips: Convolutions per level after the first.
        strict: See :func:`graphpool.mesh.edges.pool.collapse`.

    Example:
        >>> from graphpool.mesh import edge_graph, icosphere
        >>> model = MeshCNNClassifier(30, targets=(400, 300, 200, 150)).eval()
        >>> sum(p.numel() for p in model.parameters()), model(edge_graph(*icosphere(2))).shape
        (1323386, torch.Size([1, 30]))
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256, 256),
        targets: Sequence[int] = (600, 450, 300, 180),
        reduce: Any = "mean",
        readout: Any = "mean",
        *,
        in_channels: int = 5,
        hidden: int = 100,
        groups: int = 16,
        num_skips: int = 1,
        strict: bool = True,
    ) -> None:
        super().__init__()
        if len(channels) != len(targets) or not channels:
            raise ValueError(
                f"`channels` and `targets` must have the same length >= 1; got {len(channels)} and "
                f"{len(targets)}."
            )
        self.standardizer = EdgeStandardizer(in_channels)
        self.convs, self.norms, self.pools = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width = in_channels
        for size, target in zip(channels, targets, strict=True):
            self.convs.append(_Residual(width, size, num_skips))
            self.norms.append(NodeGroupNorm(groups, size))
            collapse = EdgeCollapsePool(size, target, reduce, strict=strict)
            self.pools.append(collapse)
            width = collapse.out_channels
        self.readout = aggr.resolve(readout, channels=width)
        self.head = nn.Sequential(
            nn.Linear(pooled_width(self.readout, width), hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, graph: EdgeGraph) -> Tensor:
        """Logits ``[B, num_classes]`` of a mesh or a batch of meshes."""
        x, topology = self.standardizer(graph), graph.topology()
        for conv, norm, collapse in zip(self.convs, self.norms, self.pools, strict=True):
            x, topology, _ = collapse(norm(conv(x, topology)).relu(), topology)
        return self.head(pool(self.readout, x, topology.mesh_edges))


class _Stage(nn.Module):
    """conv, instance norm, ReLU; then ``blocks`` times conv, instance norm, plus the input, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int) -> None:
        super().__init__()
        self.first = MeshConv(in_channels, out_channels)
        self.convs = nn.ModuleList(MeshConv(out_channels, out_channels) for _ in range(blocks))

    def forward(self, x: Tensor, topology: EdgeTopology) -> Tensor:
        bags = topology.mesh_edges
        x = instance_norm(self.first(x, topology), bags).relu()
        for conv in self.convs:
            x = (instance_norm(conv(x, topology), bags) + x).relu()
        return x


@savable
class MeshCNNSegmenter(nn.Module):
    """The U-Net of MeshCNN (Hanocka et al., SIGGRAPH 2019), with any aggregation as its pool.

    The defaults are the published network for human bodies: 2,279,720 parameters for 8 labels. As
    published, the logits come out of a ReLU. Instance normalisation uses the edges of each mesh and
    no padding; unpooling takes means (the released code's weights do not sum to one).

    Args:
        num_classes: Number of labels.
        channels: Widths of the levels, one more than there are pools.
        targets: Numbers of edges after each pool.
        reduce: What pools the edges that became one; it must keep the number of channels.
        in_channels: Width of the features.
        num_blocks: Residual convolutions per level.
        strict: See :func:`graphpool.mesh.edges.pool.collapse`.

    Example:
        >>> from graphpool.mesh import edge_graph, icosphere
        >>> model = MeshCNNSegmenter(8, targets=(400, 300, 200))
        >>> sum(p.numel() for p in model.parameters()), model(edge_graph(*icosphere(2))).shape
        (2279720, torch.Size([480, 8]))
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int] = (32, 64, 128, 256),
        targets: Sequence[int] = (1800, 1350, 600),
        reduce: Any = "mean",
        *,
        in_channels: int = 5,
        num_blocks: int = 3,
        strict: bool = True,
    ) -> None:
        super().__init__()
        if len(channels) != len(targets) + 1:
            raise ValueError(
                f"`channels` must have one entry more than `targets`; got {len(channels)} and "
                f"{len(targets)}."
            )
        self.standardizer = EdgeStandardizer(in_channels)
        self.down, self.pools = nn.ModuleList(), nn.ModuleList()
        self.narrow, self.merge = nn.ModuleList(), nn.ModuleList()
        width = in_channels
        for size in channels:
            self.down.append(_Stage(width, size, num_blocks))
            width = size
        for size, target in zip(channels, targets, strict=False):
            collapse = EdgeCollapsePool(size, target, reduce, strict=strict)
            if collapse.out_channels != size:
                raise ValueError(
                    f"`reduce` must keep the number of channels; {reduce!r} makes {size} into "
                    f"{collapse.out_channels}."
                )
            self.pools.append(collapse)
        for upper, lower in zip(channels[-2::-1], channels[:0:-1], strict=True):
            self.narrow.append(MeshConv(lower, upper))
            self.merge.append(_Stage(2 * upper, upper, num_blocks))
        self.last_conv = MeshConv(channels[0], num_classes)
        self.last = _Stage(num_classes, num_classes, num_blocks)

    def forward(self, graph: EdgeGraph) -> Tensor:
        """Logits ``[E, num_classes]`` of all edges."""
        x, topology = self.standardizer(graph), graph.topology()
        skips: list[tuple[Tensor, EdgeCollapses]] = []
        for stage, collapse in zip(self.down, self.pools, strict=False):
            skip = stage(x, topology)
            x, topology, collapses = collapse(skip, topology)
            skips.append((skip, collapses))
        x = self.down[-1](x, topology)
        for narrow, merge, (skip, collapses) in zip(
            self.narrow, self.merge, skips[::-1], strict=True
        ):
            x = unpool_edges(narrow(x, collapses.after), collapses)
            x = merge(torch.cat([x, skip], dim=1), collapses.before)
        topology = graph.topology()
        return self.last(self.last_conv(x, topology), topology)
