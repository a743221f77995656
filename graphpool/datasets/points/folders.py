"""Folders of point clouds, and the classic benchmarks."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import ModelNet
from torch_geometric.transforms import Compose, SamplePoints

from graphpool.datasets.on_disk import (
    check_cache,
    class_files,
    class_names,
    existing,
    folders_in,
    nothing_of,
    visible,
)
from graphpool.datasets.points.clouds import PointClouds
from graphpool.datasets.points.drawing import draw_cloud
from graphpool.io.points.fields import Columns, describe, features_of, without_offset
from graphpool.io.points.formats import SUFFIXES
from graphpool.points.transforms import Normalize


class PointCloudFolder(PointClouds):
    """One folder per class, one file per cloud; files are read once, when the set is made.

    Meshes are sampled by area. What is drawn from a file depends on ``seed`` and the name of the file
    only, so that adding a file changes no other cloud. Files and folders whose names begin with ``.`` or
    ``__`` are left alone.

    Coordinates become float32. A cloud far from the origin of its coordinates (in a national grid, say)
    would be rounded: with ``offset="auto"`` the centre of its bounding box is subtracted before, in
    float64, with a warning. Every cloud says in ``offset`` ``[1, 3]``, float64, what was.

    Args:
        root: The folder; its subfolders, in alphabetical order, are the classes.
        num_points: Points per cloud; ``None`` keeps all points of a cloud and draws 1024 from a mesh.
        suffixes: Files to read; others are left alone.
        seed: Seed of what is drawn.
        transform: Applied to each cloud when it is read.
        classes: Names of the classes, those of another split: a label is a position among them, also
            where this split lacks a class. A folder that is not among them is an error.
        split: The folder inside each class folder, for ``root/<class>/<split>/*`` (ModelNet), or around
            all of them, ``root/<split>/<class>/*``, whichever there is; classes are then those of all
            splits.
        short: What to do with a cloud of fewer points: ``"error"``, or ``"repeat"``, which takes every
            point equally often, up to one.
        columns: See :func:`graphpool.datasets.read_cloud`.
        features: Fields of the files (see :func:`graphpool.datasets.read_cloud`) that are put side by
            side into ``x``, such as ``("color", "normal")``. ``None`` leaves them out with a warning, an
            empty tuple without.
        offset: ``"auto"``; ``"always"`` subtracts the centres from all clouds; ``"never"`` refuses a
            cloud that float32 would round by more than a millionth of its largest side.

    Attributes:
        classes: Names of the classes.
        files: The file of each cloud.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: There is no class or no file, or a file cannot be read or does not fit the arguments;
            the message names it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        num_points: int | None = 1024,
        suffixes: tuple[str, ...] = SUFFIXES,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        *,
        classes: Sequence[str] | None = None,
        split: str | None = None,
        short: str = "error",
        columns: Columns = None,
        features: Sequence[str] | None = None,
        offset: str = "auto",
    ) -> None:
        listed, names = _list_files(Path(root), suffixes, classes, split)
        clouds, offsets, xs = [], [], []
        left_out: dict[str, np.ndarray] = {}
        for file, label in listed:
            rng = np.random.default_rng([seed, zlib.crc32(f"{names[label]}/{file.name}".encode())])
            cloud = draw_cloud(file, num_points, rng, short, columns)
            try:
                points, origin = without_offset(cloud.points, offset)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
            clouds.append(torch.from_numpy(points))
            offsets.append(torch.from_numpy(origin))
            if features:
                xs.append(torch.from_numpy(features_of(cloud.fields, features, file)))
            elif features is None:
                left_out |= cloud.fields
        moved = torch.stack(offsets)
        if offset == "auto" and bool(moved.any()):
            warnings.warn(
                f"{int(moved.any(1).sum())} of {len(clouds)} clouds in {root} lie so far from 0 that "
                f"float32 would round them; the centre of each was subtracted and is in its `offset`.",
                stacklevel=2,
            )
        if left_out:
            warnings.warn(
                f"files in {root} also hold {describe(left_out)}, which is left out; `features` puts "
                f"fields into `x`, features=() says that none is wanted.",
                stacklevel=2,
            )
        labels = torch.tensor([label for _, label in listed])
        extra = {"x": xs} if xs else {}
        super().__init__(clouds, labels, names, transform, offset=moved, **extra)
        self.files = [file for file, _ in listed]


def _list_files(
    root: Path, suffixes: tuple[str, ...], classes: Sequence[str] | None, split: str | None
) -> tuple[list[tuple[Path, int]], list[str]]:
    """Files with their labels, and the classes."""

    def readable(folder: Path) -> list[Path]:
        files = visible(folder) if folder.is_dir() else []
        return [file for file in files if file.suffix.lower() in suffixes]

    root = existing(root)
    if split is not None:
        names, files = class_files(root, split, classes, readable)
        if not any(files):
            raise ValueError(nothing_of(split, root))
    else:
        names = class_names(root, [folder.name for folder in folders_in(root)], classes)
        files = [readable(root / name) for name in names]
        for folder in (root / name for name, own in zip(names, files, strict=True) if not own):
            if folder.is_dir():
                inner = ", ".join(child.name for child in folders_in(folder))
                which = f"is one of them the `split`, or {folder.name} itself"
                hint = f" It has the folders {inner}: {which}?" if inner else ""
                raise ValueError(f"{folder} has no file with a suffix in {suffixes}.{hint}")
    return [(file, label) for label, own in enumerate(files) for file in own], names


def model_net(
    root: str | os.PathLike[str], name: str = "10", split: str = "train", num_points: int = 1024
) -> Any:
    """ModelNet10 or ModelNet40 through :class:`torch_geometric.datasets.ModelNet`, with class names.

    Every access samples the mesh by area anew (from torch's global generator), and normalises the cloud.

    Args:
        root: Where the data is, or is downloaded to.
        name: ``"10"`` or ``"40"``.
        split: ``"train"`` or ``"test"``.
        num_points: Points per cloud.

    Raises:
        ValueError: An argument is out of range, or the cache is damaged.
    """
    if name not in ("10", "40") or split not in ("train", "test"):
        raise ValueError(
            f"`name` must be '10' or '40' and `split` 'train' or 'test'; got {name!r}, {split!r}."
        )
    folder = Path(root) / f"ModelNet{name}"
    check_cache(folder / "processed")
    transform = Compose([SamplePoints(num_points), Normalize()])
    dataset = ModelNet(str(folder), name, train=split == "train", transform=transform)
    raw = (child for child in (folder / "raw").iterdir() if child.is_dir())
    dataset.classes = sorted(child.name for child in raw if not child.name.startswith("."))
    return dataset
