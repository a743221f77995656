"""Pooling by edge collapse, and the way back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from graphpool import aggr
from graphpool._compiled import parallel_for
from graphpool.aggr.pyg import pooled_width
from graphpool.coarsen import Coarsened, Selection, lift
from graphpool.coarsen import reduce as reduce_by
from graphpool.mesh.edges.collapse import Work, collapse_edges, collect_members
from graphpool.mesh.edges.topology import EdgeTopology
from graphpool.mesh.structures import expect
from graphpool.segments import Segments


class EdgeCollapses(NamedTuple):
    """What collapsing did.

    Attributes:
        members: ``[P]``, old edges.
        owners: ``[P]``, the new edge that each of them became part of; sorted. An old edge may be
            part of several new ones.
        before: The topology before.
        after: The topology after.
        selection: Members and owners as what :mod:`graphpool.coarsen` reduces and lifts by.
    """

    members: Tensor
    owners: Tensor
    before: EdgeTopology
    after: EdgeTopology
    selection: Selection


class PooledEdges(NamedTuple):
    """Attributes: ``x`` ``[E', C']``, ``topology``, ``collapses``."""

    x: Tensor
    topology: EdgeTopology
    collapses: EdgeCollapses

    @property
    def coarsened(self) -> Coarsened:
        """The new edges as coarse elements of the old ones."""
        return Coarsened(self.x, self.collapses.selection)


def collapse(
    priority: Tensor, topology: EdgeTopology, target: int, strict: bool = True
) -> EdgeCollapses:
    """Collapses the edges of lowest priority until every mesh has at most ``target`` edges.

    An edge is tried once, in its turn. It is refused if it or a neighbour lies at a boundary, or if
    its ends have other than two common neighbours (the surface would fold). Vertices with three
    faces across from it are removed first. Every step takes three edges away, so the result has
    ``target``, ``target - 1`` or ``target - 2`` edges; a mesh with fewer is left alone. The
    topology of the surface is kept.

    Runs on the CPU, compiled, one mesh per thread, in time and memory linear in the number of edges
    (and of memberships).

    Args:
        priority: ``[E]``; ties go to the edge with the smaller number.
        topology: The meshes.
        target: The number of edges per mesh.
        strict: Raise if a mesh cannot get down to ``target``; otherwise go as far as it can.

    Raises:
        ValueError: See ``strict``; the message names the mesh.
    """
    expect(topology, EdgeTopology, "topology")
    if target < 1:
        raise ValueError(f"`target` must be >= 1; got {target}.")
    if priority.shape != (topology.num_edges,):
        raise ValueError(
            f"`priority` must have one entry per edge, {topology.num_edges}; got "
            f"{tuple(priority.shape)}."
        )
    device = topology.batch.device
    by_priority = torch.argsort(priority.detach(), stable=True)
    by_mesh = torch.argsort(topology.batch[by_priority], stable=True)
    order = by_priority[by_mesh].cpu().numpy()
    edge_ptr = topology.mesh_edges.ptr.cpu().numpy()
    half_ptr = topology.half_edge_ptr.cpu().numpy()
    mesh_of = np.repeat(np.arange(topology.num_meshes), np.diff(half_ptr))
    edge = topology.edge_of.cpu().numpy() - edge_ptr[mesh_of]
    twin = topology.twin.cpu().numpy()
    twin = np.where(twin < 0, -1, twin - half_ptr[mesh_of])
    origin = topology.origin.cpu().numpy().copy()
    face_alive = np.ones(len(edge) // 3, dtype=np.bool_)
    edge_alive = np.ones(topology.num_edges, dtype=np.bool_)
    pairs: list[tuple[np.ndarray, np.ndarray]] = [(order[:0], order[:0])] * topology.num_meshes
    left = np.zeros(topology.num_meshes, dtype=np.int64)

    def one(mesh: int) -> None:
        e0, e1 = edge_ptr[mesh], edge_ptr[mesh + 1]
        h0, h1 = half_ptr[mesh], half_ptr[mesh + 1]
        size = int(e1 - e0)
        half_of = np.empty(size, dtype=np.int64)
        half_of[edge[h0:h1]] = np.arange(h1 - h0)
        # A step takes three edges away and makes three records at most.
        links = np.zeros((2 * size + 3, 3), dtype=np.int64)
        work = Work(
            edge[h0:h1], twin[h0:h1], origin[h0:h1], half_of, face_alive[h0 // 3 : h1 // 3],
            edge_alive[e0:e1], np.arange(size), links, np.array([size, size]),
        )  # fmt: skip
        collapse_edges(order[e0:e1] - e0, target, work)
        left[mesh] = work.totals[0]
        members, owners = collect_members(work)
        pairs[mesh] = (members + e0, owners + e0)

    parallel_for(one, [(mesh,) for mesh in range(topology.num_meshes)])
    stuck = np.flatnonzero(left > target)
    if strict and stuck.size:
        mesh = int(stuck[0])
        raise ValueError(
            f"Mesh {mesh} of the batch, with {edge_ptr[mesh + 1] - edge_ptr[mesh]} edges, could only "
            f"be collapsed to {left[mesh]} edges, not to target={target}: all others touch a boundary "
            f"or would fold the surface ({stuck.size} such meshes). Choose a larger target, or "
            f"strict=False."
        )

    new_edge = np.cumsum(edge_alive) - 1
    half_alive = np.repeat(face_alive, 3)
    new_half = np.cumsum(half_alive) - 1
    old_twin = np.where(twin < 0, -1, twin + half_ptr[mesh_of])[half_alive]
    after = EdgeTopology(
        torch.from_numpy(new_edge[(edge + edge_ptr[mesh_of])[half_alive]]).to(device),
        torch.from_numpy(np.where(old_twin < 0, -1, new_half[old_twin])).to(device),
        torch.from_numpy(origin[half_alive]).to(device),
        topology.batch[torch.from_numpy(edge_alive).to(device)],
        topology.num_meshes,
    )
    members = torch.from_numpy(np.concatenate([m for m, _ in pairs])).to(device)
    owners = torch.from_numpy(new_edge[np.concatenate([o for _, o in pairs])]).to(device)
    selection = Selection(
        Segments(index=owners, num_segments=after.num_edges, is_sorted=True),
        Segments(index=members, num_segments=topology.num_edges),
        batch=after.mesh_edges,
    )
    return EdgeCollapses(members, owners, topology, after, selection)


class EdgeCollapsePool(nn.Module):
    r"""The pool of MeshCNN (Hanocka et al., SIGGRAPH 2019), with any aggregation as its reducer.

    Edges collapse in the order of their strength :math:`\sum_c x_{ec}^2`, weakest first (see
    :func:`collapse`). Each collapse merges the collapsed edge into both edges that remain beside it,
    so a surviving edge stands for a set of old edges, whose features ``reduce`` pools.

    Args:
        channels: Width of the features.
        target: The number of edges to keep per mesh.
        reduce: Anything :func:`graphpool.aggr.resolve` takes.
        strict: See :func:`collapse`.
        reduce_kwargs: Passed on to :func:`graphpool.aggr.resolve`.

    Example:
        >>> from graphpool.mesh import edge_graph, icosphere
        >>> graph = edge_graph(*icosphere(2))
        >>> pooled = EdgeCollapsePool(5, target=300, reduce="mean")(graph.x, graph.topology())
        >>> pooled.topology
        EdgeTopology(num_meshes=1, num_edges=300, num_faces=200)
    """

    def __init__(
        self,
        channels: int,
        target: int,
        reduce: Any = "mean",
        *,
        strict: bool = True,
        reduce_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if target < 1:
            raise ValueError(f"`target` must be >= 1; got {target}.")
        self.target, self.strict = target, strict
        self.reduce = aggr.resolve(reduce, channels=channels, **(reduce_kwargs or {}))
        self.out_channels = pooled_width(self.reduce, channels)

    def reset_parameters(self) -> None:
        """Restores the initial state of the aggregation."""
        reset = getattr(self.reduce, "reset_parameters", None)
        if callable(reset):
            reset()

    def forward(self, x: Tensor, topology: EdgeTopology) -> PooledEdges:
        """Pools the features ``[E, C]`` of the edges of ``topology``."""
        strength = x.detach().square().sum(1)
        done = collapse(strength, topology, self.target, self.strict)
        return PooledEdges(reduce_by(x, done.selection, self.reduce), done.after, done)

    def extra_repr(self) -> str:
        return f"target={self.target}"


def unpool_edges(x: Tensor, collapses: EdgeCollapses) -> Tensor:
    """Each old edge gets the mean of the features of the new edges that it became part of."""
    expect(collapses, EdgeCollapses, "collapses")
    if x.size(0) != collapses.after.num_edges:
        raise ValueError(
            f"`x` must have one row per edge, {collapses.after.num_edges}; got {x.size(0)}."
        )
    return lift(x, collapses.selection)
