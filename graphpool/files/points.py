"""Point clouds from files, for networks that classify clouds or points."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import Compose

from graphpool import models, plot
from graphpool._arguments import as_count
from graphpool._recorded import savable
from graphpool.datasets.meshes.classes import FoundLabels
from graphpool.datasets.meshes.labels import whole_labels
from graphpool.datasets.points.clouds import read_h5_clouds, shape_names
from graphpool.datasets.surfaces import sample_surface
from graphpool.files.reader import Files, Item
from graphpool.io import CloudArrays, read_cloud
from graphpool.io.points.fields import describe
from graphpool.io.points.formats import SUFFIXES
from graphpool.io.points.las_hdf5 import load_h5
from graphpool.points import transforms

#: A mesh is drawn from once, and thinned for each view.
_DRAWN_FROM_MESHES = 4
#: Radii that differ by more are said: metres and centimetres differ by 100, inches and metres by 39.
_OTHER_UNIT = 20
#: A cloud with so many times fewer points than any of training is said.
_FEWER = 4


@savable
@dataclass(frozen=True)
class PointFiles(Files):
    """Clouds in any format of :func:`graphpool.datasets.read_cloud`; meshes are sampled by area.

    An ``.h5`` of :class:`graphpool.datasets.HDF5PointClouds` is as many items as it has clouds.

    The network sees ``num_points`` of the points, drawn with a fixed seed, so that a file always gets the
    same prediction. Where points are labelled, all are divided among as many views as it takes.

    Args:
        num_points: Points that the network sees at once; smaller clouds stay as they are.
        columns: Names of the columns of text files and arrays, ``"x y z nx ny nz"``.
        size: ``"unit"``: every cloud has radius 1, so that units do not matter; ``"keep"``: sizes count, in
            the units of the files.
        block: For scenes of labelled points: the side of the square windows that the network sees, in the
            units of the files. In a prediction they overlap by half, and their votes are added.

    Other arguments are those of :class:`graphpool.files.Files`.
    """

    features: tuple[str, ...] | None = ()
    num_points: int = 1024
    columns: str | None = None
    size: str = "unit"
    block: float | None = None
    # Found out of the training set: the points of the smallest cloud and, where sizes count, the smallest and
    # the largest radius.
    fewest: int | None = None
    radii: tuple[float, float] | None = None

    kind: ClassVar[str] = "points"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    element: ClassVar[str] = "point"
    beside: ClassVar[tuple[str, ...]] = ("shape_names.txt", "train_files.txt", "test_files.txt")

    def __post_init__(self) -> None:
        as_count(self.num_points, "num_points")
        if self.size not in ("unit", "keep"):
            raise ValueError(f"`size` must be 'unit' or 'keep'; got {self.size!r}.")
        if self.block is not None and not (self.block > 0 and self.labels):
            raise ValueError(f"`block` must be a length > 0, and needs `labels`; got {self.block}.")

    @property
    def networks(self) -> tuple[str, ...]:
        return ("pointnet2",) if self.labels else ("point-pn", "pointnet2", "edgeconv", "point-nn")

    def cloud(self, path: Path) -> CloudArrays:
        """All that a file says."""
        tables = (".xyz", ".txt", ".pts", ".asc", ".csv", ".npy", ".npz", ".bin", ".h5", ".hdf5")
        return read_cloud(path, self.columns if path.suffix.lower() in tables else None)

    def parse(self, path: Path) -> list[Item]:
        if path.suffix.lower() in (".h5", ".hdf5") and (clouds := self._set(path)) is not None:
            return [self._item(f"{path}#{i}", *held) for i, held in enumerate(clouds)]
        return [self._item(str(path), self.cloud(path), None)]

    def _set(self, path: Path) -> list[tuple[CloudArrays, FoundLabels | None]] | None:
        """The clouds of a file of many with their classes, or ``None`` if it holds one."""
        arrays = load_h5(path)
        if arrays.get("data", np.zeros(0)).ndim != 3:
            return None
        points, labels, fields = read_h5_clouds(path, arrays=arrays)
        names, clouds = shape_names(path), []
        for i, own in enumerate(points):
            held, found = {name: values[i] for name, values in fields.items()}, None
            if labels is not None:
                if not 0 <= labels[i] < (len(names) if names else np.inf):
                    raise ValueError(
                        f"{path}: label {labels[i]} of cloud {i} is none of the {len(names or ())} lines of "
                        f"shape_names.txt."
                    )
                word = names[labels[i]] if names else str(labels[i])
                found = FoundLabels(np.zeros(1, np.int64), (word,))
            clouds.append((CloudArrays(own.astype(np.float64), None, held), found))
        return clouds

    def _as_asked(self, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fields by the names asked for, where theirs differ in case: columns are read in lower case."""
        asked = {name.lower(): name for name in (self.labels, *(self.features or ())) if name}
        return {
            name if name in asked.values() else asked.get(name.lower(), name): values
            for name, values in fields.items()
        }

    def _item(self, name: str, cloud: CloudArrays, found: FoundLabels | None) -> Item:
        points, fields = cloud.points, self._as_asked(cloud.fields)
        if cloud.faces is not None and not (self.labels or self.features):
            count = _DRAWN_FROM_MESHES * self.num_points
            points, _ = sample_surface(points, cloud.faces, count, np.random.default_rng(0))
        data = Data(pos=torch.from_numpy(points))
        if self.size == "unit" and self.block is None:
            data = Data(pos=transforms.Normalize()(data).pos)
        data.pos = (data.pos - data.pos.mean(0)).float()
        if not bool(data.pos.isfinite().all()):
            raise ValueError(f"Coordinates up to {np.abs(points).max():.2g} do not fit float32.")
        if self.labels in fields:
            found = FoundLabels(
                whole_labels(np.asarray(fields[self.labels], np.float64), Path(name))
            )
        elif self.labels is not None:
            found = None
        used = (*(self.features or ()), self.labels, "label")
        if left := {name: v for name, v in fields.items() if name not in used}:
            warnings.warn(
                f"Files also hold {describe(left)}, which the network does not see; `features` names what "
                f"it should.",
                stacklevel=2,
            )
        return Item(name, data, fields, found, shape=(cloud.points, None))

    def fit(self, items: Sequence[Item]) -> Files:
        more: dict[str, Any] = {}
        if self.labels is None:
            more["fewest"] = min(len(item.raw.pos) for item in items)
        if self.size == "keep" and self.block is None:
            radii = {item.name: _radius(item) for item in items}
            small, large = min(radii, key=radii.__getitem__), max(radii, key=radii.__getitem__)
            more["radii"] = radii[small], radii[large]
            if radii[large] > _OTHER_UNIT * radii[small]:
                warnings.warn(
                    f"{large} has the radius {radii[large]:.4g}, {small} {radii[small]:.4g}; with `size` "
                    f"'keep' all units must be the same.",
                    stacklevel=2,
                )
        return replace(super().fit(items), **more)

    def data(self, item: Item) -> Data:
        if self.radii is not None:
            small, large = self.radii
            if not small / _OTHER_UNIT <= _radius(item) <= large * _OTHER_UNIT:
                warnings.warn(
                    f"{item.name} has the radius {_radius(item):.4g}, in training {small:.4g} to "
                    f"{large:.4g}: are the units the same?",
                    stacklevel=2,
                )
        count = len(item.raw.pos)
        if self.fewest is not None and _FEWER * count < min(self.fewest, self.num_points):
            warnings.warn(
                f"{item.name} has {count} points, no cloud of training less than {self.fewest}: to the "
                f"network it looks unlike these.",
                stacklevel=2,
            )
        return super().data(item)

    def network(self, name: str, classes: int, example: Data, pool: Any, more: dict) -> nn.Module:
        width = len(self.table.mean)
        usual: dict[str, Any] = {"k": 16, "pool": pool or "max"}
        if name == "point-nn":
            if width or pool:
                raise ValueError("`model` = 'point-nn' takes neither `features` nor a `pool`.")
            return models.PointNNClassifier(classes, **more)
        if name == "point-pn":
            usual |= {"pool": pool or "max+mean", "readout": pool or "max+mean"}
            return models.PointPN(classes, 3 + width, **{**usual, **more})
        if name == "edgeconv":
            usual |= {"widths": (32, 32, 64)}
            return models.EdgeConvClassifier(classes, width, **{**usual, **more})
        usual |= {"radii": (None, None), "width": 32}
        make = models.PointNet2Segmenter if self.labels else models.PointNet2Classifier
        return make(classes, width, **{**usual, **more})

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch.pos, ptr=batch.ptr, x=batch.get("x"))

    def training_view(self, data: Data, generator: torch.Generator) -> Data:
        rows = torch.arange(len(data.pos))
        if self.block is not None:
            middle = data.pos[int(torch.randint(len(rows), (1,), generator=generator)), :2]
            rows = rows[((data.pos[:, :2] - middle).abs() <= self.block / 2).all(1)]
        rows = rows[torch.randperm(len(rows), generator=generator)[: self.num_points]]
        changes = [transforms.Shift(generator=generator), transforms.Jitter(generator=generator)]
        if self.block is None:
            # Where sizes count, no unit is known either.
            changes = (
                [] if self.size == "keep" else [transforms.Scale(generator=generator), *changes]
            )
        return Compose(changes)(self._view(data, rows))

    def num_views(self, data: Data) -> int:
        if self.labels is None:
            return 1
        sizes = torch.tensor([[len(data.pos)]])
        if self.block is not None:
            number, *grid = _cells(data.pos, self.block)
            sizes = number.bincount(minlength=grid[0] * grid[1]).view(grid)
            for dim, count in enumerate(grid):
                if count > 1:
                    sizes = sizes.narrow(dim, 0, count - 1) + sizes.narrow(dim, 1, count - 1)
        sizes = sizes[sizes > 0]
        return int(sizes.add(self.num_points - 1).div(self.num_points, rounding_mode="floor").sum())

    def views(self, data: Data) -> Iterator[tuple[Data, Tensor | None]]:
        generator = torch.Generator().manual_seed(0)
        for window in self._windows(data.pos):
            count, seen = len(window), min(len(window), self.num_points)
            if seen < count:
                window = window[torch.randperm(count, generator=generator)]
            if self.labels is None:
                yield self._view(data, window[:seen]), None
                return
            for start in range(0, count, seen):
                rows = window[min(start, count - seen) :][:seen]
                yield self._view(data, rows), rows

    def _view(self, data: Data, rows: Tensor) -> Data:
        """Some of the points, with all that belongs to them; a window has a size of 2."""
        view = Data(pos=data.pos[rows])
        if self.block is not None:
            view.pos = (view.pos - view.pos.mean(0)) * (2 / self.block)
        if "x" in data:
            view.x = data.x[rows]
        if "y" in data:
            view.y = data.y[rows] if self.labels else data.y
        return view

    def _windows(self, pos: Tensor) -> Iterator[Tensor]:
        """The points of square windows over the ground, each half a side from the one before."""
        if self.block is None:
            yield torch.arange(len(pos))
            return
        number, wide, deep = _cells(pos, self.block)
        cells = number.argsort(stable=True).split(number.bincount(minlength=wide * deep).tolist())
        for i in range(max(wide - 1, 1)):
            for j in range(max(deep - 1, 1)):
                corners = [(a, b) for a in (i, i + 1) for b in (j, j + 1) if a < wide and b < deep]
                window = torch.cat([cells[a * deep + b] for a, b in corners])
                if len(window):
                    yield window.sort().values

    def draw(
        self,
        items: Sequence[Item],
        titles: Sequence[str],
        colors: list,
        path: Path,
        classes: Sequence[str],
        up: str = "z",
    ) -> None:
        named = {"values": colors, "classes": classes} if self.labels else {}
        plot.cloud_gallery([i.raw.pos for i in items], titles, path, up=up, **named)


def _cells(pos: Tensor, block: float) -> tuple[Tensor, int, int]:
    """The cell of each point, half a window wide, and how many there are along x and y."""
    cell = ((pos[:, :2] - pos[:, :2].amin(0)).double() / (block / 2)).long()
    wide, deep = (int(n) + 1 for n in cell.amax(0))
    if wide * deep > max(len(pos), 10_000):
        raise ValueError(
            f"`block` = {block:g} cuts the scene into {wide} times {deep} cells, more than it has "
            f"points: are its units those of the training set?"
        )
    return cell[:, 0] * deep + cell[:, 1], wide, deep


def _radius(item: Item) -> float:
    return float(item.raw.pos.norm(dim=1).max())
