"""Segment meshes into parts with a U-Net on faces, whose pools are any aggregation.

    python examples/mesh_segmentation.py --pool mean softmax --epochs 20

By default the meshes are generated creatures with a label per face; ``--family creature vase lamp`` adds
vases and lamps. ``--data`` names a folder with ``train/``, ``test/`` and ``seg/``. A network that sees one
face at a time is trained beside the U-Nets, and the table says where that one is as good. A second table
holds the recall of every class. Faces without a label (-1) count in neither loss nor accuracy. The picture
shows, for some test meshes, truth, prediction and error, and the face clusters of every pooling level.
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

from graphpool.datasets.meshes.folders import MeshSegmentationFolder
from graphpool.datasets.meshes.generated import GeneratedMeshes
from graphpool.models.meshes.face_mlp import FaceMLP
from graphpool.models.meshes.segmenter import MeshSegmenter
from graphpool.models.meshes.superpixel import MeshSuperpixelSegmenter
from graphpool.plot.meshes import mesh_sheet
from graphpool.train import cross_entropy, recalibrate

ONE_FACE = "(one face)"


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder with train/, test/ and seg/")
    parser.add_argument(
        "--labels", help="what is the label in the mesh files: label, group, color, ..."
    )
    parser.add_argument("--per", help="what label files go by: face, edge, triangle or vertex")
    parser.add_argument("--pool", nargs="+", default=["mean"], help="reducers of the pools")
    parser.add_argument("--model", default="unet", choices=["unet", "superpixel"])
    parser.add_argument("--family", nargs="+", default=["creature"])
    parser.add_argument("--config", default="A", choices=["A", "B", "C"])
    parser.add_argument(
        "--meshes", type=int, help="generated training meshes; a third more to test"
    )
    parser.add_argument("--faces", type=int, nargs=2, default=(500, 1200), help="fewest and most")
    parser.add_argument(
        "--keep", type=float, nargs="+", default=(0.6, 0.75, 0.75), help="of the edges"
    )
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--batch-size", type=int, default=3)
    parser.add_argument("--published", action="store_true", help="without the three improvements")
    parser.add_argument("--no-dual-messages", action="store_true", help="without that one")
    parser.add_argument("--no-baseline", action="store_true", help="without the per-face network")
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[list, list, list[str]]:
    if args.data is not None:
        train, test = (
            MeshSegmentationFolder(
                args.data, split, args.config, labels=args.labels, per=args.per, progress=True
            )
            for split in ("train", "test")
        )
        return list(train), list(test), [str(name) for name in train.classes]
    count = args.meshes or (6 if args.quick else 48)
    meshes = GeneratedMeshes(
        count + max(3, count // 3), tuple(args.family), args.seed, tuple(args.faces), args.config
    )
    return meshes[:count], meshes[count:], meshes.label_names


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, graphs: list, device: str
) -> tuple[float, float, torch.Tensor, torch.Tensor]:
    """Shares of correct faces and of correct area, averaged over meshes; all guesses and labels."""
    model.eval()
    faces, area, guesses, labels = [], [], [], []
    for graph in graphs:
        batch = Batch.from_data_list([graph]).to(device)
        guess = model(batch).argmax(1)
        labelled = batch.y >= 0
        guesses.append(guess[labelled].cpu())
        labels.append(batch.y[labelled].cpu())
        if bool(labelled.any()):
            right = (guess == batch.y)[labelled].float()
            share = batch.area[labelled]
            faces.append(float(right.mean()))
            area.append(float((right * share).sum() / share.sum()))
    if not faces:
        raise ValueError("no face of the test meshes has a label.")
    return sum(faces) / len(faces), sum(area) / len(area), torch.cat(guesses), torch.cat(labels)


def train(model: torch.nn.Module, graphs: list, epochs: int, args: argparse.Namespace) -> None:
    loader = DataLoader(
        graphs,
        args.batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(args.seed),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=epochs * len(loader), pct_start=0.2
    )
    for _ in (bar := tqdm(range(epochs), desc=type(model).__name__)):
        model.train()
        total = 0.0
        for batch in loader:
            batch = batch.to(args.device)
            loss = cross_entropy(model(batch), batch.y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        bar.set_postfix(loss=f"{total / len(loader):.3f}")
    recalibrate(model, loader, lambda network, batch: network(batch.to(args.device)))


def build(pool: str, num_classes: int, graph, args: argparse.Namespace) -> torch.nn.Module:
    widths = (graph.x.size(1), graph.x_dual.size(1))
    improved = not args.published
    if args.model == "superpixel":
        channels = (64, *[96] * (len(args.keep) - 1))
        return MeshSuperpixelSegmenter(
            num_classes,
            widths,
            channels,
            args.keep,
            reduce=pool,
            own_feature=improved,
            dual_messages=improved and not args.no_dual_messages,
        )
    return MeshSegmenter(
        num_classes,
        widths,
        (32, 64, *[128] * (len(args.keep) - 1))[: len(args.keep) + 1],
        keep=args.keep,
        reduce=pool,
        own_feature=improved,
        dual_messages=improved and not args.no_dual_messages,
        head="linear" if improved else "conv",
    )


@torch.no_grad()
def picture(
    model: torch.nn.Module, test: list, classes: list[str], path: Path, device: str
) -> None:
    """The four meshes with the largest share of errors, the worst first."""
    model.eval()
    rows = []
    for graph in test:
        batch = Batch.from_data_list([graph]).to(device)
        guess = model(batch).argmax(1).cpu()
        labelled = graph.y >= 0
        wrong = labelled & (guess != graph.y)
        right = 1 - wrong[labelled].float().mean()
        shape = (graph.vertices, graph.faces)
        row = [
            (*shape, graph.y, "truth"),
            (*shape, guess, f"prediction: {right:.1%}"),
            (*shape, wrong, "error"),
        ]
        for level, clusters in enumerate(model.clusters(batch), 1):
            caption = f"level {level}: {int(clusters.max()) + 1} clusters"
            row.append((*shape, None, caption, clusters))
        rows.append((float(right), row))
    rows.sort(key=lambda pair: pair[0])
    worst = [row for _, row in rows[:4]]
    print("picture:", mesh_sheet(worst, path, num_classes=len(classes), classes=classes))


def main() -> None:
    args = parse()
    epochs = args.epochs or (2 if args.quick else 20)
    train_set, test_set, classes = load(args)
    print(f"{len(train_set)} training and {len(test_set)} test meshes, {len(classes)} labels")
    check_classes(
        *(torch.cat([graph.y for graph in part]) for part in (train_set, test_set)), classes
    )
    folder = out_dir(args)
    rows, recalls, reached = [], {}, {}
    names = [*args.pool] if args.no_baseline else [ONE_FACE, *args.pool]
    for name in names:
        seed_everything(args.seed)
        if name == ONE_FACE:
            graph = train_set[0]
            model = FaceMLP(len(classes), (graph.x.size(1), graph.x_dual.size(1)))
        else:
            model = build(name, len(classes), train_set[0], args)
        model.standardizer.fit(train_set)
        model.to(args.device)
        start = time.process_time()
        train(model, train_set, epochs, args)
        minutes = (time.process_time() - start) / 60
        faces, area, guesses, labels = evaluate(model, test_set, args.device)
        reached[name], recalls[name] = faces, recall_per_class(guesses, labels, len(classes))
        parameters = sum(p.numel() for p in model.parameters())
        rows.append([name, parameters, f"{100 * faces:.2f}", f"{100 * area:.2f}", f"{minutes:.1f}"])
        print(
            f"{name}: {faces:.2%} of the faces, {area:.2%} of the area, {minutes:.1f} CPU min",
            flush=True,
        )
        if name != ONE_FACE:
            path = folder / f"mesh_segmentation_{name}.png"
            picture(model, test_set, classes, path, args.device)
    table = format_table(rows, ["pool", "parameters", "faces %", "area %", "CPU min"])
    beaten = [name for name in args.pool if reached[name] <= reached.get(ONE_FACE, -1)]
    if beaten:
        table += (
            f"\n\nThe network that sees one face at a time is as good as {' and '.join(beaten)}: pooling "
            f"has taught nothing yet. Train longer, or on more meshes."
        )
    shares = [[name, *(recalls[pool][i] for pool in recalls)] for i, name in enumerate(classes)]
    table += "\n\n" + format_table(shares, ["recall %", *recalls])
    print(table)
    (folder / "mesh_segmentation.txt").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
