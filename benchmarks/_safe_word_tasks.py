"""The tasks of ``safe_word.py``: networks in which one word is the pool at every site."""

from __future__ import annotations

import functools
import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.loader import DataLoader

from graphpool import Segments, aggr, ops
from graphpool.datasets import (
    GeneratedParts,
    MaxDegree,
    PackedPointClouds,
    ShortestPath,
    TUGraphs,
)
from graphpool.datasets.meshes.folders import MeshClassificationFolder
from graphpool.models import GraphModel, MeshClassifier, PointNet2Segmenter, PointPN
from graphpool.points.transforms import Jitter, Sample, Scale
from graphpool.train import GraphBatches, accuracy, recalibrate

Scores = dict[str, float]


@dataclass
class Problem:
    """A network, what it is trained on, and how it is judged afterwards.

    Attributes:
        model: The network.
        batches: Called for every epoch: its batches.
        loss: Of a batch.
        score: What the trained network reaches, by the names of :class:`Task`.
    """

    model: nn.Module
    batches: Callable[[], Iterable[Any]]
    loss: Callable[[nn.Module, Any], Tensor]
    score: Callable[[nn.Module], Scores]


@dataclass(frozen=True)
class Task:
    """A row or two of the table.

    Attributes:
        make: ``make(word, seed, args)`` gives the problems of a run; their scores are averaged, errors
            geometrically.
        measures: What is measured, by the name of the row: ``"error"`` or ``"accuracy"``.
        epochs: Passes over the training part.
        lr: Rate of Adam at the start; it falls to 0 along a cosine.
    """

    make: Callable[[Any, int, Namespace], Iterator[Problem]]
    measures: dict[str, str]
    epochs: int
    lr: float


def both(name: str, larger: str) -> dict[str, str]:
    """Two errors: on what is as large as in training, and on what is larger."""
    return {name: "error", f"{name}, larger {larger}": "error"}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data_seed(args: Namespace) -> int:
    """Where recipes are chosen (``--part val``), generated data is another draw than in the test."""
    return {"test": 0, "val": 7}[args.part]


@torch.no_grad()
def evaluated(model: nn.Module, batches: Iterable[Any], run: Callable[..., Tensor]) -> Tensor:
    model.eval()
    return torch.cat([run(model, batch) for batch in batches])


# --- graphs ---------------------------------------------------------------------------------------------


def on_graphs(model: nn.Module, batch: Any) -> Tensor:
    more = {"edge_attr": batch.edge_attr} if model.edge_dim is not None else {}
    return model(batch.x, batch.edge_index, batch.nodes, **more)


def relative_error(model: nn.Module, batches: GraphBatches) -> float:
    y = torch.cat([batch.y for batch in batches])
    return 100 * float(((evaluated(model, batches, on_graphs) - y) / y).abs().mean())


def extrapolation(
    dataset: type, name: str, word: Any, seed: int, args: Namespace, **model: Any
) -> Iterator[Problem]:
    """Small graphs to train on, other small ones and larger ones to test."""
    count, size = model.pop("count"), model.pop("batch_size")
    if args.quick:
        count = {"train": 45, "val": 18, "test": 18}

    def batches(split: str, **more: Any) -> GraphBatches:
        at = data_seed(args) + (1 if split == "val" else 0)
        graphs = dataset(args.cache, split=split, num_graphs=count[split], seed=at)
        return GraphBatches(graphs, size, device=args.device, **more)

    train = batches("train", shuffle=True, generator=generator(seed))
    near, far = batches("val"), batches("test")
    network = GraphModel(
        next(iter(near)).x.size(1), 32, 1, conv="pair_mlp", aggr=word, readout=word, encoder=None,
        activation=False, **model,
    )  # fmt: skip
    yield Problem(
        network,
        lambda: train,
        lambda m, batch: F.mse_loss(on_graphs(m, batch), batch.y),
        lambda m: {name: relative_error(m, near), f"{name}, larger graphs": relative_error(m, far)},
    )


def max_degree(word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    count = {"train": 450, "val": 180, "test": 180}
    sizes: dict[str, Any] = {"num_layers": 2, "node_layers": 2, "batch_size": 32, "count": count}
    yield from extrapolation(MaxDegree, "maximum degree", word, seed, args, **sizes)


def shortest_path(word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    count = {"train": 405, "val": 198, "test": 99}
    sizes: dict[str, Any] = {"num_layers": 3, "edge_dim": 1, "batch_size": 20, "count": count}
    yield from extrapolation(ShortestPath, "shortest path", word, seed, args, **sizes)


def tu(
    name: str, folds: int, batch: int, word: Any, seed: int, args: Namespace
) -> Iterator[Problem]:
    """Cross-validation: each fold is the test part once."""
    graphs = TUGraphs(args.data / "tu", name, cache=args.cache)
    fold = stratified(graphs._data.y, folds, seed)
    for k in range(1 if args.quick else folds):
        # Where recipes are chosen, the test fold is not there at all.
        asked = k if args.part == "test" else (k + 1) % folds
        train = ((fold != k) & (fold != asked)).nonzero().squeeze(1)
        if args.quick:
            train = train[torch.randperm(train.numel(), generator=generator(seed))[:64]]
        asked_for = (fold == asked).nonzero().squeeze(1)
        torch.manual_seed(seed * 100 + k)
        rest = GraphBatches(graphs, batch, True, generator(seed + k), train, args.device)
        test = GraphBatches(graphs, 256, indices=asked_for, device=args.device)
        yield Problem(
            GraphModel(
                graphs.num_features, 32, graphs.num_classes, num_layers=3, aggr=word, readout=word,
                norm="batch", head="mlp",
            ),
            lambda rest=rest: rest,
            lambda m, b: F.cross_entropy(on_graphs(m, b), b.y),
            partial(graph_accuracy, name, rest, test),
        )  # fmt: skip


def graph_accuracy(name: str, rest: GraphBatches, test: GraphBatches, model: nn.Module) -> Scores:
    recalibrate(model, rest, on_graphs)
    y = torch.cat([batch.y for batch in test])
    return {name: 100 * accuracy(evaluated(model, test, on_graphs), y)}


def stratified(y: Tensor, folds: int, seed: int) -> Tensor:
    """The fold of each graph; every class is spread evenly."""
    order = torch.randperm(y.numel(), generator=generator(seed))
    order = order[y[order].argsort(stable=True)]
    fold = torch.empty_like(y)
    fold[order] = torch.arange(y.numel()) % folds
    return fold


def block_model(conv: str, word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    """Which block is a node of? Features of either sign: a mean of the block under much noise."""
    draw = generator(1000 * data_seed(args) + seed)
    nodes, blocks, width = (200, 4, 8) if args.quick else (1200, 4, 8)
    y = torch.randint(blocks, (nodes,), generator=draw)
    centre = torch.randn(blocks, width, generator=draw)
    x = 0.5 * centre[y] + 1.5 * torch.randn(nodes, width, generator=draw)
    chance = torch.where(y[:, None] == y, 12.0, 2.0) / nodes
    edges = (torch.rand(nodes, nodes, generator=draw) < chance).triu(1)
    edges = (edges | edges.T).nonzero().T.contiguous()
    train = torch.rand(nodes, generator=draw) < 0.5
    x, y, edges, train = (t.to(args.device) for t in (x, y, edges, train))
    model = GraphModel(
        width, 32, blocks, num_layers=2, conv=conv, aggr=word, readout=None, encoder=None
    )

    def score(m: nn.Module) -> Scores:
        m.eval()
        with torch.no_grad():
            return {f"blocks, {conv.upper()}": 100 * accuracy(m(x, edges)[~train], y[~train])}

    yield Problem(
        model,
        lambda: [None],
        lambda m, _: F.cross_entropy(m(x, edges)[train], y[train]),
        score,
    )


def edge_features(word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    """A linear function of signed edge features, added up over the graph; the nodes tell nothing."""
    draw = generator(1000 * data_seed(args) + seed)
    slope = torch.tensor([[1.0], [-0.5], [0.3], [2.0]])

    def graphs(count: int) -> tuple[Tensor, ...]:
        size = torch.randint(6, 13, (count,), generator=draw)
        nodes, edges = Segments.from_counts(size), Segments.from_counts(4 * size)
        ends = torch.rand(2, edges.num_elements, generator=draw) * size[edges.index]
        attr = torch.randn(edges.num_elements, 4, generator=draw)
        y = ops.segment_sum(attr @ slope, edges) / 14
        parts = (
            torch.ones(nodes.num_elements, 1),
            ends.long() + nodes.ptr[edges.index],
            attr,
            y,
            nodes,
        )
        return tuple(part.to(args.device) for part in parts)

    train, test = [graphs(25) for _ in range(2 if args.quick else 30)], graphs(250)
    model = GraphModel(
        1, 32, 1, num_layers=2, conv="sage", aggr=word, readout=word, encoder=None, edge_dim=4
    )
    order = generator(seed)

    def run(m: nn.Module, b: tuple[Any, ...]) -> Tensor:
        return m(b[0], b[1], b[4], edge_attr=b[2])

    yield Problem(
        model,
        lambda: (train[i] for i in torch.randperm(len(train), generator=order).tolist()),
        lambda m, b: F.mse_loss(run(m, b), b[3]),
        lambda m: {"edge features": float((evaluated(m, [test], run) - test[3]).abs().mean())},
    )


# --- sets -----------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[[Tensor, Segments], Tensor]] = {
    "size": lambda x, s: s.counts[:, None].to(x.dtype),
    "sum": ops.segment_sum,
    "mean": ops.segment_mean,
    "maximum": ops.segment_max,
    "minimum": ops.segment_min,
    "range": lambda x, s: ops.segment_max(x, s) - ops.segment_min(x, s),
    "deviation": ops.segment_std,
    "median": ops.segment_median,
    "Euclidean norm": lambda x, s: ops.segment_sum(x * x, s).sqrt(),
}


class SetNetwork(nn.Module):
    """Perceptron, pool, linear map."""

    def __init__(self, word: Any, width: int) -> None:
        super().__init__()
        self.elements = nn.Sequential(
            nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.pool = aggr.resolve(word, channels=width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        return self.head(self.pool(self.elements(x), segments))


def drawn_sets(
    count: int, low: int, high: int, draw: torch.Generator, device: str
) -> tuple[Tensor, Segments]:
    sizes = torch.randint(low, high + 1, (count,), generator=draw)
    x = 1 + 2 * torch.rand(int(sizes.sum()), 1, generator=draw)
    return x.to(device), Segments.from_counts(sizes).to(device)


def set_functions(word: Any, seed: int, args: Namespace) -> Iterator[Problem]:
    """Each of nine functions of sets of 4 to 16 numbers in [1, 3]; larger sets have 32 to 128."""
    for number, function in enumerate(FUNCTIONS.values()):
        draw = generator(1000 * data_seed(args) + 10 * seed + number)
        torch.manual_seed(10 * seed + number)
        tests = {
            "set functions": drawn_sets(256, 4, 16, draw, args.device),
            "set functions, larger sets": drawn_sets(256, 32, 128, draw, args.device),
        }
        whole = function(*drawn_sets(2000, 4, 16, draw, args.device))
        mean, scale = whole.mean(), whole.std()

        def batches(draw: torch.Generator = draw) -> Iterator[Any]:
            for _ in range(8):
                yield drawn_sets(64, 4, 16, draw, args.device)

        def loss(
            m: nn.Module, b: Any, f: Any = function, mean: Any = mean, scale: Any = scale
        ) -> Tensor:
            return F.mse_loss(m(*b), (f(*b) - mean) / scale)

        @torch.no_grad()
        def score(
            m: nn.Module,
            f: Any = function,
            mean: Any = mean,
            scale: Any = scale,
            tests: Any = tests,
        ) -> Scores:
            return {
                name: 100 * float(((m(*t) * scale + mean - f(*t)) / f(*t)).abs().mean())
                for name, t in tests.items()
            }

        yield Problem(SetNetwork(word, 16), batches, loss, score)


# --- points and meshes ----------------------------------------------------------------------------------


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


TASKS: dict[str, Task] = {
    "blocks-sage": Task(partial(block_model, "sage"), {"blocks, SAGE": "accuracy"}, 100, 0.01),
    "blocks-gin": Task(partial(block_model, "gin"), {"blocks, GIN": "accuracy"}, 100, 0.01),
    "edges": Task(edge_features, {"edge features": "error"}, 12, 0.01),
    "mutag": Task(partial(tu, "MUTAG", 5, 32), {"MUTAG": "accuracy"}, 20, 0.01),
    "maxdegree": Task(max_degree, both("maximum degree", "graphs"), 20, 0.01),
    "sets": Task(set_functions, both("set functions", "sets"), 25, 0.01),
    "shortest": Task(shortest_path, both("shortest path", "graphs"), 20, 0.005),
    "enzymes": Task(partial(tu, "ENZYMES", 3, 64), {"ENZYMES": "accuracy"}, 20, 0.01),
    "proteins": Task(partial(tu, "PROTEINS", 3, 64), {"PROTEINS": "accuracy"}, 10, 0.01),
    "parts": Task(parts, {"parts": "accuracy"}, 8, 0.003),
    "modelnet": Task(point_cloud, {"ModelNet10": "accuracy"}, 6, 0.003),
    "shrec": Task(meshes, {"SHREC": "accuracy"}, 20, 0.002),
}
"""Cheap ones first."""


def average(measure: str, values: list[float]) -> float:
    """Arithmetic for accuracies, geometric for errors, which differ by orders."""
    if measure == "accuracy":
        return sum(values) / len(values)
    return math.exp(sum(math.log(max(value, 1e-12)) for value in values) / len(values))
