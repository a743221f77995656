"""What a mesh file holds beside vertices and triangles: its polygons, and what it says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from graphpool.io.meshes.polygons import polygon_edges, triangulate


@dataclass(frozen=True, eq=False)
class MeshFile:
    """A mesh as its file has it; see :func:`graphpool.mesh.read_mesh_file`.

    Attributes:
        vertices: ``[V, 3]`` float64.
        corners: ``[C]`` int64, the corners of all polygons, one polygon after the other.
        sizes: ``[P]`` int64, how many corners each polygon has.
        face_values: Further numbers per polygon, each ``[P]``: the properties of the faces of a
            ``.ply`` under their own names; ``"red"``, ``"green"``, ``"blue"``, ``"alpha"`` for
            colours; ``"object"``, ``"group"``, ``"material"`` of an ``.obj``.
        vertex_values: Further numbers per vertex, each ``[V]``.
        names: What the integers of a face value stand for where the file has words: ``names["group"]``
            and so on. An empty word means that the file gives none.

    Example:
        >>> square = MeshFile(np.eye(4, 3), np.arange(4), np.array([4]))
        >>> square.faces.tolist(), square.polygon_of.tolist(), len(square.edges)
        ([[0, 1, 2], [0, 2, 3]], [0, 0], 4)
    """

    vertices: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray
    face_values: Mapping[str, np.ndarray] = field(default_factory=dict)
    vertex_values: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def faces(self) -> np.ndarray:
        """The triangles ``[F, 3]`` that the polygons are cut into, polygon by polygon."""
        return triangulate(self.corners, self.sizes, self.vertices)

    @cached_property
    def polygon_of(self) -> np.ndarray:
        """The polygon each triangle is a part of, ``[F]``."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes - 2)

    @property
    def edges(self) -> np.ndarray:
        """The edges of the polygons ``[E, 2]``, in the order of first appearance."""
        return self._edges[0]

    @property
    def edge_of(self) -> np.ndarray:
        """The edge of each side of a polygon, ``[C]``."""
        return self._edges[1]

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        return polygon_edges(self.corners, self.sizes)

    def __repr__(self) -> str:
        held = [*(f"face {name}" for name in self.face_values)]
        held += [f"vertex {name}" for name in self.vertex_values]
        parts = [f"{len(self.vertices)} vertices", f"{len(self.sizes)} faces"]
        if len(self.sizes) and self.sizes.max() > 3:
            parts[-1] += f" of {self.sizes.min()} to {self.sizes.max()} corners"
        return f"MeshFile({', '.join(parts)}{'; ' if held else ''}{', '.join(held)})"
