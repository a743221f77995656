"""Pictures of ``swap_readouts.py``: errors of all choices, and the exponents that GNP learns."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

PALETTE = ("#009E73", "#CC79A7", "#0072B2", "#E69F00")


def draw(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Errors of all choices, and where in the (p, q) plane each GNP has gone; equal errors are one bar."""
    groups = _equals(rows)
    names = [[" / ".join(row["pair"]) for row in group] for group in groups]
    rows = [group[0] for group in groups]
    blue, orange, grey = "#0072B2", "#D55E00", "#666666"
    learned = [r for row in rows for r in row["runs"] if r["learned"]]
    # A bar that stands for several pairs is as high as the lines that name them.
    lines = [
        textwrap.wrap(", ".join(own).replace(" / ", "/"), 46) if len(own) > 1 else []
        for own in names
    ]
    heights = [max(0.6, 0.36 * len(own)) for own in lines]
    ends_of_rows = list(itertools.accumulate(height + 0.4 for height in heights))
    y = [height / 2 - end for height, end in zip(heights, ends_of_rows, strict=True)]
    height = max(3.4, 0.42 * ends_of_rows[-1] + 1.6)
    figure, axes = plt.subplots(
        1, 2 if learned else 1, figsize=(11.5 if learned else 6.5, height), squeeze=False
    )
    left = axes[0, 0]
    out = [row["out_of_range"] for row in rows]
    colours = [orange if "gnp" in "".join(row["pair"]) else grey for row in rows]
    spread = [row["out_of_range_std"] for row in rows]
    left.barh(
        y,
        out,
        color=colours,
        height=heights,
        xerr=spread,
        label="larger graphs (neighbours / readout)",
    )
    inside = [row["in_range"] for row in rows]
    left.plot(inside, y, "D", color=blue, mec="white", label="graphs as in training")
    left.set_xscale("log")
    left.set_yticks(y, [own[0] if len(own) == 1 else f"{len(own)} pairs" for own in names])
    left.set_xlabel("mean absolute percentage error, % (log scale)")
    ends = [max(a + b, c) for a, b, c in zip(out, spread, inside, strict=True)]
    for position, value, end in zip(y, out, ends, strict=True):
        left.annotate(
            f"{value:.1f}", (end, position), (8, 0), textcoords="offset points", va="center"
        )
    left.set_xlim(min(inside + out) / 2, max(ends) * 2.8)
    for position, own in zip(y, lines, strict=True):
        left.text(0.02, position, "\n".join(own), transform=left.get_yaxis_transform(), va="center",
                  color="white", fontsize=7)  # fmt: skip
    left.xaxis.set_major_formatter(ScalarFormatter())
    left.xaxis.set_minor_formatter(NullFormatter())
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)
    left.spines[["top", "right"]].set_visible(False)
    if learned:
        _draw_exponents(axes[0, 1], learned)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _equals(rows: Sequence[dict[str, Any]], closer: float = 0.03) -> list[list[dict[str, Any]]]:
    """Rows one after the other whose errors, on sizes of training and beyond, are the same up to 3 %."""
    groups: list[list[dict[str, Any]]] = []
    for row in rows:
        first = groups[-1][0] if groups else None
        if first and all(
            abs(row[key] - first[key]) <= closer * first[key]
            for key in ("in_range", "out_of_range")
        ):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _draw_exponents(axes: Any, runs: list[dict[str, Any]]) -> None:
    """Learned p and growth 1/p - q of each site; a line leads from where it started."""
    markers = dict(zip(runs[0]["learned"], "osD^v", strict=False))
    colours = dict(zip(runs[0]["learned"], PALETTE, strict=False))
    for r in runs:
        for site, found in r["learned"].items():
            begin = r["start"][site]
            for p0, q0, p, q in zip(begin["p"], begin["q"], found["p"], found["q"], strict=True):
                axes.plot([p0, p], [1 / p0 - q0, 1 / p - q], color="#bbbbbb", lw=1, zorder=1)
                style = {"marker": markers[site], "color": colours[site]}
                axes.plot(p, 1 / p - q, ls="", label=site, zorder=2, **style)
    axes.set_xscale("symlog", linthresh=1.0)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 30.0))
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, -0.3), max(top, 1.15))
    for name, p, growth in (("sum", 1, 1), ("mean", 1, 0), ("L2 norm", 2, 0.5)):
        axes.plot(p, growth, "+", color="black")
        style = {"textcoords": "offset points", "ha": "right", "fontsize": 9}
        axes.annotate(name, (p, growth), (-4, 4), **style)
    axes.axhline(0, color="#dddddd", lw=0.8, zorder=0)
    # Below the axis, where no marker can lie beneath them.
    axes.set_xlabel(f"{'← min' if low < 0 else '':<20}p (which elements count){'max →':>20}")
    axes.set_ylabel("1/p - q (growth with the size)")
    axes.set_title("what GNP has learned at each site; lines from the start", fontsize=10, pad=24)
    once = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(once.values(), once.keys(), frameon=False, fontsize=9, ncols=len(once),
                loc="lower center", bbox_to_anchor=(0.5, 1.0))  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)


def draw_training(runs: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """p and growth 1/p - q of each site after every epoch; every run and norm of GNP has a line."""
    learned = [r for r in runs if r.get("path")]
    colours = dict(zip(learned[0]["path"][0], PALETTE, strict=False))
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.5, 6.2), sharex=True)
    for r in learned:
        for site, colour in colours.items():
            for half in range(len(r["path"][0][site]["p"])):
                p = [found[site]["p"][half] for found in r["path"]]
                growth = [
                    1 / a - found[site]["q"][half] for a, found in zip(p, r["path"], strict=True)
                ]
                style = {"color": colour, "ls": "-" if p[0] > 0 else "--", "lw": 1.4, "alpha": 0.85}
                top.plot(p, **style)
                bottom.plot(growth, **style)
    top.set_yscale("symlog", linthresh=1.0)
    top.yaxis.set_major_formatter(ScalarFormatter())
    top.set_ylabel("p (which elements count)")
    bottom.set_ylabel("1/p - q (growth with the size)")
    bottom.set_xlabel("epochs")
    for growth, name in ((1, "as a sum"), (0, "as a mean\nor a maximum")):
        bottom.axhline(growth, color="#bbbbbb", lw=0.8, zorder=0)
        # Beside the axes, where no line can lie beneath it.
        style = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        bottom.annotate(name, (1, growth), (5, 0), ("axes fraction", "data"), **style)
    halves = [Line2D([], [], color="#555555", ls=ls) for ls in ("-", "--")]
    sites = [Line2D([], [], color=colour) for colour in colours.values()]
    labels = [*colours, "norm with p > 0", "norm with p < 0"]
    top.legend([*sites, *halves], labels, frameon=False, fontsize=9, ncols=len(labels), loc="lower center",
               bbox_to_anchor=(0.5, 1.0))  # fmt: skip
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
