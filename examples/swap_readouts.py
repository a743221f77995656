"""Swap the pools of a graph network and see which choice extrapolates to larger graphs.

Trains the same network with several neighbour pools and readouts on small graphs (20 to 29 nodes),
tests it on large ones (50 to 99 nodes), and prints the error inside and outside the range of
training. For the maximum degree, sum over neighbours and max over nodes is right, and every other
fixed pair fails on large graphs; GNP learns what to do.

    python examples/swap_readouts.py                          # maximum degree, a few minutes
    python examples/swap_readouts.py --task shortest
    python examples/swap_readouts.py --aggr sum,mean --readout max,gnp     # pairs of your own
    python examples/swap_readouts.py --grid --seeds 3 --preset reduced     # all fixed pairs
    python examples/swap_readouts.py --full                   # the published protocol: hours
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _kept import differing, parsed, write
from _scripts import run as run_script
from _swap_pictures import draw, draw_training
from torch import Tensor
from tqdm import tqdm

from graphpool import aggr
from graphpool.datasets import HarmonicDegree, InverseSize, MaxDegree, ShortestPath
from graphpool.models import GraphModel
from graphpool.train import GraphBatches, MiniBatch, fit, predict

FIXED = ("sum", "mean", "max", "min")


@dataclass(frozen=True)
class Preset:
    """How much is trained: graphs for training, validation and test, width, passes, batch size.

    The learning rate halves every ``halve_every`` epochs, every quarter of the run where that is 0.
    """

    num_graphs: tuple[int, int, int]
    hidden: int
    epochs: int
    batch_size: int
    halve_every: int = 0


@dataclass(frozen=True)
class Task:
    """A data set, the network for it, and how to train it: ``full`` is what the literature does."""

    dataset: type
    best_pair: tuple[str, str]
    num_layers: int = 2
    node_layers: int = 2
    edge_dim: int | None = None
    lr: float = 0.01
    full: Preset = Preset((5000, 1000, 2500), 256, epochs=100, batch_size=64, halve_every=50)
    reduced: Preset = Preset((999, 297, 297), hidden=32, epochs=24, batch_size=32)
    wrong_pairs: tuple[tuple[str, str], ...] = (("sum", "sum"), ("mean", "mean"), ("max", "max"))


TASKS = {
    "maxdegree": Task(MaxDegree, ("sum", "max")),
    "harmonic": Task(HarmonicDegree, ("sum", "mean")),
    "invsize": Task(InverseSize, ("mean", "sum")),
    "shortest": Task(
        ShortestPath,
        ("min", "min"),
        num_layers=3,
        node_layers=0,
        edge_dim=1,
        lr=0.005,
        full=Preset((10_000, 1000, 2500), 256, epochs=250, batch_size=32, halve_every=50),
        reduced=Preset((603, 198, 198), hidden=32, epochs=24, batch_size=10),
        wrong_pairs=(("sum", "sum"), ("mean", "mean"), ("sum", "max")),
    ),
}


def preset(name: str, task: Task) -> Preset:
    return {
        "quick": Preset((90, 45, 45), 16, 2, 32),
        "demo": Preset((450, 90, 180), 32, 24, 16),
        "reduced": task.reduced,
        "full": task.full,
    }[name]


def mape(output: Tensor, label: Tensor) -> Tensor:
    """Mean absolute percentage error."""
    return 100 * ((output - label) / label).abs().mean()


def forward(model: torch.nn.Module, batch: MiniBatch) -> Tensor:
    return model(batch.x, batch.edge_index, batch.nodes, edge_attr=batch.edge_attr)


def exponents(model: GraphModel) -> dict[str, dict[str, list[float]]]:
    """p and q of every GNP in the model, by site, one for each of its norms."""
    return {
        site: {"p": pool.p.detach().mean(1).tolist(), "q": pool.q.detach().mean(1).tolist()}
        for site, pool in model.pools().items()
        if isinstance(pool, aggr.GNP)
    }


def run(
    task: Task, size: Preset, pair: tuple[str, str], seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Trains one network and measures it inside and outside the range of training."""
    seed_everything(seed)
    begin = time.perf_counter()
    train, validation, test = size.num_graphs
    shuffle = torch.Generator().manual_seed(seed)

    def batches(split: str, count: int, data_seed: int = 0, **kwargs: Any) -> GraphBatches:
        graphs = task.dataset(args.root, split=split, num_graphs=count, seed=data_seed)
        return GraphBatches(graphs, size.batch_size, device=args.device, **kwargs)

    training = batches("train", train, shuffle=True, generator=shuffle)
    features = next(iter(training)).x.size(1)
    model = GraphModel(
        features,
        size.hidden,
        1,
        num_layers=task.num_layers,
        conv="pair_mlp",
        aggr=pair[0],
        readout=pair[1],
        edge_dim=task.edge_dim,
        encoder=None,
        activation=False,
        node_layers=task.node_layers,
    ).to(args.device)
    path = [exponents(model)]
    optimizer = torch.optim.Adam(model.parameters(), task.lr, weight_decay=1e-5)
    halve_every = size.halve_every or max(1, size.epochs // 4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, halve_every, 0.5)
    with tqdm(total=size.epochs, desc="/".join(pair), leave=False, file=sys.stderr) as bar:

        def show(epoch: int, history: Any) -> None:
            bar.update()
            path.append(exponents(model))
            bar.set_postfix(
                train=f"{history.train_loss[-1]:.3g}", val=f"{history.validation[-1]:.3g}"
            )

        mse = torch.nn.functional.mse_loss
        history = fit(
            model,
            training,
            batches("val", validation),
            optimizer,
            size.epochs,
            mse,
            mse,
            forward,
            scheduler,
            show,
        )
    return {
        "aggr": pair[0],
        "readout": pair[1],
        "seed": seed,
        # Unseen graphs of the training sizes: the validation set has chosen the epoch.
        "in_range": mape(*predict(model, batches("val", validation, data_seed=1), forward)).item(),
        "out_of_range": mape(*predict(model, batches("test", test), forward)).item(),
        "best_epoch": history.best_epoch,
        "seconds": time.perf_counter() - begin,
        "start": path[0],
        # The network that was tested is that of the best epoch, not the last of the path.
        "learned": exponents(model),
        "path": path if path[0] else [],
    }


def choose_pairs(args: argparse.Namespace, task: Task) -> list[tuple[str, str]]:
    """The (neighbour pool, readout) pairs to compare."""
    if args.aggr is None and args.readout is None:
        if args.grid:
            return [*itertools.product(FIXED, FIXED), ("gnp", "gnp")]
        return [("gnp", "gnp"), task.best_pair, *task.wrong_pairs]
    pairs = itertools.product((args.aggr or "gnp").split(","), (args.readout or "gnp").split(","))
    return list(pairs)


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of each pair, best out of range first."""
    rows = []
    for pair in dict.fromkeys((r["aggr"], r["readout"]) for r in runs):
        mine = [r for r in runs if (r["aggr"], r["readout"]) == pair]
        row: dict[str, Any] = {"pair": pair, "runs": mine}
        for key in ("in_range", "out_of_range"):
            values = torch.tensor([r[key] for r in mine], dtype=torch.float64)
            row[key] = float(values.mean())
            row[f"{key}_std"] = float(values.std()) if len(mine) > 1 else 0.0
        rows.append(row)
    return sorted(rows, key=lambda row: row["out_of_range"])


def table(rows: list[dict[str, Any]]) -> str:
    def number(row: dict[str, Any], key: str) -> str:
        spread = f" ± {row[key + '_std']:.1f}" if len(row["runs"]) > 1 else ""
        return f"{row[key]:.1f}{spread}"

    cells = [[*row["pair"], number(row, "in_range"), number(row, "out_of_range")] for row in rows]
    return format_table(cells, ["neighbours", "readout", "MAPE in range %", "MAPE out of range %"])


def exponent_table(rows: list[dict[str, Any]]) -> str:
    """What each GNP has learned, one line per site and run."""
    lines = []
    for row in rows:
        for r in row["runs"]:
            for site, found in r["learned"].items():
                for p, q in zip(found["p"], found["q"], strict=True):
                    lines.append([r["seed"], site, f"{p:+.2f}", f"{q:+.2f}", f"{1 / p - q:+.2f}"])
    return format_table(lines, ["seed", "site", "p", "q", "1/p - q"]) if lines else ""


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--task", choices=TASKS, default="maxdegree")
    parser.add_argument("--aggr", help="neighbour pools, comma separated (default: a selection)")
    parser.add_argument("--readout", help="readouts, comma separated")
    parser.add_argument("--grid", action="store_true", help="all 16 fixed pairs, and GNP")
    parser.add_argument("--preset", choices=("demo", "reduced", "full"), default="demo")
    parser.add_argument("--full", action="store_true", help="the published protocol (hours)")
    parser.add_argument("--epochs", type=int, help="overrides the preset")
    parser.add_argument("--hidden", type=int, help="overrides the preset")
    parser.add_argument(
        "--num-graphs",
        type=int,
        nargs=3,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="overrides the preset",
    )
    parser.add_argument("--lr", type=float, help="learning rate (default: as published)")
    parser.add_argument(
        "--halve-every",
        type=int,
        help="epochs after which the rate halves (default: a quarter of all, full: 50; 0: a quarter)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs per pair, from --seed upwards")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="cache of the graphs")
    parser.add_argument(
        "--resume", action="store_true", help="keep the runs that an earlier call has finished"
    )
    args = parser.parse_args()
    if (args.halve_every or 0) < 0:
        parser.error(f"--halve-every must not be negative; got {args.halve_every}")
    return args


def main() -> None:
    args = parse()
    task = TASKS[args.task]
    if args.lr is not None:
        task = replace(task, lr=args.lr)
    name = "full" if args.full else "quick" if args.quick else args.preset
    size = preset(name, task)
    # An option with the name of a field overrides it.
    given = {key: vars(args).get(key) for key in asdict(size)}
    size = replace(size, **{key: value for key, value in given.items() if value is not None})
    folder = out_dir(args)
    log = folder / f"swap_readouts_{args.task}_{name}.json"
    sizes = {"task": args.task, "preset": name, "lr": task.lr, **asdict(size)}
    finished: list[dict[str, Any]] = []
    if args.resume and log.exists():
        stored = parsed(log.read_text("utf-8", "replace"), str(log))
        finished = stored.pop("runs", [])
        if others := differing(stored, sizes):
            raise ValueError(f"{log} was made with other options: {others}; take another --out.")
    wanted = [
        (pair, seed)
        for seed in range(args.seed, args.seed + args.seeds)
        for pair in choose_pairs(args, task)
    ]
    runs = []
    for pair, seed in tqdm(wanted, desc=f"{args.task}, {name}", file=sys.stderr):
        same = [r for r in finished if (r["aggr"], r["readout"], r["seed"]) == (*pair, seed)]
        if same:
            runs.append(same[0])
            continue
        runs.append(run(task, size, pair, seed, args))
        kept = [r for r in finished if r not in runs]
        write(log, {**sizes, "runs": [*runs, *kept]})
    rows = summarise(runs)
    small, _, large = size.num_graphs
    print(
        f"\n{args.task} ({name}): trained on {small} small graphs, tested on {large} larger ones; "
        f"width {size.hidden}, {size.epochs} epochs, batches of {size.batch_size}\n"
    )
    print(table(rows))
    if learned := exponent_table(rows):
        print("\nlearned exponents; 1/p - q is the growth of the result with the size of the bag")
        print(f"(sum: p=1, q=0; mean: p=1, q=1; max: p→∞, q=0)\n\n{learned}")
    picture = folder / f"swap_readouts_{args.task}_{name}.png"
    draw(rows, f"{args.task}: which pools extrapolate?", picture)
    print(f"\nnumbers: {log}\npicture: {picture}")
    if any(r.get("path") for r in runs):
        curves = folder / f"swap_readouts_{args.task}_{name}_exponents.png"
        draw_training(runs, f"{args.task}: p and growth of GNP along training", curves)
        print(f"along training: {curves}")


if __name__ == "__main__":
    run_script(main)
