"""Meshes in folders, in the layouts of MeshCNN and PD-MeshNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from graphpool._files import class_names, visible
from graphpool.mesh import EdgeGraph, MeshGraph, clean, edge_graph, primal_dual, read_mesh

from .mesh_labels import edge_labels, face_labels, find_labels, read_labels

__all__ = ["MeshClassificationFolder", "MeshSegmentationFolder"]

_SUFFIXES = (".obj", ".off", ".ply")


class _MeshFolder(Dataset):
    """Graphs that were made once and are kept in memory."""

    def __init__(self, kind: str) -> None:
        if kind not in ("faces", "edges"):
            raise ValueError(f"`kind` must be 'faces' or 'edges'; got {kind!r}.")
        self.files: list[Path] = []
        self._graphs: list[MeshGraph | EdgeGraph] = []

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: int) -> MeshGraph | EdgeGraph:
        return self._graphs[index]


class MeshClassificationFolder(_MeshFolder):
    """``root/<class>/{train,test}/*.obj`` (or .off, .ply), as SHREC and Cubes are laid out.

    Args:
        root: The folder of the class folders.
        split: ``"train"`` or ``"test"``: the name of the folder inside each class.
        config: See :func:`graphpool.mesh.primal_dual`.
        kind: ``"faces"`` for primal and dual graphs, ``"edges"`` for the edge graphs of MeshCNN.
        max_per_class: Takes only the first so many meshes of each class, by name.
        progress: Whether to show a progress bar.
        classes: Names of the classes, where they are known from elsewhere; a folder that is not among
            them is an error.
        **clean_kwargs: Passed on to :func:`graphpool.mesh.clean`.

    Attributes:
        classes: Names of the classes, in alphabetical order: those of all splits, so that a split that
            lacks one numbers the others alike.
        files: The file of each mesh.
        cleaned: What cleaning changed, by file; files that needed nothing are absent.

    Raises:
        FileNotFoundError: The folder does not exist or holds no mesh of this split.
        ValueError: There is no class, or one that is not in ``classes``.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        config: str = "A",
        *,
        kind: str = "faces",
        max_per_class: int | None = None,
        progress: bool = False,
        classes: Sequence[str] | None = None,
        **clean_kwargs: Any,
    ) -> None:
        super().__init__(kind)
        root = _existing(root)
        self.classes = class_names(root, classes, lambda p: any(map(_meshes, visible(p))))
        self.num_classes = len(self.classes)
        self.cleaned = {}
        listed = [
            (file, label)
            for label, name in enumerate(self.classes)
            for file in _meshes(root / name / split)[:max_per_class]
        ]
        if not listed:
            raise FileNotFoundError(f"no mesh lies in {root}/<class>/{split}/.")
        for file, label in tqdm(listed, desc=f"reading {split}", disable=not progress):
            mesh = clean(*read_mesh(file), **clean_kwargs)
            if mesh.report.changed:
                self.cleaned[file] = mesh.report
            self.files.append(file)
            if kind == "faces":
                self._graphs.append(primal_dual(mesh.vertices, mesh.faces, config, label))
            else:
                self._graphs.append(edge_graph(mesh.vertices, mesh.faces, label))


class MeshSegmentationFolder(_MeshFolder):
    """``root/{train,test}/*`` with labels in ``root/seg/<name>.eseg`` (or ``.seg``).

    A label file has one line per face (PD-MeshNet) or one per edge (MeshCNN); the number of lines
    tells which. Labels per edge are turned into labels per face by
    :func:`graphpool.datasets.mesh_labels.edge_to_face_labels`. Labels are shifted so that the
    smallest over *all* files of the folder is 0.

    Args:
        root, split, config, progress, clean_kwargs: As in :class:`MeshClassificationFolder`.

    Attributes:
        num_classes: One more than the largest label.
        files, cleaned: As in :class:`MeshClassificationFolder`.

    Raises:
        FileNotFoundError: A folder or a label file is missing.
        ValueError: A label file fits neither the faces nor the edges of its mesh.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        config: str = "A",
        *,
        kind: str = "faces",
        progress: bool = False,
        **clean_kwargs: Any,
    ) -> None:
        super().__init__(kind)
        root = _existing(root)
        listed = _meshes(_existing(root / split))
        if not listed:
            raise FileNotFoundError(f"no mesh lies in {root / split}.")
        self.cleaned = {}
        smallest, largest = _label_range(root / "seg")
        self.num_classes = largest - smallest + 1
        for file in tqdm(listed, desc=f"reading {split}", disable=not progress):
            vertices, faces = read_mesh(file)
            path, values = find_labels(root / "seg", file.stem)
            labels = face_labels(values - smallest, vertices, faces, path)
            mesh = clean(vertices, faces, labels, **clean_kwargs)
            if mesh.report.changed:
                self.cleaned[file] = mesh.report
            self.files.append(file)
            target = np.asarray(mesh.labels)
            if kind == "faces":
                graph = primal_dual(mesh.vertices, mesh.faces, config, torch.from_numpy(target))
            else:
                target = edge_labels(values - smallest, mesh.faces, target)
                graph = edge_graph(mesh.vertices, mesh.faces, torch.from_numpy(target))
            self._graphs.append(graph)


def _existing(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}.")
    return folder


def _meshes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [p for p in visible(folder) if p.suffix.lower() in _SUFFIXES]


def _label_range(folder: Path) -> tuple[int, int]:
    files = sorted(p for p in _existing(folder).iterdir() if p.suffix in (".eseg", ".seg"))
    if not files:
        raise FileNotFoundError(f"no label file (.eseg, .seg) lies in {folder}.")
    ends = []
    for file in files:
        values = read_labels(file)
        if values.size:
            ends.append((int(values.min()), int(values.max())))
    if not ends:
        raise ValueError(f"all label files in {folder} are empty.")
    return min(low for low, _ in ends), max(high for _, high in ends)
