"""Classify meshes by primal-dual convolution and face-cluster pooling, with any aggregation.

    python examples/mesh_classification.py --data path/to/shrec16 --reduce mean gnp softmax

``--data`` names a folder with the layout ``<class>/{train,test}/*.obj`` (or any other format that is read).
Without it, creatures, vases and lamps are generated. One network is trained per reducer, on the same batches
in the same order; the first table compares them, the second holds the recall of every class, and the picture
shows test meshes with the face clusters of every pooling level.
``--model meshcnn`` trains the edge-based network instead (no picture).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from _common import (
    check_classes,
    format_table,
    make_parser,
    out_dir,
    recall_per_class,
    seed_everything,
)
from _scripts import run as run_script
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from graphpool.datasets.meshes.folders import MeshClassificationFolder
from graphpool.datasets.meshes.generated import GeneratedMeshes
from graphpool.mesh import edge_graph
from graphpool.models import MeshClassifier, MeshCNNClassifier
from graphpool.plot.meshes import mesh_sheet
from graphpool.train import accuracy, recalibrate


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder <class>/{train,test}/*.obj")
    parser.add_argument("--reduce", nargs="+", default=["mean", "softmax"], help="reducers")
    parser.add_argument("--readout", default="mean", help="pool over the whole mesh")
    parser.add_argument("--read", default="dual", choices=["dual", "primal", "both"])
    parser.add_argument("--model", default="faces", choices=["faces", "meshcnn"])
    parser.add_argument("--config", default="A", choices=["A", "B", "C"])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--heads", type=int, default=1, help="3 in the published network")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[list, list, list[str]]:
    if args.data is not None:
        limit = 2 if args.quick else None
        train, test = (
            MeshClassificationFolder(
                args.data,
                split,
                args.config,
                kind="edges" if args.model == "meshcnn" else "faces",
                max_per_class=limit,
                progress=True,
            )
            for split in ("train", "test")
        )
        return list(train), list(test), train.classes
    count = 12 if args.quick else 60
    size = (500, 1500) if args.quick else (500, 1500)
    meshes = GeneratedMeshes(count + count // 3, seed=args.seed, num_faces=size, config=args.config)
    graphs = []
    for graph in meshes:
        if args.model == "meshcnn":
            graph = edge_graph(graph.vertices, graph.faces, graph.family)
        else:
            graph.y = graph.family
        graphs.append(graph)
    return graphs[:count], graphs[count:], list(meshes.families)


def build(reduce: str, num_classes: int, graph, args: argparse.Namespace) -> torch.nn.Module:
    if args.model == "meshcnn":
        # Generated meshes differ in size, and a target they do not need leaves them alone.
        return MeshCNNClassifier(
            num_classes, reduce=reduce, readout=args.readout, strict=args.data is not None
        )
    return MeshClassifier(
        num_classes,
        in_channels=(graph.x.size(1), graph.x_dual.size(1)),
        heads=args.heads,
        reduce=reduce,
        readout=args.readout,
        read=args.read,
    )


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, graphs: list, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and true classes."""
    model.eval()
    batches = [batch.to(device) for batch in DataLoader(graphs, 32)]
    guesses = [model(batch).argmax(1).cpu() for batch in batches]
    return torch.cat(guesses), torch.cat([batch.y.cpu() for batch in batches])


def train(
    model: torch.nn.Module, graphs: list, test: list, epochs: int, args: argparse.Namespace
) -> list[float]:
    """Trains with Adam and one cycle of the learning rate; returns test accuracies every 5 epochs."""
    loader = DataLoader(
        graphs,
        args.batch_size,
        shuffle=True,
        drop_last=len(graphs) > args.batch_size,
        generator=torch.Generator().manual_seed(args.seed),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=epochs * len(loader), pct_start=0.2
    )
    history = []
    for epoch in (bar := tqdm(range(epochs), desc="training")):
        model.train()
        total = 0.0
        for batch in loader:
            batch = batch.to(args.device)
            loss = torch.nn.functional.cross_entropy(model(batch), batch.y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        if epoch + 1 == epochs:
            recalibrate(model, loader, lambda network, batch: network(batch.to(args.device)))
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            history.append(accuracy(*evaluate(model, test, args.device)))
        bar.set_postfix(loss=f"{total / len(loader):.3f}", test=history[-1] if history else None)
    return history


@torch.no_grad()
def picture(model: MeshClassifier, test: list, classes: list[str], path: Path, device: str) -> None:
    model.eval()
    guesses = [int(guess) for guess in evaluate(model, test, device)[0]]
    wrong = [i for i, graph in enumerate(test) if guesses[i] != int(graph.y)]
    spread = range(0, len(test), max(1, len(test) // 4))
    rows = []
    # Errors first.
    for i in [*wrong, *(i for i in spread if i not in wrong)][:4]:
        graph, guess = test[i], classes[guesses[i]]
        batch = Batch.from_data_list([graph]).to(device)
        row = [(graph.vertices, graph.faces, None, f"{classes[int(graph.y)]}: predicted {guess}")]
        for level, clusters in enumerate(model.clusters(batch), 1):
            caption = f"level {level}: {int(clusters.max()) + 1} clusters"
            row.append((graph.vertices, graph.faces, None, caption, clusters))
        rows.append(row)
    print("picture:", mesh_sheet(rows, path))


def main() -> None:
    args = parse()
    epochs = args.epochs or (2 if args.quick else 30 if args.data else 12)
    train_set, test_set, classes = load(args)
    print(f"{len(train_set)} training and {len(test_set)} test meshes, {len(classes)} classes")
    check_classes(
        *(torch.cat([graph.y for graph in part]) for part in (train_set, test_set)), classes
    )
    folder = out_dir(args)
    rows, recalls = [], {}
    for reduce in args.reduce:
        seed_everything(args.seed)
        model = build(reduce, len(classes), train_set[0], args)
        model.standardizer.fit(train_set)
        model.to(args.device)
        start = time.process_time()
        history = train(model, train_set, test_set, epochs, args)
        minutes = (time.process_time() - start) / 60
        parameters = sum(p.numel() for p in model.parameters())
        rows.append(
            [reduce, parameters, f"{100 * history[-1]:.2f}", epochs, f"{minutes:.1f}",
             " ".join(f"{100 * value:.1f}" for value in history)]
        )  # fmt: skip
        recalls[reduce] = recall_per_class(*evaluate(model, test_set, args.device), len(classes))
        print(f"{reduce}: {history[-1]:.2%} of the test meshes, {minutes:.1f} CPU min", flush=True)
        if args.model == "meshcnn":
            continue
        picture(model, test_set, classes, folder / f"mesh_classification_{reduce}.png", args.device)
    header = ["reduce", "parameters", "test %", "epochs", "CPU min", "test % every 5 epochs"]
    table = format_table(rows, header)
    shares = [[name, *(recalls[pool][i] for pool in recalls)] for i, name in enumerate(classes)]
    table += "\n\n" + format_table(shares, ["recall %", *recalls])
    print(table)
    (folder / "mesh_classification.txt").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
