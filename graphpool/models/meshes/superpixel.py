"""Segmentation by labelling clusters of faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphpool._recorded import savable
from graphpool.mesh import FaceClusterPool, FaceClusters, MeshGraph, MeshStandardizer
from graphpool.mesh import PrimalDualConv as Conv
from graphpool.mesh.dual.topology import MeshTopology
from graphpool.models.meshes.blocks import FaceNetwork, compose_clusters, instance_norm
from graphpool.segments import Segments


class _Stage(nn.Module):
    """conv, norm, ReLU, then ``num_skips`` times: conv, norm, plus the input, ReLU."""

    def __init__(
        self,
        in_channels: tuple[int, int],
        out_channels: tuple[int, int],
        num_skips: int,
        per_mesh: bool,
        **conv_kwargs: Any,
    ) -> None:
        super().__init__()
        self.per_mesh = per_mesh
        self.first = Conv(in_channels, out_channels, bias=False, **conv_kwargs)
        self.convs = nn.ModuleList(
            Conv(out_channels, out_channels, bias=False, **conv_kwargs) for _ in range(num_skips)
        )

    def _norm(self, primal: Tensor, dual: Tensor, topology: MeshTopology) -> tuple[Tensor, Tensor]:
        if self.per_mesh:
            bags = topology.mesh_faces, topology.mesh_dual_nodes
            return instance_norm(primal, bags[0]), instance_norm(dual, bags[1])
        return instance_norm(primal, _one_bag(primal)), instance_norm(dual, _one_bag(dual))

    def forward(
        self, primal: Tensor, dual: Tensor, topology: MeshTopology
    ) -> tuple[Tensor, Tensor, Tensor]:
        out = self.first(primal, dual, topology)
        primal, dual = (x.relu() for x in self._norm(out.primal, out.dual, topology))
        for conv in self.convs:
            out = conv(primal, dual, topology)
            new_primal, new_dual = self._norm(out.primal, out.dual, topology)
            primal, dual = (new_primal + primal).relu(), (new_dual + dual).relu()
        return primal, dual, out.attention


def _one_bag(x: Tensor) -> Segments:
    index = torch.zeros(x.size(0), dtype=torch.long, device=x.device)
    return Segments(index=index, num_segments=1, is_sorted=True)


@savable
class MeshSuperpixelSegmenter(FaceNetwork):
    """The network of PD-MeshNet that labels clusters (Milano et al., NeurIPS 2020).

    Two blocks of convolutions with instance normalisation and a pool, a last block without a pool
    whose primal width is the number of labels; the logits of a cluster go to all of its faces.

    For each pooling level, ``clusters(graph)`` is the cluster of every face ``[F]``.

    Args:
        num_classes: Number of labels.
        in_channels: Widths of the features, primal and dual.
        channels: Widths of the blocks that pool.
        keep: Fraction of the edges that each pool keeps.
        reduce: What pools the faces of a cluster.
        num_skips: Convolutions per block after the first.
        norm: ``"mesh"``: statistics of each mesh; ``"batch"``: of all nodes of the mini-batch, as in
            the published network, where the result for a mesh depends on the others.
        dropout, own_feature, dual_messages, score_gradient, checkpoint, reduce_kwargs: As in
            :class:`MeshClassifier`.

    Example:
        >>> from graphpool.mesh import icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(2))
        >>> MeshSuperpixelSegmenter(num_classes=4)(graph).shape
        torch.Size([320, 4])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (1, 8),
        channels: Sequence[int] = (64, 96),
        keep: Sequence[float] = (0.8, 0.8),
        reduce: Any = "mean",
        *,
        num_skips: int = 1,
        norm: str = "mesh",
        dropout: float = 0.0,
        own_feature: bool = False,
        dual_messages: bool = False,
        score_gradient: bool = False,
        checkpoint: bool = False,
        reduce_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if norm not in ("mesh", "batch"):
            raise ValueError(f"`norm` must be 'mesh' or 'batch'; got {norm!r}.")
        if len(channels) != len(keep) or not channels:
            raise ValueError(
                f"`channels` and `keep` must have the same length >= 1; got {len(channels)} and "
                f"{len(keep)}."
            )
        self.standardizer = MeshStandardizer(in_channels)
        options: dict[str, Any] = {
            "dropout": dropout,
            "own_feature": own_feature,
            "dual_messages": dual_messages,
            "checkpoint": checkpoint,
        }
        self.stages, self.pools = nn.ModuleList(), nn.ModuleList()
        width = in_channels
        for size, fraction in zip(channels, keep, strict=True):
            self.stages.append(_Stage(width, (size, size), num_skips, norm == "mesh", **options))
            pool = FaceClusterPool(
                (size, size),
                keep=fraction,
                reduce=reduce,
                score_gradient=score_gradient,
                reduce_kwargs=reduce_kwargs,
            )
            self.pools.append(pool)
            width = pool.out_channels
        self.last = _Stage(width, (num_classes, width[1]), num_skips, norm == "mesh", **options)

    def forward(self, graph: MeshGraph) -> Tensor:
        """Logits ``[F, num_classes]`` of all faces."""
        logits, steps = self._run(graph)
        return logits.index_select(0, compose_clusters(steps)[-1])

    def _run(self, graph: MeshGraph) -> tuple[Tensor, list[FaceClusters]]:
        primal, dual = self.standardizer(graph)
        topology = graph.topology()
        steps: list[FaceClusters] = []
        for stage, pool in zip(self.stages, self.pools, strict=True):
            primal, dual, attention = stage(primal, dual, topology)
            primal, dual, topology, clusters = pool(primal, dual, topology, attention)
            steps.append(clusters)
        primal, _, _ = self.last(primal, dual, topology)
        return primal, steps
