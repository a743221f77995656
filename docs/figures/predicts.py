"""Rank correlation of how well pools see two elements part with the errors of docs/choosing-a-readout.md.

PYTHONPATH=. python docs/figures/predicts.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from forgets import curve
from scipy.stats import spearmanr

from graphpool import aggr

sys.path.append(str(Path(__file__).parents[2] / "examples"))
from _common import format_table, make_pool  # noqa: E402

SEPARATION = torch.tensor([1e-4], dtype=torch.double)
PAGE = Path(__file__).parents[1] / "choosing-a-readout.md"
WIDTH = 16


def errors() -> tuple[list[str], dict[str, list[tuple[float, float]]]]:
    """The functions, and of each readout the errors on larger sets and on those as in training."""
    lines = PAGE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| readout"))
    functions = [cell.strip() for cell in lines[start].split("|")[2:-1]]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip(" `") for cell in line.split("|")[1:-1])
        found[name] = [tuple(float(v) for v in cell.split("/")) for cell in cells]
    return functions, found


@torch.no_grad()
def main() -> None:
    functions, found = errors()
    profile = []
    for name in found:
        torch.manual_seed(0)
        pool = aggr.GNP(WIDTH, form="paper") if name == "gnp (paper)" else make_pool(name, WIDTH)
        (seen,) = curve(pool.double().eval(), WIDTH, SEPARATION)
        # What is 0 but for rounding is as much as nothing.
        profile.append(seen if seen > 1e-9 else 0.0)
        print(f"{name}: {profile[-1]:.2g}")
    rows = []
    for j, function in enumerate(functions):
        far, near = zip(*(row[j] for row in found.values()), strict=True)
        columns = [spearmanr(profile, e) for e in (near, far)]
        rows.append([function, *(f"{c.statistic:+.2f} (p = {c.pvalue:.2f})" for c in columns)])
    header = ["function", "on sets as in training", "on larger sets"]
    table = format_table(rows, header)
    print(f"\nSpearman's correlation over {len(found)} readouts\n\n{table}")


if __name__ == "__main__":
    main()
