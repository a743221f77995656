"""Graphs: extrapolation to larger ones, TU collections, stochastic blocks, features of edges."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from _safe_word.problem import Problem, Scores, data_seed, evaluated, generator
from graphpool import Segments, ops
from graphpool.datasets import (
    MaxDegree,
    ShortestPath,
    TUGraphs,
)
from graphpool.models import GraphModel
from graphpool.train import GraphBatches, accuracy, recalibrate


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
