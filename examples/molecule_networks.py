"""QM9 with a network: which readout for which property, and on larger molecules.

Atoms are elements, edges join atoms that are close, with their length in radial functions; layers of GIN
with edges and layer normalisation, a linear layer, a readout, a linear map to all targets at once. Everything
but the readout is the same. What least squares says of the numbers and shares of the elements is taken off
first (the line "elements alone"), as usual: the network is left with what the atoms' arrangement adds.

The split of molecules into 110,000 to train on, 10,000 to choose the epoch by and the rest to test has the
seed 0; --train-size takes the first so many of the training part, and a quarter as many at most to choose by.
"large" trains and chooses on molecules of at most 17 atoms and tests on those of at least 20. Energies are in
meV, u0_atom is that of the molecule less its atoms'.

Results are kept as they come, by readout, split and seed: the same command goes on where it was stopped.

    python examples/molecule_networks.py
    python examples/molecule_networks.py --train-size 110000 --epochs 50 --hidden 64 --layers 4 --seeds 2
"""

from __future__ import annotations

import argparse
import statistics
import time

import matplotlib
import torch
from _common import check_pools, format_table, make_parser, make_pool, out_dir, seed_everything
from _kept import Kept, seeds_of
from _scripts import run as run_script
from molecules import IN_MEV, LARGE, SMALL, linear, pooled, read
from torch import Tensor, nn
from tqdm import tqdm

from graphpool.datasets import QM9
from graphpool.io.molecules import SYMBOLS
from graphpool.models import GraphModel
from graphpool.plot.colors import HUES
from graphpool.train import GraphBatches, MiniBatch, fit, predict

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

READOUTS = ["sum", "mean", "max", "softmax", "attsets", "set2set", "pna", "fsw", "gnp", "sum+mean"]
TARGETS = ["mu", "alpha", "homo", "gap", "u0_atom"]
SPLITS = ("random", "large")
TRAIN, VALIDATION = 110_000, 10_000
RADIAL = 16


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--readouts", nargs="+", default=READOUTS, help="names; + joins several")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=[*SPLITS])
    parser.add_argument("--root", help="folder of qm9_part1.csv, ...; the package, if absent")
    parser.add_argument("--train-size", type=int, default=2_000, help="molecules to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=1, help="of weights and order")
    args = parser.parse_args()
    args.readouts = list(dict.fromkeys(args.readouts))
    if args.quick:
        args.train_size, args.epochs, args.readouts = 500, 1, args.readouts[:2]
    if args.train_size > TRAIN:
        parser.error(
            f"--train-size must be at most {TRAIN}, the training part; got {args.train_size}"
        )
    check_pools(parser, "--readouts", args.readouts, args.hidden)
    return args


def prepared(data: QM9) -> None:
    """Elements and lengths as vectors, where :class:`GraphBatches` looks for them."""
    storage, slices = data._data, data.slices
    elements = torch.tensor(sorted(SYMBOLS.values()))
    storage.x, slices["x"] = (storage.z[:, None] == elements).float(), slices["z"]
    centers = torch.linspace(0.8, 2.0, RADIAL)
    storage.edge_attr = (-(((storage.length - centers) / (centers[1] - centers[0])) ** 2)).exp()
    slices["edge_attr"] = slices["edge_index"]


def parts(sizes: Tensor, split: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which molecules to train on, to choose by and to test on."""
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0))
    # Where there are fewer than all of QM9, shares of them.
    first, second = (round(len(sizes) * n / 130_831) for n in (TRAIN, TRAIN + VALIDATION))
    train, validation, test = order[:first], order[first:second], order[second:]
    if split == "large":
        train, validation = train[sizes[train] <= SMALL], validation[sizes[validation] <= SMALL]
        test = test[sizes[test] >= LARGE]
    if not all(map(len, (train, validation, test))):
        raise ValueError(f"`train_size` leaves the split {split!r} a part without molecules.")
    # An epoch is not judged for longer than it is trained.
    return train[:count], validation[: max(count // 4, 100)], test


def forward(model: nn.Module, batch: MiniBatch) -> Tensor:
    return model(batch.x, batch.edge_index, batch.nodes, edge_attr=batch.edge_attr)


def one_run(
    data: QM9, readout: str, split: str, seed: int, args: argparse.Namespace
) -> dict[str, object]:
    """Mean absolute errors on the test part, in the units of the targets."""
    begin = time.process_time()
    seed_everything(seed)
    train, validation, test = parts(data.slices["z"].diff(), split, args.train_size)
    y = data._data.y
    known = linear(pooled(data, ["sum,mean"])[0]["sum,mean"], y, train)
    spread = (y[train] - known[train]).abs().mean(0)
    data._data.y = ((y - known) / spread).float()
    shuffle = torch.Generator().manual_seed(seed)
    fitted = GraphBatches(data, args.batch_size, True, shuffle, indices=train, device=args.device)
    chosen, judged = (
        GraphBatches(data, 1024, indices=part, device=args.device) for part in (validation, test)
    )
    data._data.y = y
    model = GraphModel(
        len(SYMBOLS),
        args.hidden,
        len(TARGETS),
        num_layers=args.layers,
        readout=make_pool(readout, args.hidden),
        edge_dim=RADIAL,
        norm="layer",
        node_layers=1,
        head="linear",
    ).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    loss = nn.functional.l1_loss
    with tqdm(total=args.epochs, desc=f"{readout}, {split}", leave=False, mininterval=1.0) as bar:
        history = fit(
            model,
            fitted,
            chosen,
            optimizer,
            args.epochs,
            loss,
            loss,
            forward,
            schedule,
            lambda *_: bar.update(),
        )
    output, wanted = predict(model, judged, forward)
    error = (output - wanted).abs().double().mean(0).cpu() * spread
    return {
        "error": dict(zip(TARGETS, error.tolist(), strict=True)),
        "no network": dict(zip(TARGETS, (y - known)[test].abs().mean(0).tolist(), strict=True)),
        "epoch": history.best_epoch + 1,
        "trained on": len(train),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.process_time() - begin,
    }


def line(name: str, runs: list[dict], key: str = "error") -> list[str]:
    cells = [name]
    for target in TARGETS:
        values = [1e3 * r[key][target] if target in IN_MEV else r[key][target] for r in runs]
        spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):,.3g}{spread}")
    return cells


def draw(found: dict[str, dict[str, list[dict]]], path: str) -> None:
    """Errors in those of the sum, target by target, a panel for each split."""
    figure, panels = plt.subplots(
        len(found), 1, figsize=(8, 2.6 * len(found)), layout="constrained", squeeze=False
    )
    for axes, (split, rows) in zip(panels[:, 0], found.items(), strict=True):
        first, *others = rows
        for i, name in enumerate(others):
            ratio = [
                statistics.fmean(r["error"][t] for r in rows[name])
                / statistics.fmean(r["error"][t] for r in rows[first])
                for t in TARGETS
            ]
            at = [k + (i - (len(others) - 1) / 2) * 0.8 / len(others) for k in range(len(TARGETS))]
            axes.plot(at, ratio, "o", label=name, color=HUES[i % len(HUES)],
                      markerfacecolor="none" if i >= len(HUES) else None)  # fmt: skip
        axes.axhline(1, color="k", linewidth=0.8)
        axes.set(yscale="log", ylabel=f"error, in that of {first}", title=split)
        axes.set_xticks(range(len(TARGETS)), TARGETS)
    if any(len(rows) > 1 for rows in found.values()):
        panels[0, 0].legend(fontsize=7, ncols=5)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    args = parse()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    data = read(TARGETS, args.root, 4_000 if args.quick else None)
    prepared(data)
    kept = Kept("molecule_networks", args, apart=("readouts", "splits"))
    cases = [[n, s, seed] for seed in seeds_of(args) for n in args.readouts for s in args.splits]
    for readout, split, seed in kept.missing(cases):
        kept.keep([readout, split, seed], one_run(data, readout, split, seed, args))
    found = {
        split: {n: kept.of([n, split, seed] for seed in seeds_of(args)) for n in args.readouts}
        for split in args.splits
    }
    for split, rows in found.items():
        any_run = next(iter(rows.values()))[0]
        print(f"\n{split}: {any_run['trained on']:,} molecules, {args.epochs} epochs\n")
        lines = [line("(elements alone)", [any_run], "no network")]
        lines += [
            [*line(name, runs), f"{statistics.fmean(r['seconds'] for r in runs):.0f}"]
            for name, runs in rows.items()
        ]
        lines[0].append("")
        print(format_table(lines, ["readout", *TARGETS, "seconds"]))
    path = out_dir(args) / "molecule_networks.png"
    draw(found, str(path))
    print(path)


if __name__ == "__main__":
    run_script(main)
