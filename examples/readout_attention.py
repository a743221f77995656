"""What a readout looks at: the share of every atom in the pooled vector of its molecule.

    python examples/readout_attention.py --root path/to/tu              # MUTAG
    python examples/readout_attention.py --readout gnp                  # any pool of one vector per graph

Trains a graph network with the readout on nine tenths of the graphs and draws some of the others, each
node in the shade of its share: the weights of a pool that weighs its elements (`graphpool.attention`), mean
over the channels, and for others the part of the output that comes from the node
(`graphpool.contributions`). Without ``--root``, graphs of four random families stand in for molecules.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _scripts import run as run_script
from torch import Tensor
from torch_geometric.data import InMemoryDataset
from tqdm import tqdm

from graphpool import Segments, attention, contributions, plot
from graphpool.datasets import GraphFamilies, TUGraphs
from graphpool.models import GraphModel
from graphpool.train import GraphBatches, MiniBatch, fit

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ATOMS = {"MUTAG": ("C", "N", "O", "F", "I", "Cl", "Br")}
CLASSES = {"MUTAG": ("not mutagenic", "mutagenic")}


def forward(model: torch.nn.Module, batch: MiniBatch) -> Tensor:
    return model(batch.x, batch.edge_index, batch.nodes)


def error_rate(output: Tensor, label: Tensor) -> Tensor:
    return 100 * (output.argmax(1) != label).float().mean()


def shares(model: GraphModel, x: Tensor, edge_index: Tensor) -> Tensor:
    """Share of every node of one graph in its pooled vector, ``[N]``; they add up to 1."""
    with torch.no_grad():
        h = model.embed(x, edge_index)
    whole = Segments(ptr=torch.tensor([0, len(h)], device=h.device))
    measure = attention if hasattr(model.readout, "attention") else contributions
    part = measure(model.readout, h, whole).abs().flatten(1).mean(1)
    return part / part.sum().clamp_min(torch.finfo(part.dtype).tiny)


def draw(
    model: GraphModel,
    graphs: InMemoryDataset,
    chosen: list[int],
    name: str,
    path: Path,
    device: str,
) -> None:
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
    known = ATOMS.get(name)
    names = CLASSES.get(name, [f"class {i}" for i in range(graphs.num_classes)])
    # Against an equal share, so that large and small graphs have the same scale.
    found = []
    for i in chosen:
        share = shares(model, graphs[i].x.to(device), graphs[i].edge_index.to(device)).cpu()
        found.append(share * len(share))
    limit = max(float(share.max()) for share in found)
    for ax, i, share in zip(axes.flat, chosen, found, strict=False):
        item = graphs[i]
        with torch.no_grad():
            guess = int(model(item.x.to(device), item.edge_index.to(device)).argmax())
        kinds = item.x.argmax(1).tolist()
        text = None if known is None else [known[k] for k in kinds]
        nodes = plot.graph(ax, item.edge_index, share, text, limit, size=170)
        verdict = "right" if guess == int(item.y) else "wrong"
        ax.set_title(f"{names[int(item.y)]} ({verdict})", fontsize=10)
    for ax in axes.flat[len(chosen) :]:
        ax.axis("off")
    bar = figure.colorbar(nodes, ax=axes, shrink=0.6, pad=0.01)
    bar.set_label("share of the node, 1 = as much as every other")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--root", type=Path, help="folder of TU data, with <name>/raw in it")
    parser.add_argument("--cache", type=Path, default=Path("datasets"), help="for parsed files")
    parser.add_argument("--name", default="MUTAG")
    parser.add_argument("--readout", default="attsets")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    if args.quick:
        args.epochs = 2
    seed_everything(args.seed)
    folder = out_dir(args)
    name = args.name if args.root else "families"
    graphs = TUGraphs(args.root, name, cache=args.cache) if args.root else GraphFamilies(args.cache)
    order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(args.seed))
    held_out, rest = order[: len(graphs) // 10], order[len(graphs) // 10 :]
    shuffle = torch.Generator().manual_seed(args.seed)
    train = GraphBatches(graphs, 32, True, shuffle, indices=rest, device=args.device)
    test = GraphBatches(graphs, 1024, indices=held_out, device=args.device)
    model = GraphModel(
        graphs.num_features, args.hidden, graphs.num_classes, num_layers=3, readout=args.readout,
        norm="batch", jumping="last", head="mlp",
    ).to(args.device)  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with tqdm(total=args.epochs, desc="epochs") as bar:
        history = fit(
            model, train, test, optimizer, args.epochs, torch.nn.functional.cross_entropy, error_rate,
            forward, after_epoch=lambda *_: bar.update(), restore_best=False,
        )  # fmt: skip
    model.eval()
    rows = [[name, args.readout, f"{100 - history.validation[-1]:.1f}", len(held_out)]]
    print(format_table(rows, ["graphs", "readout", "held-out accuracy %", "held out"]))
    # Some of every class.
    by_class = sorted(held_out.tolist(), key=lambda i: (int(graphs[i].y), i))
    step = max(1, len(by_class) // 8)
    draw(model, graphs, by_class[::step][:8], name, folder / "readout_attention.png", args.device)
    print(f"picture: {folder / 'readout_attention.png'}")


if __name__ == "__main__":
    run_script(main)
