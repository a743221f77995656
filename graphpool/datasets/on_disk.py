"""How data sets lie on disk: a folder for each class, and a cache of tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from graphpool.io.untrusted import load_tensors


def file_in(path: str | os.PathLike[str], name: str) -> Path:
    """``path``, or the file ``name`` in it where it is a folder."""
    return Path(path) / name if Path(path).is_dir() else Path(path)


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what programs leave there: ``.*`` and ``__*``."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in a folder, by name; none where it does not exist."""
    return [path for path in visible(folder) if path.is_dir()] if folder.is_dir() else []


def existing(folder: str | os.PathLike[str]) -> Path:
    """``folder`` as a path, or a ``FileNotFoundError``."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    return Path(folder)


def class_names(root: Path, found: list[str], classes: Sequence[str] | None = None) -> list[str]:
    """The classes of a data set with a folder for each; a label is a position in this list.

    Args:
        root: The folder of the data set, for messages.
        found: The names of the class folders, in order.
        classes: The classes, where they are known from elsewhere: a split that lacks one would number
            the others differently.

    Returns:
        ``classes``, or ``found``.

    Raises:
        ValueError: There is no class folder, or one that is not in ``classes``, or a name twice.
    """
    if not found:
        raise ValueError(f"{root} has no subfolders; there must be one for each class.")
    if classes is None:
        return found
    names = [str(name) for name in classes]
    if isinstance(classes, str) or len(set(names)) != len(names):
        raise ValueError(f"`classes` must be different names; got {classes!r}.")
    if unknown := [name for name in found if name not in names]:
        raise ValueError(
            f"{root} has the class{'es' * (len(unknown) > 1)} {', '.join(unknown)}, not in "
            f"`classes` = {names}."
        )
    return names


def class_files(
    root: Path, split: str, classes: Sequence[str] | None, files_in: Callable[[Path], list[Path]]
) -> tuple[list[str], list[list[Path]]]:
    """The classes of all splits, and for each the files of one split.

    They lie in ``root/<class>/<split>`` or in ``root/<split>/<class>``, whichever there is.

    Args:
        root: The folder of the data set.
        split: The name of the split.
        classes: See :func:`class_names`.
        files_in: The files in a folder that are read; none where it does not exist.

    Raises:
        ValueError: There are files in both ways, or the classes are wrong (see :func:`class_names`).
    """
    inside = [path for path in folders_in(root) if files_in(path / split)]
    outside = [path for path in folders_in(root / split) if files_in(path)]
    if inside and outside:
        raise ValueError(
            f"{root} has both {inside[0].name}/{split} and {split}/{outside[0].name}: which of them is the "
            f"class cannot be told. Rename one, or move it elsewhere."
        )
    parts = [
        (path, [child for child in folders_in(path) if files_in(child)])
        for path in folders_in(root)
    ]
    if outside:
        found = sorted({child.name for _, children in parts for child in children})
    else:
        found = [path.name for path, children in parts if children]
    names = class_names(root, found, classes)
    files = [files_in(root / split / n if outside else root / n / split) for n in names]
    return names, files


def nothing_of(split: str, root: Path) -> str:
    """What an error says where :func:`class_files` finds nothing."""
    there = ", ".join(path.name for path in folders_in(root))
    return (
        f"{root}/<class>/{split} has no file that is read, nor has {root}/{split}/<class>; there are the "
        f"folders {there}."
    )


def check_cache(folder: Path, names: Sequence[str] = ("*.pt",)) -> None:
    """Raises where a cache of PyTorch Geometric holds anything but tensors and plain values.

    PyTorch Geometric itself unpickles what it cannot read otherwise, so this comes before.

    Args:
        folder: The folder of the cache; nothing is wrong with one that does not exist.
        names: Patterns of the files to look at; those that a data set always reads are added.

    Raises:
        ValueError: A file is damaged or needs code to be run.
    """
    for name in {*names, "pre_transform.pt", "pre_filter.pt"}:
        for path in sorted(folder.glob(name)):
            load_tensors(path)
