"""Which files a data set has, of which class and in which split: by folders, by a table, or drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from graphpool.datasets.meshes.classes import FoundLabels
from graphpool.datasets.on_disk import visible
from graphpool.files.graph_formats import read_records
from graphpool.files.reader import Files, Item, label_names

SPLITS = ("train", "val", "test")
#: What folders and tables may call the splits.
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_SPLITS |= {split: split for split in SPLITS}
#: The table that lies with the files.
TABLE = "labels.csv"


class Located(NamedTuple):
    """A file, and its class and split where its place or a table says them."""

    file: Path
    label: str | None = None
    split: str | None = None


def list_files(root: Path, files: Files, table: Path | None = None) -> list[Located]:
    """The files of a data set.

    ``root`` is a file of several items, a TU folder, or a folder in one of these layouts, where ``<split>``
    is train, val or test::

        root/<class>/<file>    root/<split>/<class>/<file>    root/<class>/<split>/<file>
        root/<file>            root/<split>/<file>            (classes in the files or in a table)

    Args:
        root: The folder, or the file.
        files: What reads them.
        table: A table with columns ``file``, relative to ``root``, with or without its suffix, ``label`` and,
            if there is one, ``split``; ``root/labels.csv`` where there is such a file.

    Raises:
        FileNotFoundError: Something is missing.
        ValueError: There is no file, or the table does not fit.
    """
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {root}.")
    if table is not None or (root / TABLE).is_file():
        table = table or root / TABLE
        listed = _of_table(root, files, table)
        if root.is_dir():
            _say_what_is_left_out(root, files, table, listed)
        return listed
    if root.is_file() or (
        files.kind == "graphs" and [*root.glob("*_A.txt"), *root.glob("raw/*_A.txt")]
    ):
        return [Located(root)]
    found = list(_walk(root, files, None, None))
    if not found:
        kinds = " ".join(files.suffixes)
        raise ValueError(
            f"{root} has no file of {files.kind} ({kinds}), in folders below it either."
        )
    return found


def _walk(folder: Path, files: Files, label: str | None, split: str | None) -> Iterator[Located]:
    skipped = set()
    for path in visible(folder):
        named = _SPLITS.get(path.name.lower()) if split is None else None
        if path.is_dir() and named is not None:
            yield from _walk(path, files, label, named)
        elif path.is_dir():
            inner = path.name if label is None and files.labels is None else label
            yield from _walk(path, files, inner, split)
        elif not path.name.endswith(files.beside):
            if path.suffix.lower() in files.suffixes:
                yield Located(path, label, split)
            else:
                skipped.add(path.suffix.lower() or path.name)
    if skipped:
        warnings.warn(f"Left alone in {folder}: {', '.join(sorted(skipped))}.", stacklevel=2)


def without_companions(paths: list[Path], files: Files) -> list[Path]:
    """What is left without files that others bring along: ``*.csv`` takes ``a.nodes.csv`` with ``a.csv``."""
    known = set(paths)
    with_them = [
        path
        for path in paths
        for end in files.beside
        if path.name.endswith(end)
        and any(path.with_name(path.name.removesuffix(end) + s) in known for s in files.suffixes)
    ]
    if with_them:
        warnings.warn(
            f"{_few(with_them)} {'belong' if len(with_them) > 1 else 'belongs'} to the file that its name "
            f"begins with, and is read with it.",
            stacklevel=2,
        )
    return [path for path in paths if path not in with_them]


def _few(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + ", ..." * (len(paths) > 3)


def _say_what_is_left_out(root: Path, files: Files, table: Path, listed: list[Located]) -> None:
    named = {table.resolve(), *(entry.file.resolve() for entry in listed)}
    with warnings.catch_warnings():
        # What is no file of this kind, a table for one, is nobody's loss here.
        warnings.simplefilter("ignore")
        others = [e.file for e in _walk(root, files, None, None) if e.file.resolve() not in named]
    if others:
        warnings.warn(
            f"{len(others)} files of {files.kind} are not in {table} and left out: {_few(others)}.",
            stacklevel=3,
        )


def _of_table(root: Path, files: Files, table: Path) -> list[Located]:
    found = []
    for row in read_records(table):
        path, split = root / row.get("file", ""), row.get("split") or None
        if "file" in row and not path.is_file():
            # Without its suffix, if only one file can be meant.
            alike = [
                file
                for file in path.parent.glob(f"{escape(path.name)}.*")
                if file.suffix.lower() in files.suffixes and not file.name.endswith(files.beside)
            ]
            path = alike[0] if len(alike) == 1 else path
        if "file" not in row or (split is not None and split.lower() not in _SPLITS):
            raise ValueError(
                f"{table} must have columns `file`, `label` and maybe `split`, train, val or test; got {row}."
            )
        if not path.is_file():
            raise FileNotFoundError(f"{table}: there is no file {path}.")
        found.append(Located(path, row.get("label") or None, split and _SPLITS[split.lower()]))
    if len({entry.file for entry in found}) < len(found):
        named = [entry.file for entry in found]
        twice = next(file for file in named if named.count(file) > 1)
        raise ValueError(f"{table} lists a file twice: {twice.name}.")
    return found


def read_all(entries: Sequence[Located], files: Files) -> tuple[list[Item], list[str | None]]:
    """The items of some files with their splits; the class of a folder or a table goes before the file's."""
    items, splits = [], []
    for file, label, split in tqdm(entries, "reading", leave=False):
        found = files.read(file)
        # A lone file is divided, whatever it is called.
        if len(found) > 1 and len(entries) > 1 and split is None:
            split = _split_of_name(file)
        for item in found:
            if label is not None and files.labels is None:
                item = item._replace(found=FoundLabels(np.zeros(1, np.int64), (label,)))
            # What is only drawn need not be kept.
            items.append(item._replace(shape=None))
            splits.append(split)
    return items, splits


def _split_of_name(file: Path) -> str | None:
    """What the name of a file of several items says: ``ply_data_train0.h5``, ``test_objectdataset.h5``."""
    words = "".join(c if c.isalpha() else " " for c in file.stem.lower()).split()
    said = {_SPLITS[word] for word in words if word in _SPLITS}
    return said.pop() if len(said) == 1 else None


def draw_splits(
    items: Sequence[Item],
    splits: Sequence[str | None],
    val: float,
    test: float,
    seed: int,
    classes: bool = True,
) -> list[str]:
    """A split for each item: those without one are divided at random, of every class the same shares.

    Without ``classes`` all labels are alike.

    A validation split, where there is none, is drawn from given training items, too. A class keeps at least
    one training item, and one of three or more gives at least one to each split.

    Raises:
        ValueError: A share is out of range.
    """
    for name, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise ValueError(f"`{name}` must be a share in [0, 1); got {share}.")
    shares = {s: share for s, share in (("test", test), ("val", val)) if s not in splits}
    rng, drawn = np.random.default_rng(seed), [split or "train" for split in splits]
    strata: dict[tuple[str, bool], list[int]] = {}
    for i, item in enumerate(items):
        if drawn[i] == "train":
            one = classes and item.found is not None and len(item.found.values) == 1
            kind = label_names(item.found, ())[0][0] if one and item.found else None
            strata.setdefault((kind or "", splits[i] is None), []).append(i)
    for (_, free), members in sorted(strata.items()):
        order = rng.permutation(members).tolist()
        for name, share in shares.items():
            if free or name == "val":
                count = min(max(round(share * len(members)), int(share > 0)), len(order) - 1)
                for _ in range(count):
                    drawn[order.pop()] = name
    return drawn
