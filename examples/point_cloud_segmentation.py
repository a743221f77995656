"""Find the parts of objects: without training (Point-NN), or with PointNet++ and any pool.

    python examples/point_cloud_segmentation.py --model point-nn
    python examples/point_cloud_segmentation.py --model pointnet2 --pool gnp --epochs 10

--data is "generated" (six categories, fifteen parts, nothing to download) or "shapenet", the ShapeNet part
annotations, which PyTorch Geometric downloads to --root. The category of an object is given, as is usual.
Writes a table and a gallery of clouds coloured by their true and their predicted parts. Training stops
and goes on where --checkpoint says.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _points import followed_by, predict
from _scripts import run as run_script
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.datasets import ShapeNet
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose
from tqdm import tqdm

from graphpool import Segments, plot
from graphpool.datasets import GeneratedParts
from graphpool.files.fitting import train_network as train
from graphpool.models import PointNet2Segmenter
from graphpool.points import PartMemory, PointNNSegmenter, part_iou
from graphpool.points.transforms import Jitter, Normalize, Sample, Scale
from graphpool.train import accuracy, class_weights


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--model", choices=("point-nn", "pointnet2"), default="point-nn")
    parser.add_argument("--pool", default="max")
    parser.add_argument("--data", choices=("generated", "shapenet"), default="generated")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="for downloads")
    parser.add_argument("--num-points", type=int, default=None, help="points per cloud")
    parser.add_argument("--k", type=int, default=None, help="neighbours (60 for point-nn, else 16)")
    parser.add_argument("--gamma", type=float, default=300.0, help="sharpness of the memory")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--class-weights", action="store_true", help="rare parts count as much")
    parser.add_argument(
        "--ignore-label", type=int, default=-1, help="the label of points that have none"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="file to write after every epoch and resume from"
    )
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[Any, Any, list[str], list[str]]:
    """Training and test clouds, the names of the categories, and of the parts."""
    if args.data == "generated":
        count, points = (3, 128) if args.quick else (24, 512)
        train_set, test_set = (
            GeneratedParts(count, args.num_points or points, split, seed=args.seed)
            for split in ("train", "test")
        )
        return train_set, list(test_set), train_set.classes, train_set.parts
    folder = str(args.root / "ShapeNet")
    # Drawn from torch's own generator, whose state is in the checkpoint.
    transform = Compose([Sample(args.num_points or 1024), Normalize()])
    train_set, test_set = (
        ShapeNet(folder, split=split, transform=transform) for split in ("trainval", "test")
    )
    # The test clouds are drawn once, so that pictures colour the points that were labelled.
    test = list(tqdm(test_set, desc="draw points", leave=False))
    parts = [""] * train_set.num_classes
    for category, labels in train_set.seg_classes.items():
        for number, label in enumerate(labels, 1):
            parts[label] = f"{category}/{number}"
    return train_set, test, train_set.categories, parts


def run_point_nn(args: argparse.Namespace, train_set: Any, test_set: Any, parts: int) -> tuple:
    encoder = PointNNSegmenter(channels=72, k=args.k or (16 if args.quick else 60))
    memory = PartMemory(parts, args.gamma)
    begin = time.perf_counter()
    for batch in tqdm(DataLoader(train_set, args.batch_size), desc="remember", leave=False):
        clouds = Segments(ptr=batch.ptr)
        memory.add(encoder(batch.pos, clouds), batch.y, clouds, batch.category)
    guess, truth = [], []
    for batch in tqdm(DataLoader(test_set, args.batch_size), desc="segment", leave=False):
        clouds = Segments(ptr=batch.ptr)
        guess.append(memory.predict(encoder(batch.pos, clouds), clouds, batch.category))
        truth.append(batch.y)
    rows = [
        [
            "seconds",
            f"{time.perf_counter() - begin:.1f} for {len(train_set) + len(test_set)} clouds",
        ]
    ]
    return torch.cat(guess), torch.cat(truth), rows


def run_network(args: argparse.Namespace, train_set: Any, test_set: Any, parts: int) -> tuple:
    generator = torch.Generator().manual_seed(args.seed)
    weight = None
    if args.class_weights:
        weight = class_weights(train_set.y, parts, args.ignore_label)
    categories = int(train_set.category.max()) + 1
    train_set = followed_by(train_set, Scale(generator=generator), Jitter(generator=generator))
    k = args.k or 16
    model = PointNet2Segmenter(
        parts,
        num_categories=categories,
        pool=args.pool,
        k=k,
        radii=(None, None),
        width=32,
    ).to(args.device)

    def forward(network: nn.Module, batch: Batch) -> Tensor:
        return network(batch.pos, ptr=batch.ptr, category=batch.category)

    epochs = 1 if args.quick else args.epochs
    loader = DataLoader(train_set, args.batch_size, shuffle=True, generator=generator)
    settings = {
        "model": args.model, "pool": args.pool, "k": k, "points": args.num_points, "lr": args.lr,
        "batch_size": args.batch_size, "class_weights": args.class_weights, "seed": args.seed,
        "clouds": len(train_set), "parts": parts, "data": args.data,
    }  # fmt: skip
    spent = train(
        model, loader, forward, epochs, args.lr, 0.0, args.checkpoint, args.device, (generator,),
        settings, weight, args.ignore_label,
    )  # fmt: skip
    test = DataLoader(test_set, args.batch_size)
    scores, truth = predict(model, test, forward, 1, args.device)
    rows = [
        ["pool", args.pool],
        ["parameters", f"{sum(p.numel() for p in model.parameters()):,}"],
        ["core seconds of training", f"{spent:.0f} for {epochs} epochs"],
    ]
    return scores.argmax(1), truth, rows


def main() -> None:
    args = parse_arguments()
    seed_everything(args.seed)
    folder = out_dir(args)
    train_set, test_set, categories, parts = load(args)
    run = run_point_nn if args.model == "point-nn" else run_network
    guess, truth, rows = run(args, train_set, test_set, len(parts))
    sizes = torch.tensor([data.num_nodes for data in test_set])
    clouds = Segments.from_counts(sizes)
    known = truth != args.ignore_label
    iou = part_iou(
        guess[known],
        truth[known],
        Segments(index=clouds.index[known], num_segments=clouds.num_segments),
    )
    category = torch.cat([data.category for data in test_set])
    table = [
        ["model", args.model],
        ["instance mIoU", f"{100 * float(iou.mean()):.1f}"],
        ["point accuracy", f"{100 * accuracy(guess, truth, args.ignore_label):.1f}"],
        *rows,
        *[
            [f"mIoU of {name}", f"{100 * float(iou[category == c].mean()):.1f}"]
            for c, name in enumerate(categories)
            if bool((category == c).any())
        ],
    ]
    text = format_table(table, ["", args.data])
    print(text)
    name = f"parts_{args.model}"
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    pictures, titles, values = [], [], []
    # Parts of one category come far apart in the palette: first all first parts, then all second ones.
    places = [
        sum(name.split("/")[0] == p.split("/")[0] for p in parts[:i])
        for i, name in enumerate(parts)
    ]
    order = sorted(range(len(parts)), key=places.__getitem__)
    colour = torch.tensor(order).argsort()
    # Of each category the cloud with the most errors; a part has its colour in every picture.
    for c in category.unique().tolist()[:6]:
        own = (category == c).nonzero().squeeze(1)
        i = int(own[iou[own].argmin()])
        first, last = clouds.ptr[i], clouds.ptr[i + 1]
        for labels, kind in ((truth, "true"), (guess, f"predicted, IoU {100 * float(iou[i]):.0f}")):
            pictures.append(test_set[i].pos)
            titles.append(f"{categories[c]}: {kind}")
            part = labels[first:last]
            values.append(torch.where(part < 0, part, colour[part]))
    names = [parts[i] for i in order]
    path = folder / f"{name}.png"
    plot.cloud_gallery(pictures, titles, path, values, num_values=len(parts), classes=names)
    print(f"pictures in {folder}")


if __name__ == "__main__":
    run_script(main)
