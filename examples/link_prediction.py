"""Which pairs of nodes are joined? The bag of neighbours that they share, pooled.

    python examples/link_prediction.py                                 # generated communities
    python examples/link_prediction.py --graph preferential
    python examples/link_prediction.py --graph ../shared/data/links/cora.npz --splits 10
    python examples/link_prediction.py --graph cora.npz --methods ncn:sum ncn:softmax ncnc:gnp

For every split 10 % of the links are for validation and 20 % for the test; the rest is the graph. A method is
cn (number of common neighbours), aa (Adamic, Adar), gae (the products of two node vectors, with the same
encoder), ncn:POOL or ncnc:POOL (graphpool.models.NCN, without and with completion). While training, the links
of a mini-batch are taken out of the graph. The epoch with the best HR@k of the validation links is kept.
HR@k is the share of links whose score is above the k-th best of as many pairs that are no links. What is
finished is in --out, and an interrupted run goes on from there.

A file is an .npz with edges [2, E], once each, num_nodes, and x [N, F], or the positions x_row, x_col of its
ones and num_features. Settings for cora and citeseer are those of the paper (Wang, Yang, Zhang, ICLR 2024).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from _common import format_table, make_parser, mean_and_spread, seed_everything
from _kept import Kept
from _scripts import run
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import from_networkx, negative_sampling, to_undirected

from graphpool.evaluate import adamic_adar, hits_at, topological_concentration
from graphpool.models import NCN
from graphpool.overlap import neighborhood_overlap, without_links

# encoder's rate, predictor's rate, dropout of input, of network, of edges; hidden layers of the head;
# prior, factor, scale and offset of the completion.
RECIPES: dict[str, dict[str, Any]] = {
    "cora": {"rates": (4.3e-3, 2.4e-3), "batch": 1152, "input": 0.7, "inner": 0.05, "edges": 0.4,
             "head": 1, "completion": (0.75, 1.0, 4.3, 2.8)},
    "citeseer": {"rates": (8.5e-3, 7.8e-3), "batch": 384, "input": 0.4, "inner": 0.55, "edges": 0.0,
                 "head": 2, "completion": (0.75, 0.4, 6.5, 4.4)},
}  # fmt: skip
OTHER = {"rates": (5e-3, 3e-3), "batch": 128, "input": 0.1, "inner": 0.1, "edges": 0.2,
         "head": 1, "completion": (0.5, 1.0, 4.0, 2.0)}  # fmt: skip


def read_graph(name: str, seed: int) -> Data:
    """A graph by its name, or from a file."""
    rng = np.random.default_rng(seed)
    if name == "blocks":
        sizes = [25] * 16
        inside = 0.25 * np.eye(len(sizes)) + 0.002 * (1 - np.eye(len(sizes)))
        data = from_networkx(nx.stochastic_block_model(sizes, inside, seed=seed))
        kind = np.repeat(np.arange(len(sizes)), sizes)
        x = np.eye(len(sizes))[kind] + rng.normal(size=(kind.size, len(sizes)))
        return Data(x=torch.tensor(x).float(), edge_index=data.edge_index)
    if name == "preferential":
        graph = nx.powerlaw_cluster_graph(600, 4, 0.6, seed=seed)
        x = rng.normal(size=(600, 16))
        return Data(x=torch.tensor(x).float(), edge_index=from_networkx(graph).edge_index)
    if Path(name).suffix != ".npz" or not Path(name).is_file():
        raise ValueError(f"`graph` must be blocks, preferential, or an .npz file; got {name!r}.")
    with np.load(name) as file:
        size = int(file["num_nodes"])
        if "x" in file:
            x = torch.from_numpy(file["x"]).float()
        else:
            ones = torch.from_numpy(np.stack([file["x_row"], file["x_col"]]).astype(np.int64))
            shape = (size, int(file["num_features"]))
            x = torch.sparse_coo_tensor(
                ones, torch.ones(ones.size(1)), shape, check_invariants=True
            ).coalesce()
        edges = torch.from_numpy(file["edges"].astype(np.int64))
    return Data(x=x, edge_index=to_undirected(edges, num_nodes=size))


class GAE(NCN):
    """The same network with what the pair shares left out."""

    def forward(self, x: Tensor, edge_index: Tensor, pairs: Tensor) -> Tensor:
        h = self.encoder(x, edge_index)
        return self.head(self.ends(h[pairs[0]] * h[pairs[1]])).squeeze(-1)


def train(
    method: str,
    parts: dict[str, Tensor],
    x: Tensor,
    args: argparse.Namespace,
    recipe: dict[str, Any],
) -> list[Tensor]:
    """Scores of test links and of test pairs, at the epoch that is best on the validation links."""
    kind, _, word = method.partition(":")
    model = (GAE if kind == "gae" else NCN)(
        x.size(1), args.hidden, word or "sum", completion=int(kind == "ncnc"),
        dropout=recipe["inner"], input_dropout=recipe["input"], edge_dropout=recipe["edges"],
        head_layers=recipe["head"], completion_weights=recipe["completion"],
    ).to(args.device)  # fmt: skip
    encoder = set(model.encoder.parameters())
    rest = [p for p in model.parameters() if p not in encoder]
    optimizer = torch.optim.Adam(
        [
            {"params": [*encoder], "lr": recipe["rates"][0]},
            {"params": rest, "lr": recipe["rates"][1]},
        ]
    )
    graph, size, best = parts["graph"], x.size(0), -1.0
    once = graph[:, graph[0] < graph[1]]
    scores: list[Tensor] = []
    for _ in range(args.epochs):
        model.train()
        others = negative_sampling(graph, size, once.size(1)).to(graph.device)
        order = torch.randperm(others.size(1), device=graph.device)
        # The last, incomplete mini-batch is left out, unless it is the only one.
        whole = max(order.numel() // recipe["batch"], 1) * recipe["batch"]
        for chosen in order[:whole].split(recipe["batch"]):
            links = once[:, chosen]
            pairs = torch.cat([links, others[:, chosen]], 1)
            z, wrong = model(x, without_links(graph, links, size), pairs).chunk(2)
            loss = nn.functional.softplus(-z).mean() + nn.functional.softplus(wrong).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        links, none = scores_of(model, x, parts, "val")
        if (reached := hits_at(links, none, args.k)) > best:
            best, scores = reached, scores_of(model, x, parts, "test")
    return scores


@torch.no_grad()
def scores_of(model: nn.Module, x: Tensor, parts: dict[str, Tensor], name: str) -> list[Tensor]:
    """Those of the links of a part, and of the pairs that are none."""
    pairs = [parts[name], parts[f"{name} none"]]
    return list(model(x, parts["graph"], torch.cat(pairs, 1)).split([p.size(1) for p in pairs]))


def split(data: Data) -> dict[str, Tensor]:
    """The graph, and links and other pairs of validation and test."""
    parts = RandomLinkSplit(
        num_val=0.1, num_test=0.2, is_undirected=True, add_negative_train_samples=False
    )(data)
    found = {"graph": parts[0].edge_index}
    for name, part in zip(("val", "test"), parts[1:], strict=True):
        found[name] = part.edge_label_index[:, part.edge_label == 1]
        found[f"{name} none"] = part.edge_label_index[:, part.edge_label == 0]
    return found


def one_run(method: str, seed: int, data: Data, args: argparse.Namespace) -> dict[str, Any]:
    """One method on one split."""
    seed_everything(seed)
    begin, parts = time.perf_counter(), split(data)
    size, graph = data.x.size(0), parts["graph"]
    if method in ("cn", "aa"):
        scores = []
        for name in ("test", "test none"):
            bags = neighborhood_overlap(graph, parts[name], size).common.segments
            scores += [
                bags.counts.double() if method == "cn" else adamic_adar(graph, parts[name], size)
            ]
    else:
        recipe = RECIPES.get(Path(args.graph).stem, OTHER)
        there = {name: part.to(args.device) for name, part in parts.items()}
        scores = [s.cpu() for s in train(method, there, data.x.to(args.device), args, recipe)]
    hits = hits_at(*scores, args.k)
    return {
        "method": method, "seed": seed, "hits": hits, "seconds": time.perf_counter() - begin,
        "rank correlation": by_node(scores, parts, size, args.k),
    }  # fmt: skip


def by_node(scores: list[Tensor], parts: dict[str, Tensor], size: int, k: int) -> dict[str, float]:
    """How the share of a node's test links that are hit goes with degree and concentration."""
    bar = scores[1].topk(k).values[-1]
    hit, ends = (scores[0] > bar).double().repeat(2), parts["test"].flatten()
    count = torch.bincount(ends, minlength=size)
    share = torch.bincount(ends, hit, minlength=size)[count > 0] / count[count > 0]
    graph = parts["graph"]
    measures = {
        "degree": torch.bincount(graph[1], minlength=size).double(),
        "concentration": topological_concentration(graph, size),
        "concentration, depth 2": topological_concentration(graph, size, depth=2),
    }
    if float(share.std()) == 0:
        return dict.fromkeys(measures, 0.0)
    return {name: float(spearmanr(m[count > 0], share).statistic) for name, m in measures.items()}


def draw(rows: dict[str, list[dict[str, Any]]], args: argparse.Namespace, path: Path) -> None:
    """HR@k of every method, a point for each split, and its mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 0.4 * len(rows) + 1.2), layout="constrained")
    for y, runs in enumerate(rows.values()):
        hits = [100 * r["hits"] for r in runs]
        axes.plot(hits, [y] * len(hits), "o", color="tab:blue", alpha=0.4, ms=4, mew=0)
        axes.plot([np.mean(hits)], [y], "|", color="black", ms=14, mew=2)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(f"test links above the {args.k}. best of the other pairs, %")
    axes.set_title(f"{Path(args.graph).stem}, {args.splits} splits")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--graph", default="blocks", help="blocks, preferential, or an .npz file")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD",
        default=["cn", "aa", "gae", "ncn:sum", "ncn:max", "ncn:softmax", "ncn:gnp", "ncnc:sum"],
    )  # fmt: skip
    parser.add_argument("--splits", type=int, default=None, help="default: 2, 10 for a file")
    parser.add_argument("--epochs", type=int, default=None, help="default: 30, 100 for a file")
    parser.add_argument("--hidden", type=int, default=None, help="default: 32, 256 for a file")
    parser.add_argument("--k", type=int, default=None, help="default: 20, 100 for a file")
    args = parser.parse_args()
    generated = args.graph in ("blocks", "preferential")
    usual = (2, 30, 32, 20) if generated else (10, 100, 256, 100)
    for name, value in zip(("splits", "epochs", "hidden", "k"), usual, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.quick:
        args.splits, args.epochs = 1, 2
        args.methods = args.methods[:4] + args.methods[-1:]
    wrong = [
        m for m in args.methods if m.partition(":")[0] not in ("cn", "aa", "gae", "ncn", "ncnc")
    ]
    if wrong:
        raise ValueError(f"`methods` must be cn, aa, gae, ncn:POOL or ncnc:POOL; got {wrong[0]!r}.")
    data = read_graph(args.graph, args.seed)
    # Which graph is drawn depends on the first seed, too; that of a file does not.
    drawn = args.seed if generated else 0
    splits = range(args.seed, args.seed + args.splits)
    kept = Kept(f"links_{Path(args.graph).stem}", args, apart=("methods", "splits"))
    for method, graph, seed in kept.missing([(m, drawn, s) for m in args.methods for s in splits]):
        kept.keep((method, graph, seed), one_run(method, seed, data, args))
    rows = {m: kept.of((m, drawn, s) for s in splits) for m in args.methods}
    measures = rows[args.methods[0]][0]["rank correlation"]
    headers = ["method", f"HR@{args.k}, %", *measures, "seconds"]
    table = []
    for method, found in rows.items():
        hits = mean_and_spread(torch.tensor([r["hits"] for r in found]), 100, 2)
        measures = [
            f"{np.mean([r['rank correlation'][name] for r in found]):.2f}" for name in headers[2:-1]
        ]
        table.append([method, hits, *measures, f"{np.mean([r['seconds'] for r in found]):.1f}"])
    print(format_table(table, headers))
    print(
        "(degree, concentration: rank correlation of a node's with the share of its links that are hit)"
    )
    draw(rows, args, path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
