"""Which functions of a set each readout can express, and which it still gets right on larger sets.

Small networks (a perceptron of each element, a readout, a linear map) learn simple functions of sets of
numbers in [1, 3]. They are trained on sets of 4 to 16 numbers, drawn afresh for each step, and tested on
other sets of these sizes and on sets of 32 to 128.

    python examples/readout_functions.py
    python examples/readout_functions.py --readouts sum gnp attsets --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import torch
from _common import format_table, make_parser, make_pool, out_dir, seed_everything, width_of
from _kept import Kept, seeds_of
from _scripts import run as run_script
from torch import Tensor, nn

from graphpool import Segments, ops
from graphpool.plot.colors import HUES

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import LogNorm  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

READOUTS = ("sum", "mean", "max", "attsets", "gnp")
TRAINED, SIZES = (4, 16), (4, 8, 16, 32, 64, 128)
CURVES = ("size", "mean", "maximum", "Euclidean norm")
FUNCTIONS: dict[str, Callable[[Tensor, Segments], Tensor]] = {
    "size": lambda x, s: s.counts[:, None].to(x.dtype),
    "sum": ops.segment_sum,
    "mean": ops.segment_mean,
    "maximum": ops.segment_max,
    "minimum": ops.segment_min,
    "range": lambda x, s: ops.segment_max(x, s) - ops.segment_min(x, s),
    "deviation": ops.segment_std,
    "median": ops.segment_median,
    "Euclidean norm": lambda x, s: ops.segment_sum(x * x, s).sqrt(),
}


def sets(count: int, sizes: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Segments]:
    """Numbers ``[E, 1]`` of ``count`` sets, whose sizes lie between the two given ones."""
    counts = torch.randint(sizes[0], sizes[1] + 1, (count,), generator=generator)
    x = 1 + 2 * torch.rand(int(counts.sum()), 1, generator=generator)
    return x, Segments.from_counts(counts)


def part(
    drawn: tuple[Tensor, Segments], first: int, last: int, device: str
) -> tuple[Tensor, Segments]:
    """The sets from ``first`` up to ``last``."""
    x, segments = drawn
    ptr = segments.ptr[first : last + 1]
    return x[ptr[0] : ptr[-1]].to(device), Segments(ptr=ptr - ptr[0]).to(device)


class Network(nn.Module):
    """Perceptron, readout, linear map."""

    def __init__(self, readout: str, width: int) -> None:
        super().__init__()
        self.elements = nn.Sequential(
            nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.pool = make_pool(readout, width)
        self.head = nn.Linear(width_of(self.pool, width), 1)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        return self.head(self.pool(self.elements(x), segments))


def errors(readout: str, function: str, seed: int, args: argparse.Namespace) -> list[float]:
    """Mean absolute percentage errors on sets of each of :data:`SIZES`."""
    seed_everything(seed)
    generator = torch.Generator().manual_seed(seed)
    label = FUNCTIONS[function]
    drawn = sets(args.batch * args.steps, TRAINED, generator)
    tests = [sets(256, (size, size), generator) for size in SIZES]
    network = Network(readout, args.width).to(args.device)
    optimizer = torch.optim.Adam(network.parameters(), args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    whole = label(*drawn)
    mean, scale = whole.mean().item(), whole.std().item()
    for first in range(0, len(whole), args.batch):
        x, segments = part(drawn, first, first + args.batch, args.device)
        target = (whole[first : first + args.batch].to(args.device) - mean) / scale
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x, segments), target).backward()
        optimizer.step()
        scheduler.step()
    found = []
    with torch.no_grad():
        for x, segments in tests:
            problem = x.to(args.device), segments.to(args.device)
            true = label(*problem)
            found.append(
                100 * float(((network(*problem) * scale + mean - true) / true).abs().mean())
            )
    return found


def near_and_far(values: Sequence[float]) -> tuple[float, float]:
    """Mean error on sets of the sizes of training, and on larger ones."""
    near = [v for v, size in zip(values, SIZES, strict=True) if size <= TRAINED[1]]
    far = [v for v, size in zip(values, SIZES, strict=True) if size > TRAINED[1]]
    return sum(near) / len(near), sum(far) / len(far)


def draw_map(found: dict[str, list[list[float]]], path: Path) -> None:
    """Errors on larger sets in colour; those on sets of the sizes of training behind the slash."""
    cells = [[near_and_far(values) for values in row] for row in found.values()]
    figure, axes = plt.subplots(figsize=(1.15 * len(FUNCTIONS) + 2, 0.42 * len(cells) + 1.6))
    larger = [[far for _, far in row] for row in cells]
    axes.imshow(larger, cmap="cividis_r", norm=LogNorm(0.5, 100), aspect="auto")
    for i, row in enumerate(cells):
        for j, (near, far) in enumerate(row):
            style = {"color": "white" if far > 12 else "black", "fontsize": 8}
            axes.text(j, i, f"{far:.1f} / {near:.1f}", ha="center", va="center", **style)
    axes.set_xticks(range(len(FUNCTIONS)), list(FUNCTIONS), fontsize=9)
    axes.set_yticks(range(len(found)), list(found), fontsize=9)
    axes.set_title("error in %, on larger sets / on sets as in training", fontsize=10)
    save(figure, path)


def draw_curves(found: dict[str, list[list[float]]], path: Path) -> None:
    """The error of every readout by the size of the set, for some of the functions."""
    if len(found) > len(HUES):  # more lines than anyone can tell apart
        found = {name: row for name, row in found.items() if name in READOUTS}
    figure, panels = plt.subplots(1, len(CURVES), figsize=(3.1 * len(CURVES), 3.4), sharey=True)
    for axes, function in zip(panels, CURVES, strict=True):
        axes.axvspan(*TRAINED, color="#eeeeee", lw=0)
        for i, (name, row) in enumerate(found.items()):
            values = [max(v, 0.01) for v in row[list(FUNCTIONS).index(function)]]
            axes.loglog(SIZES, values, "o-", ms=3.5, label=name, color=HUES[i])
        axes.set_title(function, fontsize=10)
        axes.set_xticks(SIZES, [str(size) for size in SIZES])
        axes.minorticks_off()
        axes.set_xlabel("numbers in the set")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error in %")
    panels[0].annotate(
        "training", (TRAINED[0], 0.02), (2, 0), textcoords="offset points", fontsize=8
    )
    panels[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"picture: {path}")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--readouts", nargs="+", default=READOUTS, help="names; + joins several")
    parser.add_argument("--seeds", type=int, default=1, help="runs, from --seed upwards")
    parser.add_argument("--batch", type=int, default=64, help="sets of each step")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-2)
    args = parser.parse_args()
    if args.quick:
        args.readouts, args.steps = args.readouts[:2], 5
    seeds = seeds_of(args)
    cases = [[name, f, seed] for name in args.readouts for f in FUNCTIONS for seed in seeds]
    kept = Kept("readout_functions", args, apart=["readouts"])
    for name, function, seed in kept.missing(cases):
        kept.keep([name, function, seed], [errors(name, function, seed, args)])

    def of(name: str, function: str) -> list[float]:
        """Medians over seeds, by the size of the set."""
        runs = kept.of([name, function, seed] for seed in seeds)
        return [statistics.median(values) for values in zip(*runs, strict=True)]

    found = {name: [of(name, function) for function in FUNCTIONS] for name in args.readouts}
    folder = out_dir(args)
    cells = []
    for name, row in found.items():
        pairs = (near_and_far(values) for values in row)
        cells.append([f"`{name}`", *(f"{far:.1f} / {near:.1f}" for near, far in pairs)])
    text = format_table(cells, ["readout", *FUNCTIONS])
    print(
        f"error in %, on larger sets / on sets as in training (median of {args.seeds})\n\n{text}\n"
    )
    (folder / "readout_functions.md").write_text(text + "\n")
    draw_map(found, folder / "readout_functions.png")
    draw_curves(found, folder / "readout_functions_curves.png")


if __name__ == "__main__":
    run_script(main)
