"""Triangle meshes from files, for networks that classify meshes or faces."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphpool import mesh, models, plot
from graphpool._arguments import as_count
from graphpool._recorded import savable
from graphpool.datasets.meshes import labels as of_meshes
from graphpool.datasets.meshes.classes import FoundLabels, values_in
from graphpool.files.reader import Columns, Files, Item
from graphpool.io.meshes.formats import SUFFIXES
from graphpool.points import transforms

#: What `augment` may name.
_CHANGES: dict[str, Callable[..., Any]] = {
    "jitter": mesh.JitterVertices,
    "flip": mesh.FlipEdges,
    "scale": transforms.Scale,
    "rotate": partial(transforms.Rotate, None),
    **{f"rotate-{axis}": partial(transforms.Rotate, axis) for axis in "xyz"},
}


#: Where cleaning drops a larger share of the faces, that is said.
_DROPPED = 0.1


@savable
@dataclass(frozen=True)
class MeshFiles(Files):
    """Meshes from files of any format of :func:`graphpool.mesh.read_mesh`, cleaned.

    Their features are lengths and angles: turned, moved and scaled copies are the same. With ``features`` a
    face also has its ``normal``, its ``position`` or both, which tell top from bottom. ``labels`` is a value
    in the mesh files (``"label"``, ``"group"``, ``"color"``, ...), or ``"files"`` for label files (``.eseg``,
    ``.seg``, ``.json``) beside the meshes or in a folder ``seg``.

    Args:
        edges: Whether edges take the place of faces, as in MeshCNN.
        config: See :func:`graphpool.mesh.primal_dual`.
        num_faces: Meshes with more faces are decimated to as many, through Open3D; what is predicted of these
            goes back to the nearest faces of the file.
        augment: What is done to a mesh before each step of training: ``jitter`` of the vertices by 5 % of an
            edge, ``flip`` of 10 % of the edges, ``scale`` of each axis by 2/3 to 3/2, and where there are
            ``features``, ``rotate`` at random, or about an axis, ``rotate-x``, ``rotate-y`` or ``rotate-z``.
        per: What labels in files belong to: ``"face"``, ``"edge"``, ``"triangle"`` or ``"vertex"``.

    Other arguments are those of :class:`graphpool.files.Files`.
    """

    edges: bool = False
    config: str = "A"
    num_faces: int = 50_000
    augment: tuple[str, ...] = ()
    per: str | None = None

    kind: ClassVar[str] = "meshes"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    element: ClassVar[str] = "face"
    beside: ClassVar[tuple[str, ...]] = (".eseg", ".seg", ".json", ".mtl")

    def __post_init__(self) -> None:
        as_count(self.num_faces, "num_faces", 4)
        if strange := set(self.features or ()) - {"normal", "position"}:
            raise ValueError(
                f"`features` of meshes are normal and position; got {strange.pop()!r}."
            )
        if self.edges and self.labels:
            raise ValueError("`labels` need faces, not `edges`.")
        if strange := set(self.augment) - set(_CHANGES):
            raise ValueError(f"`augment` must be of {', '.join(_CHANGES)}; got {strange.pop()!r}.")
        if not self.features and (same := [n for n in self.augment if n.startswith("rotate")]):
            raise ValueError(
                f"`augment` by {same[0]!r} needs `features`: without them, turned meshes look alike."
            )

    @property
    def networks(self) -> tuple[str, ...]:
        return ("meshcnn",) if self.edges else ("pd-meshnet",)

    def parse(self, path: Path) -> list[Item]:
        held = mesh.read_mesh_file(path, need_faces=True)
        cleaned, labels, words = mesh.clean(held.vertices, held.faces), None, None
        every: FoundLabels | None = None
        lost = len(held.faces) - len(cleaned.faces)
        if lost > _DROPPED * len(held.faces):
            warnings.warn(
                f"{path}: the network does not see {lost} of {len(held.faces)} faces: {cleaned.report}.",
                stacklevel=2,
            )
        found, where = self._found(path, held)
        if found is not None:
            values, words = found.values, None if found.words is None else (*found.words, "")
            none = [i for i, word in enumerate(words or ()) if not word or word in self.ignore]
            if words is None:
                none = [int(word) for word in self.ignore if word.lstrip("-").isdecimal()]
            values = np.where(np.isin(values, none) | (values < 0), -1, values)
            labelled = of_meshes.label_triangles(values, held, where, found.per or self.per)
            every = FoundLabels(labelled.of_faces, words)
            labels = of_meshes.labels_after_cleaning(labelled, held, cleaned).of_faces
        seen, back = cleaned[:2], cleaned.new_face
        if len(cleaned.faces) > self.num_faces:
            few = mesh.decimate(*seen, self.num_faces, labels)
            seen, labels, back = few[:2], few.labels, few.new_face[back]
        found = None if labels is None else FoundLabels(labels, words)
        own = held.vertices, held.faces
        return [
            Item(str(path), self._graph(*seen), _said(held), found, back, shape=own, whole=every)
        ]

    def _graph(self, vertices: Any, faces: Any) -> Data:
        more = self.features or ()
        if self.edges:
            return mesh.edge_graph(vertices, faces, more_features=more)
        return mesh.primal_dual(vertices, faces, self.config, primal_features=("area", *more))

    def fit(self, items: Sequence[Item]) -> Files:
        return self

    def training_view(self, data: Data, generator: torch.Generator) -> Data:
        changes = [_CHANGES[name](generator=generator) for name in self.augment]
        return mesh.Remake(changes, self._graph)(data) if changes else data

    def _found(self, path: Path, held: mesh.MeshFile) -> tuple[FoundLabels | None, Path]:
        """The labels of a mesh, where it has any, and the file that says them."""
        if self.labels == "files":
            for folder in (path.parent / "seg", path.parent.parent / "seg"):
                try:
                    file = of_meshes.find_labels(folder, path)
                    return FoundLabels(of_meshes.read_labels(file, len(held.sizes))), file
                except FileNotFoundError:
                    continue
        names = {*held.face_values, *held.vertex_values}
        if self.labels in names or (self.labels == "color" and "red" in names):
            return values_in(held, self.labels, path), path
        return None, path

    def network(self, name: str, classes: int, example: Data, pool: Any, more: dict) -> nn.Module:
        usual: dict[str, Any] = {"reduce": pool or "mean"}
        if self.edges:
            usual |= {"strict": False, "in_channels": example.x.size(1)}
            return models.MeshCNNClassifier(classes, **{**usual, **more})
        widths = (example.x.size(1), example.x_dual.size(1))
        usual |= {"heads": 1, "own_feature": True, "dual_messages": True}
        if self.labels is None:
            return models.MeshClassifier(classes, widths, **{**usual, "read": "both", **more})
        usual |= {"keep": (0.6, 0.75), "head": "linear"}
        return models.MeshSegmenter(classes, widths, **{**usual, **more})

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch)

    def draw(
        self,
        items: Sequence[Item],
        titles: Sequence[str],
        colors: list,
        path: Path,
        classes: Sequence[str],
        up: str = "z",
    ) -> None:
        paint = colors if self.labels else [None] * len(items)
        cells = [
            (*item.shape, c, t)
            for item, c, t in zip(items, paint, titles, strict=True)
            if item.shape is not None
        ]
        rows = [cells[i : i + 4] for i in range(0, len(cells), 4)]
        plot.mesh_sheet(rows, path, classes=classes if self.labels else None, up=up)


def _said(held: mesh.MeshFile) -> Columns:
    """What a file says of its faces and vertices, by the names that `labels` takes."""
    found = {}
    for name, values in {**held.vertex_values, **held.face_values}.items():
        words = held.names.get(name)
        found[name] = values if words is None else np.array(words)[values]
    return found
