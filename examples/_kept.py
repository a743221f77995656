"""What a script has found so far, kept as it goes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from _common import out_dir
from tqdm import tqdm

# What chooses among results, and does not change them.
_APART = {"seed", "seeds", "out", "device", "traceback", "quick"}


class Kept:
    """Results by case, in ``NAME.json`` of ``--out``, so that a script that was stopped goes on from there.

    A case is a seed, or a list that ends with one. What the file holds belongs to the options it was
    made with; with others it is written anew, which is said.

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
        if not self.file.exists():
            return
        kept = json.loads(self.file.read_text("utf-8"))
        if kept.get("settings") == self.settings:
            self._found = kept["found"]
            print(f"in {self.file} already: {len(self._found)}")
        else:
            print(f"note: {self.file} is of other options, and is written anew")

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
        content = {"settings": self.settings, "found": self._found}
        self.file.write_text(json.dumps(content, indent=1), "utf-8")

    def of(self, cases: Iterable[Any]) -> list[Any]:
        """What was found, in the order of the cases; lists one after the other."""
        found = [self._found[json.dumps(case)] for case in cases]
        return [r for f in found for r in (f if isinstance(f, list) else [f])]

    def picture(self, case: Any) -> Any:
        return torch.load(self._picture(case), weights_only=True)

    def _picture(self, case: Any) -> Any:
        return self.file.with_name(f"{self.file.stem}_{case}.pt")


def seeds_of(args: argparse.Namespace) -> range:
    """``--seeds`` seeds from ``--seed`` on."""
    return range(args.seed, args.seed + args.seeds)
