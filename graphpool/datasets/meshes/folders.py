"""Meshes in folders: in the layouts of MeshCNN, PD-MeshNet and SubdivNet, or without labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from graphpool._arguments import check_one_of
from graphpool.datasets.meshes.classes import FoundLabels, classes_of, numbered, values_in
from graphpool.datasets.meshes.labels import (
    PER,
    UNLABELLED,
    TriangleLabels,
    face_to_edge_labels,
    find_labels,
    label_triangles,
    labels_after_cleaning,
    read_labels,
)
from graphpool.datasets.on_disk import class_files, existing, folders_in, nothing_of, visible
from graphpool.io.meshes.formats import SUFFIXES
from graphpool.io.untrusted import naming
from graphpool.mesh import (
    EdgeGraph,
    MeshFile,
    MeshGraph,
    clean,
    edge_graph,
    primal_dual,
    read_mesh_file,
)


class _MeshFolder(Dataset):
    """Graphs that were made once and are kept in memory."""

    def __init__(self, kind: str, config: str, clean_kwargs: dict[str, Any]) -> None:
        check_one_of(kind, "kind", ("faces", "edges"))
        self.kind, self.config = kind, config
        self.files: list[Path] = []
        self.cleaned: dict[Path, Any] = {}
        self.kept_faces: list[np.ndarray] = []
        self._clean_kwargs = clean_kwargs
        self._new_faces: list[np.ndarray] = []
        self._graphs: list[MeshGraph | EdgeGraph] = []

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: int) -> MeshGraph | EdgeGraph:
        return self._graphs[index]

    def to_file(self, index: int, values: Tensor | np.ndarray) -> np.ndarray:
        """Values of the faces of a graph as values of the triangles of its file.

        A triangle that cleaning removed has the value of the nearest one that it kept. The triangles
        are those of :func:`graphpool.mesh.read_mesh`, in its order.

        Args:
            index: Of the graph.
            values: ``[F, ...]``, one per face of the graph, such as predicted labels.

        Raises:
            ValueError: There is not one value per face of the graph.
        """
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        count = len(self.kept_faces[index])
        if array.ndim == 0 or len(array) != count:
            raise ValueError(
                f"`values` must have one entry per face of graph {index}, {count}; got {array.shape}."
            )
        return array[self._new_faces[index]]

    def _add(self, file: Path, mesh: MeshFile, labels: TriangleLabels | int | None) -> None:
        cleaned = clean(mesh.vertices, mesh.faces, **self._clean_kwargs)
        target: Any = labels
        if isinstance(labels, TriangleLabels):
            kept = labels_after_cleaning(labels, mesh, cleaned)
            on_edges = self.kind == "edges"
            target = (
                face_to_edge_labels(cleaned.faces, kept.of_sides) if on_edges else kept.of_faces
            )
            target = torch.from_numpy(target)
        if self.kind == "faces":
            graph = primal_dual(cleaned.vertices, cleaned.faces, self.config, target)
            self._graphs.append(graph)
        else:
            self._graphs.append(edge_graph(cleaned.vertices, cleaned.faces, target))
        if cleaned.report.changed:
            self.cleaned[file] = cleaned.report
        self.files.append(file)
        self.kept_faces.append(cleaned.kept_faces)
        self._new_faces.append(cleaned.new_face)


class MeshFolder(_MeshFolder):
    """Meshes without labels, for predictions: all that lie in ``root`` and the folders below it.

    Args:
        root: The folder, or a list of files.
        config, kind, progress, clean_kwargs: As in :class:`MeshClassificationFolder`.

    Attributes:
        files, cleaned, kept_faces: As there.

    Raises:
        FileNotFoundError: The folder does not exist or holds no mesh.
        ValueError: A file cannot be read or made into graphs; the message names it.

    Example:
        >>> import tempfile
        >>> from graphpool.mesh import icosphere, write_mesh
        >>> folder = tempfile.mkdtemp()
        >>> write_mesh(f"{folder}/ball.ply", *icosphere(1))
        >>> meshes = MeshFolder(folder)
        >>> len(meshes), meshes.files[0].name, meshes[0].num_nodes, "y" in meshes[0]
        (1, 'ball.ply', 80, False)
        >>> meshes.to_file(0, torch.arange(80)).shape
        (80,)
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        config: str = "A",
        *,
        kind: str = "faces",
        progress: bool = False,
        **clean_kwargs: Any,
    ) -> None:
        super().__init__(kind, config, clean_kwargs)
        one = isinstance(root, (str, Path))
        files = _meshes(existing(root)) if one else [Path(f) for f in root]  # type: ignore
        if not files:
            raise FileNotFoundError(f"No mesh ({', '.join(SUFFIXES)}) lies in {root}.")
        for file in tqdm(files, desc="reading", disable=not progress):
            with naming(file):
                self._add(file, read_mesh_file(file, need_faces=True), None)


class MeshClassificationFolder(_MeshFolder):
    """``root/<class>/{train,test}/*.obj`` (or any other format), as SHREC and Cubes are laid out.

    ``root/{train,test}/<class>/*`` is read likewise, whichever there is.

    Args:
        root: The folder of the class folders.
        split: ``"train"`` or ``"test"``: the name of the folder inside each class, or around all of them.
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
        kept_faces: For each mesh, which triangles of its file its faces are.

    Raises:
        FileNotFoundError: The folder does not exist or holds no mesh of this split.
        ValueError: A file cannot be read or made into graphs; the message names it. Or there is no
            class, or one that is not in ``classes``, or folders in both ways.
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
        super().__init__(kind, config, clean_kwargs)
        self.classes, files = class_files(existing(root), split, classes, _meshes)
        self.num_classes = len(self.classes)
        if not any(files):
            raise FileNotFoundError(nothing_of(split, Path(root)))
        listed = [(file, label) for label, own in enumerate(files) for file in own[:max_per_class]]
        for file, label in tqdm(listed, desc=f"reading {split}", disable=not progress):
            with naming(file):
                self._add(file, read_mesh_file(file, need_faces=True), label)


class MeshSegmentationFolder(_MeshFolder):
    """``root/{train,test}/*`` with labels in ``root/seg/<name>.eseg``, beside the meshes, or in them.

    A label file (``.eseg``, ``.seg``, or ``.json`` as SubdivNet writes it) has one label per face of
    the file (PD-MeshNet), per edge (MeshCNN), per triangle, or per vertex: the number of labels tells
    which, and ``per`` where several are possible; see
    :func:`graphpool.datasets.meshes.labels.label_triangles`. With ``labels`` they are taken from the mesh
    files themselves.

    The smallest integer over the meshes of *all* splits is class 0; label files that belong to no mesh
    do not count. Negative labels and 255 are no class but mean "unlabelled", which is
    ``ignore_index`` in ``y``; losses and accuracies should leave that out, as
    :func:`graphpool.train.cross_entropy` and :func:`graphpool.train.accuracy` do.

    Args:
        root, split, config, kind, progress, clean_kwargs: As in :class:`MeshClassificationFolder`.
        labels: The name of the value of faces or vertices that is the label: a property of a ``.ply``
            (``"label"``, ``"object_id"``), ``"group"``, ``"material"`` or ``"object"`` of an ``.obj``, or
            ``"color"``; label files if ``None``.
        per: What labels in files belong to: ``"face"``, ``"edge"``, ``"triangle"`` or ``"vertex"``.
        classes: The labels that are classes 0, 1, ..., as the files have them; those of all splits if
            ``None``: the words in alphabetical order, or the integers from the smallest to the largest.
        unlabelled: Labels that mean "unlabelled", beside negative ones.
        ignore_index: What ``y`` is where there is no label; negative.

    Attributes:
        classes: The label of each class as the files have it.
        num_classes: The number of classes.
        files, cleaned, kept_faces: As in :class:`MeshClassificationFolder`.

    Raises:
        FileNotFoundError: A folder or a label file is missing.
        ValueError: A file cannot be read, or the number of its labels fits nothing in its mesh; the
            message names it.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        config: str = "A",
        *,
        kind: str = "faces",
        labels: str | None = None,
        per: str | None = None,
        classes: Sequence[int | str] | None = None,
        unlabelled: Sequence[int] = (255,),
        ignore_index: int = UNLABELLED,
        progress: bool = False,
        **clean_kwargs: Any,
    ) -> None:
        super().__init__(kind, config, clean_kwargs)
        check_one_of(per, "per", (None, *PER))
        if ignore_index >= 0:
            raise ValueError(
                f"`ignore_index` must be negative, for it is no class; got {ignore_index}."
            )
        if classes is not None and (isinstance(classes, str) or len(set(classes)) != len(classes)):
            raise ValueError(f"`classes` must be a list of different labels; got {classes!r}.")
        self._root, self._labels = existing(root), labels
        self.ignore_index = ignore_index
        listed = _meshes(self._root / split)
        if not listed:
            inner = [path.name for path in folders_in(self._root) if (path / split).is_dir()]
            hint = (
                f"; {', '.join(inner)} there have one: each is a `root` of its own" if inner else ""
            )
            raise FileNotFoundError(f"No mesh lies in {self._root / split}{hint}.")
        self.classes = self._classes(listed, unlabelled) if classes is None else list(classes)
        self.num_classes = len(self.classes)
        for file in tqdm(listed, desc=f"reading {split}", disable=not progress):
            with naming(file):
                mesh = read_mesh_file(file, need_faces=True)
                found, source = self._find(file, mesh)
                labelled = numbered(found, self.classes, unlabelled, source)
                self._add(file, mesh, label_triangles(labelled, mesh, source, found.per or per))
                y = self._graphs[-1].y
                y[y == UNLABELLED] = ignore_index

    def _find(self, file: Path, mesh: MeshFile | None = None) -> tuple[FoundLabels, Path]:
        """The labels of a mesh, and the file they are from."""
        if self._labels is not None:
            return values_in(mesh or read_mesh_file(file), self._labels, file), file
        path = find_labels(self._root / "seg", file)
        return FoundLabels(read_labels(path, None if mesh is None else len(mesh.sizes))), path

    def _classes(self, listed: list[Path], unlabelled: Sequence[int]) -> list[int] | list[str]:
        """The classes of all splits, so that one which a split lacks shifts nothing."""
        splits = [p for p in self._root.iterdir() if p.is_dir() and p.name != "seg"]
        files = sorted({file for folder in splits for file in _meshes(folder)})
        found = []
        owner: dict[Path, Path] = {}
        for file in files:
            try:
                with naming(file):
                    values, path = self._find(file)
                found.append(values)
                other = owner.setdefault(path, file)
                if other.parent != file.parent:
                    raise ValueError(
                        f"{other} and {file} have one file of labels, {path}: name the meshes apart, or put "
                        f"the labels beside them."
                    )
            except FileNotFoundError:
                # Another split may have none, such as one that is kept for a prediction.
                if file in listed:
                    raise
        if self._labels is None and (self._root / "seg").is_dir():
            stems = {file.stem for file in files}
            label_files = [
                p for p in (self._root / "seg").iterdir() if p.suffix in (".eseg", ".seg")
            ]
            stray = sorted(p.name for p in label_files if p.stem not in stems)
            if stray:
                warnings.warn(
                    f"{len(stray)} label files in {self._root / 'seg'} belong to no mesh and were left "
                    f"alone: {', '.join(stray[:5])}{', ...' if len(stray) > 5 else ''}.",
                    stacklevel=4,
                )
        with naming(self._root):
            return classes_of(found, unlabelled)


def _meshes(folder: Path) -> list[Path]:
    """The meshes in a folder and below, by name, hidden ones left out."""
    if not folder.is_dir():
        return []
    inside = visible(folder)
    files = [p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file()]
    return sorted(files + [file for p in inside for file in _meshes(p)])
