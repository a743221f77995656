"""The primal and the dual graph of a batch of meshes, as index tensors."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from graphpool.segments import Segments

CONFIGS = ("A", "B", "C")


def check_config(config: str) -> str:
    """``config`` itself, if it is one of A, B, C."""
    if config not in CONFIGS:
        raise ValueError(
            f"`config` must be 'A' (one undirected dual node per edge), 'B' (two, undirected) or "
            f"'C' (two, directed); got {config!r}."
        )
    return config


def dual_connectivity(
    pairs: Tensor, num_faces: int, config: str = "A", max_dual_edges: int | None = None
) -> Tensor:
    """Joins the dual nodes that share a face (or a cluster of faces).

    Args:
        pairs: ``[2, E]``, adjacent faces, the smaller first, each pair once.
        num_faces: The number of faces (or clusters).
        config: ``"A"``: dual node ``t`` is pair ``t``; all dual nodes at a face are joined both ways.
            ``"B"``, ``"C"``: dual node ``2 t`` is ``pairs[0, t] -> pairs[1, t]`` and ``2 t + 1`` its
            reverse; ``m -> i`` leads to ``i -> j`` for ``m != j``, and in B back as well.
        max_dual_edges: The most dual edges that may be made. A face with ``d`` neighbours makes
            ``d (d - 1)``, so merging many faces into one cluster can make very many.

    Returns:
        ``[2, D]``, sources and targets.

    Raises:
        ValueError: There would be more than ``max_dual_edges``.
    """
    ends = pairs.t().reshape(-1)  # incidence p = 2 t + side
    at_face = torch.argsort(ends, stable=True)
    degree = torch.bincount(ends, minlength=num_faces)
    own = degree[ends[at_face]]
    total = int((own - 1).sum()) * (2 if config == "B" else 1)
    if max_dual_edges is not None and total > max_dual_edges:
        raise ValueError(
            f"The dual graph would have {total} edges, more than max_dual_edges={max_dual_edges}: "
            f"one face or cluster has {int(degree.max())} neighbours. Keep a larger part of the "
            f"edges at each pooling, or raise max_dual_edges."
        )
    start = (degree.cumsum(0) - degree)[ends[at_face]]
    place = torch.arange(ends.numel(), device=ends.device) - start
    repeats = own - 1
    first = torch.repeat_interleave(
        torch.arange(ends.numel(), device=ends.device), repeats, output_size=int(repeats.sum())
    )
    running = torch.arange(first.numel(), device=ends.device)
    running = running - (repeats.cumsum(0) - repeats)[first]
    second = start[first] + running + (running >= place[first]).long()  # skips the node itself
    source, target = at_face[first], at_face[second]
    if config == "A":
        return torch.stack([source // 2, target // 2])
    forward = torch.stack([source ^ 1, target])
    return forward if config == "C" else torch.cat([forward, forward.flip(0)], dim=1)


class MeshTopology:
    """Adjacency of the faces (or face clusters) and of the dual nodes of a batch of meshes.

    Args:
        edge_index: ``[2, 2 E]``; columns ``2 t`` and ``2 t + 1`` are the two directions of pair
            ``t``, the one that starts at the smaller face first.
        dual_edge_index: ``[2, D]``, sources and targets among the dual nodes.
        batch: ``[F]``, the mesh of each face, sorted.
        num_meshes: The number of meshes.
        config: ``"A"``, ``"B"`` or ``"C"``, see :func:`dual_connectivity`.

    What the layers need beyond that (bags of neighbours and their transposes) is worked out once and
    kept, so that all layers at one resolution share it.
    """

    def __init__(
        self,
        edge_index: Tensor,
        dual_edge_index: Tensor,
        batch: Tensor,
        num_meshes: int,
        config: str = "A",
    ) -> None:
        self.edge_index = edge_index
        self.dual_edge_index = dual_edge_index
        self.batch = batch
        self.num_meshes = num_meshes
        self.config = check_config(config)

    @property
    def num_faces(self) -> int:
        return self.batch.numel()

    @property
    def num_edges(self) -> int:
        """The number of pairs of adjacent faces."""
        return self.edge_index.size(1) // 2

    @property
    def num_dual_nodes(self) -> int:
        return self.num_edges if self.config == "A" else 2 * self.num_edges

    @property
    def pairs(self) -> Tensor:
        """``[2, E]``, adjacent faces, the smaller first."""
        return self.edge_index[:, 0::2]

    @cached_property
    def pair_batch(self) -> Tensor:
        """``[E]``, the mesh of each pair."""
        return self.batch[self.pairs[0]]

    @cached_property
    def dual_batch(self) -> Tensor:
        """The mesh of each dual node."""
        return self.pair_batch if self.config == "A" else self.pair_batch.repeat_interleave(2)

    @cached_property
    def face_targets(self) -> Segments:
        """The directed edges that end at each face."""
        return Segments(index=self.edge_index[1], num_segments=self.num_faces)

    @cached_property
    def face_sources(self) -> Segments:
        """The directed edges that start at each face."""
        return Segments(index=self.edge_index[0], num_segments=self.num_faces)

    @cached_property
    def dual_targets(self) -> Segments:
        """The dual edges that end at each dual node."""
        return Segments(index=self.dual_edge_index[1], num_segments=self.num_dual_nodes)

    @cached_property
    def dual_sources(self) -> Segments:
        """The dual edges that start at each dual node."""
        return Segments(index=self.dual_edge_index[0], num_segments=self.num_dual_nodes)

    @cached_property
    def edge_duals(self) -> Segments:
        """The dual node of each directed edge."""
        duals = torch.arange(self.num_dual_nodes, device=self.batch.device)
        return Segments(index=self.per_directed_edge(duals), num_segments=self.num_dual_nodes)

    @cached_property
    def mesh_faces(self) -> Segments:
        """The faces of each mesh."""
        return Segments(index=self.batch, num_segments=self.num_meshes)

    @cached_property
    def mesh_dual_nodes(self) -> Segments:
        """The dual nodes of each mesh."""
        return Segments(index=self.dual_batch, num_segments=self.num_meshes)

    @cached_property
    def with_dual_loops(self) -> MeshTopology:
        """The same with an edge from every dual node to itself."""
        loops = torch.arange(self.num_dual_nodes, device=self.batch.device).repeat(2, 1)
        edges = torch.cat([self.dual_edge_index, loops], dim=1)
        return MeshTopology(self.edge_index, edges, self.batch, self.num_meshes, self.config)

    def per_directed_edge(self, dual_values: Tensor) -> Tensor:
        """Values of the dual nodes ``[n_d, ...]``, one row per directed edge ``[2 E, ...]``."""
        return dual_values.repeat_interleave(2, dim=0) if self.config == "A" else dual_values

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_meshes={self.num_meshes}, num_faces={self.num_faces}, "
            f"num_edges={self.num_edges}, num_dual_edges={self.dual_edge_index.size(1)}, "
            f"config={self.config!r})"
        )
