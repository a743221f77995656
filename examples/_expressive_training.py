"""How the networks of ``expressiveness.py`` are trained and tested."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from _expressive import WIDTH
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from graphpool.evaluate import relabelled
from graphpool.train import recalibrate


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
    """How to train: Adam, with a learning rate that falls to 0 along a half cosine."""

    epochs: int
    lr: float
    batch_size: int


@torch.no_grad()
def evaluate(model: nn.Module, batches: Sequence[Batch]) -> tuple[float, float]:
    """Accuracy and mean cross entropy."""
    model.eval()
    right = loss = 0.0
    for batch in batches:
        out = model(batch)
        right += float((out.argmax(1) == batch.y).sum())
        loss += float(nn.functional.cross_entropy(out, batch.y, reduction="sum"))
    total = sum(batch.num_graphs for batch in batches)
    return right / total, loss / total


def batches_of(graphs: Sequence[Data], size: int, device: torch.device) -> list[Batch]:
    return [
        Batch.from_data_list(list(graphs[i : i + size])).to(device)
        for i in range(0, len(graphs), size)
    ]


def train(
    model: nn.Module,
    graphs: Sequence[Data],
    validation: Sequence[Data],
    recipe: Recipe,
    device: torch.device,
    note: str,
) -> None:
    """Trains on cross entropy and keeps the network of the epoch, among the second half of them, with the
    lowest cross entropy on ``validation``."""
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    fixed = batches_of(graphs, recipe.batch_size, device)
    held_out = batches_of(validation, 64, device)
    best, kept = float("inf"), copy.deepcopy(model.state_dict())
    for epoch in tqdm(range(recipe.epochs), desc=note, leave=False, mininterval=1.0):
        model.train()
        order = torch.randperm(len(graphs)).tolist()
        for batch in batches_of([graphs[i] for i in order], recipe.batch_size, device):
            loss = nn.functional.cross_entropy(model(batch), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        if 2 * epoch >= recipe.epochs - 1:
            recalibrate(model, fixed)
            found = evaluate(model, held_out)[1]
            if found <= best:
                best, kept = found, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)


def cross_validate(
    make: Callable[[], nn.Module],
    graphs: Sequence[Data],
    folds: Sequence[tuple[Tensor, Tensor]],
    recipe: Recipe,
    device: torch.device,
    note: str,
) -> list[float]:
    """Test accuracy of every fold. A random tenth of its training part is held out for validation; the test
    part is looked at once."""
    scores = []
    for number, (train_ids, test_ids) in enumerate(folds):
        generator = torch.Generator().manual_seed(number)
        ids = train_ids[torch.randperm(len(train_ids), generator=generator)].tolist()
        tenth = len(ids) // 10
        model = make().to(device)
        train(
            model,
            [graphs[i] for i in ids[tenth:]],
            [graphs[i] for i in ids[:tenth]],
            recipe,
            device,
            f"{note}, fold {number + 1}/{len(folds)}",
        )
        test = batches_of([graphs[i] for i in test_ids.tolist()], 64, device)
        scores.append(evaluate(model, test)[0])
    return scores


def relabelled_classes(graphs: Sequence[Data], copies: int, seed: int) -> list[list[Data]]:
    """Relabelled copies of every graph for training, one each for validation, as many as for training for
    the test."""
    made = [relabelled(graphs, seed + c) for c in range(2 * copies + 1)]
    parts = (made[:copies], made[copies : copies + 1], made[copies + 1 :])
    return [[graph for copy_ in part for graph in copy_] for part in parts]
