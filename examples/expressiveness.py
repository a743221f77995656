"""What a GIN can tell apart: alone, with relational pooling, and with labelled nodes.

Prints which pairs of CSL, CFI, EXP, CEXP and SR25 models with random weights separate, how many pairs
of graph8c they do not, and how accurate trained models are on CSL (5-fold), EXP (10-fold) and SR25
(15-way, tested on relabelled copies that were not trained on). EXP, CEXP and SR25 need their files
(--data); the other sets are generated.

    python examples/expressiveness.py            # a part of everything
    python examples/expressiveness.py --full     # all pairs, all folds, all models
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from _common import add_common_arguments, format_table, out_dir, seed_everything
from _expressive import (
    ADJACENT,
    COPIES_AT_ONCE,
    DISTANCES,
    EGO,
    GIN_ALONE,
    MODELS,
    ONE_LABEL,
    RANDOM,
    RP,
    TWO_LABELS,
    WIDTH,
    Classifier,
    PairSet,
    Recipe,
    accuracy,
    batches_of,
    cross_validate,
    default_data,
    pair_sets,
    relabelled_classes,
    relational_gin,
    train,
)
from torch_geometric.nn import GIN
from tqdm import tqdm

from graphpool.datasets import CSL, EXP, SR25, connected_graphs
from graphpool.evaluate import compare_pair, copies_block, separate_pairs, undistinguished_pairs
from graphpool.relational import RelationalPooling

POOLS = (("sum", "sum"), ("mean", "max"), ("max", "mean"), ("std", "std"), ("gnp", "gnp"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of the files")
    parser.add_argument("--full", action="store_true", help="everything; about an hour on one core")
    parser.add_argument(
        "--tables",
        nargs="+",
        default=["pairs", "pools", "graph8c", "trained"],
        choices=["pairs", "pools", "graph8c", "trained"],
        help="which tables to make",
    )
    parser.add_argument(
        "--train",
        nargs="+",
        default=["csl", "exp", "sr25"],
        choices=["csl", "exp", "sr25"],
        help="which sets to train on",
    )
    parser.add_argument("--only", nargs="+", help="names of the models; all where it is not given")
    return parser.parse_args()


def separation_table(sets: Sequence[PairSet], args: argparse.Namespace) -> dict[str, list[str]]:
    """Separated pairs of every set by every model."""
    rows: dict[str, list[str]] = {}
    for model in MODELS:
        if args.only and model.name not in args.only:
            continue
        cells = []
        for data in tqdm(sets, desc=model.name, leave=False):
            heavy = model is TWO_LABELS and data.name in ("EXP", "CEXP")
            if (heavy and not args.full) or (
                args.quick and model.labels > 1 and data.name != "CFI"
            ):
                cells.append("-")
                continue
            result = separate_pairs(
                lambda model=model, data=data: model.build(data.features, data.layers, **RANDOM),
                data.graphs,
                data.pairs,
                calibration=24 if heavy or args.quick else None,
                batch_size=2 if model.labels == 2 else 32,
                seeds=(args.seed, args.seed + 1),
            )
            cells.append(f"{result.count}/{len(data.pairs)}")
        rows[model.name] = cells
        print(f"{model.name}: {cells}", flush=True)
    return rows


def relational_row(sets: Sequence[PairSet], args: argparse.Namespace) -> list[str]:
    """Pairs that RP with random weights separates in a paired comparison of 32 copies each."""
    cells = []
    for data in sets:
        pairs = data.pairs[: 2 if args.quick else None if args.full else 45].tolist()
        told, unreliable = 0, 0
        for number, (a, b) in enumerate(tqdm(pairs, desc=f"{RP} on {data.name}", leave=False)):
            torch.manual_seed(args.seed)
            result = compare_pair(
                lambda data=data: relational_gin(data.features, data.layers, 5, **RANDOM),
                copies_block(data.graphs[a], data.graphs[b], seed=number),
                copies_block(data.graphs[a], data.graphs[a], seed=-1 - number),
                epochs=0,
                batch_size=64,
            )
            told += result.distinguished() and result.reliable()
            unreliable += not result.reliable()
        cells.append(f"{told}/{len(pairs)}" + (f" ({unreliable} unreliable)" if unreliable else ""))
    print(f"{RP}: {cells}", flush=True)
    return cells


def pools_table(sets: Sequence[PairSet], args: argparse.Namespace) -> list[list[str]]:
    """One label, other pools."""
    rows = []
    for inner, outer in POOLS[1:2] if args.quick else POOLS:
        cells = []
        for data in tqdm(sets, desc=f"{inner} / {outer}", leave=False):
            if data.name == "SR25":
                continue
            result = separate_pairs(
                lambda inner=inner, outer=outer, data=data: ONE_LABEL.build(
                    data.features, data.layers, inner, outer, **RANDOM
                ),
                data.graphs,
                data.pairs[: None if args.full else 100],
                calibration=24,
            )
            cells.append(f"{result.count}/{len(data.pairs[: None if args.full else 100])}")
        rows.append([inner, outer, *cells])
        print(f"one label, {inner} / {outer}: {cells}", flush=True)
    return rows


def small_graphs_table(args: argparse.Namespace) -> list[list[str]]:
    """Pairs of all connected graphs of one size that stay undistinguished."""
    rows = []
    for nodes in (6,) if args.quick else (6, 8):
        graphs = connected_graphs(nodes)
        total = len(graphs) * (len(graphs) - 1) // 2
        makes = {
            model.name: lambda model=model: model.build(1, 6, **RANDOM)
            for model in (MODELS if args.full or nodes == 6 else MODELS[:3])
        }
        if nodes == 6 and not args.quick:
            network = partial(GIN, 1 + 6, WIDTH, 6, **RANDOM)
            makes["GIN + RP, all 720 orders"] = lambda network=network: RelationalPooling(
                network(), "all", 6, max_copies=COPIES_AT_ONCE
            )
        for name, make in makes.items():
            if args.only and name not in args.only:
                continue
            left = undistinguished_pairs(make, graphs, batch_size=64)
            rows.append([name, str(nodes), str(len(left)), str(total)])
            print(f"connected graphs: {rows[-1]}", flush=True)
    return rows


def load(cls: type[EXP] | type[SR25], folder: Path) -> EXP | SR25 | None:
    """A data set, or ``None`` where its file is missing."""
    try:
        return cls(folder)
    except FileNotFoundError:
        return None


def trained_table(args: argparse.Namespace) -> list[list[str]]:
    """Trained accuracies."""
    device = torch.device(args.device)
    rows: list[list[str]] = []

    def report(name: str, data: str, scores: Sequence[float], started: float) -> None:
        mean, low = 100 * sum(scores) / len(scores), 100 * min(scores)
        seconds = time.process_time() - started
        rows.append([name, data, f"{mean:.2f}", f"{low:.2f}", str(len(scores)), f"{seconds:.0f}"])
        print("trained:", *rows[-1], flush=True)

    if "csl" in args.train:
        csl = CSL()
        folds = csl.folds()[: None if args.full else 1]
        deep = {"norm": "batch_norm", "eps": 0.37}
        # A circulant graph looks the same from every node: two labelings, drawn afresh each time, give
        # the mean over all 41.
        sampled = {"outer": "mean", "sample": 2}
        for name, epochs, make in (
            (GIN_ALONE.name, 20, lambda: GIN_ALONE.build(1, 8, **deep)),
            (DISTANCES.name, 80, lambda: DISTANCES.build(1, 4, **sampled, **deep)),
            (ONE_LABEL.name, 200, lambda: ONE_LABEL.build(1, 8, **sampled, **deep)),
            (RP, 100, lambda: relational_gin(1, 5, 5)),
        ):
            if args.only and name not in args.only:
                continue
            seed_everything(args.seed)
            started = time.process_time()
            recipe = Recipe(1 if args.quick else epochs, 1e-2, 30)
            scores = cross_validate(
                lambda make=make: Classifier(make(), 10), csl, folds, recipe, device, f"CSL, {name}"
            )
            report(name, "CSL", scores, started)
    if "exp" in args.train and (data := load(EXP, args.data)) is not None:
        folds = data.folds()[: None if args.full else 1]
        for name, epochs, make in (
            (EGO.name, 10, lambda: EGO.build(2, 4, eps=0.37)),
            (GIN_ALONE.name, 3, lambda: GIN_ALONE.build(2, 4)),
            (RP, 5, lambda: relational_gin(2, 4, 5)),
        ):
            if args.only and name not in args.only:
                continue
            seed_everything(args.seed)
            started = time.process_time()
            recipe = Recipe(1 if args.quick else epochs, 5e-3, 40)
            scores = cross_validate(
                lambda make=make: Classifier(make(), 2), data, folds, recipe, device, f"EXP, {name}"
            )
            report(name, "EXP", scores, started)
    if "sr25" in args.train and (data := load(SR25, args.data)) is not None:
        known, unseen = relabelled_classes(list(data), 2, args.seed)
        for model in (GIN_ALONE,) if args.quick else (ADJACENT, GIN_ALONE):
            if args.only and model.name not in args.only:
                continue
            seed_everything(args.seed)
            started = time.process_time()
            classifier = Classifier(model.build(1, 3, norm="batch_norm", eps=0.37), 15).to(device)
            train(classifier, known, Recipe(100, 2e-2, 15), device, f"SR25, {model.name}")
            scores = [accuracy(classifier, batches_of(unseen, 5, device))]
            report(model.name, "SR25, relabelled", scores, started)
    return rows


def draw(rows: dict[str, list[str]], names: Sequence[str], path: Path) -> None:
    """The share of separated pairs as a picture."""
    share = [[eval_share(cell) for cell in cells] for cells in rows.values()]
    figure, axes = plt.subplots(figsize=(1.6 + 1.2 * len(names), 0.6 + 0.5 * len(rows)))
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="lightgrey")
    axes.imshow(torch.tensor(share), vmin=0, vmax=1, cmap=colours, aspect="auto")
    for i, cells in enumerate(rows.values()):
        for j, cell in enumerate(cells):
            dark = share[i][j] < 0.6
            axes.text(
                j, i, cell.split(" ")[0], ha="center", va="center", color="w" if dark else "k"
            )
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_title("pairs told apart with random weights")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def eval_share(cell: str) -> float:
    """``"3/4"`` as 0.75; NaN, drawn in grey, for what was not computed."""
    if "/" not in cell:
        return math.nan
    part, whole = cell.split(" ")[0].split("/")
    return int(part) / int(whole)


def main() -> None:
    args = parse()
    seed_everything(args.seed)
    out = out_dir(args)
    sets, missing = pair_sets(args.data, None if args.full else 4 if args.quick else 100)
    for line in missing:
        print(line)
    text = []
    if "pairs" in args.tables:
        rows = separation_table(sets, args)
        if not args.only or RP in args.only:
            rows[RP] = relational_row(sets, args)
        names = [data.name for data in sets]
        text.append(format_table([[name, *cells] for name, cells in rows.items()], ["", *names]))
        draw(rows, names, out / "expressiveness.png")
    if "pools" in args.tables:
        names = [data.name for data in sets if data.name != "SR25"]
        text.append(format_table(pools_table(sets, args), ["inner", "outer", *names]))
    if "graph8c" in args.tables:
        text.append(
            format_table(small_graphs_table(args), ["", "nodes", "undistinguished", "pairs"])
        )
    if "trained" in args.tables:
        headers = ["", "data", "mean %", "lowest fold %", "folds", "CPU seconds"]
        text.append(format_table(trained_table(args), headers))
    table = "\n\n".join(text)
    print("\n" + table)
    (out / "expressiveness.md").write_text(table + "\n")


if __name__ == "__main__":
    main()
