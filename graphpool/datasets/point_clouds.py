"""Point clouds from files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool._files import load_arrays

_INT16 = 32767.0


class PointClouds(InMemoryDataset):
    """Clouds that lie in memory, as :class:`torch_geometric.data.Data` with ``pos`` and ``y``.

    Args:
        clouds: One ``[N_i, 3]`` tensor per cloud.
        y: Label of each cloud, or one tensor of labels per cloud.
        classes: Names of the labels.
        transform: Applied to each cloud when it is read.

    Raises:
        ValueError: There is no cloud, or the numbers of clouds and labels differ.

    Example:
        >>> data = PointClouds([torch.rand(5, 3), torch.rand(7, 3)], torch.tensor([0, 1]), ["a", "b"])
        >>> data[1]
        Data(y=[1], pos=[7, 3])
    """

    def __init__(
        self,
        clouds: list[Tensor],
        y: Tensor | list[Tensor],
        classes: list[str],
        transform: Callable[[Data], Data] | None = None,
        **attributes: Tensor,
    ) -> None:
        super().__init__(None, transform)
        if not clouds or len(clouds) != len(y):
            raise ValueError(
                f"`clouds` and `y` must have the same length >= 1; got {len(clouds)} and {len(y)}."
            )
        self.classes = list(classes)
        items = []
        for i, pos in enumerate(clouds):
            extra = {name: value[i : i + 1] for name, value in attributes.items()}
            label = y[i]
            items.append(Data(pos=pos, y=label.view(1) if label.dim() == 0 else label, **extra))
        self.data, self.slices = self.collate(items)


class PackedPointClouds(PointClouds):
    """Clouds of one size in a single ``.npz`` file.

    The file holds ``points_<split>`` ``[n, N, 3]``, floating point, or int16 that stands for
    ``value / 32767``; ``labels_<split>`` ``[n]``; and ``classes``, the names of the labels.

    Args:
        path: The file.
        split: ``"train"``, ``"test"``, or whatever the file has.
        num_points: Take the first so many points of every cloud; all if ``None``.
        transform: Applied to each cloud when it is read.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged or lacks an array, or an array has a wrong shape or values out
            of range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str = "train",
        num_points: int | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        arrays = load_arrays(Path(path))
        names = (f"points_{split}", f"labels_{split}", "classes")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(arrays)}.")
        points, labels, classes = (arrays[name] for name in names)
        if points.ndim != 3 or points.shape[2] != 3 or labels.shape != points.shape[:1]:
            raise ValueError(
                f"{path}: points must be [n, N, 3] and labels [n]; "
                f"got {points.shape} and {labels.shape}."
            )
        if not points.size or not (points.dtype == np.int16 or points.dtype.kind == "f"):
            raise ValueError(
                f"{path}: points must be floating or int16, at least one; got {points.dtype}."
            )
        if not np.isfinite(points).all():
            bad = np.argwhere(~np.isfinite(points))[0]
            raise ValueError(f"{path}: point {int(bad[1])} of cloud {int(bad[0])} is not finite.")
        if labels.dtype.kind not in "iu" or classes.ndim != 1 or classes.dtype.kind not in "US":
            raise ValueError(
                f"{path}: labels must be integers and classes names; got {labels.dtype} and "
                f"{list(classes.shape)} of {classes.dtype}."
            )
        if labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError(
                f"{path}: labels must lie in [0, {len(classes)}); "
                f"got {int(labels.min())} to {int(labels.max())}."
            )
        if num_points is not None:
            if not 1 <= num_points <= points.shape[1]:
                raise ValueError(
                    f"`num_points` must lie in [1, {points.shape[1]}]; got {num_points}."
                )
            points = points[:, :num_points]
        packed = points.dtype == np.int16
        clouds = torch.from_numpy(np.ascontiguousarray(points).astype(np.float32))
        if packed:
            clouds /= _INT16
        super().__init__(
            list(clouds),
            torch.from_numpy(labels.astype(np.int64)),
            [str(name) for name in classes],
            transform,
        )
