"""QM9 without a network: what the readout alone decides.

A molecule is a bag of atoms, an atom is its element (H, C, N, O, F). A pool makes one vector of the bag, and
least squares makes a property of the vector: nothing else is learned. Mean absolute errors on molecules that
were drawn at random, and on large ones (20 atoms and more) after training on small ones (17 at most).
Energies are in meV, U0 is that of the whole molecule. Any network has to beat the best line.

    python examples/molecules.py
    python examples/molecules.py --pools sum mean sum,mean,std --targets homo u0 mu
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import matplotlib
import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _scripts import run as run_script
from torch import Tensor

from graphpool import Segments, aggr
from graphpool.datasets import QM9
from graphpool.io.molecules import SYMBOLS
from graphpool.plot.colors import HUES

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

POOLS = ["sum", "mean", "sum,mean", "max", "std"]
TARGETS = ["mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "cv"]
IN_MEV = {"homo", "lumo", "gap", "zpve", "u0", "u", "h", "g", "u0_atom"}
SMALL, LARGE = 17, 20


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--pools", nargs="+", default=POOLS, help="names; with commas, side by side"
    )
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--root", help="folder of qm9_part1.csv, ...; the package, if absent")
    parser.add_argument("--train-size", type=int, default=110_000, help="molecules to fit")
    parser.add_argument("--test-size", type=int, default=10_831)
    args = parser.parse_args()
    if args.quick:
        args.train_size, args.test_size = 8_000, 2_000
    return args


def pooled(data: QM9, pools: list[str]) -> tuple[dict[str, Tensor], Tensor]:
    """The vectors of all molecules by each pool, and their numbers of atoms."""
    elements = torch.tensor(sorted(SYMBOLS.values()))
    atoms = (data._data.z[:, None] == elements).double()
    bags = Segments(ptr=data.slices["z"])
    found = {}
    for name in pools:
        parts = name.split(",")
        found[name] = torch.cat([aggr.resolve(part)(atoms, bags) for part in parts], 1)
    return found, bags.counts


def read(targets: Sequence[str], root: str | None, limit: int | None) -> QM9:
    """The data; ends the script where the package that holds it is not installed."""
    try:
        return QM9(targets, root, limit)
    except ModuleNotFoundError as error:
        print(error)
        sys.exit(77)


def linear(x: Tensor, y: Tensor, train: Tensor) -> Tensor:
    """What a linear map with an offset, fitted to ``train``, makes of all rows."""
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
    # Counts of atoms add up to the offset of fractions: solved by what also serves without full rank.
    return x @ torch.linalg.lstsq(x[train], y[train], driver="gelsd").solution


def errors(x: Tensor, y: Tensor, train: Tensor, test: Tensor) -> Tensor:
    """Mean absolute errors of a linear map with an offset, of each target."""
    return (linear(x, y, train) - y)[test].abs().mean(0)


def draw(table: dict[str, list[float]], targets: list[str], path: str) -> None:
    """Each pool against the first, target by target."""
    first, *others = table
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    width = 0.8 / max(len(others), 1)
    for i, name in enumerate(others):
        ratio = [a / b for a, b in zip(table[name], table[first], strict=True)]
        at = [k + (i - (len(others) - 1) / 2) * width for k in range(len(targets))]
        axes.bar(at, ratio, width, label=name, color=HUES[i % len(HUES)])
    axes.axhline(1, color="k", linewidth=0.8)
    axes.set(yscale="log", ylabel=f"error, in that of {first}")
    axes.set_xticks(range(len(targets)), targets)
    axes.legend(fontsize=8, ncols=3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    args = parse()
    folder = out_dir(args)
    seed_everything(args.seed)
    started = time.perf_counter()
    data = read(args.targets, args.root, args.train_size + args.test_size if args.quick else None)
    print(f"{len(data):,} molecules read in {time.perf_counter() - started:.0f} s")
    scale = torch.tensor([1e3 if name in IN_MEV else 1.0 for name in args.targets])
    y = data._data.y * scale
    rows, sizes = pooled(data, args.pools)
    rows = {"(the mean)": y.new_zeros(len(y), 1), **rows}
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(args.seed))
    train, test = order[: args.train_size], order[args.train_size :][: args.test_size]
    if not len(test):
        raise ValueError(
            f"`train_size` must leave molecules to judge; got {args.train_size} of {len(data)}."
        )
    splits = {
        "drawn at random": (train, test),
        f"at least {LARGE} atoms, fitted to at most {SMALL}": (
            train[sizes[train] <= SMALL],
            test[sizes[test] >= LARGE],
        ),
    }
    found: dict[str, dict[str, list[float]]] = {}
    for title, (fit, judge) in splits.items():
        if not len(fit) or not len(judge):
            print(f"\nnote: {title} is left out: {len(fit)} to fit, {len(judge)} to judge")
            continue
        found[title] = {
            name: errors(x.to(args.device), y.to(args.device), fit, judge).tolist()
            for name, x in rows.items()
        }
        print(f"\n{title}: {len(fit):,} to fit, {len(judge):,} to judge")
        lines = [[name, *(f"{v:,.4g}" for v in line)] for name, line in found[title].items()]
        print(format_table(lines, ["pool of elements", *args.targets]))
    (folder / "molecules.json").write_text(json.dumps(found, indent=1))
    shown = {name: line for name, line in found["drawn at random"].items() if name in args.pools}
    draw(shown, args.targets, str(folder / "molecules.png"))
    print(folder / "molecules.png")


if __name__ == "__main__":
    run_script(main)
