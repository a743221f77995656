"""Geometric features of faces and of pairs of adjacent faces."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# A face whose height is this small a share of its longest edge has a normal made of rounding.
_FLAT = 1e-14


class FaceGeometry(NamedTuple):
    """Attributes: ``area`` ``[F]``, unit ``normal`` ``[F, 3]``, ``vectors`` of the three edges
    ``[F, 3, 3]`` (edge ``c`` runs from corner ``c`` to the next) and their ``lengths`` ``[F, 3]``;
    in units of the largest extent of an edge."""

    area: Tensor
    normal: Tensor
    vectors: Tensor
    lengths: Tensor


def face_geometry(vertices: Tensor, faces: Tensor) -> FaceGeometry:
    """Areas, normals and edges of the faces.

    Raises:
        ValueError: A face has no area, so that it has neither a normal nor a height.
    """
    corners = vertices[faces]
    vectors = corners.roll(-1, dims=1) - corners
    # Neither very large nor very small meshes may leave the range of numbers when squared.
    vectors = vectors / vectors.abs().max().clamp(min=torch.finfo(vectors.dtype).tiny)
    cross = torch.linalg.cross(vectors[:, 0], vectors[:, 1])
    double = cross.norm(dim=1)
    lengths = vectors.norm(dim=2)
    flat = ~(double > _FLAT * lengths.amax(1).square())
    if bool(flat.any()):
        bad = int(flat.nonzero()[0])
        raise ValueError(
            f"`faces` must have an area; face {bad} with corners {faces[bad].tolist()} has no area "
            f"({int(flat.sum())} such faces in all); graphpool.mesh.clean removes them."
        )
    return FaceGeometry(double / 2, cross / double[:, None], vectors, lengths)


def _shape(geometry: FaceGeometry, half_edge: Tensor) -> Tensor:
    """Logarithms of edge over height, edge before and edge after, ``[E, 3]``."""
    face, corner = half_edge // 3, half_edge % 3
    length = geometry.lengths[face, corner]
    height = 2 * geometry.area[face] / length
    before = geometry.lengths[face, (corner + 2) % 3]
    after = geometry.lengths[face, (corner + 1) % 3]
    return (length[:, None] / torch.stack([height, before, after], dim=1)).log()


def dual_features(
    geometry: FaceGeometry, faces: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The features of pairs of adjacent faces.

    For the face :math:`i` of a pair with a common edge of length :math:`e`:
    :math:`k_i = \log(e / h_i)` (the height on that edge), :math:`b_i` and :math:`a_i` the logarithms
    of the ratios of :math:`e` to the edge before and after it in the face's cyclic order. The
    dihedral angle :math:`\alpha` is :math:`\pi` for a flat pair, and larger at a convex edge if the
    normals point outwards; it enters by its sine and cosine, because :math:`0` and :math:`2 \pi`,
    between which rounding decides where two faces lie on each other, are the same fold. If the two
    faces traverse the edge in the same direction, the second is turned over first.

    All are invariant to rotation, translation and scale, and continuous functions of the vertices.

    Args:
        geometry: From :func:`face_geometry`.
        faces: ``[F, 3]``.
        first: ``[E]``, half-edge of each pair in its first face.
        second: ``[E]``, half-edge of each pair in its second face.

    Returns:
        ``[E, 8]``: :math:`(\sin\alpha, \cos\alpha, k_{lo}, k_{hi}, b_{lo}, b_{hi}, a_{lo}, a_{hi})`
        with *lo* the smaller and *hi* the larger of the two faces' values, for configuration A; and
        ``[2 E, 5]``: :math:`(\sin\alpha, \cos\alpha, k, b, a)` of the first and of the second face
        in turn, for B and C.
    """
    one, two = _shape(geometry, first), _shape(geometry, second)
    face_one, face_two = first // 3, second // 3
    same_way = faces[face_one, first % 3] == faces[face_two, second % 3]
    two = torch.where(same_way[:, None], two[:, [0, 2, 1]], two)
    normal_two = geometry.normal[face_two] * torch.where(same_way, -1.0, 1.0)[:, None]
    edge = geometry.vectors[face_one, first % 3]
    edge = edge / edge.norm(dim=1, keepdim=True)
    h_one = torch.linalg.cross(geometry.normal[face_one], edge)
    h_two = -torch.linalg.cross(normal_two, edge)
    sine = -(h_one * torch.linalg.cross(edge, h_two)).sum(1)
    cosine = (h_one * h_two).sum(1)
    angle = torch.stack([sine, cosine], dim=1)

    # Each ratio is sorted by itself: pairs in the order of their faces would change places where two
    # faces are alike but for rounding.
    sorted_ratios = torch.stack([torch.minimum(one, two), torch.maximum(one, two)], dim=2)
    single = torch.cat([angle, sorted_ratios.flatten(1)], dim=1)
    sides = [torch.cat([angle, side], dim=1) for side in (one, two)]
    return single, torch.stack(sides, dim=1).reshape(-1, 5)


def neighbor_features(directed: Tensor, face: Tensor, num_faces: int) -> Tensor:
    r"""Means of :math:`(\sin\alpha, \cos\alpha, k, b, a)` over the neighbours of each face, ``[F, 5]``.

    Args:
        directed: ``[2 E, 5]``, the second result of :func:`dual_features`.
        face: ``[2 E]``, the face each row belongs to.
        num_faces: ``F``. A face without neighbours gets zeros.
    """
    total = directed.new_zeros(num_faces, directed.size(1)).index_add_(0, face, directed)
    return total / torch.bincount(face, minlength=num_faces).clamp(min=1)[:, None]


def placed(vertices: Tensor, faces: Tensor, area: Tensor) -> Tensor:
    """The vertices ``[V, 3]`` with the centre of the surface at the origin and the farthest at distance 1."""
    centre = (area[:, None] * vertices[faces].mean(1)).sum(0) / area.sum()
    moved = vertices - centre
    return moved / moved[faces].norm(dim=2).max()
