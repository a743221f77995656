"""Multiple-instance learning: one network, every pool, and which instances carried the decision.

A bag has one label, and some of its instances are the reason for it. A perceptron for each instance, a pool,
a linear map. The protocol is the same for all pools: repeated stratified 10-fold cross-validation over bags;
features are scaled by the bags of training alone; of these a tenth is held out, and its loss says which epoch
counts. Test bags are looked at once, with the threshold at 1/2. "picked" takes in each fold the pool with the
smallest held-out loss: what one gets who tries all pools and chooses honestly. "mean first" is no pool of
instances: a perceptron of the mean of their features, the least there is.

    python examples/multiple_instance.py                              # MUSK1, needs the package mil
    python examples/multiple_instance.py --data musk1 musk2 elephant ucsb_breast_cancer --pools all --jobs 2
    python examples/multiple_instance.py --data slides/features --labels slides.csv --at-once 20

The ten networks of a repetition are trained side by side, and every finished repetition of a pool is a line
of a file in --out: what was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import torch
from _bag_networks import MEAN_FIRST, Networks, Scaled, train
from _common import format_table, make_parser, out_dir, seed_everything
from _kept import parsed
from _scripts import run as run_script
from torch import Tensor
from tqdm import tqdm

from graphpool import Segments, aggr
from graphpool.datasets import BagFolder, Bags, MultipleInstances
from graphpool.datasets.bags import NAMES

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

POOLS = [
    "mean",
    "max",
    "mean+max",
    "gnp",
    "attsets",
    "gated_attention",
    "dsmil",
    "conjunctive",
    "pma",
]
POOLS += ["set2set", "fsw", "pna", MEAN_FIRST]
MEAN = "mean of all"
SHOWN = ("mean", "max", "gated_attention", "dsmil", "gnp", "fsw")
Record = dict[str, Any]


def generated(seed: int) -> Bags:
    """Bags of 5 to 15 instances; in the positive ones one or two are moved."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randint(5, 16, (60,), generator=random)
    x = [torch.randn(n, 8, generator=random) for n in sizes.tolist()]
    for bag in x[::2]:
        bag[: 1 + len(bag) % 2, :2] += 2.5
    return Bags(x, (torch.arange(60) % 2 == 0).long(), ["negative", "positive"])


def load(name: str, args: argparse.Namespace) -> Bags:
    if name == "generated":
        return generated(args.seed)
    if name in NAMES:
        return MultipleInstances(name, args.root)
    return BagFolder(name, args.labels, bag=args.bag, label=args.label)


def folds(y: Tensor, count: int, seed: int) -> list[Tensor]:
    """A partition of the bags into ``count`` folds with the same share of every class."""
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=random)
    order = order[y[order].argsort(stable=True)]
    return [order[start::count] for start in range(count)]


def parts(y: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which bags train each network, which choose its epoch, and which test it: ``[count, B]`` each."""
    test, held = torch.zeros(2, count, len(y), dtype=torch.bool)
    for k, own in enumerate(folds(y, count, seed)):
        test[k, own] = True
        rest = (~test[k]).nonzero().flatten()
        # A tenth of each class, at least one bag.
        held[k, rest[folds(y[rest], 10, seed)[0]]] = True
    return ~(test | held), held, test


def repetition(name: str, number: int, pool: str, args: argparse.Namespace) -> Record:
    """All folds of one repetition for one pool."""
    begin = time.perf_counter()
    data = load(name, args)
    y = data._data.y
    fit, held, test = (part.to(args.device) for part in parts(y, args.folds, args.seed + number))
    seed_everything(args.seed + number)
    shape = (args.folds, data.num_features, len(data.classes))
    networks = Networks(*shape, pool, args.hidden).to(args.device)
    bags = Scaled(data, fit, args.at_once or len(y), args.device)
    score, value, state = train(
        networks, bags, fit, held, epochs=args.epochs, lr=args.lr, weight_decay=args.weight_decay
    )
    right = ((score.argmax(2) == y.to(args.device)) & test).sum(1)
    alone, positive = score[test].cpu(), (y == len(data.classes) - 1).expand(test.shape)[test.cpu()]
    found = {
        "data": name, "repetition": number, "pool": pool, "settings": settings(args),
        "right": right.tolist(), "bags": test.sum(1).tolist(), "held": value.tolist(),
        "auc": area(alone[:, -1], positive),
    }  # fmt: skip
    if number == 0 and pool in args.shown:
        networks.load_state_dict(state)
        drawn = [i for i in test[0].nonzero().flatten().tolist() if y[i] == y.max()]
        drawn = [i for i in drawn if 1 < len(data[i].x) <= 60][:5]
        found["effects"] = {
            i: effects(networks, bags.scale(data[i].x.to(args.device))) for i in drawn
        }
    return {**found, "seconds": round(time.perf_counter() - begin, 1)}


def settings(args: argparse.Namespace) -> Record:
    """What a result depends on, but for the bags, the pool and the repetition."""
    return {
        k: getattr(args, k) for k in ("folds", "epochs", "hidden", "lr", "weight_decay", "seed")
    }


def finished(file: Path) -> list[Record]:
    """What earlier calls have left, a record a line; one that was broken off is taken out, which is said."""
    text = file.read_text("utf-8", "replace") if file.exists() else ""
    whole, end, rest = text.rpartition("\n")
    if rest:
        print(f"note: the last line of {file} was broken off, and is taken out")
        file.write_text(whole + end, "utf-8")
    return [parsed(row, f"line {n} of {file}") for n, row in enumerate(whole.splitlines(), 1)]


def area(score: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve; a tie counts half."""
    above = score[positive][:, None] - score[~positive]
    return float((above > 0).double().mean() + (above == 0).double().mean() / 2)


@torch.no_grad()
def effects(networks: Networks, x: Tensor) -> list[float]:
    """How much the log-odds of the last class fall in the first network when each instance is left out.

    ``x`` ``[count, n, F]`` is one bag as the networks see it.
    """
    n = x.size(1)
    without = torch.arange(n, device=x.device).repeat(n, 1)[~torch.eye(n, dtype=torch.bool)]
    bags = Segments.from_counts(torch.tensor([n, *[n - 1] * n])).to(x.device)
    y = networks(torch.cat([x, x[:, without]], 1), bags)[0][0].log_softmax(1)
    odds = y[:, -1] - y[:, :-1].logsumexp(1)
    return (odds[0] - odds[1:]).tolist()


def picture(shown: dict[str, dict[str, list[float]]], path: Path) -> None:
    labels = list(next(iter(shown.values())))
    size = (2 * len(labels), 1.1 * len(shown))
    figure, axes = plt.subplots(len(shown), len(labels), figsize=size, squeeze=False, sharex="col")
    for row, (pool, found) in zip(axes, shown.items(), strict=True):
        for axis, label in zip(row, labels, strict=True):
            effect = found[label]
            axis.bar(range(len(effect)), effect, color=["C3" if v > 0 else "C0" for v in effect])
            axis.axhline(0, color="black", linewidth=0.5)
            axis.tick_params(labelsize=6)
            axis.xaxis.get_major_locator().set_params(integer=True)
            if axis in axes[0]:
                axis.set_title(f"bag {label}", fontsize=8)
        row[0].set_ylabel(pool, fontsize=7)
    figure.supxlabel("instance of the bag", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def picked(records: list[Record]) -> list[Record]:
    """In each fold of each repetition the pool with the smallest held-out loss."""
    found = []
    for number in sorted({r["repetition"] for r in records}):
        own = [r for r in records if r["repetition"] == number]
        best = torch.tensor([r["held"] for r in own]).nan_to_num(torch.inf).argmin(0).tolist()
        right = [own[i]["right"][k] for k, i in enumerate(best)]
        found.append({**own[0], "pool": "picked", "right": right, "auc": torch.nan})
    return found


def _spread(v: Tensor) -> str:
    """Mean and deviation over repetitions, where there are several; nothing for the area of "picked"."""
    if v.isnan().any():
        return ""
    return f"{v.mean():.1f}" + (f" +- {v.std(correction=0):.1f}" if len(v) > 1 else "")


def table(records: list[Record]) -> str:
    """Of each pool accuracy and area, mean and deviation over repetitions, best first; and how far it is from
    the mean, with the standard error of Nadeau and Bengio (2003) for folds that share training bags."""
    shares = torch.tensor(records[0]["bags"])
    others = 1 / (len(shares) - 1)

    def of(pool: str) -> list[Record]:
        return sorted((r for r in records if r["pool"] == pool), key=lambda r: r["repetition"])

    records = records + picked(records)
    rows = []
    for pool in dict.fromkeys(r["pool"] for r in records):
        own = of(pool)
        right = torch.tensor([r["right"] for r in own])
        accuracy = 100 * right.sum(1) / shares.sum()
        auc = 100 * torch.tensor([r["auc"] for r in own])
        cells = [_spread(v) for v in (accuracy, auc)]
        paired = {r["repetition"]: r for r in of("mean")}
        both = [
            100 * (torch.tensor(r["right"]) - torch.tensor(paired[r["repetition"]]["right"])) / shares
            for r in own if r["repetition"] in paired
        ]  # fmt: skip
        if both and pool != "mean":
            gap = torch.cat(both)
            error = ((1 / len(gap) + others) * gap.var()).sqrt()
            cells.append(f"{gap.mean():+.1f} +- {error:.1f}")
        else:
            cells.append("")
        rows.append((float(accuracy.mean()), [f"`{pool}`", str(len(own)), *cells]))
    rows.sort(key=lambda row: -row[0])
    header = [
        "pool",
        "repetitions",
        "accuracy, %",
        "area under the ROC curve, %",
        "accuracy beyond mean",
    ]
    return format_table([cells for _, cells in rows], header)


def accuracies(records: list[Record]) -> dict[str, dict[str, Tensor]]:
    """Of each pool, best first by the mean over all sets, the accuracies in percent of its repetitions on
    each; last the means over sets of those repetitions that all sets have."""
    found: dict[str, dict[str, Tensor]] = {}
    for data in dict.fromkeys(r["data"] for r in records):
        own = [r for r in records if r["data"] == data]
        for record in sorted(own + picked(own), key=lambda r: r["repetition"]):
            right = torch.tensor([100 * sum(record["right"]) / sum(record["bags"])])
            row = found.setdefault(record["pool"], {data: right[:0]})
            row[data] = torch.cat([row.get(data, right[:0]), right])
    for row in found.values():
        least = min(map(len, row.values()))
        row[MEAN] = torch.stack([v[:least] for v in row.values()]).mean(0)
    return dict(sorted(found.items(), key=lambda pair: -float(pair[1][MEAN].mean())))


def overview(found: dict[str, dict[str, Tensor]], path: Path) -> None:
    """A dot for each pool and set, the mean of its repetitions, and a line for their deviation."""
    sets = list(next(iter(found.values())))
    pools = [pool for pool in found if len(found[pool]) == len(sets)]
    figure, axes = plt.subplots(
        1, len(sets), figsize=(2 * len(sets) + 1, 0.17 * len(pools) + 1), sharey=True
    )
    for axis, name in zip(axes, sets, strict=True):
        values = {p: float(found[p][name].mean()) for p in pools}
        for i, (pool, value) in enumerate(values.items()):
            special = {"mean": "C3", MEAN_FIRST: "C1", "picked": "black"}
            spread = float(found[pool][name].std(correction=0))
            style = {"fmt": "o", "ms": 4, "lw": 0.8, "color": special.get(pool, "C0")}
            axis.errorbar(value, -i, xerr=spread, **style)
        axis.axvline(values.get("mean", values[pools[0]]), color="C3", lw=0.6)
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(axis="x", color="#eeeeee")
    axes[0].set_yticks([-i for i in range(len(pools))], pools, fontsize=6)
    axes[0].set_ylim(-len(pools), 1)
    figure.supxlabel("accuracy, %; the line is the mean", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def all_pools() -> list[str]:
    """Every pool that gives one vector for each bag and asks for no positions."""
    classes = {name: aggr.lookup(name) for name in aggr.names()}
    plain = [name for name, cls in classes.items() if not (cls.ragged or cls.needs_positions)]
    return [*plain, "mean+max", MEAN_FIRST]


def one_thread() -> None:
    torch.set_num_threads(1)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data",
        nargs="+",
        default=["musk1"],
        help=f"{', '.join(NAMES)}, generated, or folders of bags",
    )
    parser.add_argument(
        "--root", help="folder of the tables, where the package mil is not installed"
    )
    parser.add_argument("--labels", help="table of labels of a folder of bags")
    parser.add_argument("--bag", default="bag", help="its column of names")
    parser.add_argument("--label", default="label", help="its column of labels")
    parser.add_argument("--pools", nargs="+", default=POOLS, help="names, + joins several; or all")
    parser.add_argument(
        "--shown", nargs="*", default=SHOWN, help="pools in the picture of instances"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=30, help="one step on all bags each")
    parser.add_argument("--at-once", type=int, help="bags in memory at a time; all if left out")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    args = parser.parse_args()
    if args.quick:
        args.data = ["generated"] if args.data == ["musk1"] else args.data
        args.repeats, args.folds, args.epochs, args.pools = 1, 3, 8, args.pools[:3]
    if args.pools == ["all"]:
        args.pools = all_pools()
    for name in args.data:
        counts = torch.bincount(load(name, args)._data.y).tolist()
        if min(counts) < args.folds:
            parser.error(f"--folds {args.folds}: the rarest class of {name} has {min(counts)} bags")
        print(f"{name}: {counts} bags of each class, one is {100 / sum(counts):.2f} points; "
              f"guessing: {100 * max(counts) / sum(counts):.1f} %")  # fmt: skip
    out = out_dir(args)
    file = out / "multiple_instance.jsonl"
    done = [r for r in finished(file) if r.get("settings") == settings(args)]
    known = {(r["data"], r["repetition"], r["pool"]) for r in done}
    wanted = [(d, r, p) for r in range(args.repeats) for d in args.data for p in args.pools]
    records = [r for r in done if (r["data"], r["repetition"], r["pool"]) in set(wanted)]
    bar = tqdm(total=len(wanted), initial=len(records), disable=None)

    def keep(record: Record) -> None:
        records.append(record)
        with file.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        bar.update()

    left = [job for job in wanted if job not in known]
    if args.jobs > 1:
        with ProcessPoolExecutor(args.jobs, get_context("spawn"), one_thread) as workers:
            for future in as_completed([workers.submit(repetition, *job, args) for job in left]):
                keep(future.result())
    else:
        for job in left:
            keep(repetition(*job, args))
    bar.close()
    for name in args.data:
        own = [r for r in records if r["data"] == name]
        text = table(own)
        print(
            f"\n{name}, {args.folds} folds, {sum(r['seconds'] for r in own):.0f} s in all\n\n{text}"
        )
        stem = f"multiple_instance_{Path(name).name}"
        (out / f"{stem}.md").write_text(text + "\n")
        if shown := {r["pool"]: r["effects"] for r in own if r.get("effects")}:
            picture(shown, out / f"{stem}.png")
            print(f"\n{out / stem}.png: what each instance of some test bags adds to the log-odds")
    found = accuracies(records)
    if len(args.data) > 1:
        columns = [*args.data, MEAN]
        rows = [
            [f"`{pool}`", *(_spread(row[c]) if c in row else "" for c in columns)]
            for pool, row in found.items()
        ]
        text = format_table(rows, ["pool", *columns])
        (out / "multiple_instance.md").write_text(text + "\n")
        print(f"\naccuracy, %\n\n{text}")
        overview(found, out / "multiple_instance.png")


if __name__ == "__main__":
    run_script(main)
