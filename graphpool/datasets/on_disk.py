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


def class_names(
    root: Path,
    classes: Sequence[str] | None = None,
    is_class: Callable[[Path], bool] = lambda folder: True,
) -> list[str]:
    """The classes of a data set with a folder for each; a label is a position in this list.

    Args:
        root: The folder that holds the class folders; hidden ones (``.*``, ``__*``) are none.
        classes: The classes, where they are known from elsewhere: a split that lacks one would number
            the others differently.
        is_class: Whether a folder is a class.

    Returns:
        ``classes``, or the names of the folders in alphabetical order.

    Raises:
        ValueError: There is no class folder, or one that is not in ``classes``, or a name twice.
    """
    found = [path.name for path in visible(root) if path.is_dir() and is_class(path)]
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
