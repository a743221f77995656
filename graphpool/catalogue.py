"""The catalogue of pools: what each can do, read off the classes themselves.

``python -m graphpool.catalogue`` prints it.
"""

from __future__ import annotations

import argparse
import inspect
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from graphpool import aggr
from graphpool.evaluate.lipschitz import DISTANCES, lipschitz

_CHANNELS = 8
_INTRODUCTION = """
Every pool is made by its name, by its class, or as a module, and works in every place:

```python
from graphpool import aggr
from graphpool.coarsen import contract
from graphpool.conv import SAGEConv
from graphpool.models import GraphModel

aggr.resolve("gnp", channels=64)                      # a module, to call or to hand to a layer
SAGEConv(64, 64, aggr="pma")                          # neighbours
GraphModel(7, 64, 2, aggr="max", readout="attsets")   # a readout
aggr.Multi(64, members=["sum", "max", "bilinear"])    # several, side by side
aggr.resolve("max+mean", channels=64)                 # several, added
contract(x, edge_index, cluster, pool="max")          # clusters of nodes, see the guide to hierarchies
```

`python -m graphpool.catalogue` prints all of it.

## Every pool in a line
"""
_GUIDE = """
## How to choose

| what the answer depends on | pools |
|---|---|
| how many elements there are | those that see multiplicity: `sum`, `gnp`, `deepsets`, `multi` with `sum` |
| the largest or smallest element | `max`, `min`, `lse`, `softmax`, `kmax`, a power mean of large exponent |
| the middle, whatever a minority says | `median`, `trimmed_mean`, `soft_median`, `geometric_median` |
| the whole distribution | `fsw`; cheaper `moments`, several `quantile`s; by size as well `pna` |
| which elements matter, learned | `attsets` (per feature), `pma` (per head), `delf`, `set2set` |
| a few instances that decide | `gated_attention`, `dsmil`, `conjunctive`, `midam_attention` |
| how much each element knows | `fishnets` |
| how channels go together | `bilinear`, `isqrt_cov`; cheaper `lowrank_bilinear`, `mfb`, `compact_bilinear` |
| how elements go together | `isab`, `ponet`, `poolformer`: they look at one another before they are pooled |
| several things in one bag | `slots`, `slot_mixture`, `otke`, `pma` with several seeds |
| where the elements lie | `pyramid`; `dsvt`, `ponet` and `poolformer` with `pos_dim` |
| a part in the light of the whole | `inset` |
| what all layers say | `layer_attention` |

Bags too large to be seen at once are pooled exactly in pieces (guide to streams), or from samples by
`midam_lse` and `midam_attention`, which keep an estimate for every training bag. `dynamic_kmax` and
`ward` make smaller bags of bags: their result is ragged, `(values, Segments)`.

`isab` is the recipe of the Set Transformer under one name: its layers between the elements, then `pma`.

## Positions

Pools that look at positions take them as the leading columns of `x`: concatenate positions and features,
and say with `pos_dim` how many columns are positions. What comes out has no position.

## Further arguments

Some pools take more in a call, passed on by name: `mask` (`inset`), `window_index` (`dsvt`), `segment_index`
(`midam_lse`, `midam_attention`).

"""


_ABILITIES = """
## What each can do

*Learned*: it has parameters. *Order-free*: the order of the elements does not matter. *Counts*: a bag with
every element doubled gives another result. *Positions*: elements must come with coordinates. *Pieces*: bags
can be pooled in pieces (guide to streams); the others say, when they refuse, what they need all of it for.
*Width*: channels out of 8 in, with the arguments in brackets where they are not the default. *Time*: in the
numbers of elements `E`, bags `S` and channels `C`.
*Constants*: the distances of bags of any sizes for which the result is Lipschitz, and how much it can move
(`graphpool.evaluate.lipschitz`); empty where nobody has said. Only `fsw` tells all bags apart, up to
a size that its width decides ([what a pool forgets](what-a-pool-forgets.md)).
"""
# Families are the folders of the code.
_FAMILIES = {
    "statistics": "Statistics",
    "norms": "Norms, and between mean and maximum",
    "robust": "Robust: a minority cannot carry the result off",
    "attentive": "Attention: which elements matter",
    "second_order": "How channels go together",
    "transport": "Transport: the bag as a measure",
    "networks": "Networks for bags",
    "multi": "Several at once",
}


class Entry(NamedTuple):
    """One line of the catalogue."""

    name: str
    cls: str
    summary: str
    learnable: bool
    invariant: bool
    multiplicity_aware: bool
    needs_positions: bool
    mergeable: bool
    width: str
    complexity: str
    lipschitz: str


def entries() -> list[Entry]:
    """The catalogue, one entry for each registered name, in alphabetical order.

    Example:
        >>> {entry.name: entry.width for entry in entries()}["kmax"]
        '16 (k=2)'
    """
    return [_entry(name) for name in aggr.names()]


def _entry(name: str) -> Entry:
    cls = aggr.lookup(name)
    return Entry(
        name=name,
        cls=cls.__name__,
        summary=summary(cls),
        learnable=bool(cls.learnable),
        invariant=cls.invariant,
        multiplicity_aware=cls.multiplicity_aware,
        needs_positions=cls.needs_positions,
        mergeable=cls.mergeable,
        width=_width(name),
        complexity=cls.complexity,
        lipschitz=_constants(name),
    )


def summary(described: object) -> str:
    """The first sentence of a docstring, without its markup and formula."""
    text = (
        (inspect.getdoc(described) or "").split("\n\n", 1)[0].replace("\n", " ").replace("``", "`")
    )
    for role in (":class:", ":func:", ":meth:"):
        text = text.replace(role, "")
    text, formula, _ = text.split(". ")[0].partition(":math:")
    text = text.rstrip(" .,:")
    if formula and text.endswith((" of", " into", " by")):
        # The clause that the formula completes says nothing without it.
        text = text.rpartition(":")[0] or text
    return text.replace("`~graphpool.ops.", "`").replace("`graphpool.ops.", "`")


def _width(name: str) -> str:
    cls = aggr.lookup(name)
    if cls.ragged:
        return "ragged"
    arguments = cls.example_arguments
    width = getattr(aggr.resolve(name, channels=_CHANNELS, **arguments), "out_channels", None)
    number = str(_CHANNELS if width is None else width)
    if number == str(_CHANNELS) or not arguments:
        return number
    return f"{number} ({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def _constants(name: str) -> str:
    pool = aggr.resolve(name, channels=_CHANNELS, **aggr.lookup(name).example_arguments)
    try:
        found = {d: lipschitz(pool, d, channels=_CHANNELS) for d in DISTANCES}  # type: ignore[arg-type]
    except ValueError:
        return ""
    return ", ".join(f"{d} {v:.3g}" for d, v in found.items() if math.isfinite(v)) or "none"


_HEADERS = (
    "name", "learned", "order-free", "counts", "positions", "pieces", "width", "time", "constants",
    "what it is",
)  # fmt: skip


def _rows() -> list[tuple[str, ...]]:
    def mark(flag: bool) -> str:
        return "yes" if flag else ""

    return [
        (
            e.name,
            mark(e.learnable),
            mark(e.invariant),
            mark(e.multiplicity_aware),
            mark(e.needs_positions),
            mark(e.mergeable),
            e.width,
            e.complexity,
            e.lipschitz,
            e.summary,
        )
        for e in entries()
    ]


def to_text() -> str:
    """The catalogue as a table for the terminal."""
    rows = [_HEADERS, *_rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADERS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def to_markdown() -> str:
    """The catalogue as a page of the documentation: each pool in a line, then what each can do."""
    held = entries()
    lines = ["# Catalogue", _INTRODUCTION]
    for folder, title in {**_FAMILIES, "": "Others"}.items():
        members = [entry for entry in held if _family(entry) == folder]
        if members:
            lines += [f"### {title}\n", "| name | what it is |", "|---|---|"]
            lines += [f"| `{entry.name}` | {_cell(entry.summary)} |" for entry in members]
            lines.append("")
    lines += [_GUIDE.strip(), _ABILITIES, "| " + " | ".join(_HEADERS[:-1]) + " |"]
    lines.append("|" + "---|" * (len(_HEADERS) - 1))
    for name, *cells, _ in _rows():
        lines.append(f"| `{name}` | " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def _family(entry: Entry) -> str:
    module = aggr.lookup(entry.name).__module__.removeprefix("graphpool.aggr.")
    folder = module.partition(".")[0]
    return folder if folder in _FAMILIES else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the catalogue."""
    parser = argparse.ArgumentParser(
        prog="python -m graphpool.catalogue", description="Prints the catalogue of pools."
    )
    parser.add_argument("--markdown", action="store_true", help="as a page of the documentation")
    arguments = parser.parse_args(argv)
    sys.stdout.write(to_markdown() if arguments.markdown else to_text() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
