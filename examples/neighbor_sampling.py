"""Learnable neighbour aggregation on one large graph, a sampled neighbourhood at a time.

A graph of a million nodes and ten million edges does not pass through a network at once. PyG's
``NeighborLoader`` samples in compiled code (pyg-lib or torch-sparse); its base class takes any sampler,
and ``graphpool.datasets.UniformNeighborSampler``, in PyTorch alone, needs neither. The network and its
pools do not change.

Each node has a value x and a label: the mean over its neighbours of the largest value among theirs.
The right pools are max in the first layer and mean in the second. A pool that learns where it stands
between mean and max has to find that out; the same fixed pool in both layers cannot be right.

    python examples/neighbor_sampling.py
    python examples/neighbor_sampling.py --nodes 100000 --pools powermean max,mean
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _scripts import peak_memory
from _scripts import run as run_script
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader
from tqdm import tqdm

from graphpool import Segments, ops
from graphpool.datasets import UniformNeighborSampler
from graphpool.models import GraphModel
from graphpool.plot.colors import HUES


def make_graph(num_nodes: int, degree: int, seed: int) -> Data:
    """A random graph in which every node receives from ``degree`` nodes, with standardised labels."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(num_nodes, (num_nodes * degree,), generator=generator)
    target = torch.arange(num_nodes).repeat_interleave(degree)
    bags = Segments(ptr=torch.arange(0, num_nodes * degree + 1, degree))
    x = torch.rand(num_nodes, 1, generator=generator)
    largest = ops.segment_max(x, bags, gather=source)
    label = ops.segment_mean(largest, bags, gather=source)
    label = (label - label.mean()) / label.std()
    return Data(x=x, y=label, edge_index=torch.stack([source, target]))


def run(args: argparse.Namespace, data: Data, aggr: tuple[str, ...], name: str) -> dict:
    seed_everything(args.seed)
    model = GraphModel(
        1,
        args.hidden,
        1,
        num_layers=2,
        conv="sage",
        aggr=list(aggr),
        readout=None,
        encoder="mlp",
    ).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    sampler = UniformNeighborSampler(data.edge_index, data.num_nodes, [args.fanout] * 2)
    held_out = torch.randperm(data.num_nodes)[: args.batch * 8]
    train = torch.ones(data.num_nodes, dtype=torch.bool)
    train[held_out] = False

    def batches(nodes: Tensor, shuffle: bool) -> NodeLoader:
        return NodeLoader(data, sampler, input_nodes=nodes, batch_size=args.batch, shuffle=shuffle)

    def error(batch: Data) -> Tensor:
        batch = batch.to(args.device)
        predicted = model(batch.x, batch.edge_index)[: batch.batch_size]
        return (predicted - batch.y[: batch.batch_size]).square().mean()

    losses, largest, start = [], 0, time.perf_counter()
    loader = batches(train, shuffle=True)
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    for batch in tqdm(itertools.islice(endless, args.steps), desc=name, total=args.steps):
        largest = max(largest, batch.num_nodes)
        loss = error(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        test = torch.stack([error(batch) for batch in batches(held_out, shuffle=False)]).mean()
    return {"losses": losses, "test": test.item(), "rate": args.steps / seconds, "largest": largest}


def draw(results: dict[str, dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for (name, result), colour in zip(results.items(), HUES, strict=False):
        losses = torch.tensor(result["losses"])
        window = max(1, losses.numel() // 20)
        smooth = losses.unfold(0, window, 1).mean(1)
        ax.plot(range(window - 1, losses.numel()), smooth, color=colour, label=name)
    ax.axhline(1, color="grey", lw=0.8, ls=":")
    ax.set(xlabel="step", ylabel="squared error (1: the mean of the labels)", yscale="log")
    ax.set_title("sampled neighbourhoods, pools layer by layer")
    ax.legend()
    figure.savefig(path, dpi=120)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--degree", type=int, default=10, help="neighbours of each node")
    parser.add_argument("--fanout", type=int, default=10, help="neighbours drawn, at most")
    parser.add_argument("--batch", type=int, default=256, help="nodes per step")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument(
        "--pools",
        nargs="+",
        default=["softmax", "gnp", "max,mean", "mean"],
        help="what to compare: pool of the first layer, comma, pool of the second",
    )
    args = parser.parse_args(arguments)
    if args.quick:
        args.nodes, args.steps, args.batch = 20_000, 20, 64
        args.pools = ["softmax", "max,mean"]
    for pair in args.pools:
        if pair.count(",") > 1:
            parser.error(f"--pools takes one name or two with a comma between, got {pair!r}")
    return args


def main() -> None:
    args = parse()
    folder = out_dir(args)
    seed_everything(args.seed)
    before = peak_memory() / 1024
    data = make_graph(args.nodes, args.degree, args.seed)
    print(f"{data.num_nodes:,} nodes, {data.num_edges:,} edges")
    held = peak_memory() / 1024
    results, rows = {}, []
    for pair in args.pools:
        first, _, second = pair.partition(",")
        result = results[pair] = run(args, data, (first, second or first), pair)
        rows.append(
            [
                first,
                second or first,
                f"{result['test']:.4f}",
                f"{result['rate']:.1f}",
                f"{result['largest']:,}",
            ]
        )
    headers = ["layer 1", "layer 2", "squared error, held out", "steps / s", "largest sample"]
    print(format_table(rows, headers))
    print(
        f"peak memory: {before:.2f} GiB at the start, {held:.2f} with the graph, "
        f"{peak_memory() / 1024:.2f} at the end"
    )
    picture = folder / "neighbor_sampling.png"
    draw(results, picture)
    print(picture)


if __name__ == "__main__":
    run_script(main)
