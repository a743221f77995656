"""A run: from a folder of files to a trained network and a number for what was held out."""

from __future__ import annotations

import hashlib
import inspect
import random
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from graphpool._recorded import SAVABLE
from graphpool.files.checkpoint import Predictor
from graphpool.files.fitting import train_network
from graphpool.files.listing import SPLITS, draw_splits, list_files, read_all
from graphpool.files.reader import Files, Item, classes_among, number, predicts_numbers, targets
from graphpool.files.report import NumberReport, Report
from graphpool.train import class_weights

#: Fewer steps teach little; where they are not said, there are as many epochs as it takes.
_STEPS, _EPOCHS = 200, 30
#: Of files that are in two splits, so many are named.
_SHOWN = 8


@dataclass
class Settings:
    """How a network is made and trained.

    Attributes:
        model: The kind of network: ``point-pn``, ``pointnet2``, ``edgeconv`` or ``point-nn`` for points,
            ``gin``, ``sage``, ``gatv2`` or ``edge`` for graphs; meshes and bags have one each.
        pool: Its pool: a name, or several, which are concatenated.
        arguments: Further arguments of the network.
        epochs: Passes over the training set; 30 or more, until there are 200 steps, if not given.
        batch_size: Items in a step.
        lr: The largest learning rate.
        smoothing: Share of the target that is spread over all classes.
        class_weights: Rare classes count as much as frequent ones.
        val: Share of the files that chooses the epoch, where the files do not say which.
        test: Share of the files for the final number, likewise.
        seed: Of all that is drawn.
        device: Where the network is trained: cpu, cuda, ...
    """

    model: str | None = None
    pool: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int = 16
    lr: float = 3e-3
    smoothing: float = 0.1
    class_weights: bool = False
    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    device: str = "cpu"


class _Views(Dataset):
    """What a training step sees of each item, drawn anew at every access."""

    def __init__(self, items: Sequence[Data], files: Files, generator: torch.Generator) -> None:
        self.items, self.files, self.generator = items, files, generator

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Data:
        return self.files.training_view(self.items[index], self.generator)


def read_splits(
    root: str | Path,
    files: Files,
    settings: Settings,
    table: Path | None = None,
    limit: int | None = None,
) -> dict[str, list[Item]]:
    """The items of each split; ``limit`` takes so many files only, drawn at random.

    Raises:
        ValueError: Something is wrong with the files; the message names them.
    """
    entries = list_files(Path(root), files, table)
    if limit is not None:
        order = np.random.default_rng(settings.seed).permutation(len(entries))
        entries = [entries[i] for i in sorted(order[:limit])]
    items, splits = read_all(entries, files)
    classes = not predicts_numbers(files, items)
    drawn = draw_splits(items, splits, settings.val, settings.test, settings.seed, classes)
    return {s: [item for item, d in zip(items, drawn, strict=True) if d == s] for s in SPLITS}


def doubts(parts: dict[str, list[Item]], classes: Sequence[str], files: Files) -> list[str]:
    """What makes a number less than it seems: classes that a split lacks, files that are in two."""
    found, twice, seen = [], [], dict[str, tuple[str, str]]()
    for split, items in parts.items():
        for item in items:
            first = seen.setdefault(fingerprint(item), (split, item.name))
            if first[0] != split:
                twice.append(f"{item.name} ({split}) is the same as {first[1]} ({first[0]})")
        if files.target == "regression":
            continue
        labels = [targets(item, classes, files.ignore).unique() for item in items]
        there = set(torch.cat(labels).tolist()) if labels else set(range(len(classes)))
        if absent := [name for i, name in enumerate(classes) if i not in there]:
            found.append(f"the {split} set has nothing of class {', '.join(absent)}")
    if len(twice) > _SHOWN:
        twice[_SHOWN:] = [
            f"so are {len(twice) - _SHOWN} more: numbers of other splits are too good"
        ]
    if files.labels and "255" in classes:
        found.append("255 is a class here; where it means no label, --ignore 255 says so")
    known = sum(parts.values(), [])
    if not files.labels and len(classes) > len(known) / 2 and all(map(_is_number, classes)):
        found.append(
            f"{len(classes)} classes for {len(known)} items: are the labels quantities, for --target "
            f"regression?"
        )
    return twice + found


def fingerprint(item: Item) -> str:
    """What tells an item from others by what it holds, wherever its file lies."""
    said = hashlib.sha256()
    arrays = {
        **item.raw.to_dict(),
        **item.columns,
        **{f"edge {k}": v for k, v in item.edges.items()},
    }
    for name, value in arrays.items():
        if isinstance(value, (torch.Tensor, np.ndarray)):
            said.update(f"{name} {tuple(value.shape)}".encode())
            said.update(np.ascontiguousarray(value).tobytes())
    return said.hexdigest()[:16]


def shown_before(predictor: Predictor, items: Sequence[Item]) -> int:
    """How many of some items the network was trained on, or its epoch chosen by."""
    known = {*predictor.about.get("seen", ())}
    return sum(fingerprint(item) in known for item in items)


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def train_files(
    parts: dict[str, list[Item]],
    files: Files,
    settings: Settings,
    classes: Sequence[str] | None = None,
    checkpoint: Path | None = None,
) -> Predictor:
    """Trains a network on the items of a data set and keeps the epoch that is best on ``parts["val"]``.

    Best is the largest mean recall of the classes, or the smallest mean error of numbers. Without a
    validation set it is the last epoch.

    Args:
        parts: From :func:`read_splits`.
        files: What has read them.
        settings: How.
        classes: Names of the classes in order; those of all splits if ``None``.
        checkpoint: File to write after every epoch and resume from.

    Raises:
        ValueError: There is nothing to learn from, or an argument does not fit.
    """
    train, known = parts["train"], sum(parts.values(), [])
    numbers = predicts_numbers(files, known)
    if numbers:
        if classes is not None or settings.class_weights:
            raise ValueError(
                "`classes` and `class_weights` need classes, and the labels are numbers; `target` 'class' "
                "takes them as names."
            )
        labels, classes = _numbers(files, known)[: len(train)], []
    else:
        classes = classes_among(known, files.ignore) if classes is None else list(classes)
        labels = [targets(item, classes, files.ignore) for item in known][: len(train)]
    if not train or (len(set(classes)) < max(len(classes), 2) and not numbers):
        raise ValueError(
            f"`classes` must be at least two different names, and there must be training items; got "
            f"{len(train)} items and classes {', '.join(classes)}."
        )
    name, files = settings.model or files.networks[0], files.fit(train)
    if numbers:
        every = torch.cat(labels)
        unit = float(every.mean()), float(every.std(correction=0)) or 1.0
        files = replace(files, target="regression", unit=unit)
        labels = [((y - unit[0]) / unit[1]).float() for y in labels]
    if name not in files.networks:
        raise ValueError(f"`model` must be one of {', '.join(files.networks)}; got {name!r}.")
    seed_everything(settings.seed)
    items = [files.data(item) for item in train]
    for data, y in zip(items, labels, strict=True):
        data.y = y
    try:
        outputs = 1 if numbers else len(classes)
        model = files.network(name, outputs, items[0], settings.pool, settings.arguments)
    except TypeError as error:
        made = SAVABLE.get(str(error).partition(".__init__")[0])
        takes = f"; it takes {', '.join(inspect.signature(made).parameters)}" if made else ""
        raise ValueError(f"`set` and `pool` must fit the network: {error}{takes}.") from None
    model.to(settings.device)
    about: dict[str, Any] = {"trained on": len(train), "seed": settings.seed}
    about["seen"] = [fingerprint(item) for item in train + parts["val"]]
    predictor = Predictor(model, files, classes, about)
    if hasattr(model, "remember"):
        if numbers:
            raise ValueError(f"`model` = {name!r} needs classes, and the labels are numbers.")
        batch = Batch.from_data_list([next(files.views(data))[0] for data in items])
        model.remember(batch.pos, batch.y, ptr=batch.ptr)  # type: ignore[operator]
        return predictor
    if hasattr(model, "standardizer"):
        model.standardizer.fit(items)  # type: ignore[operator, union-attr]
    view, order = (torch.Generator().manual_seed(settings.seed + i) for i in range(2))
    size = min(settings.batch_size, len(items))
    # A rest of one item may have no variance to normalise by: another sits out in each epoch.
    loader = DataLoader(
        _Views(items, files, view),
        size,
        shuffle=True,
        drop_last=len(items) % size == 1,
        generator=order,
    )
    epochs = settings.epochs or max(_EPOCHS, -(-_STEPS // len(loader)))
    weight = None
    if settings.class_weights:
        weight = class_weights(torch.cat([data.y for data in items]), len(classes))
    record = {**asdict(settings), "files": repr(files), "classes": classes, "items": len(items)}
    del record["epochs"]
    score = (lambda _: judge(predictor, parts["val"]).score) if parts["val"] else None
    train_network(
        model, loader, files.forward, epochs, settings.lr, settings.smoothing, checkpoint, settings.device,
        (view, order), record, weight, score=score,
    )  # fmt: skip
    return predictor


def _numbers(files: Files, items: Sequence[Item]) -> list[torch.Tensor]:
    """The labels ``[1]`` of items as numbers; says so where nobody asked for that."""
    if files.target is None:
        warnings.warn(
            "Labels have decimals, so a number is predicted; `target` 'class' takes them as names.",
            stacklevel=3,
        )
    return [torch.tensor([number(item)], dtype=torch.float64) for item in items]


def judge(predictor: Predictor, items: Sequence[Item]) -> Report | NumberReport:
    """How well a network does on labelled items.

    Raises:
        ValueError: Nothing is labelled, or a label is no class of the network.
    """
    files, classes = predictor.reading()
    if not classes:
        said = torch.cat([predictor.scores(item) for item in items])
        return NumberReport(said, torch.cat(_numbers(files, items)), [item.name for item in items])
    # Counted are the elements of the file, as a prediction has them.
    guesses = [predictor.of_item(item).label.reshape(-1) for item in items]
    labels = [targets(item._replace(found=item.labels), classes, files.ignore) for item in items]
    return Report(torch.cat(guesses), torch.cat(labels), classes, files.labels is None)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
