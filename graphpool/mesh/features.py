"""Geometric features of faces and of pairs of adjacent faces."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FaceGeometry", "dual_features", "face_geometry", "neighbor_features"]

# Two ratios this close count as equal when the two faces of an edge are put in order.
_TIE = 1e-9


class FaceGeometry(NamedTuple):
    """Attributes: ``area`` ``[F]``, unit ``normal`` ``[F, 3]``, ``vectors`` of the three edges
    ``[F, 3, 3]`` (edge ``c`` runs from corner ``c`` to the next) and their ``lengths`` ``[F, 3]``."""

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
    cross = torch.linalg.cross(vectors[:, 0], vectors[:, 1])
    double = cross.norm(dim=1)
    lengths = vectors.norm(dim=2)
    flat = ~(double > 0)
    if bool(flat.any()):
        bad = int(flat.nonzero()[0])
        raise ValueError(
            f"face {bad} with corners {faces[bad].tolist()} has no area ({int(flat.sum())} such "
            f"faces in all); graphpool.mesh.clean removes them."
        )
    return FaceGeometry(double / 2, cross / double[:, None], vectors, lengths)


class _Side(NamedTuple):
    height_ratio: Tensor
    before: Tensor
    after: Tensor


def _side(geometry: FaceGeometry, half_edge: Tensor) -> _Side:
    face, corner = half_edge // 3, half_edge % 3
    length = geometry.lengths[face, corner]
    height_ratio = length.square() / (2 * geometry.area[face])
    before = length / geometry.lengths[face, (corner + 2) % 3]
    after = length / geometry.lengths[face, (corner + 1) % 3]
    return _Side(height_ratio, before, after)


def dual_features(
    geometry: FaceGeometry, faces: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The features of pairs of adjacent faces.

    For the face :math:`i` of a pair with a common edge of length :math:`e`:
    :math:`k_i = e / h_i` (the height on that edge), :math:`b_i` and :math:`a_i` the ratios of
    :math:`e` to the edge before and after it in the face's cyclic order. The dihedral angle
    :math:`\alpha \in [0, 2\pi)` is :math:`\pi` for a flat pair, and larger at a convex edge if the
    normals point outwards. All are invariant to rotation, translation and scale. If the two faces
    traverse the edge in the same direction, the second is turned over first.

    Args:
        geometry: From :func:`face_geometry`.
        faces: ``[F, 3]``.
        first: ``[E]``, half-edge of each pair in its first face.
        second: ``[E]``, half-edge of each pair in its second face.

    Returns:
        ``[E, 7]``: :math:`(\alpha, k_{lo}, k_{hi}, b_{lo}, b_{hi}, a_{lo}, a_{hi})`, where *lo* is
        the face with the smaller :math:`k` (then :math:`b`, then :math:`a`), for configuration A;
        and ``[2 E, 4]``: :math:`(\alpha, k, b, a)` of the first and of the second face in turn, for
        B and C.
    """
    one, two = _side(geometry, first), _side(geometry, second)
    face_one, face_two = first // 3, second // 3
    same_way = faces[face_one, first % 3] == faces[face_two, second % 3]
    two = _Side(
        two.height_ratio,
        torch.where(same_way, two.after, two.before),
        torch.where(same_way, two.before, two.after),
    )
    normal_two = geometry.normal[face_two] * torch.where(same_way, -1.0, 1.0)[:, None]
    edge = geometry.vectors[face_one, first % 3]
    edge = edge / edge.norm(dim=1, keepdim=True)
    h_one = torch.linalg.cross(geometry.normal[face_one], edge)
    h_two = -torch.linalg.cross(normal_two, edge)
    y = -(h_one * torch.linalg.cross(edge, h_two)).sum(1)
    x = (h_one * h_two).sum(1)
    angle = torch.atan2(y, x).remainder(2 * math.pi)

    swap = _comes_after(one, two)
    low = _Side(*(torch.where(swap, b, a) for a, b in zip(one, two, strict=True)))
    high = _Side(*(torch.where(swap, a, b) for a, b in zip(one, two, strict=True)))
    single = torch.stack(
        [
            angle,
            low.height_ratio,
            high.height_ratio,
            low.before,
            high.before,
            low.after,
            high.after,
        ],
        dim=1,
    )
    sides = [torch.stack([angle, *side], dim=1) for side in (one, two)]
    return single, torch.stack(sides, dim=1).reshape(-1, 4)


def _comes_after(one: _Side, two: _Side) -> Tensor:
    """Lexicographic ``one > two``, blind to rounding."""
    after = torch.zeros_like(one[0], dtype=torch.bool)
    tied = torch.ones_like(after)
    for a, b in zip(one, two, strict=True):
        near = (a - b).abs() <= _TIE * torch.maximum(a, b)
        after |= tied & ~near & (a > b)
        tied &= near
    return after


def neighbor_features(directed: Tensor, face: Tensor, num_faces: int) -> Tensor:
    r"""Means of :math:`(\alpha, k, b, a)` over the neighbours of each face, ``[F, 4]``.

    Args:
        directed: ``[2 E, 4]``, the second result of :func:`dual_features`.
        face: ``[2 E]``, the face each row belongs to.
        num_faces: ``F``. A face without neighbours gets zeros.
    """
    total = directed.new_zeros(num_faces, directed.size(1)).index_add_(0, face, directed)
    return total / torch.bincount(face, minlength=num_faces).clamp(min=1)[:, None]
