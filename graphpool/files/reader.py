"""What the readers of all kinds of files share: items, labels, and features in units of the training set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphpool import plot
from graphpool._recorded import savable
from graphpool.datasets.meshes.classes import FoundLabels
from graphpool.io.untrusted import is_number, naming

Columns = dict[str, np.ndarray]


class Item(NamedTuple):
    """One thing that is classified, or whose elements are.

    Attributes:
        name: Its file, with ``#3`` behind it in a file of several.
        raw: Its positions, edges or faces.
        columns, edges: What the file says of every element and edge: numbers ``[N]``, ``[N, C]``, or words.
        found: Its labels, one, or one for each element of ``raw``.
        whole: Those of all elements of the file, where ``raw`` has others.
        back: For each element of the file the one of ``raw`` that stands for it; ``None``: itself.
        shape: The vertices and faces of the file, or its points and ``None``, for pictures.
    """

    name: str
    raw: Data
    columns: Columns
    found: FoundLabels | None = None
    back: np.ndarray | None = None
    edges: Columns = {}
    shape: tuple[np.ndarray, np.ndarray | None] | None = None
    whole: FoundLabels | None = None

    @property
    def labels(self) -> FoundLabels | None:
        """The labels of the file: of its elements, whatever stands for them."""
        return self.whole or self.found


@savable
@dataclass(frozen=True)
class Table:
    """Columns as features of mean 0 and deviation 1 over the training set; words have a column each.

    ``low`` and ``high`` are the smallest and largest values there; other units give themselves away by them.
    """

    names: tuple[str, ...] = ()
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls, tables: Sequence[Columns], names: Sequence[str] | None, where: Sequence[str]
    ) -> Table:
        """Learns what columns there are: ``names``, or if ``None`` those that all tables have.

        Raises:
            ValueError: A table, named by its place in ``where``, does not go with the others.
        """
        if names is None:
            every = dict.fromkeys(name for table in tables for name in table)
            names = [name for name in every if all(name in table for table in tables)]
            if left := [name for name in every if name not in names]:
                warnings.warn(f"{', '.join(left)} left out: not every file has it.", stacklevel=2)
        words = {}
        for name in names:
            held = [table[name] for table in tables if len(table.get(name, ()))]
            if any(values.dtype.kind not in "fiub" for values in held):
                words[name] = tuple(sorted({w for v in held for w in v.astype(str).tolist()}))
                odd = [word for word in words[name] if not is_number(word)]
                if odd and len(odd) < len(words[name]):
                    warnings.warn(
                        f"{name} holds numbers, and {odd[0]!r}: each value counts as a word, with a column "
                        f"of its own.",
                        stacklevel=2,
                    )
        made = cls(tuple(names), words)
        full = [(t, w) for t, w in zip(tables, where, strict=True) if any(map(len, t.values()))]
        if not names or not full:
            return cls()
        rows = [made.raw(table, name) for table, name in full]
        for row, (_, name) in zip(rows, full, strict=True):
            if row.size(1) != rows[0].size(1):
                raise ValueError(
                    f"{name} has {row.size(1)} columns of features; {full[0][1]} has {rows[0].size(1)}. "
                    f"A table without names of columns is one feature, 'x', of several columns."
                )
        x = torch.cat(rows)
        mean, std = x.mean(0), x.std(0, correction=0)
        std = std.masked_fill(std <= 1e-6 * mean.abs(), 1.0)
        of = {"mean": mean, "std": std, "low": x.amin(0), "high": x.amax(0)}
        found: dict[str, Any] = {name: tuple(value.tolist()) for name, value in of.items()}
        return replace(made, **found)

    def raw(self, columns: Columns, where: str) -> Tensor:
        """The columns side by side ``[N, C]``, in float64.

        Raises:
            ValueError: One is missing, not finite, or holds words where there were numbers.
        """
        parts = []
        for name in self.names:
            if name not in columns:
                raise ValueError(
                    f"{where} has no {name!r} of the `features`; it has {', '.join(columns) or 'none'}."
                )
            values = columns[name].reshape(len(columns[name]), -1)
            if name in self.words:
                hit = values.astype(str) == np.array(self.words[name])
                if strange := sorted(set(values.astype(str)[~hit.any(1), 0].tolist())):
                    warnings.warn(
                        f"{where}: {name} {strange[0]!r} is new; it counts as none.", stacklevel=2
                    )
                values = hit
            elif values.dtype.kind not in "fiub":
                words = values.astype(str).ravel()
                row = next((i for i, word in enumerate(words) if not is_number(word)), 0)
                raise ValueError(
                    f"{where}: {name!r} must be numbers, as in training; row {row} has {str(words[row])!r}."
                )
            parts.append(torch.from_numpy(values.astype(np.float64)))
        table = torch.cat(parts, 1) if parts else torch.zeros(0, 0, dtype=torch.float64)
        if not bool(table.isfinite().all()):
            bad = int((~table.isfinite()).any(1).nonzero()[0])
            raise ValueError(
                f"{where} holds a value that is not finite, in row {bad} of {', '.join(self.names)}. Fill "
                f"it, or take the row or the column out."
            )
        return table

    def encode(self, columns: Columns, count: int, where: str) -> Tensor:
        """Features ``[count, C]`` in float32.

        Raises:
            ValueError: There are more or fewer columns than in training.
        """
        table = self.raw(columns, where) if count else torch.zeros(0, len(self.mean)).double()
        if table.size(1) != len(self.mean):
            raise ValueError(
                f"{where} has {table.size(1)} columns of features; the network was made for {len(self.mean)}."
            )
        self._doubt_units(columns, table, where)
        return ((table - torch.tensor(self.mean)) / torch.tensor(self.std)).float()

    def _doubt_units(self, columns: Columns, table: Tensor, where: str) -> None:
        """Warns where numbers lie further beyond those of training than twice the range of these."""
        if not len(table) or not self.low:
            return
        low, high = torch.tensor([self.low, self.high], dtype=torch.float64)
        reach = torch.maximum(2 * (high - low), 1e-6 * torch.maximum(low.abs(), high.abs()))
        far = (table.amin(0) < low - reach) | (table.amax(0) > high + reach)
        if far.any():
            at, count = int(far.nonzero()[0]), len(table)
            width = {
                n: len(self.words.get(n, columns[n].reshape(count, -1)[0])) for n in self.names
            }
            name = [f"{n!r}, column {i}" for n in self.names for i in range(width[n])][at]
            least, most = float(table[:, at].min()), float(table[:, at].max())
            warnings.warn(
                f"{where}: {name}, goes from {least:.4g} to {most:.4g}, in training from {self.low[at]:.4g} "
                f"to {self.high[at]:.4g}: are the units the same?",
                stacklevel=3,
            )


@dataclass(frozen=True)
class Files:
    """How files become what a network takes. A checkpoint holds one of its subclasses.

    Args:
        labels: What labels the elements (points, faces, nodes) of a file; without it a file has one class.
        ignore: Labels that mean "none", beside negative numbers and empty words.
        target: ``"class"``, or ``"regression"``: the label of a file is a number. If not given it is a class,
            unless all labels are numbers and one has decimals.
        features: What the network sees of every element, by the names that the files have.
        table, edge_table, unit: What was found out of the training set; the last are mean and deviation of
            the numbers to be predicted.
    """

    labels: str | None = None
    ignore: tuple[str, ...] = ()
    target: str | None = None
    features: tuple[str, ...] | None = None
    table: Table = Table()
    edge_table: Table = Table()
    unit: tuple[float, float] | None = None

    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    element: ClassVar[str] = "element"
    beside: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[bool] = False

    @property
    def networks(self) -> tuple[str, ...]:
        """The kinds of networks for these files, the usual one first."""
        raise NotImplementedError

    def read(self, path: Path) -> list[Item]:
        """The items of a file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not what it should be; the message names it.
        """
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}.")
        whole = self.folders and path.is_dir()
        if not whole and path.suffix.lower() not in self.suffixes:
            raise ValueError(
                f"{path} is no file of {self.kind}, which end in {' '.join(self.suffixes)}."
            )
        with naming(path):
            return self.parse(path)

    def parse(self, path: Path) -> list[Item]:
        """:meth:`read` of a file that is there."""
        raise NotImplementedError

    def network(self, name: str, classes: int, example: Data, pool: Any, more: dict) -> nn.Module:
        """A network of the kind ``name`` (one of :attr:`networks`) for data like ``example``."""
        raise NotImplementedError

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Logits, a row per item or per element."""
        raise NotImplementedError

    def fit(self, items: Sequence[Item]) -> Files:
        """The same reader with all that it learns from the training items."""
        table = Table.fit([i.columns for i in items], self.features, [i.name for i in items])
        tied = [i for i in items if i.raw.num_edges]
        edges = Table.fit([i.edges for i in tied], None, [i.name for i in tied])
        return replace(self, table=table, edge_table=edges)

    def data(self, item: Item) -> Data:
        """What the network takes of an item."""
        data = item.raw.clone()
        if self.table.names:
            data.x = self.table.encode(item.columns, int(data.num_nodes or 0), item.name)
        if self.edge_table.names:
            data.edge_attr = self.edge_table.encode(item.edges, data.num_edges, item.name)
        return data

    def training_view(self, data: Data, generator: torch.Generator) -> Data:
        """What of an item a step of training sees."""
        return data

    def num_views(self, data: Data) -> int:
        """How many :meth:`views` there are."""
        return 1

    def views(self, data: Data) -> Iterator[tuple[Data, Tensor | None]]:
        """What a prediction sees, one after the other, and which elements each of these is."""
        yield data, None

    def write_ply(self, item: Item, labels: np.ndarray, path: Path, classes: int) -> None:
        """Writes the elements of a file in the colours of their labels."""
        if item.shape is None:
            raise ValueError(f"`ply` is for points and faces; got {self.kind}.")
        plot.export_ply(path, *item.shape, labels, num_classes=classes)

    def draw(
        self,
        items: Sequence[Item],
        titles: Sequence[str],
        colors: list,
        path: Path,
        classes: Sequence[str],
        up: str = "z",
    ) -> None:
        """Writes a picture of some items, with a legend where elements have classes."""
        raise ValueError(f"`pictures` are for points and meshes; got {self.kind}.")


def predicts_numbers(files: Files, items: Sequence[Item]) -> bool:
    """Whether the labels of some items are numbers to be predicted, and not names of classes.

    Raises:
        ValueError: ``files`` asks for what there is not.
    """
    if files.target not in (None, "class", "regression"):
        raise ValueError(f"`target` must be 'class' or 'regression'; got {files.target!r}.")
    if files.target is not None or files.labels is not None:
        if files.target == "regression" and files.labels is not None:
            raise ValueError(
                f"`target` 'regression' is one number per file; `labels` = {files.labels!r} is one per "
                f"{files.element}."
            )
        return files.target == "regression"
    names = [label_names(i.found, files.ignore)[0][0] for i in items if i.found]
    try:
        return not all(value.is_integer() for value in [float(name) for name in names if name])
    except ValueError:
        return False


def number(item: Item) -> float:
    """The label of an item as a number.

    Raises:
        ValueError: It has none, or is none.
    """
    names = label_names(item.found, ())[0] if item.found else [None]
    try:
        if math.isfinite(found := float(names[0] or "")):
            return found
    except ValueError:
        pass
    raise ValueError(
        f"{item.name}: the label must be a number for `target` 'regression'; got {names[0]!r}."
    )


def _could_label(item: Item) -> str:
    if not item.columns:
        return "it holds nothing that `labels` could name"
    return f"what the file could give to `labels` is {', '.join(item.columns)}"


def label_names(found: FoundLabels, ignore: Sequence[str]) -> tuple[list[str | None], np.ndarray]:
    """The different labels as words, ``None`` for "no label", and which of them each element has."""
    values, which = np.unique(found.values, return_inverse=True)
    if found.words is not None:
        names: list[str | None] = [found.words[i] or None for i in values]
    else:
        names = [None if value < 0 else str(value) for value in values.tolist()]
    return [None if name in ignore else name for name in names], which.reshape(-1)


def classes_among(items: Sequence[Item], ignore: Sequence[str] = ()) -> list[str]:
    """The classes of all items in alphabetical order, numbers by their size.

    Give it the items of all splits: a class that one of them lacks must not shift the others.
    """
    found = {n for i in items if i.labels for n in label_names(i.labels, ignore)[0] if n}
    numbers: dict[float, str] = {}
    for name in sorted(filter(is_number, found)):
        if (other := numbers.setdefault(float(name), name)) != name:
            raise ValueError(
                f"Labels {other!r} and {name!r} are the same number, and would be two classes: write "
                f"one of them."
            )
    return sorted(found, key=int) if all(n.isdecimal() for n in found) else sorted(found)


def targets(item: Item, classes: Sequence[str], ignore: Sequence[str] = ()) -> Tensor:
    """The positions of the labels of an item among ``classes``, -1 where there is none.

    Raises:
        ValueError: There is no label, or one that is no class.
    """
    if item.found is None:
        raise ValueError(
            f"{item.name} has no label: no folder is its class, no row of a table says it, and "
            f"{_could_label(item)}."
        )
    names, which = label_names(item.found, ignore)
    place: dict[str | None, int] = {None: -1, **{name: i for i, name in enumerate(classes)}}
    if strange := [name for name in names if name not in place]:
        raise ValueError(
            f"{item.name}: label {strange[0]!r} is none of the `classes` {', '.join(classes[:20])}."
        )
    return torch.tensor([place[name] for name in names])[torch.from_numpy(which)]
