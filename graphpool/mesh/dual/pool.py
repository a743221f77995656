"""Merging faces into clusters, and the way back."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphpool import aggr, ops
from graphpool.aggr.pyg import pooled_width
from graphpool.coarsen import Coarsened, Selection, lift
from graphpool.coarsen import reduce as reduce_by
from graphpool.mesh.dual.selection import check_selection, select_edges
from graphpool.mesh.dual.topology import MeshTopology, dual_connectivity
from graphpool.mesh.structures import expect
from graphpool.ops import connected_components, contract_edges
from graphpool.segments import Segments


class FaceClusters(NamedTuple):
    """What merging did, as :class:`FaceClusterUnpool` needs it.

    Attributes:
        cluster: ``[F]``, the new face (cluster) of each old face.
        dual_assignment: ``[n_d]``, the new dual node of each old one, -1 where it vanished.
        before: The topology before.
        after: The topology after.
        faces: ``cluster`` as what :mod:`graphpool.coarsen` reduces and lifts by.
        dual_nodes: ``dual_assignment``, likewise.
    """

    cluster: Tensor
    dual_assignment: Tensor
    before: MeshTopology
    after: MeshTopology
    faces: Selection
    dual_nodes: Selection


class PooledMesh(NamedTuple):
    """Attributes: ``primal`` ``[F', C_p']``, ``dual`` ``[n_d', C_d']``, ``topology``, ``clusters``."""

    primal: Tensor
    dual: Tensor
    topology: MeshTopology
    clusters: FaceClusters

    @property
    def coarsened(self) -> Coarsened:
        """The clusters as coarse elements of the faces; a dual node is what joins two of them."""
        after, done = self.topology, self.clusters
        joined = after.pairs if after.config == "A" else after.edge_index
        return Coarsened(self.primal, done.faces, joined, self.dual, done.dual_nodes)


def cluster_faces(
    selected: Tensor, topology: MeshTopology, max_dual_edges: int | None = None
) -> FaceClusters:
    """Merges the faces that selected pairs connect, directly or through others.

    Clusters are numbered in the order of their smallest faces. Two clusters are adjacent if any of
    their faces were; all dual nodes between them become one. What lies inside a cluster vanishes,
    selected or not, so fewer pairs may remain than were not selected.

    Args:
        selected: Boolean mask ``[E]`` over the pairs of ``topology``.
        topology: The meshes.
        max_dual_edges: See :func:`graphpool.mesh.dual.topology.dual_connectivity`.
    """
    pairs = expect(topology, MeshTopology, "topology").pairs
    cluster = connected_components(pairs[:, selected], topology.num_faces)
    num_clusters = int(cluster.max()) + 1 if cluster.numel() else 0
    new_pairs, assignment = contract_edges(pairs, cluster)
    if topology.config != "A":
        # The direction of an old pair survives in the parity of the new dual node.
        turned = (cluster[pairs[0]] > cluster[pairs[1]]).long()
        both = torch.stack([2 * assignment + turned, 2 * assignment + 1 - turned], dim=1)
        assignment = torch.where(assignment[:, None] >= 0, both, -1).reshape(-1)
    batch = topology.batch.new_empty(num_clusters)
    batch[cluster] = topology.batch
    after = MeshTopology(
        torch.stack([new_pairs, new_pairs.flip(0)], dim=2).reshape(2, -1),
        dual_connectivity(new_pairs, num_clusters, topology.config, max_dual_edges),
        batch,
        topology.num_meshes,
        topology.config,
    )
    faces = Selection(Segments(index=cluster, num_segments=num_clusters), batch=after.mesh_faces)
    dual_nodes = Selection.from_cluster(assignment, after.num_dual_nodes, may_vanish=True)
    return FaceClusters(cluster, assignment, topology, after, faces, dual_nodes)


class FaceClusterPool(nn.Module):
    r"""Merges faces along the edges of highest attention and pools each cluster with any aggregation.

    The score of a pair of faces is the mean of the attention over heads and both directions;
    :func:`select_edges` picks the pairs, :func:`cluster_faces` merges what they connect, and
    ``reduce`` pools the features of the faces of a cluster, and those of all dual nodes between two
    clusters. Nothing else is forbidden: boundaries may merge and clusters have any size.

    No gradient flows through the selection. With ``score_gradient`` the pooled features are
    multiplied by :math:`1 + (s - \operatorname{stop}(s))`, with :math:`s` the mean score of the
    selected pairs inside the cluster (for a dual node the mean over its two clusters): the values
    stay the same, and the scores learn what scaling their cluster would do to the loss.

    Args:
        channels: Widths of the features, primal and dual.
        select: ``"fraction"``, ``"count"`` or ``"threshold"``, see :func:`select_edges`.
        keep: The fraction or number of pairs to keep per mesh, or the threshold.
        reduce: Anything :func:`graphpool.aggr.resolve` takes; both streams get one of their own (a
            module is copied for the dual stream), or a pair of them.
        largest: Merge at the highest scores first, or at the lowest.
        consecutive: Whether a face may be merged with several others.
        score_gradient: See above.
        max_dual_edges: A cluster with ``d`` neighbours makes ``d (d - 1)`` dual edges; more than
            this in all raises ``ValueError`` before memory runs out.
        reduce_kwargs: Passed on to :func:`graphpool.aggr.resolve`.

    Attributes:
        out_channels: Widths after pooling.

    Example:
        >>> from graphpool.mesh import PrimalDualConv, icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(1))
        >>> out = PrimalDualConv((1, 8), (8, 8))(graph.x, graph.x_dual, graph.topology())
        >>> pool = FaceClusterPool((8, 8), keep=0.8, reduce="max")
        >>> pooled = pool(out.primal, out.dual, graph.topology(), out.attention)
        >>> pooled.topology.num_edges <= 97, pooled.primal.size(0) == pooled.topology.num_faces
        (True, True)
    """

    def __init__(
        self,
        channels: tuple[int, int],
        select: str = "fraction",
        keep: float = 0.8,
        reduce: Any = "mean",
        *,
        largest: bool = True,
        consecutive: bool = True,
        score_gradient: bool = False,
        max_dual_edges: int | None = 50_000_000,
        reduce_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_selection(select, keep)
        self.channels, self.select, self.keep = channels, select, keep
        self.largest, self.consecutive = largest, consecutive
        self.score_gradient, self.max_dual_edges = score_gradient, max_dual_edges
        if isinstance(reduce, nn.Module):
            reduce = (reduce, copy.deepcopy(reduce))
        elif not isinstance(reduce, tuple):
            reduce = (reduce, reduce)
        options = reduce_kwargs or {}
        self.primal_reduce = aggr.resolve(reduce[0], channels=channels[0], **options)
        self.dual_reduce = aggr.resolve(reduce[1], channels=channels[1], **options)
        self.out_channels = (
            pooled_width(self.primal_reduce, channels[0]),
            pooled_width(self.dual_reduce, channels[1]),
        )

    def reset_parameters(self) -> None:
        """Restores the initial state of the two aggregations."""
        for reduce in (self.primal_reduce, self.dual_reduce):
            reset = getattr(reduce, "reset_parameters", None)
            if callable(reset):
                reset()

    def forward(
        self, primal: Tensor, dual: Tensor, topology: MeshTopology, attention: Tensor
    ) -> PooledMesh:
        """Pools features ``[F, C_p]`` and ``[n_d, C_d]`` by ``attention`` ``[2 E, heads]``."""
        expect(topology, MeshTopology, "topology")
        if attention.dim() != 2 or attention.size(0) != 2 * topology.num_edges:
            raise ValueError(
                f"`attention` must have shape [{2 * topology.num_edges}, heads]; got "
                f"{tuple(attention.shape)}."
            )
        score = (
            attention.mean(1).unflatten(0, (-1, 2)).mean(1) if len(attention) else attention[:, 0]
        )
        selected = select_edges(
            score,
            topology,
            self.select,
            self.keep,
            largest=self.largest,
            consecutive=self.consecutive,
        )
        clusters = cluster_faces(selected, topology, self.max_dual_edges)
        after = clusters.after
        pooled = reduce_by(primal, clusters.faces, self.primal_reduce)
        pooled_dual = reduce_by(dual, clusters.dual_nodes, self.dual_reduce)
        if self.score_gradient:
            inside = clusters.cluster[topology.pairs[0][selected]]
            strength = ops.segment_mean(
                score[selected, None], Segments(index=inside, num_segments=after.num_faces)
            )
            ends = strength.index_select(0, after.pairs.flatten()).unflatten(0, (2, -1)).mean(0)
            if after.config != "A":
                ends = ends.repeat_interleave(2, dim=0)
            pooled = pooled * (1 + (strength - strength.detach()))
            pooled_dual = pooled_dual * (1 + (ends - ends.detach()))
        return PooledMesh(pooled, pooled_dual, after, clusters)

    def extra_repr(self) -> str:
        return f"{self.channels}, select={self.select!r}, keep={self.keep}"


class FaceClusterUnpool(nn.Module):
    """Gives every face the feature of its cluster, and every dual node that of its successor.

    Dual nodes that vanished inside a cluster all get one learnable vector.

    Args:
        dual_channels: Width of the dual features.
    """

    def __init__(self, dual_channels: int) -> None:
        super().__init__()
        self.vanished = nn.Parameter(torch.empty(1, dual_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot uniform."""
        nn.init.xavier_uniform_(self.vanished)

    def forward(
        self, primal: Tensor, dual: Tensor, clusters: FaceClusters
    ) -> tuple[Tensor, Tensor]:
        """Features of the topology ``clusters.before`` from those of ``clusters.after``."""
        expect(clusters, FaceClusters, "clusters")
        if primal.size(0) != clusters.after.num_faces or dual.size(0) != (
            clusters.after.num_dual_nodes
        ):
            raise ValueError(
                f"`primal` and `dual` must have {clusters.after.num_faces} and "
                f"{clusters.after.num_dual_nodes} rows; got {primal.size(0)} and {dual.size(0)}."
            )
        if dual.size(1) != self.vanished.size(1):
            raise ValueError(
                f"`dual` must have {self.vanished.size(1)} channels; got {dual.size(1)}."
            )
        # The learnable row sits behind the others, and vanished dual nodes point there. A copy of rows is
        # faster than a lift with `fill`, which would say the same.
        rows = torch.cat([dual, self.vanished.to(dual.dtype)])
        place = torch.where(clusters.dual_assignment >= 0, clusters.dual_assignment, dual.size(0))
        return lift(primal, clusters.faces), rows.index_select(0, place)
