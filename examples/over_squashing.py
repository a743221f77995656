"""How far does a message come? Transfer over rings and cliques, and what each pool lets through.

    python examples/over_squashing.py
    python examples/over_squashing.py --pools sum mean max softmax gnp --distances 2 3 4 5 6 7 8 --seeds 3

One of five classes stands at one node of a graph; another node, r edges away, must say which (Di Giovanni et
al., ICML 2023). There are as many layers as edges on the way. The graphs: a ring; a ring with crosses,
i - n-1-i; a clique with a path. All other nodes have the same features, so that a graph of one size is one of
five inputs: these are the training data and the test, and the accuracy says whether the network came to pass
the message on (with thousands of copies that are cut into training and test by position, as published, all
test graphs are of one class). Beside it the exact Jacobian norm from source to target before training,
relative to that of the target to itself.

What is finished is in --out, and an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from _common import format_table, make_parser, seed_everything
from _kept import Kept, seeds_of
from _scripts import run
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import from_networkx

from graphpool.conv import Neighborhoods
from graphpool.evaluate import jacobian_norms
from graphpool.models import GraphModel
from graphpool.train import recalibrate

CLASSES = 5


def transfer_graph(kind: str, distance: int) -> tuple[nx.Graph, int, int]:
    """A graph, the node that must answer, and the one that knows, ``distance`` edges away."""
    if kind == "clique":
        graph = nx.complete_graph(distance)
        nx.add_path(graph, range(distance - 1, 2 * distance - 1))
        return graph, 0, 2 * distance - 2
    nodes = 2 * distance
    graph = nx.cycle_graph(nodes)
    if kind == "crossed":
        graph.add_edges_from((i, nodes - 1 - i) for i in range(1, distance))
    return graph, 0, distance


def inputs(kind: str, distance: int) -> tuple[Batch, Tensor, int]:
    """The five graphs, the nodes that answer, and the node of the first that knows."""
    graph, answers, knows = transfer_graph(kind, distance)
    edges, size = from_networkx(graph).edge_index, len(graph)
    graphs = []
    for label in range(CLASSES):
        x = torch.ones(size, CLASSES)
        x[answers] = 0.0
        x[knows] = torch.eye(CLASSES)[label]
        graphs.append(Data(x=x, edge_index=edges, num_nodes=size))
    return Batch.from_data_list(graphs), answers + size * torch.arange(CLASSES), knows


def one_run(
    kind: str, pool: str, distance: int, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Trains until all five are right and the loss is small, or the steps are over."""
    seed_everything(seed)
    begin = time.perf_counter()
    batch, answers, knows = inputs(kind, distance)
    batch, answers = batch.to(args.device), answers.to(args.device)
    model = GraphModel(
        CLASSES, args.hidden, CLASSES, num_layers=distance, conv=args.conv, aggr=pool, readout=None,
        norm="batch",
    ).to(args.device)  # fmt: skip
    edges = Neighborhoods(batch.edge_index, num_senders=batch.num_nodes)
    # In training mode, batch normalisation would let one graph depend on another.
    recalibrate(model, [batch.x], lambda network, x: network(x, edges))
    model.eval()
    norms = jacobian_norms(lambda x: model(x, edges), batch.x, answers[:1])[0]
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    labels = torch.arange(CLASSES, device=args.device)
    right = 0.0
    for _ in range(args.steps):
        logits = model(batch.x, edges)[answers]
        loss = nn.functional.cross_entropy(logits, labels)
        right = float((logits.argmax(1) == labels).float().mean())
        if right == 1.0 and float(loss.detach()) < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    own, there = float(norms[answers[0]]), float(norms[knows])
    return {
        "kind": kind, "pool": pool, "distance": distance, "seed": seed, "accuracy": right,
        "reach": there / own if own else 0.0, "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def draw(runs: list[dict[str, Any]], args: argparse.Namespace, path: Path) -> None:
    """Accuracy by distance above, relative Jacobian norm below; a column for each graph."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (3 * len(args.graphs) + 1, 5)
    figure, axes = plt.subplots(
        2,
        len(args.graphs),
        figsize=size,
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, kind in enumerate(args.graphs):
        for pool in args.pools:
            for row, name in enumerate(("accuracy", "reach")):
                points = [[r[name] for r in chosen(runs, kind, pool, d)] for d in args.distances]
                mean = [sum(p) / len(p) for p in points]
                axes[row, column].plot(args.distances, mean, "o-", ms=4, label=pool)
        axes[0, column].set_title(kind)
        axes[0, column].axhline(1 / CLASSES, color="grey", lw=0.8, ls=":")
        axes[1, column].set_yscale("log")
        axes[1, column].set_xlabel("distance")
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("Jacobian norm\nsource to target, relative")
    axes[0, -1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def chosen(runs: list[dict[str, Any]], kind: str, pool: str, distance: int) -> list[dict[str, Any]]:
    wanted = (kind, pool, distance)
    return [r for r in runs if (r["kind"], r["pool"], r["distance"]) == wanted]


def main() -> None:
    parser = make_parser(__doc__)
    kinds = ("ring", "crossed", "clique")
    parser.add_argument("--graphs", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--pools", nargs="+", default=["sum", "max", "softmax", "gnp"])
    parser.add_argument("--distances", nargs="+", type=int, default=[2, 4, 6])
    parser.add_argument("--conv", default="gin", help="gin, sage, ...")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    args = parser.parse_args()
    if args.quick:
        args.distances, args.steps, args.pools = args.distances[:1], 5, args.pools[:2]
    if min(args.distances) < 2:
        raise ValueError(f"`distances` must be at least 2; got {min(args.distances)}.")
    cases = [
        (kind, pool, distance, seed)
        for kind in args.graphs
        for distance in args.distances
        for pool in args.pools
        for seed in seeds_of(args)
    ]
    kept = Kept("over_squashing", args, apart=("graphs", "pools", "distances"))
    for case in kept.missing(cases):
        kept.keep(case, one_run(*case, args))
    runs = kept.of(cases)
    rows = []
    for kind in args.graphs:
        for pool in args.pools:
            cells = [chosen(runs, kind, pool, d) for d in args.distances]
            shares = [f"{sum(r['accuracy'] for r in c) / len(c):.2f}" for c in cells]
            reach = [f"{sum(r['reach'] for r in c) / len(c):.0e}" for c in cells]
            rows.append([kind, pool, *(f"{s} ({r})" for s, r in zip(shares, reach, strict=True))])
    print("accuracy of the last step (relative Jacobian norm before training), by distance")
    print(format_table(rows, ["graph", "pool", *map(str, args.distances)]))
    draw(runs, args, path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
