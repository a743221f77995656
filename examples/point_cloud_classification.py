"""Classify point clouds: without training (Point-NN), or with a network and any pool.

    python examples/point_cloud_classification.py --model point-nn
    python examples/point_cloud_classification.py --model point-pn --pool gnp --epochs 10
    python examples/point_cloud_classification.py --model point-nn --data modelnet10_1024_int16.npz

--data is "generated" (surfaces of 17 classes, nothing to download), a packed .npz, a folder of files, as
{train,test}/CLASS/FILE or CLASS/{train,test}/FILE, or modelnet10 / modelnet40, which PyTorch Geometric
downloads to --root. Writes a table, the confusion matrix, and a gallery of clouds that were misclassified.
Training stops and goes on where --checkpoint says.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from _common import check_classes, format_table, make_parser, out_dir, seed_everything
from _points import followed_by, predict
from _scripts import run as run_script
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from graphpool import plot
from graphpool.datasets import (
    GeneratedShapes,
    PackedPointClouds,
    PointCloudFolder,
    PointClouds,
    model_net,
)
from graphpool.files.fitting import train_network as train
from graphpool.models import EdgeConvClassifier, PointNet2Classifier, PointPN
from graphpool.points import MemoryBank, PointNN
from graphpool.points.transforms import Jitter, Normalize, Sample, Scale, Shift
from graphpool.train import class_weights

MODELS = ("point-nn", "point-pn", "pointnet2", "edgeconv")
#: Point-NN, Point-GN and NPNet as published: first width, neighbours, width of the bells, descriptor.
PUBLISHED = {
    "fourier": (72, 90, 0.4, "last"),
    "gaussian": (27, 120, 0.4, "stages"),
    "adaptive": (35, 110, 0.232, "stages"),
}


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--model", choices=MODELS, default="point-nn")
    parser.add_argument(
        "--pool", default="max+mean", help="pool over neighbours and over the cloud"
    )
    parser.add_argument("--data", default="generated")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="for downloads")
    parser.add_argument("--num-points", type=int, default=None, help="points per cloud")
    parser.add_argument(
        "--short",
        choices=("error", "repeat"),
        default="error",
        help="clouds of a folder with fewer points: an error, or some points twice",
    )
    parser.add_argument("--columns", help="what stands in the columns, as 'x y z nx ny nz'")
    parser.add_argument("--k", type=int, default=None, help="neighbours (90 for point-nn, else 16)")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--smoothing", type=float, default=0.2, help="label smoothing")
    parser.add_argument("--class-weights", action="store_true", help="rare classes count as much")
    parser.add_argument("--votes", type=int, default=1, help="test passes over drawn points")
    parser.add_argument("--statistics", choices=("cloud", "batch"), default="cloud")
    parser.add_argument("--start", choices=("first", "centroid"), default="first")
    parser.add_argument(
        "--encoding",
        choices=tuple(PUBLISHED),
        default="fourier",
        help="of point-nn, point-gn, npnet",
    )
    parser.add_argument("--sigma", type=float, help="width of the bells of the other encodings")
    parser.add_argument("--few-shot", nargs=2, type=int, metavar=("WAYS", "SHOTS"), action="append")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument(
        "--checkpoint", type=Path, help="file to write after every epoch and resume from"
    )
    parser.add_argument("--limit", type=int, help="use only so many clouds of each split")
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[Any, Any]:
    """The training and the test clouds."""
    if args.data == "generated":
        count = 6 if args.quick else 40
        sets = [
            GeneratedShapes(count if split == "train" else count // 2, args.num_points or 512, split,
                            seed=args.seed)
            for split in ("train", "test")
        ]  # fmt: skip
    elif args.data in ("modelnet10", "modelnet40"):
        sets = [
            model_net(args.root, args.data[8:], split, args.num_points or 1024)
            for split in ("train", "test")
        ]
    elif args.data.endswith(".npz"):
        # Networks draw their points anew in every epoch, from all there are.
        number = args.num_points if args.model == "point-nn" else None
        sets = [PackedPointClouds(args.data, split, number) for split in ("train", "test")]
    else:
        sets = load_folder(Path(args.data), args)
    if args.limit is not None:
        generator = torch.Generator().manual_seed(args.seed)
        sets = [s[torch.randperm(len(s), generator=generator)[: args.limit]] for s in sets]
    # The test clouds are drawn once, so that pictures show what was classified.
    test = list(sets[1])
    clouds, labels = [data.pos for data in test], torch.cat([data.y for data in test])
    return sets[0], PointClouds(clouds, labels, sets[0].classes)


def load_folder(root: Path, args: argparse.Namespace) -> list[PointCloudFolder]:
    """Training and test clouds, numbered by the classes of the training clouds."""
    by_split = (root / "train").is_dir()
    sets: list[PointCloudFolder] = []
    for split in ("train", "test"):
        sets.append(
            PointCloudFolder(
                root / split if by_split else root,
                args.num_points or 1024,
                transform=Normalize(),
                classes=sets[0].classes if sets else None,
                split=None if by_split else split,
                short=args.short,
                columns=args.columns,
            )
        )
    return sets


def describe(
    encoder: PointNN, clouds: Any, args: argparse.Namespace, name: str
) -> tuple[Tensor, Tensor]:
    """Descriptors and labels."""
    by_batch = encoder.statistics == "batch"
    order = torch.arange(len(clouds))
    if by_batch:
        # Files lie class by class: the statistics of a batch in their order would tell the class.
        order = torch.randperm(len(clouds), generator=torch.Generator().manual_seed(args.seed))
    batch_size = args.batch_size or (16 if by_batch else 64)
    rows, labels = [], []
    for batch in tqdm(DataLoader(clouds[order], batch_size), desc=f"encode {name}", leave=False):
        rows.append(encoder(batch.pos, ptr=batch.ptr))
        labels.append(batch.y)
    back = order.argsort()
    return torch.cat(rows)[back], torch.cat(labels)[back]


def few_shot(
    features: Tensor, labels: Tensor, ways: int, shots: int, args: argparse.Namespace
) -> str:
    """Accuracy over episodes: ``ways`` classes, ``shots`` clouds of each to remember, 20 to classify."""
    count = labels.bincount()
    present = count.nonzero().squeeze(1)
    if not 1 < ways <= len(present) or not 1 <= shots < int(count[present].min()):
        raise ValueError(
            f"--few-shot {ways} {shots}: there are {len(present)} classes, and the smallest has "
            f"{int(count[present].min())} clouds; from 2 to {len(present)} ways, and from 1 to "
            f"{int(count[present].min()) - 1} shots, which leaves one to classify."
        )
    generator = torch.Generator().manual_seed(args.seed)
    accuracy = []
    for _ in range(args.episodes):
        classes = present[torch.randperm(len(present), generator=generator)[:ways]]
        seen, asked = [], []
        for c in classes:
            mine = (labels == c).nonzero().squeeze(1)
            mine = mine[torch.randperm(mine.numel(), generator=generator)]
            seen.append(mine[:shots])
            asked.append(mine[shots : shots + 20])
        bank = MemoryBank().fit(features[torch.cat(seen)], labels[torch.cat(seen)])
        guess = bank.predict(features[torch.cat(asked)])
        accuracy.append((guess == labels[torch.cat(asked)]).double().mean())
    values = 100 * torch.stack(accuracy)
    spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def run_point_nn(
    args: argparse.Namespace, train_set: Any, test_set: Any
) -> tuple[Tensor, Tensor, list]:
    channels, k, sigma, descriptor = PUBLISHED[args.encoding]
    encoder = PointNN(
        channels,
        k=args.k or (24 if args.quick else k),
        statistics=args.statistics,
        start=0 if args.start == "first" else "centroid",
        encoding=args.encoding,
        sigma=args.sigma or sigma,
        descriptor=descriptor,
    )
    begin = time.perf_counter()
    keys, labels = describe(encoder, train_set, args, "train")
    queries, truth = describe(encoder, test_set, args, "test")
    spent = time.perf_counter() - begin
    bank = MemoryBank().fit(keys, labels, len(train_set.classes))
    scores = bank.scores(queries)
    rows = [
        ["encoding, statistics, start", f"{args.encoding}, {args.statistics}, {args.start}"],
        ["gamma (leave-one-out)", f"{float(bank.gamma):g}"],
        ["leave-one-out accuracy", f"{100 * float(bank.leave_one_out().max()):.1f}"],
        ["seconds to encode", f"{spent:.1f} for {len(keys) + len(queries)} clouds"],
    ]
    for ways, shots in args.few_shot or []:
        cell = few_shot(torch.cat([keys, queries]), torch.cat([labels, truth]), ways, shots, args)
        rows.append([f"{ways}-way {shots}-shot", cell])
    return scores, truth, rows


def build(args: argparse.Namespace, classes: int, k: int) -> nn.Module:
    if args.model == "point-pn":
        return PointPN(classes, pool=args.pool, readout=args.pool, k=k)
    if args.model == "pointnet2":
        return PointNet2Classifier(classes, pool=args.pool, k=k, radii=(None, None), width=32)
    return EdgeConvClassifier(classes, pool=args.pool, k=k, widths=(32, 32, 64))


def run_network(
    args: argparse.Namespace, train_set: Any, test_set: Any
) -> tuple[Tensor, Tensor, list]:
    generator = torch.Generator().manual_seed(args.seed)
    points = args.num_points or (64 if args.quick else 256)
    k = args.k or (8 if args.quick else 16)
    size, epochs = args.batch_size or 32, 1 if args.quick else args.epochs
    if len(train_set) < 2:
        raise ValueError("a network needs two training clouds; got one. See --data and --limit.")
    weight = class_weights(train_set.y, len(train_set.classes)) if args.class_weights else None
    train_set = followed_by(
        train_set, Sample(points, generator=generator), Scale(generator=generator),
        Shift(generator=generator), Jitter(generator=generator),
    )  # fmt: skip
    test_set = followed_by(test_set, Sample(points, random=args.votes > 1, generator=generator))
    order = torch.Generator().manual_seed(args.seed)
    # A rest of one cloud has no variance to normalise by.
    loader = DataLoader(
        train_set, size, shuffle=True, drop_last=len(train_set) > size, generator=order
    )
    model = build(args, len(train_set.classes), k).to(args.device)

    def forward(network: nn.Module, batch: Batch) -> Tensor:
        return network(batch.pos, ptr=batch.ptr)

    settings = {
        "model": args.model, "pool": args.pool, "k": k, "points": points, "lr": args.lr,
        "batch_size": size, "smoothing": args.smoothing, "class_weights": args.class_weights,
        "seed": args.seed, "clouds": len(train_set), "classes": list(train_set.classes),
    }  # fmt: skip
    spent = train(
        model, loader, forward, epochs, args.lr, args.smoothing, args.checkpoint, args.device,
        (generator, order), settings, weight,
    )  # fmt: skip
    scores, truth = predict(model, DataLoader(test_set, size), forward, args.votes, args.device)
    rows = [
        ["pool", args.pool],
        ["parameters", f"{sum(p.numel() for p in model.parameters()):,}"],
        ["points, k, epochs", f"{points}, {k}, {epochs}"],
        ["core seconds of training", f"{spent:.0f}"],
    ]
    return scores, truth, rows


def main() -> None:
    args = parse_arguments()
    seed_everything(args.seed)
    folder = out_dir(args)
    train_set, test_set = load(args)
    check_classes(train_set.y, test_set.y, train_set.classes)
    run = run_point_nn if args.model == "point-nn" else run_network
    scores, truth, rows = run(args, train_set, test_set)
    guess = scores.argmax(1)
    accuracy = float((guess == truth).double().mean())
    rows = [
        ["model", args.model],
        ["test accuracy", f"{100 * accuracy:.1f} ({int((guess == truth).sum())} of {len(truth)})"],
        *rows,
    ]
    table = format_table(rows, ["", args.data.rpartition("/")[2]])
    print(table)
    name = f"points_{args.model}"
    (folder / f"{name}.md").write_text(table + "\n", encoding="utf-8")
    plot.confusion_matrix(guess, truth, train_set.classes, folder / f"{name}_confusion.png")
    wrong = (guess != truth).nonzero().squeeze(1).tolist()
    wrong = wrong[:: max(len(wrong) // 12, 1)][:12]
    titles = [
        f"{train_set.classes[int(truth[i])]}\ntaken for {train_set.classes[int(guess[i])]}"
        for i in wrong
    ]
    if wrong:
        plot.cloud_gallery([test_set[i].pos for i in wrong], titles, folder / f"{name}_errors.png")
    print(f"pictures in {folder}")


if __name__ == "__main__":
    run_script(main)
