"""Compare readouts on TU graph classification by 10-fold cross-validation.

    python examples/graph_classification.py --root ../shared/data/tu --name MUTAG --readout gnp,sum
    python examples/graph_classification.py --root ../shared/data/tu --name PROTEINS --readout all
    python examples/graph_classification.py --root ../shared/data/tu --name MUTAG --nested

Protocol of Xu et al., "How Powerful are Graph Neural Networks?" (ICLR 2019): stratified 10-fold
cross-validation; every fold is trained for the same number of epochs; the epoch is chosen once for
all folds, where the validation accuracy averaged over folds is best, and mean and standard
deviation over folds are reported there. There is no separate test set, so the numbers are
optimistic, and comparable only with numbers obtained in the same way. The accuracy of the last
epoch, which no choice has touched, stands beside it. With --nested every fold is tested once, the
next one validates, eight train: the epoch is chosen for each fold by the one that validates.

The name "families" stands for a generated task (tree, ladder, 4-regular or expander?), which needs
no file, and is what runs where neither --name nor MUTAG's files under --root say otherwise. Other
data sets that are not under --root are downloaded.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import check_pools, format_table, make_parser, out_dir, seed_everything
from _kept import differing, fingerprint, parsed, set_aside, write
from _scripts import run as run_script
from torch import Tensor
from torch_geometric.data import InMemoryDataset
from tqdm import tqdm

from graphpool import aggr
from graphpool.datasets import GraphFamilies, TUGraphs
from graphpool.models import GraphModel
from graphpool.train import GraphBatches, History, MiniBatch, fit, predict


def stratified_folds(labels: Tensor, count: int, seed: int) -> list[Tensor]:
    """Indices of each fold; every class is spread evenly over the folds.

    Raises:
        ValueError: There are fewer graphs than folds.
    """
    if len(labels) < count:
        raise ValueError(
            f"`folds` must be at most the number of graphs, {len(labels)}; got {count}."
        )
    rng = np.random.default_rng(seed)
    folds: list[list[int]] = [[] for _ in range(count)]
    position = 0
    for label in labels.unique().tolist():
        for index in rng.permutation(np.flatnonzero(labels.numpy() == label)):
            folds[position % count].append(int(index))
            position += 1
    return [torch.tensor(sorted(fold)) for fold in folds]


def usable_readouts() -> list[str]:
    """Every registered pool that needs nothing but vectors and gives one per graph."""
    classes = {name: aggr.lookup(name) for name in aggr.names()}
    return [n for n, cls in classes.items() if not cls.needs_positions and not cls.ragged]


def forward(model: torch.nn.Module, batch: MiniBatch) -> Tensor:
    return model(batch.x, batch.edge_index, batch.nodes)


def error_rate(output: Tensor, label: Tensor) -> Tensor:
    return 100 * (output.argmax(1) != label).float().mean()


def make_readout(name: str, channels: int) -> torch.nn.Module:
    """A readout from its name, with the arguments that make a small instance where it needs
    some."""
    return aggr.resolve(name, channels=channels, **aggr.lookup(name).example_arguments)


def one_fold(
    graphs: InMemoryDataset, name: str, k: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Accuracies of one readout after every epoch, where fold ``k`` is held out."""
    begin = time.perf_counter()
    folds = stratified_folds(graphs._data.y, args.folds, args.seed)
    seed_everything(args.seed + k)
    shuffle = torch.Generator().manual_seed(args.seed + k)
    judges = [k, (k + 1) % args.folds][: 1 + args.nested]
    rest = torch.cat([fold for i, fold in enumerate(folds) if i not in judges])
    train = GraphBatches(graphs, args.batch_size, True, shuffle, indices=rest, device=args.device)
    held_out, validation = (
        GraphBatches(graphs, 1024, indices=folds[i], device=args.device)
        for i in (judges[0], judges[-1])
    )
    model = GraphModel(
        graphs.num_features,
        args.hidden,
        graphs.num_classes,
        num_layers=args.layers,
        readout=make_readout(name, args.hidden * (args.layers if args.jumping == "cat" else 1)),
        norm="batch",
        jumping=args.jumping,
        dropout=args.dropout,
        head="mlp",
    ).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    every = args.halve_every or max(1, args.epochs // 3)
    tested: list[float] = []

    def test(epoch: int, history: History) -> None:
        if args.nested:
            tested.append(100 - float(error_rate(*predict(model, held_out, forward))))

    history = fit(
        model,
        train,
        validation,
        optimizer,
        args.epochs,
        torch.nn.functional.cross_entropy,
        error_rate,
        forward,
        torch.optim.lr_scheduler.StepLR(optimizer, every, 0.5),
        test,
        restore_best=False,
    )
    return {
        "validation": [100 - error for error in history.validation],
        "test": tested,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.perf_counter() - begin,
    }


def summary(name: str, folds: list[dict[str, Any]], nested: bool) -> dict[str, Any]:
    """Mean and deviation over folds, at one epoch for all or, nested, at that which each fold validated."""
    validation = torch.tensor([fold["validation"] for fold in folds], dtype=torch.float64)
    seen = torch.tensor([fold["test"] for fold in folds]).double() if nested else validation
    common = validation.mean(0).argmax().repeat(len(folds))
    epochs = validation.argmax(1) if nested else common
    chosen, last = seen.gather(1, epochs[:, None]).squeeze(1), seen[:, -1]
    return {
        "readout": name,
        "mean": float(chosen.mean()),
        "std": float(chosen.std()),
        "epoch": int(epochs.median()) + 1,
        "last_mean": float(last.mean()),
        "last_std": float(last.std()),
        "folds": chosen.tolist(),
        "last_folds": last.tolist(),
        "parameters": folds[0]["parameters"],
        "seconds": sum(fold["seconds"] for fold in folds),
    }


def draw(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Mean and standard error per readout; gray where it is worse than the best by more than both errors."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 0.22 * len(rows) + 1.6))
    y = list(range(len(rows)))[::-1]
    error = [r["std"] / len(r["folds"]) ** 0.5 for r in rows]
    best = max(range(len(rows)), key=lambda i: rows[i]["mean"])
    floor = rows[best]["mean"] - error[best]
    axes.axvspan(floor, rows[best]["mean"] + error[best], color="#0072B2", alpha=0.08, lw=0,
                 label="the best ± its standard error")  # fmt: skip
    for equal in (False, True):
        own = [i for i, r in enumerate(rows) if (r["mean"] + error[i] >= floor) == equal]
        if own:
            axes.errorbar(
                [rows[i]["mean"] for i in own], [y[i] for i in own], xerr=[error[i] for i in own],
                fmt="o", ms=4, color="#0072B2" if equal else "#999999", capsize=2,
                label=f"chosen epoch ± standard error, {'near' if equal else 'below'} the best",
            )  # fmt: skip
    axes.plot([r["last_mean"] for r in rows], y, "D", color="#D55E00", ms=4, label="last epoch")
    axes.set_yticks(y, [r["readout"] for r in rows], fontsize=8)
    axes.margins(y=0.02)
    axes.set_xlabel(f"accuracy, % ({title})")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    axes.grid(axis="x", color="#eeeeee")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="folder of TU data")
    parser.add_argument("--cache", type=Path, default=Path("datasets"), help="for parsed files")
    parser.add_argument("--name", help="name of a TU data set, or 'families'")
    parser.add_argument("--readout", default="gnp,sum,mean,max,attsets", help="names, or 'all'")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument(
        "--halve-every", type=int, default=0, help="epochs between halvings of lr; 0: a third"
    )
    parser.add_argument(
        "--jumping", choices=("last", "cat"), default="last", help="layers that the readout sees"
    )
    parser.add_argument(
        "--nested", action="store_true", help="choose the epoch on a fold that is not tested"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the folds that an earlier call has finished"
    )
    args = parser.parse_args()
    if args.name is None:
        args.name = "MUTAG" if (args.root / "MUTAG" / "raw").exists() else "families"
    if args.quick:
        args.epochs, args.folds, args.readout = 2, 2 + args.nested, "sum,gnp"
    least = 3 if args.nested else 2
    if args.folds < least:
        why = ": one to test, one to choose by, one to train on" if args.nested else ""
        parser.error(f"--folds must be at least {least}{why}; got {args.folds}")
    if args.dropout >= 1:
        parser.error(f"--dropout must be below 1; got {args.dropout}")
    names = usable_readouts() if args.readout == "all" else args.readout.split(",")
    args.names = list(dict.fromkeys(name.strip() for name in names))
    check_pools(parser, "--readout", args.names, args.hidden, make_readout)
    return args


def are_whole(
    rows: list[dict[str, Any]], begun: dict[str, list[dict[str, Any]]], args: argparse.Namespace
) -> bool:
    """Whether a file holds what this script writes, for as many folds and epochs."""
    of_row = {"readout", "mean", "std", "epoch", "last_mean", "last_std", "folds", "seconds"}
    try:
        folds = [fold for each in begun.values() for fold in each]
        tested = args.epochs if args.nested else 0
        return all(of_row <= r.keys() and len(r["folds"]) == args.folds for r in rows) and all(
            (len(f["validation"]), len(f["test"])) == (args.epochs, tested) for f in folds
        )
    except (AttributeError, KeyError, TypeError):
        return False


def main() -> None:
    args = parse()
    folder = out_dir(args)
    names = args.names
    if args.name == "families":
        graphs = GraphFamilies(args.cache)
    else:
        graphs = TUGraphs(args.root, args.name, cache=args.cache)
    data = graphs._data
    if data.y is None or data.y.is_floating_point():
        raise ValueError(f"`name` must be a data set of classes; {args.name} has no graph_labels.")
    settings: dict[str, Any] = {
        key: getattr(args, key)
        for key in (
            "name",
            "epochs",
            "folds",
            "hidden",
            "layers",
            "batch_size",
            "dropout",
            "lr",
            "seed",
            "halve_every",
            "jumping",
            "nested",
        )
    }
    settings["data"] = fingerprint([data.x, data.edge_index, data.y, *graphs.slices.values()])
    log = folder / f"graph_classification_{args.name}.json"
    rows: list[dict[str, Any]] = []
    # Folds of readouts that are not through.
    begun: dict[str, list[dict[str, Any]]] = {}
    if args.resume and log.exists():
        stored = parsed(log.read_text("utf-8", "replace"), str(log))
        if others := differing(stored.get("settings"), settings):
            raise ValueError(f"{log} was made with other options: {others}; take another --out.")
        rows, begun = stored.get("rows", []), stored.get("begun", {})
        if not are_whole(rows, begun, args):
            raise ValueError(f"{log} is damaged: move it away, or take another --out.")
    elif log.exists():
        old = log.replace(set_aside(log))
        print(
            f"note: {log} is there already; it is set aside as {old.name} (--resume goes on with it)"
        )
    with tqdm(total=len(names) * args.folds, desc=args.name, file=sys.stderr) as bar:
        for name in names:
            bar.set_postfix(readout=name)
            if any(row["readout"] == name for row in rows):
                bar.update(args.folds)
                continue
            folds = begun.setdefault(name, [])
            bar.update(len(folds))
            for k in range(len(folds), args.folds):
                folds.append(one_fold(graphs, name, k, args))
                bar.update()
                write(log, {"settings": settings, "rows": rows, "begun": begun})
            rows.append(summary(name, begun.pop(name), args.nested))
            write(log, {"settings": settings, "rows": rows, "begun": begun})
    rows = sorted((r for r in rows if r["readout"] in names), key=lambda r: -r["mean"])
    majority = 100 * float(data.y.bincount().max()) / len(graphs)
    print(
        f"\n{args.name}: {len(graphs)} graphs, {args.folds}-fold cross-validation, "
        + ("each fold's epoch chosen by the next (their median is shown), " if args.nested else "")
        + f"majority class {majority:.1f} %\n"
    )
    cells = [
        [
            r["readout"],
            f"{r['mean']:.1f} ± {r['std']:.1f}",
            r["epoch"],
            f"{r['last_mean']:.1f} ± {r['last_std']:.1f}",
            r["parameters"],
            f"{r['seconds']:.0f}",
        ]
        for r in rows
    ]
    headers = ["readout", "accuracy %", "epoch", "last epoch %", "parameters", "seconds"]
    print(format_table(cells, headers))
    picture = folder / f"graph_classification_{args.name}.png"
    draw(rows, f"{args.name}, {args.folds}-fold: majority class {majority:.1f} %", picture)
    print(f"\nnumbers: {log}\npicture: {picture}")


if __name__ == "__main__":
    run_script(main)
