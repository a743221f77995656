"""Bags of instances with one label each: multiple-instance learning."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool import _optional
from graphpool.datasets.on_disk import existing
from graphpool.io.bags import read_bag, read_instances, read_named_columns

NAMES = (
    "musk1", "musk2", "elephant", "ucsb_breast_cancer", "birds_brown_creeper", "corel_dogs", "protein",
    "web_recommendation_1",
)  # fmt: skip


class Bags(InMemoryDataset):
    """Bags that lie in memory, as :class:`torch_geometric.data.Data` with ``x`` ``[n, F]`` and ``y`` ``[1]``.

    Args:
        x: The instances of each bag.
        y: The label of each bag, integers ``[B]``.
        classes: Names of the labels.
        transform: Applied to each bag when it is read.

    Raises:
        ValueError: There is no bag, numbers of bags and labels differ, or bags differ in width.

    Example:
        >>> Bags([torch.rand(5, 3), torch.rand(2, 3)], torch.tensor([0, 1]), ["no", "yes"])[1]
        Data(x=[2, 3], y=[1])
    """

    def __init__(
        self,
        x: list[Tensor],
        y: Tensor,
        classes: list[str],
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__(None, transform)
        if not x or len(x) != len(y):
            raise ValueError(f"`x` and `y` must have one entry per bag; got {len(x)} and {len(y)}.")
        if len({bag.size(1) for bag in x}) > 1:
            widths = sorted({bag.size(1) for bag in x})
            raise ValueError(f"`x` must hold bags of one width; got {widths}.")
        self.classes = list(classes)
        items = [Data(x=bag, y=label.view(1)) for bag, label in zip(x, y.long(), strict=True)]
        self.data, self.slices = self.collate(items)


class MultipleInstances(Bags):
    """Classic sets of multiple-instance learning, from the files of the package ``mil``.

    ``musk1`` and ``musk2`` (molecules, as their conformations), ``elephant`` (pictures, as regions),
    ``ucsb_breast_cancer`` (tissue, as patches), ``birds_brown_creeper``, ``corel_dogs``, ``protein`` and
    ``web_recommendation_1``. The package's files are read, its code is not run. Features are as they are in
    the files: scale them by the bags of training alone, with their deviation plus a little, for some are
    constant. All positive bags come first.

    Args:
        name: Which.
        root: A folder with ``<name>.csv``: label, bag, features; where the package lies, if ``None``.
        transform: Applied to each bag when it is read.

    Raises:
        ImportError: The package is not installed; the message says how to get it.
        FileNotFoundError: There is no such file.
        ValueError: The name is unknown, or the file is damaged.
    """

    def __init__(
        self,
        name: str,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        if name not in NAMES:
            raise ValueError(f"`name` must be one of {', '.join(NAMES)}; got {name!r}.")
        if root is None:
            package = _optional.require("mil", purpose=f"MultipleInstances({name!r})")
            root = Path(package.__path__[0]) / "data" / "datasets" / "csv"
        path = Path(root) / f"{name}.csv"
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        x, sizes, labels = read_instances(path)
        bags = torch.from_numpy(x).split(sizes.tolist())
        super().__init__(
            list(bags), torch.from_numpy(labels > 0), ["negative", "positive"], transform
        )


class BagFolder(Bags):
    """A folder with an array for each bag, and a table of their labels: the layout of features of slides.

    Args:
        root: The folder of the arrays, ``<bag>.npy`` or ``<bag>.pt``, each ``[n, F]``.
        labels: The table, a ``.csv`` file with a header; ``root/labels.csv`` if ``None``. Bags without a row
            in it are left alone.
        bag: Its column of the names of the bags, which are those of the files without their ends.
        label: Its column of the labels, of any words.
        transform: Applied to each bag when it is read.

    Attributes:
        classes: The labels that occur, in alphabetical order.
        names: The name of each bag, in the order of the table.

    Raises:
        FileNotFoundError: The folder, the table, or the array of a bag does not exist.
        ValueError: A file is damaged, a bag is named twice, or has two arrays.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        labels: str | os.PathLike[str] | None = None,
        *,
        bag: str = "bag",
        label: str = "label",
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        folder = existing(root)
        table = Path(labels) if labels is not None else folder / "labels.csv"
        if not table.is_file():
            raise FileNotFoundError(f"There is no table of labels {table}.")
        rows = read_named_columns(table, bag, label)
        self.names = [name for name, _ in rows]
        if len(set(self.names)) < len(rows):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"{table} names the bag {twice!r} twice.")
        classes = sorted({word for _, word in rows})
        y = torch.tensor([classes.index(word) for _, word in rows])
        x = [torch.from_numpy(read_bag(_file_of(folder, name))) for name in self.names]
        super().__init__(x, y, classes, transform)


def _file_of(folder: Path, name: str) -> Path:
    found = [path for end in (".npy", ".pt") if (path := folder / f"{name}{end}").is_file()]
    if not found:
        raise FileNotFoundError(f"There is neither {name}.npy nor {name}.pt in {folder}.")
    if len(found) > 1:
        raise ValueError(f"{folder} has both {name}.npy and {name}.pt; remove one.")
    return found[0]
