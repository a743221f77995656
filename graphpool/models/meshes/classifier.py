"""Classification of whole meshes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphpool import aggr
from graphpool._recorded import savable
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.mesh import FaceClusters, MeshGraph, MeshStandardizer
from graphpool.models.meshes.blocks import FaceNetwork, encoder

_READS = ("dual", "primal", "both")


@savable
class MeshClassifier(FaceNetwork):
    """The classifier of PD-MeshNet (Milano et al., NeurIPS 2020), with any aggregation as its pool.

    Blocks of residual convolutions, group normalisation and pooling; a readout over each mesh; two
    linear layers. The defaults are the published network for SHREC, which had 567,226 parameters for
    30 classes: here the dihedral angle enters as sine and cosine, so there is one channel more.

    As published, only the dual features are read out, and the dual stream does not depend on the
    primal one: then the primal weights and the attention between faces get no gradient, and the
    order of pooling is that of a fixed random projection of the trained dual features.
    ``read="both"`` lets the primal stream reach the loss, ``own_feature=True`` lets a face use its
    own feature, ``dual_messages=True`` lets it see the dual features around it, and
    ``score_gradient=True`` lets the choice of clusters learn.

    For each pooling level, ``clusters(graph)`` is the cluster of every face ``[F]``.

    Args:
        num_classes: Number of classes.
        in_channels: Widths of the features, primal and dual: (1, 8) for configuration A, (1, 5) for
            B and C.
        channels: Widths of the blocks, per head.
        heads: Number of heads.
        keep: Fraction of the edges that each block keeps.
        reduce: What pools the faces of a cluster (and the dual nodes between two clusters): anything
            :func:`graphpool.aggr.resolve` takes.
        readout: What pools a whole mesh; likewise.
        read: ``"dual"``, ``"primal"`` or ``"both"``: the streams that are read out.
        norm: ``"group"`` or ``"batch"``.
        hidden: Width between the two linear layers.
        num_skips: Convolutions per block after the first.
        dropout: Of the attention coefficients.
        own_feature, dual_messages, score_gradient: See above.
        checkpoint: Whether training keeps inputs and outputs of the convolutions only, see
            :class:`graphpool.mesh.PrimalDualConv`.
        reduce_kwargs: Passed on to the aggregations of the pools.

    Example:
        >>> from graphpool.mesh import icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(1))
        >>> model = MeshClassifier(num_classes=30)
        >>> sum(p.numel() for p in model.parameters())
        567418
        >>> model.eval()(graph).shape
        torch.Size([1, 30])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (1, 8),
        channels: Sequence[int] = (64, 128),
        heads: int = 3,
        keep: Sequence[float] = (0.8, 0.8),
        reduce: Any = "mean",
        readout: Any = "mean",
        *,
        read: str = "dual",
        norm: str = "group",
        hidden: int = 100,
        num_skips: int = 1,
        dropout: float = 0.0,
        own_feature: bool = False,
        dual_messages: bool = False,
        score_gradient: bool = False,
        checkpoint: bool = False,
        reduce_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if read not in _READS:
            raise ValueError(f"`read` must be one of {_READS}; got {read!r}.")
        if len(channels) != len(keep) or not channels:
            raise ValueError(
                f"`channels` and `keep` must have the same length >= 1; got {len(channels)} and "
                f"{len(keep)}."
            )
        self.read = read
        self.standardizer = MeshStandardizer(in_channels)
        self.blocks, width = encoder(
            in_channels,
            channels,
            keep,
            heads=heads,
            reduce=reduce,
            norm=norm,
            num_skips=num_skips,
            pool_kwargs={"score_gradient": score_gradient, "reduce_kwargs": reduce_kwargs},
            conv_kwargs={
                "dropout": dropout,
                "own_feature": own_feature,
                "dual_messages": dual_messages,
                "checkpoint": checkpoint,
            },
        )
        self.primal_readout = aggr.resolve(readout, channels=width[0]) if read != "dual" else None
        self.dual_readout = aggr.resolve(readout, channels=width[1]) if read != "primal" else None
        total = sum(
            pooled_width(module, size)
            for module, size in zip((self.primal_readout, self.dual_readout), width, strict=True)
            if module is not None
        )
        self.head = nn.Sequential(
            nn.Linear(total, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def _run(self, graph: MeshGraph) -> tuple[Tensor, list[FaceClusters]]:
        primal, dual = self.standardizer(graph)
        topology = graph.topology()
        steps = []
        for block in self.blocks:
            step = block(primal, dual, topology)
            (primal, dual), topology = step.after, step.topology
            steps.append(step.clusters)
        parts = []
        if self.primal_readout is not None:
            parts.append(pool(self.primal_readout, primal, topology.mesh_faces))
        if self.dual_readout is not None:
            parts.append(pool(self.dual_readout, dual, topology.mesh_dual_nodes))
        return self.head(torch.cat(parts, dim=1)), steps
