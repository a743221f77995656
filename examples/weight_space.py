"""Networks as data: what does a network compute, told from its weights alone?

    python examples/weight_space.py                          # frequencies of sines
    python examples/weight_space.py --task digits            # digits of scikit-learn, each of them a network
    python examples/weight_space.py --pools max mean softmax gnp --seeds 3

Each element of the data is a small sine network, fitted from random weights of its own to one function:
sin(bx) with b in [0.5, 10], or an 8 x 8 image of a digit. All networks are fitted at once, each by its own
gradient. Then a network that reads weights says b, or the digit. Frequencies come as networks of three
architectures in the same batches, and the test asks about a width that was not trained on, too.

dws:POOL is graphpool.models.DWSNet; flat is a perceptron of all weights and biases in a row, with zeros
for what a network lacks; set is a perceptron of each entry beside a vector for its layer, the mean, and
a perceptron. With --time a batch of networks is timed beside a loop over them.

What is finished is in --out, and an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from _common import format_table, make_parser, mean_and_spread, seed_everything
from _kept import Kept, seeds_of
from _scripts import run
from torch import Tensor, nn

from graphpool.models.weight_space import DWSNet, Perceptrons, WeightTable
from graphpool.models.weight_space.layers import RoleNorm, num_roles
from graphpool.nn import perceptron
from graphpool.ops import segment_mean
from graphpool.segments import Segments
from graphpool.train import recalibrate

SEEN = ((1, 12, 12, 1), (1, 16, 16, 1), (1, 12, 12, 12, 1))
UNSEEN = (1, 14, 14, 1)
IMAGE = (2, 8, 8, 1)
VIEWS = 2  # networks per image


def fit(
    widths: Sequence[int], points: Tensor, values: Tensor, steps: int, omega: float, lr: float
) -> tuple[Tensor, float]:
    """Sine networks ``[B, n]`` for ``values`` ``[B, T, out]`` at ``points`` ``[T, in]``, and their error."""
    count, tensors = len(values), []
    for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        bound = 1 / before if i == 0 else math.sqrt(6 / before) / omega
        tensors += [torch.empty(count, after, before).uniform_(-bound, bound)]
        tensors += [
            torch.empty(count, after).uniform_(-1, 1).div_(math.sqrt(before) * (omega if i else 1))
        ]
    for tensor in tensors:
        tensor.requires_grad_()
    # Adam treats every number apart, so that a sum of losses fits each network as it would be fitted alone.
    optimizer = torch.optim.Adam(tensors, lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        h = points.expand(count, -1, -1)
        for i in range(0, len(tensors), 2):
            h = torch.baddbmm(tensors[i + 1].unsqueeze(1), h, tensors[i].mT)
            h = (omega * h).sin() if i < len(tensors) - 2 else h
        error = (h - values).square().mean((1, 2))
        optimizer.zero_grad()
        error.sum().backward()
        optimizer.step()
        schedule.step()
    return torch.cat([t.detach().flatten(1) for t in tensors], 1), float(error.detach().median())


def sines(seed: int, args: argparse.Namespace) -> tuple[Perceptrons, Tensor, list[Tensor], float]:
    """Networks, frequencies, and the parts: training, validation, test, test of another width."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.linspace(-1, 1, 48).unsqueeze(1)
    sizes = [args.networks // len(SEEN)] * len(SEEN) + [max(args.networks // 5, 2)]
    labels = 0.5 + 9.5 * torch.rand(sum(sizes), generator=generator)
    vectors, errors = [], []
    for widths, b in zip((*SEEN, UNSEEN), labels.split(sizes), strict=True):
        values = torch.sin(b[:, None, None] * math.pi * points)
        rows, error = fit(widths, points, values, args.fit, 10.0, 0.01)
        vectors.append(rows)
        errors.append(error)
    order = torch.randperm(sum(sizes[:-1]), generator=generator)
    kept = len(order) * 7 // 10, len(order) // 10
    parts = [*order.split([*kept, len(order) - sum(kept)]), torch.arange(len(order), sum(sizes))]
    return Perceptrons((*SEEN, UNSEEN), vectors), labels, parts, max(errors)


def digits(seed: int, args: argparse.Namespace) -> tuple[Perceptrons, Tensor, list[Tensor], float]:
    """Networks, digits, and which are for training, validation and the test."""
    from sklearn.datasets import load_digits

    generator = torch.Generator().manual_seed(seed)
    found = load_digits()
    images = torch.randperm(len(found.target), generator=generator)[: args.networks]
    values = torch.tensor(found.data[images]).float().unsqueeze(2) / 8 - 1
    side = torch.linspace(-1, 1, 8)
    points = torch.cartesian_prod(side, side)
    rows, error = fit(IMAGE, points, values.repeat(VIEWS, 1, 1), args.fit, 1.5, 0.02)
    here = torch.arange(len(images)).view(-1, 1) + len(images) * torch.arange(VIEWS)
    kept = len(here) * 7 // 10, len(here) // 10
    train, validation, test = here.split([*kept, len(here) - sum(kept)])
    # An image is in one part only, and those of validation and test are looked at once.
    parts = [train.flatten(), validation[:, 0], test[:, 0]]
    return (
        Perceptrons([IMAGE], [rows]),
        torch.tensor(found.target)[images].repeat(VIEWS),
        parts,
        error,
    )


class Flat(nn.Module):
    """A perceptron of all entries in a row."""

    def __init__(self, networks: Perceptrons, hidden: int, out: int) -> None:
        super().__init__()
        self.width = max(rows.size(1) for rows in networks.vectors)
        self.norm = nn.BatchNorm1d(self.width)
        self.net = perceptron(self.width, hidden, hidden, out)

    def forward(self, table: WeightTable) -> Tensor:
        networks = table.networks
        x = networks.vectors[0].new_zeros(len(networks), self.width)
        for rows, numbers in zip(networks.vectors, networks.numbers, strict=True):
            x[numbers, : rows.size(1)] = rows
        return self.net(self.norm(x))


class SetOfEntries(nn.Module):
    """Entries that know their layer, and not which neuron they share with which."""

    def __init__(self, sizes: tuple[int, int, int], hidden: int, out: int) -> None:
        super().__init__()
        self.norm = RoleNorm(1, num_roles(*sizes))
        self.role = nn.Embedding(num_roles(*sizes), hidden)
        self.value, self.inner = nn.Linear(1, hidden), nn.Linear(hidden, hidden)
        self.head = perceptron(hidden, hidden, out)

    def forward(self, table: WeightTable) -> Tensor:
        x = self.value(self.norm(table.x, table.roles)) + self.role(table.roles.index)
        x = self.inner(x.relu()).relu()
        network = table.places.index // table.roles.num_segments
        return self.head(segment_mean(x, Segments(index=network, num_segments=len(table.networks))))


def one_run(method: str, seed: int, data: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Trains one method on one data set, and keeps the epoch that is best on the validation networks."""
    seed_everything(seed)
    networks, labels, parts, _ = data
    begin, regression = time.process_time(), labels.is_floating_point()
    sizes = (1, 1, 4) if regression else (2, 1, 3)
    out = 1 if regression else 10
    if method == "flat":
        model: nn.Module = Flat(networks, 128, out)
    elif method == "set":
        model = SetOfEntries(sizes, 64, out)
    else:
        model = DWSNet(*sizes, args.hidden, out, method.partition(":")[2], num_blocks=args.blocks)
    networks, labels, model = (
        networks.to(args.device),
        labels.to(args.device),
        model.to(args.device),
    )
    centre = labels[parts[0]].float().mean() if regression else 0.0

    def says(which: Tensor) -> Tensor:
        found = model(WeightTable(networks[which], *sizes))
        return centre + 3 * found.squeeze(1) if regression else found

    def score(which: Tensor) -> float:
        """Mean absolute error of frequencies, or the share of wrong digits."""
        with torch.no_grad():
            found = torch.cat([says(part) for part in which.split(256)])
        if regression:
            return float((found - labels[which]).abs().mean())
        return float((found.argmax(1) != labels[which]).float().mean())

    loss = nn.functional.mse_loss if regression else nn.functional.cross_entropy
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, weight_decay=args.decay)
    steps = args.epochs * math.ceil(len(parts[0]) / args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps)
    best, kept = math.inf, {}
    for _ in range(args.epochs):
        model.train()
        for which in parts[0][torch.randperm(len(parts[0]))].split(args.batch):
            optimizer.zero_grad()
            loss(says(which), labels[which]).backward()
            optimizer.step()
            schedule.step()
        recalibrate(model, parts[0].split(args.batch), lambda _, which: says(which))
        model.eval()
        if (now := score(parts[1])) < best:
            best, kept = now, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    scores = [score(part) for part in parts[2:]]
    some = parts[2][:200]
    with torch.no_grad():
        picture = [says(some).tolist(), labels[some].tolist()] if regression else []
    return {
        "method": method, "seed": seed, "scores": scores, "picture": picture,
        "parameters": sum(p.numel() for p in model.parameters()), "seconds": time.process_time() - begin,
    }  # fmt: skip


def timing(data: Any, args: argparse.Namespace) -> None:
    """One step of a batch of networks of several architectures, and a loop over them."""
    networks = data[0][torch.randperm(len(data[0]))[: args.batch]]
    sizes = (1, 1, 4) if args.task == "sines" else (2, 1, 3)
    model = DWSNet(*sizes, args.hidden, 1, num_blocks=args.blocks).eval()
    single = [networks[torch.tensor([i])] for i in range(len(networks))]
    found: dict[str, list[float]] = {"batch": [], "loop": []}
    for _ in range(5):
        for name, batches in (("batch", [networks]), ("loop", single)):
            begin = time.process_time()
            for batch in batches:
                model(batch).sum().backward()
            found[name].append(time.process_time() - begin)
    batch, loop = (sorted(v)[2] for v in found.values())
    print(
        f"{len(networks)} networks, forward and backward: batch {1e3 * batch:.0f} ms, "
        f"loop {1e3 * loop:.0f} ms, {loop / batch:.1f} times"
    )


def draw(runs: list[dict[str, Any]], args: argparse.Namespace, path: Any) -> None:
    """Predicted by true frequency; for digits the accuracy of every seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(r["method"] for r in runs))
    if args.task == "digits":
        figure, axes = plt.subplots(figsize=(6, 0.4 * len(methods) + 1.2), layout="constrained")
        for y, method in enumerate(methods):
            hits = [100 - 100 * r["scores"][0] for r in runs if r["method"] == method]
            axes.plot(hits, [y] * len(hits), "o", color="tab:blue", alpha=0.5, ms=5, mew=0)
        axes.set_yticks(range(len(methods)), methods)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("digits told from the weights of a network, %")
        axes.grid(axis="x", alpha=0.3)
    else:
        size = (2.4 * len(methods), 2.7)
        figure, panels = plt.subplots(
            1, len(methods), figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        for axes, method in zip(panels[0], methods, strict=True):
            said, true = next(r["picture"] for r in runs if r["method"] == method)
            axes.plot([0.5, 10], [0.5, 10], color="grey", lw=0.8)
            axes.plot(true, said, ".", ms=4, alpha=0.6)
            axes.set(title=method, xlabel="frequency")
        panels[0, 0].set_ylabel("told from the weights")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", choices=["sines", "digits"], default="sines")
    parser.add_argument("--pools", nargs="+", default=["max", "mean"])
    parser.add_argument("--networks", type=int, default=None, help="900; images: 1797")
    parser.add_argument("--fit", type=int, default=150, help="steps of each")
    parser.add_argument("--epochs", type=int, default=None, help="30; digits: 20")
    parser.add_argument("--batch", type=int, default=None, help="64; digits: 128")
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--time", action="store_true", help="also time a batch beside a loop")
    args = parser.parse_args()
    usual = (900, 30, 64) if args.task == "sines" else (1797, 20, 128)
    for name, value in zip(("networks", "epochs", "batch"), usual, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.quick:
        args.networks, args.fit, args.epochs = 60, 20, 2
    methods = ["flat", "set", *(f"dws:{pool}" for pool in args.pools)]
    make = sines if args.task == "sines" else digits
    kept, seeds = Kept(f"weights_{args.task}", args), seeds_of(args)
    for seed in kept.missing(seeds):
        seed_everything(seed)
        begin = time.process_time()
        data = make(seed, args)
        spent = time.process_time() - begin
        print(f"median error of the worst architecture {data[3]:.1e}, {spent:.0f} s")
        kept.keep(seed, [one_run(method, seed, data, args) for method in methods])
    runs = kept.of(seeds)
    names = ["error", "error, unseen width"] if args.task == "sines" else ["wrong digits, %"]
    table = []
    for method in methods:
        mine = [r for r in runs if r["method"] == method]
        scale, places = (1, 3) if args.task == "sines" else (100, 1)
        columns = torch.tensor([r["scores"] for r in mine]).unbind(1)
        seconds = sum(r["seconds"] for r in mine) / len(mine)
        table.append(
            [
                method,
                *(mean_and_spread(c, scale, places) for c in columns),
                mine[0]["parameters"],
                f"{seconds:.1f}",
            ]
        )
    print(format_table(table, ["method", *names, "parameters", "seconds"]))
    if args.time:
        seed_everything(args.seed)
        timing(make(args.seed, args), args)
    draw(runs, args, path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
