"""Which graph is behind what its nodes show? Wedges are pooled, step by step, to tell links from pairs.

    python examples/graph_deconvolution.py
    python examples/graph_deconvolution.py --pool max        # any pool in the place of the sum
    python examples/graph_deconvolution.py --seeds 3

Signals on a hidden graph are white noise that has spread over its edges, H = h0 + h1 A + h2 A^2; their
sample covariance is a mixture of powers of A, and noise. graphpool.models.GraphDeconvolution learns on small
graphs of four families at once (Erdos-Renyi, geometric, preferential attachment, blocks) to tell links from
other pairs, and is tested on larger ones, beside a threshold for the covariance and the precisions of
graphical lasso.
Thresholds, and the penalty of the lasso, are those with the fewest errors on small validation graphs.

What is finished is in --out, and an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch
from _common import format_table, make_parser, mean_and_spread, seed_everything
from _kept import Kept, seeds_of
from _scripts import run
from torch import Tensor, nn
from tqdm import trange

from graphpool.models import GraphDeconvolution
from graphpool.overlap import wedges

FAMILIES = ("random", "geometric", "preferential", "blocks")
COVARIANCE, LASSO, NETWORK = "threshold", "graphical lasso", "network"


class Observed(NamedTuple):
    """Several graphs as one: covariances of all pairs, and which of them are links."""

    value: Tensor
    diagonal: Tensor
    pairs: Tensor
    batch: Tensor
    graphs: int
    link: Tensor
    matrices: list[np.ndarray]


def draw_graph(family: str, size: int, rng: np.random.Generator) -> nx.Graph:
    """A graph with about four neighbours a node, whatever its size."""
    seed = int(rng.integers(2**31))
    if family == "random":
        return nx.gnp_random_graph(size, 4 / size, seed)
    if family == "geometric":
        return nx.random_geometric_graph(size, (4 / (np.pi * size)) ** 0.5, seed=seed)
    if family == "preferential":
        return nx.barabasi_albert_graph(size, 2, seed)
    half = [size // 2, size - size // 2]
    inside, across = 7 / size, 1 / size
    return nx.stochastic_block_model(half, [[inside, across], [across, inside]], seed=seed)


def observe(family: str, size: int, args: argparse.Namespace, rng: np.random.Generator) -> Any:
    """The adjacency, and the sample covariance of its signals, whose largest eigenvalue is 1."""
    a = nx.to_numpy_array(draw_graph(family, size, rng), weight=None)
    spread = a / max(np.abs(np.linalg.eigvalsh(a)).max(), 1e-9)
    filtered = (
        args.filter[0] * np.eye(size) + args.filter[1] * spread + args.filter[2] * spread @ spread
    )
    signals = rng.normal(size=(args.signals, size)) @ filtered
    covariance = signals.T @ signals / args.signals
    return a, covariance / np.linalg.eigvalsh(covariance)[-1]


def collect(graphs: list[Any], device: str) -> Observed:
    sizes = [len(a) for a, _ in graphs]
    starts = np.cumsum([0, *sizes[:-1]])
    pairs, value, link = [], [], []
    for start, (a, c) in zip(starts, graphs, strict=True):
        i, j = np.triu_indices(len(a), 1)
        pairs.append(np.stack([i, j]) + start)
        value.append(c[i, j])
        link.append(a[i, j] > 0)
    as_tensor = [np.concatenate(value), np.concatenate([np.diag(c) for _, c in graphs])]
    x, diagonal = (torch.from_numpy(v).float().to(device) for v in as_tensor)
    batch = np.repeat(np.arange(len(sizes)), sizes)
    whole = (np.concatenate(pairs, 1), batch, np.concatenate(link))
    p, b, y = (torch.from_numpy(v).to(device) for v in whole)
    return Observed(x, diagonal, p, b, len(sizes), y, [c for _, c in graphs])


def scores(model: GraphDeconvolution, heap: Observed) -> Tensor:
    return model(
        heap.value, heap.pairs, heap.batch, num_nodes=heap.batch.numel(), diagonal=heap.diagonal,
        batch_size=heap.graphs, ways=wedges(heap.pairs, heap.batch.numel()),
    )  # fmt: skip


def train(args: argparse.Namespace, rng: np.random.Generator) -> GraphDeconvolution:
    model = GraphDeconvolution(args.channels, args.pool, num_layers=args.layers).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), args.lr, betas=(0.85, 0.99))
    graphs = [observe(f, args.small, args, rng) for _ in range(args.graphs) for f in FAMILIES]
    for step in trange(args.steps, desc="training"):
        if step == int(0.7 * args.steps):
            optimizer.param_groups[0]["lr"] /= 5
        chosen = rng.choice(len(graphs), args.batch, replace=False)
        heap = collect([graphs[i] for i in chosen], args.device)
        sign = 2.0 * heap.link - 1.0
        loss = (1.0 - sign * scores(model, heap)).relu().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def threshold(score: Tensor, link: Tensor) -> float:
    """The threshold with the fewest errors."""
    order = score.argsort(descending=True)
    right = torch.cat([link.new_zeros(1).long(), link[order].long().cumsum(0)])
    count = torch.arange(len(right), device=link.device)
    errors = count - right + right[-1] - right
    best = int(errors.argmin())
    ends = torch.cat([score.max()[None] + 1, score[order], score.min()[None] - 1])
    return float((ends[best] + ends[best + 1]) / 2)


def measured(score: Tensor, link: Tensor, cut: float) -> tuple[float, float]:
    """The share of the pairs that are wrong, and F1."""
    chosen = score > cut
    hit = int((chosen & link).sum())
    return float((chosen != link).float().mean()), 2 * hit / max(int(chosen.sum() + link.sum()), 1)


def precisions(heap: Observed, penalty: float) -> Tensor:
    """Minus the partial precisions that graphical lasso finds, for each pair."""
    from sklearn.covariance import graphical_lasso
    from sklearn.exceptions import ConvergenceWarning

    found, unfinished = [], 0
    for c in heap.matrices:
        scale = np.sqrt(np.diag(c))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConvergenceWarning)
            _, precision = graphical_lasso(c / np.outer(scale, scale), penalty, max_iter=200)
        unfinished += bool(said)
        i, j = np.triu_indices(len(c), 1)
        found.append(-precision[i, j])
    if unfinished:
        print(
            f"note: graphical lasso ({penalty}) did not converge for {unfinished} of {len(found)} graphs"
        )
    return torch.from_numpy(np.concatenate(found))


def one_run(seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Errors of all ways on larger graphs of each family."""
    seed_everything(seed)
    rng = np.random.default_rng(seed)
    begin = time.process_time()
    model = train(args, rng)
    trained = time.process_time() - begin
    each = range(args.test)
    val = collect([observe(f, args.small, args, rng) for f in FAMILIES for _ in each], args.device)
    penalty = None
    try:
        tried = []
        for number in args.penalties:
            score = precisions(val, number)
            cut = threshold(score, val.link.cpu())
            tried.append((measured(score, val.link.cpu(), cut)[0], number, cut))
        _, penalty, lasso_cut = min(tried)
    except ImportError:
        print("note: no graphical lasso, because scikit-learn is not installed")
    with torch.no_grad():
        network_cut = threshold(scores(model, val), val.link)
    cut = threshold(val.value, val.link)
    runs = []
    for family in FAMILIES:
        test = collect([observe(family, args.large, args, rng) for _ in each], args.device)
        with torch.no_grad():
            ways = {COVARIANCE: (test.value, cut), NETWORK: (scores(model, test), network_cut)}
        if penalty is not None:
            ways[LASSO] = (precisions(test, penalty).to(args.device), lasso_cut)
        for way, (score, at) in ways.items():
            error, f1 = measured(score, test.link, at)
            runs.append({"seed": seed, "family": family, "way": way, "error": error, "f1": f1,
                         "seconds": trained})  # fmt: skip
    return runs


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """F1 of each seed, by family and way."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    for k, way in enumerate(dict.fromkeys(r["way"] for r in runs)):
        mine = [r for r in runs if r["way"] == way]
        place = [FAMILIES.index(r["family"]) + 0.15 * (k - 1) for r in mine]
        axis.scatter(place, [r["f1"] for r in mine], s=18, label=way)
    axis.set_xticks(range(len(FAMILIES)), FAMILIES)
    axis.set(
        ylim=(0, 1),
        ylabel="F1 of the links",
        title="larger graphs than in training, a point for each seed",
    )
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--pool", default="sum", help="over the wedges of a pair")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--small", type=int, default=20, help="nodes of a graph in training")
    parser.add_argument("--large", type=int, default=50, help="nodes of a graph in the test")
    parser.add_argument("--signals", type=int, default=150, help="of each graph")
    parser.add_argument("--filter", type=float, nargs=3, default=[0.5, 0.5, 0.5], help="h0, h1, h2")
    parser.add_argument("--graphs", type=int, default=100, help="of each family, for training")
    parser.add_argument(
        "--test", type=int, default=8, help="graphs of each family, also for validation"
    )
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    args = parser.parse_args()
    if args.quick:
        args.graphs, args.steps, args.test, args.batch, args.large = 4, 5, 2, 4, 25
    if args.batch > 4 * args.graphs:
        raise ValueError(f"`batch` must be at most 4 x --graphs; got {args.batch}.")
    kept, seeds = Kept("graph_deconvolution", args), seeds_of(args)
    for seed in kept.missing(seeds):
        kept.keep(seed, one_run(seed, args))
    rows, runs = [], kept.of(seeds)
    for way in dict.fromkeys(r["way"] for r in runs):
        for name, scale in (("error", 100.0), ("f1", 1.0)):
            cells = [
                torch.tensor([r[name] for r in runs if (r["way"], r["family"]) == (way, family)])
                for family in FAMILIES
            ]
            shown = (mean_and_spread(c, scale, 2) for c in cells)
            rows.append([way, "errors, %" if name == "error" else "F1", *shown])
    print(format_table(rows, ["way", "", *FAMILIES]))
    print(f"training: {np.mean([r['seconds'] for r in runs]):.0f} s of CPU for each seed")
    draw(runs, path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
