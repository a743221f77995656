"""Point clouds from files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool.io.points.fields import describe, features_of
from graphpool.io.points.las_hdf5 import load_h5
from graphpool.io.untrusted import load_arrays, read_text

_INT16 = 32767.0


class PointClouds(InMemoryDataset):
    """Clouds that lie in memory, as :class:`torch_geometric.data.Data` with ``pos`` and ``y``.

    Args:
        clouds: One ``[N_i, 3]`` tensor per cloud.
        y: Label of each cloud, or one tensor of labels per cloud.
        classes: Names of the labels.
        transform: Applied to each cloud when it is read.
        **attributes: Further tensors: one with a row per cloud, or a list with a tensor per cloud.

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
        **attributes: Tensor | list[Tensor],
    ) -> None:
        super().__init__(None, transform)
        if not clouds or len(clouds) != len(y):
            raise ValueError(
                f"`clouds` and `y` must have the same length >= 1; got {len(clouds)} and {len(y)}."
            )
        self.classes = list(classes)
        items = []
        for i, pos in enumerate(clouds):
            extra = {
                name: value[i] if isinstance(value, list) else value[i : i + 1]
                for name, value in attributes.items()
            }
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
        _check_shapes(path, points=points, labels=labels)
        if not points.size or not (points.dtype == np.int16 or points.dtype.kind == "f"):
            raise ValueError(
                f"{path}: points must be floating or int16, at least one; got {points.dtype}."
            )
        _check_values(path, points, num_points)
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
        packed = points.dtype == np.int16
        chosen = np.ascontiguousarray(points[:, :num_points])
        clouds = torch.from_numpy(chosen.astype(np.float32))
        if packed:
            clouds /= _INT16
        super().__init__(
            list(clouds),
            torch.from_numpy(labels.astype(np.int64)),
            [str(name) for name in classes],
            transform,
        )


class HDF5PointClouds(PointClouds):
    """Clouds of one size in ``.h5`` files, as ModelNet40 and ScanObjectNN are distributed; needs h5py.

    A file holds ``data`` ``[n, N, 3]``, floating point, and ``label`` ``[n]`` or ``[n, 1]``. Other arrays
    with a row per point, such as ``normal`` ``[n, N, 3]`` and ``mask`` ``[n, N]``, can become ``x``.

    Args:
        paths: The file, or several (``train_files.txt`` of ModelNet40 lists five).
        classes: Names of the labels; the lines of ``shape_names.txt`` beside the first file, or else the
            numbers up to the largest label.
        num_points: Take the first so many points of every cloud; all if ``None``.
        features: Arrays that are put side by side into ``x``. ``None`` leaves them out with a warning, an
            empty tuple without.
        transform: Applied to each cloud when it is read.

    Raises:
        FileNotFoundError: A file does not exist.
        ImportError: h5py is not installed.
        ValueError: A file is damaged, lacks an array, or an array has a wrong shape or values out of
            range; the message names it.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        classes: Sequence[str] | None = None,
        num_points: int | None = None,
        features: Sequence[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        files = [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        clouds, labels, xs = [], [], []
        left_out: dict[str, np.ndarray] = {}
        for file in files:
            points, label, fields = read_h5_clouds(file, num_points)
            if label is None:
                raise ValueError(f"{file} must hold 'data' and 'label'; it has no 'label'.")
            clouds += [torch.from_numpy(cloud) for cloud in points]
            labels.append(torch.from_numpy(label.astype(np.int64)))
            if features:
                for i in range(len(points)):
                    own = {name: values[i] for name, values in fields.items()}
                    xs.append(torch.from_numpy(features_of(own, features, file)))
            elif features is None:
                left_out |= fields
        if left_out:
            warnings.warn(
                f"{files[0]} also holds {describe(left_out)}, which is left out; `features` puts fields "
                f"into `x`, features=() says that none is wanted.",
                stacklevel=2,
            )
        y = torch.cat(labels) if labels else torch.empty(0, dtype=torch.long)
        top = int(y.max()) if len(y) else -1
        if classes is None and files:
            classes = shape_names(files[0])
        names = [str(i) for i in range(top + 1)] if classes is None else list(classes)
        if top >= len(names) or (len(y) and int(y.min()) < 0):
            raise ValueError(
                f"{files[0]}: labels must lie in [0, {len(names)}), there are so many classes; "
                f"got {int(y.min())} to {top}."
            )
        super().__init__(clouds, y, names, transform, **({"x": xs} if xs else {}))


def shape_names(path: Path) -> list[str] | None:
    """The lines of ``shape_names.txt`` beside a file, if there is one."""
    beside = path.parent / "shape_names.txt"
    return read_text(beside, "utf-8").split() if beside.is_file() else None


def _check_shapes(path: str | os.PathLike[str], **arrays: np.ndarray) -> None:
    """Of coordinates and labels, by the names that they have in the file."""
    (a, points), (b, labels) = arrays.items()
    if points.ndim != 3 or points.shape[2] != 3 or labels.shape != points.shape[:1]:
        raise ValueError(
            f"{path}: {a} must be [n, N, 3] and {b} [n]; got {points.shape} and {labels.shape}."
        )


def _check_values(path: str | os.PathLike[str], points: np.ndarray, num_points: int | None) -> None:
    if not np.isfinite(points).all():
        bad = np.argwhere(~np.isfinite(points))[0]
        raise ValueError(
            f"{path}: point {int(bad[1])} of cloud {int(bad[0])} is not finite. The "
            f"clouds of a file have one size: put another point of the cloud in its place."
        )
    if num_points is not None and not 1 <= num_points <= points.shape[1]:
        raise ValueError(f"`num_points` must lie in [1, {points.shape[1]}]; got {num_points}.")


def read_h5_clouds(
    path: Path, num_points: int | None = None, arrays: dict[str, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]:
    """Clouds ``[n, N, 3]`` of an ``.h5`` file, their labels ``[n]`` if it has any, and what else it says of
    every point; ``arrays`` are those of the file, if it was read. See :class:`HDF5PointClouds`."""
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    arrays = load_h5(path) if arrays is None else dict(arrays)
    if "data" not in arrays:
        raise ValueError(f"{path} must hold 'data' and 'label'; it has {', '.join(arrays)}.")
    points = arrays.pop("data")
    lone = "label" not in arrays
    labels = np.zeros(len(points), np.int64) if lone else arrays.pop("label")
    if labels.shape == (len(points), 1):
        labels = labels[:, 0]
    _check_shapes(path, data=points, label=labels)
    if points.dtype.kind != "f" or labels.dtype.kind not in "iu" or not points.size:
        raise ValueError(
            f"{path}: data must be floating, at least one point, and label integers; got "
            f"{list(points.shape)} of {points.dtype} and {labels.dtype}."
        )
    points = points.astype(np.float32)
    _check_values(path, points, num_points)
    fields = {
        name: values[:, :num_points]
        for name, values in arrays.items()
        if values.ndim in (2, 3) and values.shape[:2] == points.shape[:2]
    }
    return points[:, :num_points], None if lone else labels, fields
