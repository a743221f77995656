"""What a script has found so far, kept as it goes."""

from __future__ import annotations

import argparse
import itertools
import json
import pickle
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from _common import out_dir
from tqdm import tqdm

# What chooses among results, and does not change them.
_APART = {"seed", "seeds", "out", "device", "traceback"}


def parsed(text: str, where: str) -> dict[str, Any]:
    """An object in JSON that an earlier call has left.

    Raises:
        ValueError: It is none; the message says where.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{where} is damaged ({error}): move it away, or take another --out."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{where} is not of this script: move it away, or take another --out.")
    return found


def write(file: Path, content: Any) -> None:
    """Writes JSON beside and renames, so that a script that is stopped here leaves the old file whole."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(json.dumps(content, indent=1), "utf-8")
    part.replace(file)


def differing(stored: Any, settings: dict[str, Any]) -> str:
    """Which settings are others than those of a file, in words; none if they are the same."""
    stored = stored if isinstance(stored, dict) else {}
    # As they come back from JSON: tuples are lists.
    settings = json.loads(json.dumps(settings))
    names = [k for k in {**stored, **settings} if stored.get(k) != settings.get(k)]
    return ", ".join(f"{k} {stored.get(k)}, here {settings.get(k)}" for k in names)


def set_aside(file: Path) -> Path:
    """A name beside ``file`` that is free."""
    names = itertools.chain([".old"], (f".old{k}" for k in itertools.count(2)))
    paths = (file.with_name(f"{file.name}{name}") for name in names)
    return next(path for path in paths if not path.exists())


def fingerprint(values: Iterable[Any]) -> str:
    """Eight digits that tell the tensors and plain values of a data set from others."""
    found = 0
    for value in values:
        data = value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
        found = zlib.crc32(data, found)
    return f"{found:08x}"


class Kept:
    """Results by case, in ``NAME.json`` of ``--out``, so that a script that was stopped goes on from there.

    A case is a seed, or a list that ends with one. What the file holds belongs to the options it was
    made with; with others it is set aside as ``NAME.json.old`` (``.old2``, ...) once there is a result,
    which is said.

    Args:
        name: Of the file.
        args: The options.
        apart: Those that choose among cases, besides ``--seed`` and ``--seeds``.
    """

    def __init__(self, name: str, args: argparse.Namespace, apart: Iterable[str] = ()) -> None:
        self.file = out_dir(args) / f"{name}.json"
        skip = {*_APART, *apart}
        self.settings = {k: str(v) for k, v in sorted(vars(args).items()) if k not in skip}
        self._found: dict[str, Any] = {}
        self._aside = False
        if not self.file.exists():
            return
        kept = parsed(self.file.read_text("utf-8", "replace"), str(self.file))
        if others := differing(kept.get("settings"), self.settings):
            self._aside = True
            old = self._old.name
            print(
                f"note: {self.file} is of other options ({others}); it will be set aside as {old}"
            )
        else:
            self._found = kept["found"]
            print(f"in {self.file} already: {len(self._found)}")

    def missing(self, cases: Iterable[Any]) -> Iterator[Any]:
        """The cases that are not there yet, with a bar."""
        todo = [c for c in cases if json.dumps(c) not in self._found]
        for case in (bar := tqdm(todo, disable=not todo)):
            bar.set_postfix_str(str(case))
            yield case

    def keep(self, case: Any, found: Any, picture: Any = None) -> None:
        """Writes ``found``, fit for JSON; ``picture``, of tensors, lists and dicts, to a file of its own."""
        if picture is not None:
            torch.save(picture, self._picture(case))
        self._found[json.dumps(case)] = found
        if self._aside:
            self.file.replace(self._old)
            self._aside = False
        write(self.file, {"settings": self.settings, "found": self._found})

    def of(self, cases: Iterable[Any]) -> list[Any]:
        """What was found, in the order of the cases; lists one after the other."""
        found = [self._found[json.dumps(case)] for case in cases]
        return [r for f in found for r in (f if isinstance(f, list) else [f])]

    def picture(self, case: Any) -> Any:
        """What :meth:`keep` was given to draw.

        Raises:
            ValueError: The file is gone, or damaged.
        """
        path = self._picture(case)
        try:
            return torch.load(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is gone or damaged: move {self.file} away, too, and it is made anew."
            ) from error

    @property
    def _old(self) -> Path:
        return set_aside(self.file)

    def _picture(self, case: Any) -> Any:
        return self.file.with_name(f"{self.file.stem}_{case}.pt")


def seeds_of(args: argparse.Namespace) -> range:
    """``--seeds`` seeds from ``--seed`` on."""
    return range(args.seed, args.seed + args.seeds)
