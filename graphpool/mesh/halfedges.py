"""The edges of a triangle mesh and the faces on both sides, without a loop."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor


class HalfEdges(NamedTuple):
    """Edges in the order of first appearance: face by face, (v0, v1), (v1, v2), (v2, v0).

    Half-edge ``3 f + c`` of face ``f`` runs from corner ``c`` to corner ``(c + 1) % 3``.

    Attributes:
        edges: ``[E, 2]``, the ends of each edge, the smaller first.
        edge_of: ``[3 F]``, the edge of each half-edge.
        sides: ``[E, 2]``, the half-edges on the two sides, the one that appears first first; -1
            where a boundary edge has no second one.
    """

    edges: Tensor
    edge_of: Tensor
    sides: Tensor

    def disagreeing(self, faces: Tensor) -> Tensor:
        """``[E]``, whether both faces at an edge traverse it in the same direction."""
        first, second = self.sides.unbind(1)
        start = faces.reshape(-1)
        return (second >= 0) & (start[first] == start[second.clamp(min=0)])


def half_edges(faces: Tensor, num_vertices: int) -> HalfEdges:
    """Pairs up the half-edges of ``faces`` ``[F, 3]``.

    Raises:
        ValueError: More than two faces meet at an edge.
    """
    start = faces.reshape(-1)
    stop = faces.roll(-1, dims=1).reshape(-1)
    low, high = torch.minimum(start, stop), torch.maximum(start, stop)
    key, order = torch.sort(low * num_vertices + high, stable=True)
    if key.numel() == 0:
        return HalfEdges(faces.new_zeros(0, 2), faces.new_zeros(0), faces.new_zeros(0, 2))
    head = torch.ones_like(key, dtype=torch.bool)
    head[1:] = key[1:] != key[:-1]
    position = head.nonzero().squeeze(1)
    size = torch.diff(position, append=position.new_tensor([key.numel()]))
    if bool((size > 2).any()):
        first = order[position[size > 2][0]]
        faces_there = (order[key == key[position[size > 2][0]]] // 3).tolist()
        raise ValueError(
            f"{len(faces_there)} faces meet at the edge ({int(low[first])}, {int(high[first])}): "
            f"{faces_there[:8]}; at most 2 may. {int((size > 2).sum())} edges in all are "
            f"non-manifold; graphpool.mesh.clean removes them."
        )
    one = order[position]
    two = torch.where(size == 2, order[(position + 1).clamp(max=key.numel() - 1)], -1)

    # The sort is stable, so `one` is where an edge first appears.
    rank = torch.argsort(one)
    number = torch.empty_like(rank)
    number[rank] = torch.arange(rank.numel(), device=faces.device)
    edge_of = torch.empty_like(order)
    edge_of[order] = number[head.long().cumsum(0) - 1]
    one, two = one[rank], two[rank]
    return HalfEdges(torch.stack([low[one], high[one]], 1), edge_of, torch.stack([one, two], 1))


def warn_of_lonely_faces(table: HalfEdges) -> None:
    """Warns if more than half of two or more faces share no edge with another."""
    alone = (table.sides[:, 1] < 0)[table.edge_of].view(-1, 3).all(1)
    if alone.numel() > 1 and 2 * int(alone.sum()) > alone.numel():
        warnings.warn(
            f"{int(alone.sum())} of {alone.numel()} faces share no edge with another, so nothing "
            f"passes between them; if corners at one place are different vertices, "
            f"graphpool.mesh.clean joins them, with `tolerance` where they only nearly coincide.",
            stacklevel=3,
        )
