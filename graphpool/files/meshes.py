"""Triangle meshes from files, for networks that classify meshes or faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch_geometric.data import Data

from graphpool import mesh, models, plot
from graphpool._recorded import savable
from graphpool.datasets.meshes import labels as of_meshes
from graphpool.datasets.meshes.classes import FoundLabels, values_in
from graphpool.files.reader import Files, Item
from graphpool.io.meshes.formats import SUFFIXES


@savable
@dataclass(frozen=True)
class MeshFiles(Files):
    """Meshes from files of any format of :func:`graphpool.mesh.read_mesh`, cleaned.

    Their features are lengths and angles: turned, moved and scaled copies are the same. ``labels`` is a value
    in the mesh files (``"label"``, ``"group"``, ``"color"``, ...), or ``"files"`` for label files (``.eseg``,
    ``.seg``, ``.json``) beside the meshes or in a folder ``seg``.

    Args:
        edges: Whether edges take the place of faces, as in MeshCNN.
        config: See :func:`graphpool.mesh.primal_dual`.
        per: What labels in files belong to: ``"face"``, ``"edge"``, ``"triangle"`` or ``"vertex"``.

    Other arguments are those of :class:`graphpool.files.Files`.
    """

    edges: bool = False
    config: str = "A"
    per: str | None = None

    kind: ClassVar[str] = "meshes"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    element: ClassVar[str] = "face"
    beside: ClassVar[tuple[str, ...]] = (".eseg", ".seg", ".json", ".mtl")

    def __post_init__(self) -> None:
        if self.features or (self.edges and self.labels):
            raise ValueError(
                "`features` of meshes are fixed, and `labels` need faces, not `edges`."
            )

    @property
    def networks(self) -> tuple[str, ...]:
        return ("meshcnn",) if self.edges else ("pd-meshnet",)

    def parse(self, path: Path) -> list[Item]:
        held = mesh.read_mesh_file(path, need_faces=True)
        cleaned = mesh.clean(held.vertices, held.faces)
        shape = (cleaned.vertices, cleaned.faces)
        graph = mesh.edge_graph(*shape) if self.edges else mesh.primal_dual(*shape, self.config)
        found = self._found(path, held)
        if found is not None:
            values, words = found.values, [*(found.words or ()), ""]
            none = [i for i, word in enumerate(words) if not word or word in self.ignore]
            if found.words is None:
                none = [int(word) for word in self.ignore if word.lstrip("-").isdecimal()]
            values = np.where(np.isin(values, none) | (values < 0), -1, values)
            labels = of_meshes.label_triangles(values, held, path, found.per or self.per)
            kept = of_meshes.labels_after_cleaning(labels, held, cleaned).of_faces
            found = FoundLabels(kept, None if found.words is None else words)
        return [Item(str(path), graph, {}, found, cleaned.new_face)]

    def _found(self, path: Path, held: mesh.MeshFile) -> FoundLabels | None:
        """The labels of a mesh, where it has any."""
        if self.labels == "files":
            for folder in (path.parent / "seg", path.parent.parent / "seg"):
                try:
                    file = of_meshes.find_labels(folder, path)
                    return FoundLabels(of_meshes.read_labels(file, len(held.sizes)))
                except FileNotFoundError:
                    continue
        names = {*held.face_values, *held.vertex_values}
        if self.labels in names or (self.labels == "color" and "red" in names):
            return values_in(held, self.labels, path)
        return None

    def network(self, name: str, classes: int, example: Data, pool: Any, more: dict) -> nn.Module:
        usual: dict[str, Any] = {"reduce": pool or "mean"}
        if self.edges:
            return models.MeshCNNClassifier(classes, **{**usual, "strict": False, **more})
        widths = (example.x.size(1), example.x_dual.size(1))
        usual |= {"heads": 1, "own_feature": True, "dual_messages": True}
        if self.labels is None:
            return models.MeshClassifier(classes, widths, **{**usual, "read": "both", **more})
        usual |= {"keep": (0.6, 0.75), "head": "linear"}
        return models.MeshSegmenter(classes, widths, **{**usual, **more})

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch)

    def write_ply(self, source: Path, labels: np.ndarray, path: Path, classes: int) -> None:
        held = mesh.read_mesh(source)
        plot.export_ply(path, held.vertices, held.faces, labels, num_classes=classes)

    def draw(
        self,
        items: Sequence[Item],
        titles: Sequence[str],
        colors: list,
        path: Path,
        classes: Sequence[str],
        up: str = "z",
    ) -> None:
        held = [mesh.read_mesh(item.name) for item in items]
        paint = colors if self.labels else [None] * len(items)
        cells = [(m.vertices, m.faces, c, t) for m, c, t in zip(held, paint, titles, strict=True)]
        rows = [cells[i : i + 4] for i in range(0, len(cells), 4)]
        plot.mesh_sheet(rows, path, classes=classes if self.labels else None, up=up)
