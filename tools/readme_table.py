"""README's table of measurements, written from what the benchmarks measured.

    make bench                                        # each benchmark leaves a measured.json
    python tools/readme_table.py outputs/bench/*/measured.json   # takes them over, rewrites README

Without arguments the table is only written again from ``docs/benchmarks/measured.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "docs" / "benchmarks" / "measured.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured: written by tools/readme_table.py -->\n", "<!-- end of measured -->\n"

OPERATIONS = "segment-operations"
#: What a row says, the measurement it shows, and the page that tells how it was made.
ROWS = [
    (
        "softmax pool with learned temperature, 800,000 x 64, forward and backward \\*",
        "rivals pool softmax",
        "rivals",
    ),
    ("attention per channel, likewise \\*", "rivals pool attention", "rivals"),
    (
        "one norm with learned p and q (`segment_power`), likewise \\*",
        "rivals pool power",
        "rivals",
    ),
    ("maximum, likewise \\*", "rivals pool max", "rivals"),
    ("sum, likewise \\*", "rivals pool sum", "rivals"),
    (
        "extra memory of the softmax pool, likewise, two threads",
        "segment_ops memory softmax",
        OPERATIONS,
    ),
    (
        "an epoch of a 3-layer GIN with softmax pools, 800,000 edges",
        "gin_epoch",
        OPERATIONS,
    ),
    (
        "farthest points, a lidar sweep (120,268 to 4,096) \\*",
        "rivals FPS lidar sweep 120,268 to 4,096",
        "rivals",
    ),
    ("16 nearest neighbours, 100,000 points \\*", "rivals k-NN 100,000, k = 16", "rivals"),
    (
        "Point-NN, 8 clouds of 1,024 points",
        "neighbors Point-NN, 8 x 1,024 points",
        "neighbors",
    ),
    (
        "primal-dual graph of the Stanford bunny, 69,451 faces",
        "mesh primal_dual Stanford bunny A",
        "mesh",
    ),
    (
        "one-label copies of 128 molecules, 3 hops",
        "relational one label, 3 hops",
        "relational",
    ),
]


def shown(value: float, unit: str) -> str:
    if unit == "ms" and value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:,.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"


def row(label: str, found: dict[str, Any], page: str) -> str:
    ratio = found["instead"] / found["graphpool"]
    cells = [
        label,
        shown(found["graphpool"], found["unit"]),
        f"{found['rival']} {shown(found['instead'], found['unit'])}",
        f"{ratio:.1f}x" if ratio < 30 else f"{ratio:.0f}x",
        f"[{page}](docs/benchmarks/{page}.md)",
    ]
    return "| " + " | ".join(cells) + " |"


def render(data: dict[str, Any]) -> str:
    """The table in Markdown."""
    head = ["| | graphpool | instead | ratio | page |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(row(label, data[key], page) for label, key, page in ROWS)]) + "\n"


def replaced(text: str, table: str) -> str:
    """``text`` with what stands between the marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{README.name} must hold the lines {BEGIN!r} and {END!r}.")
    return before + BEGIN + table + END + after


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measured", nargs="*", type=Path, help="measured.json of benchmarks")
    args = parser.parse_args()
    data = json.loads(DATA.read_text())
    for file in args.measured:
        data.update(json.loads(file.read_text()))
    DATA.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    README.write_text(replaced(README.read_text(), render(data)))


if __name__ == "__main__":
    main()
