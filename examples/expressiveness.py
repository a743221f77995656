"""What a GIN can tell apart: alone, with relational pooling, and with labelled nodes.

Prints which pairs of CSL, CFI, EXP, CEXP and SR25 models with random weights separate, how many pairs
of all graphs with 8 nodes they do not, each with several inner and outer pools, and how accurate trained
models are on CSL (5-fold), EXP (10-fold) and SR25 (15-way, tested on relabelled copies that were not
trained on). EXP, CEXP and SR25 need their files (--data); the other sets are generated.

    python examples/expressiveness.py            # a part of everything
    python examples/expressiveness.py --full     # all pairs, all folds, all models
    python examples/expressiveness.py --full --tables pairs --brec BREC/raw --only "GIN + one label"
    python examples/expressiveness.py --full --tables brec --brec BREC/raw   # trained, goes on if stopped
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _expressive import (
    ALL_ORDERS,
    HALVES,
    MODELS,
    POOLS,
    RANDOM,
    TWO_LABELS,
    WIDTH,
    Model,
    Orders,
    PairSet,
    brec_sets,
    chosen_sets,
    default_data,
    named,
    pair_sets,
    pools_at_once,
    wanted,
)
from _expressive_brec import EPOCHS, brec_table
from _expressive_training import trained_table
from _scripts import run as run_script
from torch import nn
from tqdm import tqdm

from graphpool.datasets import connected_graphs
from graphpool.evaluate import (
    separate_pairs_by_part,
    separate_pairs_by_sampling,
    undistinguished_pairs_by_part,
)

# The last only where it is asked for: it needs --brec.
TABLES = ("pairs", "small", "trained", "brec")

# A row of the table of pairs: model, inner pool, outer pool, one cell for each set.
Row = list[str]


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of the files")
    parser.add_argument(
        "--full", action="store_true", help="everything; an hour or two on one core"
    )
    parser.add_argument("--tables", nargs="+", default=list(TABLES[:-1]), choices=TABLES)
    parser.add_argument(
        "--brec",
        type=Path,
        help="folder of BREC: its 400 pairs in the table of pairs, or trained on in that of its name",
    )
    parser.add_argument(
        "--pools",
        nargs="+",
        default=["sum/sum"],
        choices=["/".join(pools) for pools in POOLS],
        help="inner and outer pools of the table of BREC",
    )
    parser.add_argument("--limit", type=int, help="pairs of a kind in the table of BREC, at most")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the table of BREC, at most")
    parser.add_argument("--sets", nargs="+", help="names of the sets of pairs; all where not given")
    parser.add_argument(
        "--train",
        nargs="+",
        default=["csl", "exp", "sr25"],
        choices=["csl", "exp", "sr25"],
        help="which sets to train on",
    )
    parser.add_argument("--untrained", action="store_true", help="BREC with the first weights")
    parser.add_argument("--only", nargs="+", help="names of the models; all where it is not given")
    args = parser.parse_args()
    for name in ("pools", "limit", "epochs", "untrained"):
        if "brec" not in args.tables and getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} is of the table of BREC: --tables brec")
    args.pools = list(dict.fromkeys(args.pools))
    return args


def by_pools(name: str, columns: Sequence[Sequence[str]]) -> list[Row]:
    """One row for each pair of pools, from one list of cells for each set."""
    return [
        [name, inner, outer, *(cells[k] for cells in columns)]
        for k, (inner, outer) in enumerate(POOLS)
    ]


def random_model(model: Model, data: PairSet) -> nn.Module:
    """With random weights, and all pools at once."""
    # Two labels are some 3000 copies of a graph of EXP; a smaller network does.
    small = model is TWO_LABELS and data.name in ("EXP", "CEXP")
    width, layers = (8, 3) if small else (WIDTH, data.layers)
    return model.build(data.features, layers, width=width, **pools_at_once(width), **RANDOM)


def separation_rows(sets: Sequence[PairSet], args: argparse.Namespace) -> list[Row]:
    """Separated pairs of every set by every model and pool: random weights, rounding noise measured."""
    rows = []
    for model in MODELS:
        if not wanted(args, model.name) or (args.quick and model is TWO_LABELS):
            continue
        columns = []
        for data in tqdm(sets, desc=model.name, leave=False):
            found = separate_pairs_by_part(
                partial(random_model, model, data),
                data.graphs,
                data.pairs,
                len(POOLS),
                calibration=24 if len(data.graphs) > 100 or args.quick else None,
                batch_size=2 if model is TWO_LABELS else 32,
                seeds=(args.seed, args.seed + 1),
            )
            columns.append([f"{part.count}/{len(data.pairs)}" for part in found])
            tqdm.write(f"{model.name}, {data.name}: {' '.join(columns[-1])}")
        rows += by_pools(model.name, columns)
    return rows


def looks(args: argparse.Namespace, name: str) -> tuple[int, ...]:
    """Numbers of draws, of 8 orders each, after which random models are judged."""
    if args.quick or not args.full:
        return (64,)
    if name in ("EXP", "CEXP"):
        return (96,)
    return (64, 256, 1024, 4096) if name == "SR25" else (64, 256, 1024)


def sampled_rows(model: Orders, sets: Sequence[PairSet], args: argparse.Namespace) -> list[Row]:
    """Separated pairs by relational pooling over 8 random orders: a paired test of many draws."""
    columns = []
    for data in tqdm(sets, desc=model.name, leave=False):
        found = separate_pairs_by_sampling(
            lambda data=data: model.build(
                data.features, 3 if data.name == "SR25" else 6, 8, **pools_at_once(), **RANDOM
            ),
            data.graphs,
            data.pairs,
            len(POOLS),
            looks=looks(args, data.name),
            controls=4 if args.quick else 16,
            seed=args.seed,
        )
        columns.append(
            [
                f"{part.count}/{len(data.pairs)}" + ("" if part.reliable else " unreliable")
                for part in found
            ]
        )
        tqdm.write(f"{model.name}, {data.name}: {' '.join(columns[-1])}")
    return by_pools(model.name, columns)


def small_graphs_table(args: argparse.Namespace) -> list[Row]:
    """Pairs of all connected graphs of one size that stay undistinguished."""
    nodes = 6 if args.quick else 8
    graphs = connected_graphs(nodes)
    total = len(graphs) * (len(graphs) - 1) // 2
    makes: dict[str, Callable[[], nn.Module]] = {
        model.name: lambda model=model: model.build(1, 6, **pools_at_once(), **RANDOM)
        for model in (MODELS if args.full or args.quick else MODELS[:3])
    }
    if args.full or args.quick:
        # All orders: invariant, and judged like the others.
        makes[ALL_ORDERS] = lambda: HALVES.build(1, 6, "all", **pools_at_once(), **RANDOM)
    rows = []
    for name, make in makes.items():
        if not wanted(args, name):
            continue
        left = undistinguished_pairs_by_part(make, graphs, len(POOLS), batch_size=64)
        cells = [f"{len(pairs)} of {total}" for pairs in left]
        print(f"{name}, {nodes} nodes: {', '.join(cells)}", flush=True)
        rows += by_pools(name, [cells])
    return rows


def draw(rows: Sequence[Row], names: Sequence[str], path: Path) -> None:
    """The share of separated pairs as a picture."""
    share = [[share_of(cell) for cell in row[3:]] for row in rows]
    figure, axes = plt.subplots(figsize=(3.4 + 1.1 * len(names), 1.0 + 0.27 * len(rows)))
    axes.imshow(torch.tensor(share), vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for i, row in enumerate(rows):
        for j, cell in enumerate(row[3:]):
            colour = "w" if share[i][j] < 0.6 else "k"
            axes.text(j, i, cell.split(" ")[0], ha="center", va="center", color=colour, fontsize=8)
        if i and row[0] != rows[i - 1][0]:
            axes.axhline(i - 0.5, color="w", linewidth=2)
    labels = [
        (f"{name}:  " if not i or name != rows[i - 1][0] else "") + f"{inner} / {outer}"
        for i, (name, inner, outer, *_) in enumerate(rows)
    ]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_title("pairs told apart with random weights, by inner / outer pool")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def share_of(cell: str) -> float:
    """``"3/4"`` as 0.75."""
    part, whole = cell.split(" ")[0].split("/")
    return int(part) / int(whole) if int(whole) else math.nan


def main() -> None:
    args = parse()
    named(args)
    seed_everything(args.seed)
    out = out_dir(args)
    tables: dict[str, tuple[list[str], list[Row]]] = {}
    if "pairs" in args.tables:
        limit = None if args.full else 3 if args.quick else 15
        if args.brec:
            sets, missing = brec_sets(args.brec, limit), []
        else:
            sets, missing = pair_sets(args.data, limit)
        for line in missing:
            print(line)
        sets = chosen_sets(sets, args)
        rows = separation_rows(sets, args)
        if wanted(args, HALVES.name):
            rows += sampled_rows(HALVES, sets, args)
        names = [data.name for data in sets]
        tables["pairs"] = ["", "inner", "outer", *names], rows
        if rows:
            draw(rows, names, out / "expressiveness.png")
    if "small" in args.tables:
        tables["small"] = ["", "inner", "outer", "undistinguished"], small_graphs_table(args)
    if "trained" in args.tables:
        tables["trained"] = trained_table(args)
    if "brec" in args.tables:
        tables["brec"] = brec_table(args)
    for name, (headers, rows) in tables.items():
        if not rows:
            print(f"\n{name}: nothing in this table by the options given")
            continue
        path = out / f"expressiveness_{name}.md"
        path.write_text((table := format_table(rows, headers)) + "\n", "utf-8")
        print(f"\n{table}\n\n{path}")


if __name__ == "__main__":
    run_script(main)
