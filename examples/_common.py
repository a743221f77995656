"""What every example shares."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _scripts import ScriptParser

from graphpool import aggr
from graphpool.files.report import format_table
from graphpool.files.runs import seed_everything

__all__ = [
    "check_classes", "check_pools", "format_table", "make_parser", "make_pool", "mean_and_spread", "out_dir",
    "recall_per_class", "seed_everything", "width_of",
]  # fmt: skip

# Where a pool has no default. The rest have their own.
_SETTINGS: dict[str, dict[str, object]] = {
    "compact_bilinear": {"out_channels": 64},
    "ggem": {"groups": 4},
    "otke": {"num_references": 4},
    "multi": {"members": ["sum", "mean", "max"]},
}


def make_pool(name: str, channels: int) -> aggr.Aggregation:
    """A pool from its name; ``+`` joins several."""
    if "+" in name:
        return aggr.resolve(name.split("+"), channels=channels)
    return aggr.resolve(name, channels=channels, **_SETTINGS.get(name, {}))


def check_pools(
    parser: ScriptParser,
    option: str,
    names: Sequence[str],
    channels: int,
    make: Callable[[str, int], torch.nn.Module] = make_pool,
) -> None:
    """Refuses a pool that cannot be made, before hours are spent on those in front of it."""
    for name in names:
        try:
            make(name, channels)
        except (ValueError, TypeError) as error:
            parser.error(f"{option} {name!r}: {error}")


def width_of(pool: aggr.Aggregation, channels: int) -> int:
    """How many channels come out."""
    return pool.out_channels or pool(torch.zeros(2, channels)).size(1)


def make_parser(description: str | None) -> ScriptParser:
    """A parser that prints the text of a script as it stands, with ``--seed --device --out --quick``."""
    parser = ScriptParser(description)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few seconds, to see that it runs: smaller and fewer than what is asked for",
    )
    return parser


def mean_and_spread(values: torch.Tensor, scale: float = 1.0, digits: int = 3) -> str:
    """Mean of values ``[n]`` of several seeds, and their standard deviation if there are several."""
    spread = f" +- {scale * float(values.std()):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * float(values.mean()):.{digits}f}{spread}"


def recall_per_class(guesses: torch.Tensor, labels: torch.Tensor, num_classes: int) -> list[str]:
    """Per class the share in percent of its elements that were found, and how many there are."""
    counts = torch.bincount(labels, minlength=num_classes)
    found = torch.bincount(labels[guesses == labels], minlength=num_classes)
    return [
        f"{100 * int(hit) / int(n):.1f} of {int(n)}" if n else "absent"
        for hit, n in zip(found, counts, strict=True)
    ]


def out_dir(args: argparse.Namespace) -> Path:
    """The folder ``--out``, made if it is missing."""
    args.out.mkdir(parents=True, exist_ok=True)
    return args.out


def check_classes(train: torch.Tensor, test: torch.Tensor, classes: Sequence[str]) -> None:
    """Says which classes one of two splits lacks; labels are positions in ``classes``."""
    for labels, name in ((train, "training"), (test, "test")):
        count = labels[labels >= 0].bincount(minlength=len(classes))
        absent = [name for name, number in zip(classes, count.tolist(), strict=True) if not number]
        if absent:
            print(f"note: the {name} set has nothing of class {', '.join(absent)}")
