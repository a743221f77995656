"""Which edges share a face, for a batch of meshes, as half-edges."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from graphpool.segments import Segments


class EdgeTopology:
    """Half-edges of a batch of triangle meshes.

    Half-edges ``3 f, 3 f + 1, 3 f + 2`` go around face ``f``.

    Args:
        edge_of: ``[3 F]``, the edge of each half-edge.
        twin: ``[3 F]``, the half-edge on the other side, -1 at a boundary.
        origin: ``[3 F]``, the fan of faces around the vertex that each half-edge starts at; numbers
            of fans are unique within a mesh.
        batch: ``[E]``, the mesh of each edge, sorted.
        num_meshes: The number of meshes.

    The half-edges of a mesh are contiguous and the meshes in order.
    """

    def __init__(
        self, edge_of: Tensor, twin: Tensor, origin: Tensor, batch: Tensor, num_meshes: int
    ) -> None:
        self.edge_of, self.twin, self.origin = edge_of, twin, origin
        self.batch, self.num_meshes = batch, num_meshes

    @property
    def num_edges(self) -> int:
        return self.batch.numel()

    @property
    def num_faces(self) -> int:
        return self.edge_of.numel() // 3

    @cached_property
    def mesh_edges(self) -> Segments:
        """The edges of each mesh."""
        return Segments(index=self.batch, num_segments=self.num_meshes)

    @cached_property
    def half_edge_ptr(self) -> Tensor:
        """``[num_meshes + 1]``, where the half-edges of each mesh start."""
        counts = torch.bincount(self.batch[self.edge_of], minlength=self.num_meshes)
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    @cached_property
    def neighbors(self) -> Tensor:
        """``[E, 4]``: in the first face of an edge the next edge and the one after it, in the
        face's cyclic order; then the same in the second face, -1 where there is none."""
        half = torch.arange(self.edge_of.numel(), device=self.edge_of.device)
        first = (self.twin < 0) | (half < self.twin)
        table = self.edge_of.new_full((self.num_edges, 4), -1)
        follow = half - half % 3 + (half + 1) % 3
        before = half - half % 3 + (half + 2) % 3
        around = torch.stack([self.edge_of[follow], self.edge_of[before]], dim=1)
        table[self.edge_of[first], :2] = around[first]
        table[self.edge_of[~first], 2:] = around[~first]
        return table

    @cached_property
    def positions(self) -> Tensor:
        """``[E, 4]``: the column at which an edge stands in the row of each of its neighbours, so that
        ``neighbors[neighbors[e, c], positions[e, c]] == e``; -1 where there is no neighbour."""
        half = torch.arange(self.edge_of.numel(), device=self.edge_of.device)
        second = ((self.twin >= 0) & (half > self.twin)).long()
        follow = half - half % 3 + (half + 1) % 3
        before = half - half % 3 + (half + 2) % 3
        around = torch.stack([2 * second[follow] + 1, 2 * second[before]], dim=1)
        table = self.edge_of.new_full((self.num_edges, 4), -1)
        first = second == 0
        table[self.edge_of[first], :2] = around[first]
        table[self.edge_of[~first], 2:] = around[~first]
        return table

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_meshes={self.num_meshes}, num_edges={self.num_edges}, "
            f"num_faces={self.num_faces})"
        )
