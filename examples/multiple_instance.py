"""Multiple-instance learning: one network, every pool, and which instances carried the decision.

A bag has one label, and some of its instances are the reason for it. A perceptron for each instance, a pool,
a linear map. The protocol is the same for all pools: repeated stratified 10-fold cross-validation over bags;
features are scaled by the bags of training alone; of these a tenth is held out, and its loss says which epoch
counts. Test bags are looked at once, with the threshold at 1/2. "picked" takes in each fold the pool with the
smallest held-out loss: what one gets who tries all pools and chooses honestly.

    python examples/multiple_instance.py                              # MUSK1, needs the package mil
    python examples/multiple_instance.py --data elephant --pools mean max gated_attention
    python examples/multiple_instance.py --data slides/features --labels slides.csv --bag slide_id
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import matplotlib
import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _scripts import run as run_script
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from graphpool import Segments, aggr
from graphpool.datasets import BagFolder, Bags, MultipleInstances
from graphpool.datasets.bags import NAMES
from graphpool.train import GraphBatches, MiniBatch

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
    "set2set",
]
POOLS += ["fsw", "pna"]


class Model(torch.nn.Module):
    """Instances through a perceptron, a pool, a linear map to classes."""

    def __init__(self, features: int, classes: int, pool: str, hidden: int, dropout: float) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(
            torch.nn.Linear(features, hidden), torch.nn.ReLU(), torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden, hidden), torch.nn.ReLU(),
        )  # fmt: skip
        self.pool = aggr.resolve(pool.split("+") if "+" in pool else pool, channels=hidden)
        self.head = torch.nn.Linear(self.pool.out_channels, classes)

    def forward(self, x: Tensor, bags: Segments) -> Tensor:
        return self.head(self.pool(self.trunk(x), bags))

    def loss(self, batch: MiniBatch) -> Tensor:
        h, y = self.trunk(batch.x), batch.y
        loss = F.cross_entropy(self.head(self.pool(h, batch.nodes)), y)
        if isinstance(self.pool, aggr.DSMIL):
            # Its scores choose an instance; only this half of the loss trains them.
            score = self.pool.bag_scores(h, batch.nodes).squeeze(-1)
            loss = (loss + F.binary_cross_entropy_with_logits(score, (y > 0).float())) / 2
        return loss


def generated(seed: int) -> Bags:
    """Bags of 5 to 15 instances; in the positive ones one or two are moved."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randint(5, 16, (60,), generator=random)
    x = [torch.randn(n, 8, generator=random) for n in sizes.tolist()]
    for bag in x[::2]:
        bag[: 1 + len(bag) % 2, :2] += 2.5
    return Bags(x, (torch.arange(60) % 2 == 0).long(), ["negative", "positive"])


def load(args: argparse.Namespace) -> Bags:
    if args.data == "generated":
        return generated(args.seed)
    if args.data in NAMES:
        return MultipleInstances(args.data, args.root)
    return BagFolder(args.data, args.labels, bag=args.bag, label=args.label)


def folds(y: Tensor, count: int, seed: int) -> list[Tensor]:
    """A partition of the bags into ``count`` folds with the same share of every class."""
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=random)
    order = order[y[order].argsort(stable=True)]
    return [order[start::count] for start in range(count)]


def scaled(data: Bags, train: Tensor) -> Bags:
    """All bags, less the mean of the instances of the training bags and over their deviation."""
    seen = torch.cat([data[i].x for i in train.tolist()])
    mean, deviation = seen.mean(0), seen.std(0) + 1e-6
    x = [((data[i].x - mean) / deviation).clamp(-10, 10) for i in range(len(data))]
    return Bags(x, data.y, data.classes)


def train(
    data: Bags, parts: tuple[Tensor, Tensor], pool: str, args: argparse.Namespace, seed: int
) -> tuple[Model, float]:
    """A network at the epoch with the least held-out loss, and that loss."""
    seed_everything(seed)
    model = Model(data.num_features, len(data.classes), pool, args.hidden, args.dropout).to(
        args.device
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    random = torch.Generator().manual_seed(seed)
    shown = GraphBatches(data, args.batch, True, random, parts[0], args.device)
    held = GraphBatches(data, len(parts[1]), indices=parts[1], device=args.device)
    best, state = torch.inf, None
    for _ in range(args.epochs):
        model.train()
        for batch in shown:
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            value = float(model.loss(next(iter(held))))
        if state is None or value < best:
            best, state = value, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    return model.eval(), best


def area(score: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve; a tie counts half."""
    above = score[positive][:, None] - score[~positive]
    return float((above > 0).double().mean() + (above == 0).double().mean() / 2)


@torch.no_grad()
def effects(model: Model, x: Tensor) -> Tensor:
    """How much the log-odds of the positive class fall when each instance is left out, ``[n]``."""
    n = len(x)
    without = torch.arange(n).repeat(n, 1)[~torch.eye(n, dtype=torch.bool)]
    bags = Segments.from_counts(torch.tensor([n, *[n - 1] * n]))
    y = model(torch.cat([x, x[without]]), bags).log_softmax(1)
    odds = y[:, -1] - y[:, :-1].logsumexp(1)
    return odds[0] - odds[1:]


def picture(shown: dict[str, list[Tensor]], labels: list[str], path: Path) -> None:
    figure, axes = plt.subplots(
        len(shown),
        len(labels),
        figsize=(2 * len(labels), 1.1 * len(shown)),
        squeeze=False,
        sharex="col",
    )
    for row, (pool, found) in zip(axes, shown.items(), strict=True):
        for axis, effect, label in zip(row, found, labels, strict=True):
            axis.bar(
                range(len(effect)), effect, color=["C3" if v > 0 else "C0" for v in effect.tolist()]
            )
            axis.axhline(0, color="black", linewidth=0.5)
            axis.tick_params(labelsize=6)
            if axis in axes[0]:
                axis.set_title(label, fontsize=8)
        row[0].set_ylabel(pool, fontsize=7)
    figure.supxlabel("instance of the bag", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", default="musk1", help=f"{', '.join(NAMES)}, generated, or a folder of bags"
    )
    parser.add_argument(
        "--root", help="folder of the tables, where the package mil is not installed"
    )
    parser.add_argument("--labels", help="table of labels of a folder of bags")
    parser.add_argument("--bag", default="bag", help="its column of names")
    parser.add_argument("--label", default="label", help="its column of labels")
    parser.add_argument("--pools", nargs="+", default=POOLS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    args = parser.parse_args()
    if args.quick:
        args.data = "generated" if args.data == "musk1" else args.data
        args.repeats, args.folds, args.epochs, args.pools = 1, 3, 8, args.pools[:3]
    data, out = load(args), out_dir(args)
    y = data.y
    counts = torch.bincount(y).tolist()
    if min(counts) < args.folds:
        parser.error(f"--folds {args.folds}: the rarest class has {min(counts)} bags")
    score = {pool: torch.zeros(args.repeats, len(y), len(data.classes)) for pool in args.pools}
    held_loss = torch.zeros(len(args.pools), args.repeats, args.folds)
    shown: dict[str, list[Tensor]] = {}
    drawn = [int(i) for i in folds(y, args.folds, args.seed)[0] if y[i] == len(data.classes) - 1][
        :5
    ]
    bar = tqdm(total=args.repeats * args.folds * len(args.pools), desc=args.data, disable=None)
    where = torch.zeros(args.repeats, len(y), dtype=torch.long)
    for repeat in range(args.repeats):
        parts = folds(y, args.folds, args.seed + repeat)
        for k, test in enumerate(parts):
            where[repeat, test] = k
            rest = torch.cat([part for i, part in enumerate(parts) if i != k])
            # A tenth of each class, at least one bag.
            inner = folds(y[rest], 10, args.seed + repeat)[0]
            held = rest[inner]
            fit = rest[~torch.isin(torch.arange(len(rest)), inner)]
            part = scaled(data, fit)
            for i, pool in enumerate(args.pools):
                model, held_loss[i, repeat, k] = train(
                    part, (fit, held), pool, args, 1000 * repeat + k
                )
                batch = next(iter(GraphBatches(part, len(test), indices=test, device=args.device)))
                with torch.no_grad():
                    score[pool][repeat, test] = model(batch.x, batch.nodes).softmax(1).cpu()
                if repeat == k == 0:
                    shown[pool] = [effects(model, part[j].x) for j in drawn if len(part[j].x) > 1]
                bar.update()
    bar.close()
    best = held_loss.argmin(0).gather(1, where)
    every = torch.stack(list(score.values()))
    score["picked"] = every.gather(0, best[None, :, :, None].expand(1, -1, -1, every.size(-1)))[0]
    rows, results = [], {}
    for pool, found in score.items():
        right = 100 * (found.argmax(2) == y).float().mean(1)
        auc = torch.tensor([100 * area(run[:, -1], y == len(data.classes) - 1) for run in found])
        results[pool] = {"accuracy": right.tolist(), "auc": auc.tolist()}
        rows.append([pool, *(f"{v.mean():.1f} +- {v.std(correction=0):.1f}" for v in (right, auc))])
    print(f"{len(y)} bags, {counts} of each class; guessing: {100 * max(counts) / len(y):.1f} %")
    print(
        f"{args.repeats} x {args.folds} folds, mean and deviation; a bag is {100 / len(y):.2f} points"
    )
    print(format_table(rows, ["pool", "accuracy, %", "area under the ROC curve, %"]))
    (out / f"multiple_instance_{Path(args.data).name}.json").write_text(
        json.dumps(results, indent=1)
    )
    file = out / f"multiple_instance_{Path(args.data).name}.png"
    picture(shown, [f"bag {j}" for j in drawn if len(data[j].x) > 1], file)
    print(f"wrote {file}: what each instance of some test bags adds to the log-odds")


if __name__ == "__main__":
    run_script(main)
