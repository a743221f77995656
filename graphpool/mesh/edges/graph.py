"""From a triangle mesh to the graph of its edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphpool.mesh.dual.features import face_geometry, placed
from graphpool.mesh.dual.graph import as_tensor, check_mesh, known_features
from graphpool.mesh.edges.topology import EdgeTopology
from graphpool.mesh.halfedges import half_edges, warn_of_lonely_faces
from graphpool.mesh.structures import batch_of
from graphpool.ops import connected_components


class EdgeGraph(Data):
    """The edges of a mesh and their neighbours, as :func:`edge_graph` makes them.

    Attributes:
        x: ``[E, 5]`` or wider, features of the edges.
        edge_of, half_twin, origin: ``[3 F]``, half-edges, see :class:`EdgeTopology`; at a boundary
            ``half_twin`` is the half-edge itself.
        ends: ``[E, 2]``, the two vertices of each edge.
        area: ``[E]``: a third of the area of the faces at each edge, as a share of the whole.
        y: Labels: ``[E]`` per edge or ``[1]`` per mesh; absent if there are none.
        vertices, faces: The mesh itself, for pictures: its vertices are rounded to float32.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "edge_of":
            return self.x.size(0)
        if key == "half_twin":
            return self.edge_of.size(0)
        if key in ("faces", "ends"):
            return self.vertices.size(0)
        return super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0 if key == "faces" else super().__cat_dim__(key, value, *args, **kwargs)

    def topology(self) -> EdgeTopology:
        """The half-edges of the mesh, or of all meshes of a batch, as the layers take them."""
        batch, num_meshes = batch_of(self, self.x.size(0))
        # A boundary points at itself, which survives the shift by batching; -1 would not.
        here = torch.arange(self.edge_of.numel(), device=self.edge_of.device)
        twin = torch.where(self.half_twin == here, -1, self.half_twin)
        return EdgeTopology(self.edge_of, twin, self.origin, batch, num_meshes)


def edge_graph(
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor,
    labels: np.ndarray | Tensor | None = None,
    *,
    exact: bool = True,
    more_features: Sequence[str] = (),
) -> EdgeGraph:
    r"""The edges of a triangle mesh with the five features of MeshCNN (Hanocka et al., 2019).

    Edges are numbered in the order of first appearance: face by face, (v0, v1), (v1, v2), (v2, v0);
    labels per edge rely on that. The features are the dihedral angle in :math:`[0, \pi]` (flat:
    :math:`\pi`; unsigned), the two opposite angles in ascending order, and the two ratios of height
    to edge length in ascending order. At a boundary the one face counts twice: dihedral angle 0.

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``, consistently oriented: see :func:`graphpool.mesh.clean`.
        labels: Per edge ``[E]``, or one number for the mesh.
        exact: ``False`` divides vectors by their norm plus 0.1, as the released code does; the
            features then depend on the scale of the mesh.
        more_features: ``"normal"``: the unit vector between the normals of the faces at an edge (0 where
            they are opposite); ``"position"``: the middle of the edge, where the surface has its centre at
            the origin and radius 1. 3 channels each, which turn with the mesh.

    Raises:
        ValueError: A value or shape is wrong, a face has no area, more than two faces meet at an
            edge, or two neighbouring faces disagree in orientation; the message says where.

    Warns:
        UserWarning: More than half of the faces have no neighbour.

    Example:
        >>> tetrahedron = [[1., 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
        >>> graph = edge_graph(tetrahedron, [[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
        >>> graph.x[0]
        tensor([1.2310, 1.0472, 1.0472, 0.8660, 0.8660])
    """
    wanted = known_features(more_features, ("normal", "position"), "more_features")
    points, corners = check_mesh(vertices, faces)
    geometry = face_geometry(points, corners)
    share = geometry.area / geometry.area.sum() / 3
    table = half_edges(corners, points.size(0))
    warn_of_lonely_faces(table)
    first, second = table.sides.unbind(1)
    inside = second >= 0
    start = corners.reshape(-1)
    wrong = table.disagreeing(corners).nonzero()
    if len(wrong):
        bad = int(wrong[0])
        raise ValueError(
            f"`faces` must agree in orientation; faces {int(first[bad]) // 3} and "
            f"{int(second[bad]) // 3} traverse their common edge in the same direction ({len(wrong)} such "
            f"edges in all). graphpool.mesh.clean turns faces over until they agree."
        )
    here = torch.arange(start.numel(), device=start.device)
    twin = here.clone()
    twin[first[inside]], twin[second[inside]] = second[inside], first[inside]

    # Corners in one fan around a vertex: across half-edge h the corner where h starts meets the one
    # where its twin's follower starts.
    follower = twin - twin % 3 + (twin + 1) % 3
    joined = torch.stack([here, follower])[:, twin != here]
    features = [_features(points, corners, first, second, exact)]
    if "normal" in wanted:
        other = torch.where(inside, second, first)
        between = geometry.normal[first // 3] + geometry.normal[other // 3]
        features.append(torch.nn.functional.normalize(between, eps=1e-9))
    if "position" in wanted:
        features.append(placed(points, corners, geometry.area)[table.edges].mean(1))
    area = share[first // 3] + torch.where(inside, share[second.clamp(min=0) // 3], 0.0)
    graph = EdgeGraph(
        x=torch.cat(features, dim=1).float(),
        edge_of=table.edge_of,
        half_twin=twin,
        origin=connected_components(joined, start.numel()),
        ends=table.edges,
        area=area.float(),
        vertices=points.float(),
        faces=corners,
    )
    if labels is not None:
        target = as_tensor(labels, "labels", "biu", np.int64)
        if target.numel() != 1 and tuple(target.shape) != (table.edges.size(0),):
            raise ValueError(
                f"`labels` must be one number, or one per edge [{table.edges.size(0)}]; got shape "
                f"{tuple(target.shape)}."
            )
        graph.y = target.reshape(-1)
    return graph


def _features(
    points: Tensor, corners: Tensor, first: Tensor, second: Tensor, exact: bool
) -> Tensor:
    """Features ``[E, 5]`` from the half-edges on both sides."""

    def unit(v: Tensor) -> Tensor:
        norm = v.norm(dim=1, keepdim=True)
        return v / (norm + 0.1) if not exact else v / norm.clamp(min=torch.finfo(v.dtype).tiny)

    other = torch.where(second >= 0, second, first)

    def corner(half: Tensor, shift: int) -> Tensor:
        return points[corners[half // 3, (half + shift - half // 3 * 3) % 3]]

    p0, p1, p2, p3 = corner(first, 0), corner(first, 1), corner(first, 2), corner(other, 2)
    normal_a = unit(torch.linalg.cross(p2 - p0, p1 - p0))
    normal_b = unit(torch.linalg.cross(p3 - p1, p0 - p1))
    cosine = (normal_a * normal_b).sum(1).clamp(-1, 1)
    dihedral = math.pi - cosine.arccos()
    edge = p1 - p0
    angles, ratios = [], []
    for p in (p2, p3):
        cosine = (unit(p0 - p) * unit(p1 - p)).sum(1).clamp(-1, 1)
        angles.append(cosine.arccos())
        along = unit(edge)
        foot = p0 + (along * (p - p0)).sum(1, keepdim=True) * along
        ratios.append((p - foot).norm(dim=1) / edge.norm(dim=1))
    pairs = [torch.stack(pair, dim=1).sort(dim=1).values for pair in (angles, ratios)]
    return torch.cat([dihedral[:, None], *pairs], dim=1)
