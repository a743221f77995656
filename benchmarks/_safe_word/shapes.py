"""Point clouds, parts of objects, meshes."""

from __future__ import annotations

import functools
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.loader import DataLoader

from _safe_word.problem import Problem, Scores, data_seed, evaluated, generator
from graphpool.datasets import (
    GeneratedParts,
    PackedPointClouds,
)
from graphpool.datasets.meshes.folders import MeshClassificationFolder
from graphpool.models import MeshClassifier, PointNet2Segmenter, PointPN
from graphpool.points.transforms import Jitter, Sample, Scale
from graphpool.train import accuracy, recalibrate


def on_cloud(model: nn.Module, batch: Any) -> Tensor:
    return model(batch.pos, ptr=batch.ptr)


@functools.cache
def modelnet(path: Path, split: str) -> PackedPointClouds:
    return PackedPointClouds(path, split)


def point_cloud(word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    """ModelNet10, 128 points of each cloud, Point-PN."""
    path = args.data / "modelnet10" / "modelnet10_1024_int16.npz"
    train = modelnet(path, "train")
    order = torch.randperm(len(train), generator=generator(seed))
    count, asked = (32, 32) if args.quick else (300, 300)
    if args.part == "test":
        test = modelnet(path, "test")
        test = test[torch.randperm(len(test), generator=generator(seed))[:asked]]
    else:
        test = train[order[-asked:]]
    draw = generator(seed)
    train_set = [Sample(128, generator=draw)(data) for data in train[order[:count]]]
    test_set = [Sample(128, random=False)(data) for data in test]
    augment = Scale(generator=draw), Jitter(generator=draw)
    yield from classified(
        "ModelNet10",
        PointPN(len(train.classes), pool=word, readout=word, channels=24, k=8),
        on_cloud, train_set, test_set, 24, draw, args, augment,
    )  # fmt: skip


def classified(
    name: str, model: nn.Module, run: Any, train: Any, test: Any, size: int, draw: torch.Generator,
    args: Namespace, augment: tuple[Any, ...] = (),
) -> Iterator[Problem]:  # fmt: skip
    loader = DataLoader([*train], size, shuffle=True, drop_last=len(train) > size, generator=draw)
    asked = DataLoader([*test], 64)

    def batches() -> Iterator[Any]:
        for batch in loader:
            batch = batch.to(args.device)
            for change in augment:
                batch = change(batch)
            yield batch

    def score(m: nn.Module) -> Scores:
        recalibrate(m, loader, lambda network, b: run(network, b.to(args.device)))
        y = torch.cat([b.y for b in asked])
        found = evaluated(m, (b.to(args.device) for b in asked), run).cpu()
        return {name: 100 * accuracy(found, y)}

    yield Problem(model, batches, lambda m, b: F.cross_entropy(run(m, b), b.y), score)


def parts(word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    """Parts of generated objects, PointNet++."""
    count, points = (2, 64) if args.quick else (12, 128)
    train = GeneratedParts(count, points, "train", seed=data_seed(args) + seed)
    test = GeneratedParts(count, points, "test", seed=data_seed(args) + seed)
    model = PointNet2Segmenter(
        len(train.parts), num_categories=len(train.classes), pool=word, k=12, radii=(None, None),
        width=16,
    )  # fmt: skip

    def run(m: nn.Module, b: Any) -> Tensor:
        return m(b.pos, ptr=b.ptr, category=b.category)

    yield from classified("parts", model, run, train, test, 16, generator(seed), args)


@functools.cache
def shrec(path: Path, split: str, per_class: int | None) -> list[Any]:
    return list(MeshClassificationFolder(path, split, "A", max_per_class=per_class))


def meshes(word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    """SHREC, a narrow PD-MeshNet whose face clusters and readout pool with the word."""
    train = shrec(args.data / "shrec16", "train", 2 if args.quick else 6)
    if args.part == "test":
        test = shrec(args.data / "shrec16", "test", 2 if args.quick else 6)
    else:
        chosen = torch.arange(len(train)) % 4 == 0
        test = [graph for graph, held in zip(train, chosen, strict=True) if held]
        train = [graph for graph, held in zip(train, chosen, strict=True) if not held]
    graph = train[0]
    model = MeshClassifier(
        30, in_channels=(graph.x.size(1), graph.x_dual.size(1)), channels=(32, 64), heads=1,
        reduce=word, readout=word,
    )  # fmt: skip
    model.standardizer.fit(train)
    yield from classified("SHREC", model, lambda m, b: m(b), train, test, 16, generator(seed), args)
