"""Folders of point clouds, and the classic benchmarks."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import ModelNet
from torch_geometric.transforms import Compose, SamplePoints

from graphpool._files import check_cache
from graphpool.datasets.point_clouds import PointClouds
from graphpool.datasets.point_files import SUFFIXES, load_cloud
from graphpool.points.transforms import Normalize


class PointCloudFolder(PointClouds):
    """One folder per class, one file per cloud; files are read once, when the set is made.

    Meshes are sampled by area. What is drawn from a file depends on ``seed`` and the name of the file
    only, so that adding a file changes no other cloud.

    Args:
        root: The folder; its subfolders, in alphabetical order, are the classes.
        num_points: Points per cloud; ``None`` keeps all points of a cloud and draws 1024 from a mesh.
        suffixes: Files to read; others are left alone.
        seed: Seed of what is drawn.
        transform: Applied to each cloud when it is read.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: There is no class or no file, or a file cannot be read; the message names it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        num_points: int | None = 1024,
        suffixes: tuple[str, ...] = SUFFIXES,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        folder = Path(root)
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}.")
        classes = sorted(child.name for child in folder.iterdir() if child.is_dir())
        if not classes:
            raise ValueError(f"{folder} has no subfolders; there must be one for each class.")
        clouds, labels, self.files = [], [], []
        for label, name in enumerate(classes):
            files = sorted(f for f in (folder / name).iterdir() if f.suffix.lower() in suffixes)
            if not files:
                raise ValueError(f"{folder / name} has no file with a suffix in {suffixes}.")
            for file in files:
                rng = np.random.default_rng([seed, zlib.crc32(f"{name}/{file.name}".encode())])
                points = load_cloud(file, num_points, rng)
                clouds.append(torch.from_numpy(points.astype(np.float32)))
                labels.append(label)
                self.files.append(file)
        super().__init__(clouds, torch.tensor(labels), classes, transform)


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
    dataset.classes = sorted(child.name for child in (folder / "raw").iterdir() if child.is_dir())
    return dataset
