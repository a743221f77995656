"""Compare readouts on TU graph classification by 10-fold cross-validation.

    python examples/graph_classification.py --root ../shared/data/tu --name MUTAG --readout
    gnp,sum,attsets python examples/graph_classification.py --root ../shared/data/tu --name PROTEINS
    --readout all

Protocol of Xu et al., "How Powerful are Graph Neural Networks?" (ICLR 2019): stratified 10-fold
cross-validation; every fold is trained for the same number of epochs; the epoch is chosen once for
all folds, where the validation accuracy averaged over folds is best, and mean and standard
deviation over folds are reported there. There is no separate test set, so the numbers are
optimistic, and comparable only with numbers obtained in the same way. The accuracy of the last
epoch, which no choice has touched, stands beside it.

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
from _common import format_table, make_parser, out_dir, seed_everything
from _kept import differing, parsed, write
from _scripts import run as run_script
from torch import Tensor
from torch_geometric.data import InMemoryDataset
from tqdm import tqdm

from graphpool import aggr
from graphpool.datasets import GraphFamilies, TUGraphs
from graphpool.models import GraphModel
from graphpool.train import GraphBatches, MiniBatch, fit


def stratified_folds(labels: Tensor, count: int, seed: int) -> list[Tensor]:
    """Indices of each fold; every class is spread evenly over the folds."""
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


def cross_validate(
    graphs: InMemoryDataset, name: str, args: argparse.Namespace, bar: Any
) -> dict[str, Any]:
    """Accuracy of one readout on every fold after every epoch."""
    begin = time.perf_counter()
    folds = stratified_folds(graphs._data.y, args.folds, args.seed)
    accuracy = torch.empty(args.folds, args.epochs, dtype=torch.float64)
    for k, held_out in enumerate(folds):
        seed_everything(args.seed + k)
        rest = torch.cat([fold for i, fold in enumerate(folds) if i != k])
        shuffle = torch.Generator().manual_seed(args.seed + k)
        train = GraphBatches(
            graphs, args.batch_size, True, shuffle, indices=rest, device=args.device
        )
        validation = GraphBatches(graphs, 1024, indices=held_out, device=args.device)
        model = GraphModel(
            graphs.num_features,
            args.hidden,
            graphs.num_classes,
            num_layers=args.layers,
            readout=make_readout(name, args.hidden),
            norm="batch",
            jumping="last",
            dropout=args.dropout,
            head="mlp",
        ).to(args.device)
        optimizer = torch.optim.Adam(model.parameters(), args.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, max(1, args.epochs // 3), 0.5)
        history = fit(
            model,
            train,
            validation,
            optimizer,
            args.epochs,
            torch.nn.functional.cross_entropy,
            error_rate,
            forward,
            scheduler,
            restore_best=False,
        )
        accuracy[k] = 100 - torch.tensor(history.validation, dtype=torch.float64)
        bar.update()
    mean = accuracy.mean(0)
    epoch = int(mean.argmax())
    return {
        "readout": name,
        "mean": float(mean[epoch]),
        "std": float(accuracy[:, epoch].std()),
        "epoch": epoch + 1,
        "last_mean": float(mean[-1]),
        "last_std": float(accuracy[:, -1].std()),
        "folds": accuracy[:, epoch].tolist(),
        "last_folds": accuracy[:, -1].tolist(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.perf_counter() - begin,
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
                label=f"best common epoch ± standard error, {'near' if equal else 'below'} the best",
            )  # fmt: skip
    axes.plot([r["last_mean"] for r in rows], y, "D", color="#D55E00", ms=4, label="last epoch")
    axes.set_yticks(y, [r["readout"] for r in rows], fontsize=8)
    axes.margins(y=0.02)
    axes.set_xlabel(f"validation accuracy, % ({title})")
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
        "--resume", action="store_true", help="keep the readouts that an earlier call has finished"
    )
    args = parser.parse_args()
    if args.name is None:
        args.name = "MUTAG" if (args.root / "MUTAG" / "raw").exists() else "families"
    if args.quick:
        args.epochs, args.folds, args.readout = 2, 2, "sum,gnp"
    return args


def main() -> None:
    args = parse()
    folder = out_dir(args)
    names = usable_readouts() if args.readout == "all" else args.readout.split(",")
    if args.name == "families":
        graphs = GraphFamilies(args.cache)
    else:
        graphs = TUGraphs(args.root, args.name, cache=args.cache)
    settings = {
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
        )
    }
    log = folder / f"graph_classification_{args.name}.json"
    rows: list[dict[str, Any]] = []
    if args.resume and log.exists():
        stored = parsed(log.read_text("utf-8", "replace"), str(log))
        if others := differing(stored.get("settings"), settings):
            raise ValueError(f"{log} was made with other options: {others}; take another --out.")
        rows = stored["rows"]
    with tqdm(total=len(names) * args.folds, desc=args.name, file=sys.stderr) as bar:
        for name in names:
            bar.set_postfix(readout=name)
            if any(row["readout"] == name for row in rows):
                bar.update(args.folds)
                continue
            rows.append(cross_validate(graphs, name, args, bar))
            write(log, {"settings": settings, "rows": rows})
    rows = sorted((r for r in rows if r["readout"] in names), key=lambda r: -r["mean"])
    majority = 100 * float(graphs._data.y.bincount().max()) / len(graphs)
    print(
        f"\n{args.name}: {len(graphs)} graphs, {args.folds}-fold cross-validation, "
        f"majority class {majority:.1f} %\n"
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
