"""A class that stands beside the wrong thing: weights of graphs against a spurious companion.

    python examples/reweighting.py
    python examples/reweighting.py --shares 0.6 0.7 0.8 0.9 --readouts mean gnp --seeds 3

A graph is a motif (house, cycle, star: the class) on a base (tree, ladder, wheel). In training the base goes
with the class in a share of the graphs, and in the test it does not. A network that looks at the base is
right in training. erm trains it plainly; uniform gives the graphs of a batch weights under which no two
coordinates of the readout depend on one another; l2r (graphpool.train.GraphReweighter) lets those be whose
correlation is the same in all batches. Weights begin after a third of the epochs. The last epoch counts;
nothing is chosen by the test.

What is finished is in --out, and an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import networkx as nx
import numpy as np
import torch
from _common import format_table, make_parser, mean_and_spread, seed_everything
from _kept import Kept, seeds_of
from _scripts import run
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.utils import from_networkx

from graphpool.models import GraphModel
from graphpool.train import GraphReweighter, recalibrate

METHODS = ("erm", "uniform", "l2r")
SIZES = (15, 30)  # of bases; a motif has five or six nodes


def base(kind: int, size: int, rng: np.random.Generator) -> nx.Graph:
    if kind == 0:
        return nx.from_prufer_sequence(rng.integers(0, size, size - 2).tolist())
    return nx.ladder_graph(size // 2) if kind == 1 else nx.wheel_graph(size)


def motif(kind: int) -> nx.Graph:
    return [nx.house_graph, lambda: nx.cycle_graph(6), lambda: nx.star_graph(5)][kind]()


def graphs(count: int, share: float | None, sizes: tuple[int, int], seed: int) -> list[Data]:
    """Graphs whose base goes with the class in ``share`` of them; ``None``: is any."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        label, other = i % 3, int(rng.integers(1, 3))
        if share is None:
            kind = int(rng.integers(3))
        else:
            kind = label if rng.random() < share else (label + other) % 3
        ground = base(kind, int(rng.integers(*sizes)), rng)
        size = len(ground)
        graph = nx.disjoint_union(ground, motif(label))
        graph.add_edge(int(rng.integers(size)), int(rng.integers(size, len(graph))))
        edges = from_networkx(graph).edge_index
        found.append(Data(x=torch.ones(len(graph), 1), edge_index=edges, y=torch.tensor([label])))
    return found


class Network(nn.Module):
    """A vector of each graph, and classes of it."""

    def __init__(self, hidden: int, readout: str) -> None:
        super().__init__()
        self.body = GraphModel(
            1, hidden, hidden, num_layers=3, readout=readout, norm="batch", head=nn.Identity()
        )
        self.head = nn.Linear(hidden, 3)

    def forward(self, data: Data) -> tuple[Tensor, Tensor]:
        z = self.body(data.x, data.edge_index, data.batch, data.num_graphs)
        return z, self.head(z)


def one_run(
    share: float, readout: str, method: str, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Accuracy on graphs as in training, and on graphs whose base says nothing."""
    seed_everything(seed)
    train = DataLoader(graphs(args.graphs, share, SIZES, 3 * seed), args.batch, shuffle=True)
    tests = [
        graphs(args.graphs // 2, s, SIZES, 3 * seed + 1 + i) for i, s in enumerate((share, None))
    ]
    begin, model = time.process_time(), Network(args.hidden, readout).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    generator = torch.Generator().manual_seed(seed)
    reweighter = GraphReweighter(
        args.clusters if method == "l2r" else None, steps=args.steps, lr=args.weight_lr,
        penalty=args.penalty, generator=generator,
    )  # fmt: skip
    ratio = []
    for epoch in range(args.epochs):
        model.train()
        for batch in train:
            batch = batch.to(args.device)
            z, logits = model(batch)
            loss = nn.functional.cross_entropy(logits, batch.y, reduction="none")
            if method != "erm" and epoch >= args.epochs // 3:
                weight = reweighter(z)
                loss = weight * loss
                ratio.append(float(weight.std()))
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
    recalibrate(model, (batch.to(args.device) for batch in train))
    model.eval()
    scores = []
    with torch.no_grad():
        for test in tests:
            batch = next(iter(DataLoader(test, len(test)))).to(args.device)
            scores.append(float((model(batch)[1].argmax(1) == batch.y).float().mean()))
    return {
        "share": share, "readout": readout, "method": method, "seed": seed, "scores": scores,
        "spread of weights": float(np.mean(ratio)) if ratio else 0.0, "seconds": time.process_time() - begin,
    }  # fmt: skip


def draw(runs: list[dict[str, Any]], args: argparse.Namespace, path: Any) -> None:
    """Accuracy where the base says nothing, by the share in training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (3.4 * len(args.readouts) + 1, 3.2)
    figure, panels = plt.subplots(
        1, len(args.readouts), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, readout in zip(panels[0], args.readouts, strict=True):
        for shift, method in enumerate(METHODS):
            mine = [r for r in runs if (r["readout"], r["method"]) == (readout, method)]
            color, offset = f"C{shift}", 0.006 * (shift - 1)
            x = [r["share"] + offset for r in mine]
            axes.plot(
                x, [100 * r["scores"][1] for r in mine], "o", color=color, alpha=0.4, ms=4, mew=0
            )
            means = [
                np.mean([100 * r["scores"][1] for r in mine if r["share"] == s])
                for s in args.shares
            ]
            axes.plot([s + offset for s in args.shares], means, "-", color=color, label=method)
        axes.set(title=f"readout {readout}", xlabel="share of bases that go with the class")
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("accuracy on any base, %")
    panels[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.8, 0.95])
    parser.add_argument("--readouts", nargs="+", default=["mean"])
    parser.add_argument(
        "--graphs", type=int, default=450, help="for training; half as many per test"
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--clusters", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of the weights, for each batch")
    parser.add_argument("--weight-lr", type=float, default=0.1)
    parser.add_argument("--penalty", type=float, default=0.1, help="of the variance of the weights")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    args = parser.parse_args()
    if args.quick:
        args.graphs, args.epochs, args.shares = 60, 3, args.shares[:1]
    cases = [
        (share, readout, method, seed)
        for share in args.shares for readout in args.readouts
        for seed in seeds_of(args) for method in METHODS
    ]  # fmt: skip
    kept = Kept("reweighting", args, apart=("shares", "readouts"))
    for case in kept.missing(cases):
        kept.keep(case, one_run(*case, args))
    runs = kept.of(cases)
    table = []
    for share in args.shares:
        for readout in args.readouts:
            for method in METHODS:
                mine = [
                    r
                    for r in runs
                    if (r["share"], r["readout"], r["method"]) == (share, readout, method)
                ]
                scores = torch.tensor([r["scores"] for r in mine])
                columns = [mean_and_spread(c, 100, 1) for c in scores.unbind(1)]
                spread, seconds = (
                    np.mean([r[k] for r in mine]) for k in ("spread of weights", "seconds")
                )
                table.append(
                    [f"{share:g}", readout, method, *columns, f"{spread:.2f}", f"{seconds:.1f}"]
                )
    headers = [
        "share",
        "readout",
        "method",
        "as in training, %",
        "any base, %",
        "spread of weights",
        "seconds",
    ]
    print(format_table(table, headers))
    draw(runs, args, path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
