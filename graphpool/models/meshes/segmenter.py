"""A U-Net on the faces of a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from graphpool._recorded import savable
from graphpool.mesh import FaceClusters, MeshGraph, MeshStandardizer, PrimalDualConv
from graphpool.mesh.dual.conv import apply_norm
from graphpool.models.meshes.blocks import FaceNetwork, Up, average_heads, encoder


@savable
class MeshSegmenter(FaceNetwork):
    """The U-Net of PD-MeshNet (Milano et al., NeurIPS 2020), with any aggregation as its pool.

    The encoder is that of :class:`MeshClassifier`; its last level is one convolution with batch
    normalisation. Heads are averaged before the decoder, which undoes the pools one by one, each
    time joining in the features from before the pool.

    As published (``head="conv"``), the last layer is a convolution, which ends in a ReLU, followed
    by batch normalisation. ``head="linear"`` makes it a linear layer on the features of each face.

    For each pooling level, ``clusters(graph)`` is the cluster of every face ``[F]``.

    Args:
        num_classes: Number of labels.
        in_channels: Widths of the features, primal and dual: (1, 8) for configuration A, (1, 5) for
            B and C.
        channels: Widths of the levels; one more than there are pools.
        heads: Number of heads in the encoder.
        keep: Fraction of the edges that each pool keeps.
        reduce: What pools the faces of a cluster: anything :func:`graphpool.aggr.resolve` takes that
            keeps the number of channels.
        norm: ``"group"`` or ``"batch"``, in the encoder.
        head: ``"conv"`` or ``"linear"``, see above.
        num_skips, dropout, own_feature, dual_messages, score_gradient, checkpoint, reduce_kwargs: As in
            :class:`MeshClassifier`; they hold for the whole network.

    Example:
        >>> from graphpool.mesh import icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(2))
        >>> MeshSegmenter(num_classes=4).eval()(graph).shape
        torch.Size([320, 4])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (1, 8),
        channels: Sequence[int] = (32, 64, 128),
        heads: int = 1,
        keep: Sequence[float] = (0.7, 0.7),
        reduce: Any = "mean",
        *,
        norm: str = "group",
        head: str = "conv",
        num_skips: int = 1,
        dropout: float = 0.0,
        own_feature: bool = False,
        dual_messages: bool = False,
        score_gradient: bool = False,
        checkpoint: bool = False,
        reduce_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(channels) != len(keep) + 1:
            raise ValueError(
                f"`channels` must have one entry more than `keep`; got {len(channels)} and "
                f"{len(keep)}."
            )
        if head not in ("conv", "linear"):
            raise ValueError(f"`head` must be 'conv' or 'linear'; got {head!r}.")
        self.heads = heads
        self.standardizer = MeshStandardizer(in_channels)
        options: dict[str, Any] = {
            "dropout": dropout,
            "own_feature": own_feature,
            "dual_messages": dual_messages,
            "checkpoint": checkpoint,
        }
        self.down, width = encoder(
            in_channels,
            channels[:-1],
            keep,
            heads=heads,
            reduce=reduce,
            norm=norm,
            num_skips=num_skips,
            pool_kwargs={"score_gradient": score_gradient, "reduce_kwargs": reduce_kwargs},
            conv_kwargs=options,
        )
        self.up = nn.ModuleList()
        last = channels[-1]
        self.bottom = PrimalDualConv(width, (last, last), heads, bias=False, **options)
        self.bottom_norms = nn.ModuleList(nn.BatchNorm1d(heads * last) for _ in range(2))
        for upper, lower in zip(channels[-2::-1], channels[:0:-1], strict=True):
            self.up.append(Up(lower, upper, **options))
        self.last_conv: PrimalDualConv | None = None
        self.last: nn.Module
        if head == "conv":
            pair = (channels[0], channels[0])
            self.last_conv = PrimalDualConv(pair, (num_classes,) * 2, bias=False, **options)
            self.last = nn.BatchNorm1d(num_classes)
        else:
            self.last = nn.Linear(channels[0], num_classes)

    def _run(self, graph: MeshGraph) -> tuple[Tensor, list[FaceClusters]]:
        primal, dual = self.standardizer(graph)
        topology = graph.topology()
        steps: list[FaceClusters] = []
        skips = []
        for block in self.down:
            step = block(primal, dual, topology)
            (primal, dual), topology = step.after, step.topology
            steps.append(step.clusters)
            skips.append(tuple(average_heads(x, self.heads) for x in step.before))
        out = self.bottom(primal, dual, topology)
        primal, dual = (
            average_heads(apply_norm(norm, x).relu(), self.heads)
            for norm, x in zip(self.bottom_norms, out[:2], strict=True)
        )
        for up, clusters, skip in zip(self.up, steps[::-1], skips[::-1], strict=True):
            primal, dual = up(primal, dual, clusters, skip)
        if self.last_conv is not None:
            primal = self.last_conv(primal, dual, steps[0].before).primal
        return apply_norm(self.last, primal), steps
