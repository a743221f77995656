"""Encoder and decoder blocks of the networks on primal-dual graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphpool import ops
from graphpool.mesh.dual.conv import PrimalDualConv, PrimalDualResidual, apply_norm
from graphpool.mesh.dual.graph import MeshGraph
from graphpool.mesh.dual.pool import FaceClusterPool, FaceClusters, FaceClusterUnpool
from graphpool.mesh.dual.topology import MeshTopology
from graphpool.segments import Segments


class FaceNetwork(nn.Module):
    """A network on primal-dual graphs: ``_run`` gives its logits and what each pooling did."""

    def _run(self, graph: MeshGraph) -> tuple[Tensor, list[FaceClusters]]:
        raise NotImplementedError

    def forward(self, graph: MeshGraph) -> Tensor:
        """Logits of a mesh or a batch of meshes, a row per mesh or per face."""
        return self._run(graph)[0]

    def clusters(self, graph: MeshGraph) -> list[Tensor]:
        """For each pooling level the cluster of every face ``[F]``."""
        return compose_clusters(self._run(graph)[1])


class DownStep(NamedTuple):
    """What an encoder block returns: features before and after pooling, and what pooling did.

    Attributes:
        before: Primal and dual features that went into the pool.
        after: Primal and dual features that came out.
        topology: The topology after the pool.
        clusters: The way back.
    """

    before: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]
    topology: MeshTopology
    clusters: FaceClusters


class NodeGroupNorm(nn.GroupNorm):
    """Group normalisation of ``[n, C]`` as layer normalisation of the groups, which is faster."""

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (self.num_groups, -1))
        normal = nn.functional.layer_norm(groups, groups.shape[2:], eps=self.eps).flatten(1)
        return torch.addcmul(self.bias, normal, self.weight)


def make_norm(norm: str, channels: int, groups: int = 16) -> nn.Module:
    """``"group"``: over groups of channels inside each node; ``"batch"``: over all nodes."""
    if norm == "group":
        if channels % groups:
            raise ValueError(
                f"`channels` must be multiples of {groups}, the groups of norm='group' (with heads side by "
                f"side, their product); got {channels}. Take such numbers, or norm='batch'."
            )
        return NodeGroupNorm(groups, channels)
    if norm == "batch":
        return nn.BatchNorm1d(channels)
    raise ValueError(f"`norm` must be 'group' or 'batch'; got {norm!r}.")


def instance_norm(x: Tensor, bags: Segments, eps: float = 1e-5) -> Tensor:
    """Zero mean and unit variance of each channel inside each bag."""
    mean, var = ops.segment_moments(x, bags, ("mean", "var"))
    # The backward pass of x[index] adds in the order in which threads come, that of this does not.
    scale = (var + eps).rsqrt().index_select(0, bags.index)
    return (x - mean.index_select(0, bags.index)) * scale


class ResidualDown(nn.Module):
    """Residual convolutions, normalisation, ReLU, and a pool by the last attention.

    Args:
        in_channels: Widths, primal and dual.
        channels: Width of both streams, per head.
        heads: Number of heads.
        keep: Fraction of the edges that the pool keeps.
        reduce: What the pool takes, see :class:`graphpool.mesh.FaceClusterPool`.
        norm: See :func:`make_norm`.
        num_skips: See :class:`graphpool.mesh.PrimalDualResidual`.
        pool_kwargs: Passed on to the pool.
        conv_kwargs: Passed on to the convolutions.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        channels: int,
        heads: int,
        keep: float,
        reduce: Any,
        norm: str = "group",
        num_skips: int = 1,
        pool_kwargs: dict[str, Any] | None = None,
        conv_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        wide = heads * channels
        self.conv = PrimalDualResidual(
            in_channels,
            (channels, channels),
            heads,
            num_skips=num_skips,
            **{"bias": False, **(conv_kwargs or {})},
        )
        self.primal_norm, self.dual_norm = make_norm(norm, wide), make_norm(norm, wide)
        self.pool = FaceClusterPool((wide, wide), keep=keep, reduce=reduce, **(pool_kwargs or {}))
        self.out_channels = self.pool.out_channels

    def forward(self, primal: Tensor, dual: Tensor, topology: MeshTopology) -> DownStep:
        out = self.conv(primal, dual, topology)
        primal = apply_norm(self.primal_norm, out.primal).relu()
        dual = apply_norm(self.dual_norm, out.dual).relu()
        pooled = self.pool(primal, dual, topology, out.attention)
        return DownStep(
            (primal, dual), (pooled.primal, pooled.dual), pooled.topology, pooled.clusters
        )


def encoder(
    in_channels: tuple[int, int], channels: Sequence[int], keep: Sequence[float], **options: Any
) -> tuple[nn.ModuleList, tuple[int, int]]:
    """A block of :class:`ResidualDown` for each width and fraction, and the widths that come out."""
    blocks, width = nn.ModuleList(), in_channels
    for size, fraction in zip(channels, keep, strict=True):
        block = ResidualDown(width, size, keep=fraction, **options)
        blocks.append(block)
        width = block.out_channels
    return blocks, width


class _ConvNorm(nn.Module):
    """One head, bias, batch normalisation and ReLU in both streams."""

    def __init__(self, in_channels: int, out_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.conv = PrimalDualConv((in_channels,) * 2, (out_channels,) * 2, **kwargs)
        self.primal_norm = nn.BatchNorm1d(out_channels)
        self.dual_norm = nn.BatchNorm1d(out_channels)

    def forward(
        self, primal: Tensor, dual: Tensor, topology: MeshTopology
    ) -> tuple[Tensor, Tensor]:
        out = self.conv(primal, dual, topology)
        return (
            apply_norm(self.primal_norm, out.primal).relu(),
            apply_norm(self.dual_norm, out.dual).relu(),
        )


class Up(nn.Module):
    """Convolution, unpool, concatenation with what was there before pooling, convolution.

    Args:
        in_channels: Width below.
        channels: Width above, of the output and of what was there before pooling.
    """

    def __init__(self, in_channels: int, channels: int, **conv_kwargs: Any) -> None:
        super().__init__()
        self.narrow = _ConvNorm(in_channels, channels, **conv_kwargs)
        self.unpool = FaceClusterUnpool(channels)
        self.merge = _ConvNorm(2 * channels, channels, **conv_kwargs)

    def forward(
        self,
        primal: Tensor,
        dual: Tensor,
        clusters: FaceClusters,
        skip: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        primal, dual = self.narrow(primal, dual, clusters.after)
        primal, dual = self.unpool(primal, dual, clusters)
        return self.merge(
            torch.cat([primal, skip[0]], dim=1), torch.cat([dual, skip[1]], dim=1), clusters.before
        )


def average_heads(x: Tensor, heads: int) -> Tensor:
    """``[n, heads * C]`` to ``[n, C]``."""
    return x if heads == 1 else x.unflatten(1, (heads, -1)).mean(1)


def compose_clusters(steps: list[FaceClusters]) -> list[Tensor]:
    """For each pooling level the cluster of every *original* face ``[F]``."""
    maps: list[Tensor] = []
    for step in steps:
        maps.append(step.cluster if not maps else step.cluster[maps[-1]])
    return maps
