"""Models, data and training shared by the tables of ``expressiveness.py``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GIN
from tqdm import tqdm

from graphpool.datasets import CEXP, CSL, EXP, SR25, cfi_pair
from graphpool.evaluate import relabelled
from graphpool.relational import Distance, LabelPooling, RelationalPooling

WIDTH = 16

# Random weights reach the bound of colour refinement with an analytic activation that is no polynomial; a
# ReLU network can be linear on all that occurs. With eps = 0 a node would count as one of its neighbours.
RANDOM = {"act": "tanh", "eps": 0.37}

# So many copies at once stay in the cache.
COPIES_AT_ONCE = 1024


@dataclass(frozen=True)
class Model:
    """A row of the tables: what is pooled over; ``extra`` is how many input channels the labels take."""

    name: str
    labels: int = 0
    settings: tuple[tuple[str, Any], ...] = ()
    extra: int | None = None

    def build(
        self,
        features: int,
        layers: int,
        inner: str = "sum",
        outer: str = "sum",
        sample: int | None = None,
        **gnn: Any,
    ) -> LabelPooling:
        extra = self.labels if self.extra is None else self.extra
        network = GIN(features + extra, WIDTH, layers, **gnn)
        settings = {**dict(self.settings), "sample": sample}
        return LabelPooling(network, labels=self.labels, inner=inner, outer=outer, **settings)


GIN_ALONE = Model("GIN")
ONE_LABEL = Model("GIN + one label", 1)
TWO_LABELS = Model("GIN + two labels", 2, (("max_copies", COPIES_AT_ONCE),))
ADJACENT = Model("GIN + adjacent pairs", 2, (("policy", "adjacent"),))
EGO = Model("GIN + ego nets, 3 hops", 1, (("policy", "ego"), ("hops", 3)))
DISTANCES = Model("GIN + one label, distances", 1, (("encoding", Distance(10)),), 12)
MODELS = (GIN_ALONE, ONE_LABEL, EGO, ADJACENT, TWO_LABELS)
RP = "GIN + RP"


def relational_gin(features: int, layers: int, permutations: int, **gnn: Any) -> RelationalPooling:
    """GIN with one-hot ids modulo 10, as in the paper."""
    return RelationalPooling(GIN(features + 10, WIDTH, layers, **gnn), permutations, id_dim=10)


def default_data() -> Path:
    """Where the files of EXP, CEXP and SR25 are looked for."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("GRAPHPOOL_SHARED_DATA", beside)) / "expressive"


@dataclass
class PairSet:
    """Pairs of graphs to be told apart; ``layers`` is deep enough for what the models can do."""

    name: str
    graphs: list[Data]
    pairs: Tensor
    layers: int

    @property
    def features(self) -> int:
        return self.graphs[0].x.size(1)


def all_pairs(count: int) -> Tensor:
    return torch.combinations(torch.arange(count))


def pair_sets(folder: Path, limit: int | None) -> tuple[list[PairSet], list[str]]:
    """The sets that can be had, and what is missing; ``limit`` caps the pairs of EXP and CEXP."""
    csl = CSL(copies=1)
    found = [PairSet("CSL", [csl[i] for i in range(10)], all_pairs(10), 8)]
    bases = [[(0, 1), (1, 2), (2, 0)], [(a, b) for a in range(4) for b in range(a)]]
    cfi = [graph for base in bases for graph in cfi_pair(base)]
    found.append(PairSet("CFI", cfi, torch.arange(4).view(2, 2), 6))
    missing = []
    for name, cls, layers in (("EXP", EXP, 4), ("CEXP", CEXP, 4), ("SR25", SR25, 5)):
        try:
            data = cls(folder)
        except FileNotFoundError as error:
            missing.append(f"{name} is left out: {error}")
            continue
        if name == "SR25":
            pairs = all_pairs(15 if limit is None or limit > 15 else 5)
        else:
            pairs = data.pairs()[:limit]
        graphs = [data[i] for i in range(int(pairs.max()) + 1)]
        found.append(PairSet(name, graphs, pairs, layers))
    return found, missing


class Classifier(nn.Module):
    """A pooled network and a small head."""

    def __init__(self, pooling: nn.Module, classes: int) -> None:
        super().__init__()
        self.pooling, self.norm = pooling, nn.BatchNorm1d(WIDTH)
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))

    def forward(self, batch: Batch) -> Tensor:
        pooled = self.pooling(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
        return self.head(self.norm(pooled))


@dataclass(frozen=True)
class Recipe:
    """How to train; the learning rate falls to 0 along a half cosine."""

    epochs: int
    lr: float
    batch_size: int


def accuracy(model: nn.Module, batches: Sequence[Batch]) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(batch).argmax(1) == batch.y).sum()) for batch in batches)
    return right / sum(batch.num_graphs for batch in batches)


def batches_of(graphs: Sequence[Data], size: int, device: torch.device) -> list[Batch]:
    return [
        Batch.from_data_list(list(graphs[i : i + size])).to(device)
        for i in range(0, len(graphs), size)
    ]


@torch.no_grad()
def settle_statistics(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Batch normalisation with the statistics of the trained network, in place of a running average over
    networks before it: embeddings of graphs that are hard to tell apart differ by little."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    for batch in batches:
        model(batch)


def train(
    model: nn.Module,
    graphs: Sequence[Data],
    recipe: Recipe,
    device: torch.device,
    note: str,
) -> None:
    """Trains on cross entropy."""
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    for _ in tqdm(range(recipe.epochs), desc=note, leave=False, mininterval=1.0):
        model.train()
        order = torch.randperm(len(graphs)).tolist()
        for batch in batches_of([graphs[i] for i in order], recipe.batch_size, device):
            loss = nn.functional.cross_entropy(model(batch), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    settle_statistics(model, batches_of(graphs, recipe.batch_size, device))


def cross_validate(
    make: Callable[[], nn.Module],
    graphs: Sequence[Data],
    folds: Sequence[tuple[Tensor, Tensor]],
    recipe: Recipe,
    device: torch.device,
    note: str,
) -> list[float]:
    """Test accuracy of every fold after the last epoch: no epoch is chosen by test results."""
    scores = []
    for number, (train_ids, test_ids) in enumerate(folds):
        model = make().to(device)
        chosen = [graphs[i] for i in train_ids.tolist()]
        train(model, chosen, recipe, device, f"{note}, fold {number + 1}/{len(folds)}")
        held_out = [graphs[i] for i in test_ids.tolist()]
        scores.append(accuracy(model, batches_of(held_out, 64, device)))
    return scores


def relabelled_classes(
    graphs: Sequence[Data], copies: int, seed: int
) -> tuple[list[Data], list[Data]]:
    """Two disjoint sets of relabelled copies of every graph, for training and for testing."""
    made = [relabelled(graphs, seed + c) for c in range(2 * copies)]
    return [g for part in made[:copies] for g in part], [g for part in made[copies:] for g in part]
