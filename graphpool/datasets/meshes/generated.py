"""Labelled closed meshes of random creatures, vases and lamps, made on the spot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from graphpool._arguments import check_at_least, check_one_of
from graphpool.datasets.meshes.implicit import is_closed_manifold, surface_net
from graphpool.datasets.meshes.shapes import FAMILIES, Shape, random_shape
from graphpool.mesh import MeshGraph, primal_dual
from graphpool.mesh.shapes import cross_of


class LabelledMesh(NamedTuple):
    """A mesh with a part label per face.

    Attributes:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``, oriented outwards.
        labels: ``[F]``, positions in ``label_names``.
        label_names: The names of the parts.
    """

    vertices: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]


def generate_mesh(
    family: str, seed: int = 0, num_faces: tuple[int, int] = (500, 3000)
) -> LabelledMesh:
    """A closed manifold mesh in one piece, randomly proportioned, posed, turned and scaled.

    Parts are smoothly blended rounded cones; a face has the label of the part nearest to its centre.
    Legs, tails, necks, arms and handles look alike from nearby: what a face belongs to shows only in
    its surroundings.

    Args:
        family: ``"creature"`` (body, head, leg, tail, ear), ``"vase"`` (belly, neck, foot, handle)
            or ``"lamp"`` (base, arm, shade, bulb).
        seed: The same seed gives the same mesh.
        num_faces: Fewest and most faces. The number is drawn between them, and raised where it is
            too small for the thinnest part; where even the largest does not suffice, another shape
            is drawn.

    Raises:
        ValueError: The family is unknown, or 50 shapes in a row did not fit ``num_faces``.

    Example:
        >>> mesh = generate_mesh("vase", seed=1)
        >>> 500 <= len(mesh.faces) <= 3000, mesh.label_names
        (True, ('belly', 'neck', 'foot', 'handle'))
    """
    least, most = num_faces
    check_one_of(family, "family", FAMILIES)
    if not 100 <= least <= most:
        raise ValueError(
            f"`num_faces` must be (least, most) with 100 <= least <= most; got {num_faces}."
        )
    rng = np.random.default_rng([seed, sorted(FAMILIES).index(family)])
    names = FAMILIES[family]
    for _ in range(50):
        shape = random_shape(family, rng)
        target = np.exp(rng.uniform(np.log(least), np.log(most)))
        while target <= most:
            made = _mesh_with(shape, target, len(names))
            if made is not None and least <= len(made[1]) <= most:
                vertices, faces, labels = made
                turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
                turn[:, 0] *= np.sign(np.linalg.det(turn))
                scale = np.exp(rng.uniform(-0.5, 0.5))
                return LabelledMesh(scale * vertices @ turn.T, faces, labels, names)
            target *= 1.2
    raise ValueError(f"No {family} with {least} to {most} faces was found; give a larger maximum.")


def _mesh_with(
    shape: Shape, target: float, num_labels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """A mesh of about ``target`` faces, or ``None`` if that is too coarse for the shape."""
    low, high = shape.box()
    spacing = float(np.sqrt(((high - low) ** 2).sum())) / 25
    _, coarse = surface_net(shape.distance, low, high, spacing, smoothing=0)
    spacing *= (len(coarse) / target) ** 0.5
    vertices, faces = surface_net(shape.distance, low, high, spacing)
    if not is_closed_manifold(faces, len(vertices)):
        return None
    corners = vertices[faces]
    area = np.linalg.norm(cross_of(corners), axis=1)
    labels = shape.label(corners.mean(1))
    visible = np.bincount(labels, minlength=num_labels).min() >= 4
    near = np.abs(shape.distance(vertices)).max() < 0.3 * spacing
    fits = visible and near and area.min() > 1e-3 * area.mean() and not _is_folded(corners, faces)
    return (vertices, faces, labels) if fits else None


def _is_folded(corners: np.ndarray, faces: np.ndarray) -> bool:
    """Whether two neighbours lie nearly face to face, as where a part is thinner than a face."""
    normals = cross_of(corners)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    order = np.lexsort((np.maximum(start, stop), np.minimum(start, stop)))
    one, two = order[0::2] // 3, order[1::2] // 3
    return bool((normals[one] * normals[two]).sum(1).min() < -0.85)


class GeneratedMeshes(Dataset):
    """Generated meshes as graphs, for segmentation.

    Args:
        count: The number of meshes; families take turns.
        families: One family or several. With several, the labels of the second follow those of the
            first, and so on: see :attr:`label_names`.
        seed: Meshes of different seeds are independent; ``(seed, i)`` determines mesh ``i``.
        num_faces: See :func:`generate_mesh`.
        config: See :func:`graphpool.mesh.primal_dual`.

    Attributes:
        num_classes: The number of labels over all families.
        label_names: Their names, ``"creature/leg"``.

    Example:
        >>> data = GeneratedMeshes(2, families="lamp", num_faces=(500, 1500))
        >>> data[0].y.shape == (data[0].num_nodes,), data.num_classes
        (True, 4)
    """

    def __init__(
        self,
        count: int,
        families: str | tuple[str, ...] = tuple(FAMILIES),
        seed: int = 0,
        num_faces: tuple[int, int] = (500, 3000),
        config: str = "A",
    ) -> None:
        families = (families,) if isinstance(families, str) else tuple(families)
        unknown = [family for family in families if family not in FAMILIES]
        if unknown or not families:
            raise ValueError(f"`families` must be among {tuple(FAMILIES)}; got {families}.")
        check_at_least(count, "count", 1)
        self.families = families
        self.label_names = [f"{family}/{part}" for family in families for part in FAMILIES[family]]
        self.num_classes = len(self.label_names)
        offsets = np.cumsum([0] + [len(FAMILIES[family]) for family in families])
        self._graphs: list[MeshGraph] = []
        for i in range(count):
            which = i % len(families)
            mesh = generate_mesh(families[which], seed * 1_000_003 + i, num_faces)
            labels = torch.from_numpy(mesh.labels + int(offsets[which]))
            graph = primal_dual(mesh.vertices, mesh.faces, config, labels)
            graph.family = torch.tensor([which])
            self._graphs.append(graph)

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: int) -> MeshGraph:
        return self._graphs[index]
