"""How the networks of ``expressiveness.py`` are trained and tested.

The rate is chosen for each fold by the part of its training graphs that is held out.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _common import seed_everything
from _expressive import (
    ADJACENT,
    APART,
    DISTANCES,
    EGO,
    GIN_ALONE,
    ONE_LABEL,
    RP,
    WIDTH,
    Model,
    wanted,
)
from _kept import Kept, fingerprint
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from graphpool.datasets import CSL, EXP, SR25
from graphpool.evaluate import relabelled
from graphpool.train import recalibrate

# What there is to choose from, the same for all networks and sets.
RATES = (0.02, 0.01, 0.005)
BATCH = 32
Fold = tuple[Sequence[Data], Sequence[Data], Sequence[Data]]
"""To train, to choose by, and to test."""


class Classifier(nn.Module):
    """A pooled network and a small head."""

    def __init__(self, pooling: nn.Module, classes: int) -> None:
        super().__init__()
        self.pooling, self.norm = pooling, nn.BatchNorm1d(WIDTH)
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))

    def forward(self, batch: Batch) -> Tensor:
        pooled = self.pooling(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
        return self.head(self.norm(pooled))


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
    epochs: int,
    rate: float,
    device: torch.device,
    note: str,
) -> float:
    """Trains by Adam, with a rate that falls to 0 along a half cosine. Keeps the network of the epoch, among
    the second half of them, with the lowest cross entropy on ``validation``, which is returned."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    fixed = batches_of(graphs, BATCH, device)
    held_out = batches_of(validation, 64, device)
    best, kept = float("inf"), copy.deepcopy(model.state_dict())
    for epoch in tqdm(range(epochs), desc=note, leave=False, mininterval=1.0):
        model.train()
        order = torch.randperm(len(graphs)).tolist()
        for batch in batches_of([graphs[i] for i in order], BATCH, device):
            loss = nn.functional.cross_entropy(model(batch), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        if 2 * epoch >= epochs - 1:
            recalibrate(model, fixed)
            found = evaluate(model, held_out)[1]
            if found <= best:
                best, kept = found, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return best


def relabelled_classes(graphs: Sequence[Data], copies: int, seed: int) -> Fold:
    """Relabelled copies of every graph for training, one each for validation, as many as for training for
    the test."""
    made = [relabelled(graphs, seed + c) for c in range(2 * copies + 1)]
    parts = (made[:copies], made[copies : copies + 1], made[copies + 1 :])
    known, validation, unseen = ([graph for copy_ in part for graph in copy_] for part in parts)
    return known, validation, unseen


@dataclass(frozen=True)
class Task:
    """A network for a data set, by folds."""

    model: Model
    data: str
    make: Callable[[], nn.Module]
    classes: int
    epochs: int
    folds: Sequence[Fold]

    def digits(self) -> str:
        """Those of the graphs, so that what is kept is of these."""
        graphs = (graph for part in self.folds[0] for graph in part)
        return fingerprint(v for graph in graphs for v in (graph.x, graph.edge_index, graph.y))


def held_out(data: CSL | EXP) -> list[Fold]:
    """Folds of which a random tenth of the training part is to choose by."""
    folds = []
    for number, (train_ids, test_ids) in enumerate(data.folds()):
        generator = torch.Generator().manual_seed(number)
        ids = train_ids[torch.randperm(len(train_ids), generator=generator)].tolist()
        tenth = len(ids) // 10
        parts = (ids[tenth:], ids[:tenth], test_ids.tolist())
        folds.append(tuple([data[i] for i in part] for part in parts))
    return folds


def tasks(args: argparse.Namespace) -> Iterator[Task]:
    """Those that the options name; of sets whose files are missing there are none."""
    deep = {"norm": "batch_norm", "eps": 0.37}
    if "csl" in args.train:
        # A circulant graph looks the same from every node: two labelings, drawn afresh each time, give
        # the mean over all 41.
        sampled = {"outer": "mean", "sample": 2}
        folds, epochs = held_out(CSL()), 1 if args.quick else 100
        for model, make, always in (
            (DISTANCES, lambda: DISTANCES.build(1, 4, **sampled, **deep), True),
            (GIN_ALONE, lambda: GIN_ALONE.build(1, 4, **deep), True),
            (ONE_LABEL, lambda: ONE_LABEL.build(1, 8, **sampled, **deep), False),
            (RP, lambda: RP.build(1, 4, 5, eps=0.37), False),
        ):
            if always or args.full:
                yield Task(model, "CSL", make, 10, epochs, folds)
    if "exp" in args.train and (data := load(EXP, args.data)) is not None:
        folds, epochs = held_out(data), 1 if args.quick else 12
        yield Task(EGO, "EXP", lambda: EGO.build(2, 4, eps=0.37), 2, epochs, folds)
        if args.full:
            yield Task(GIN_ALONE, "EXP", lambda: GIN_ALONE.build(2, 4, eps=0.37), 2, epochs, folds)
            yield Task(RP, "EXP", lambda: RP.build(2, 4, 5, eps=0.37), 2, epochs, folds)
    if "sr25" in args.train and (data := load(SR25, args.data)) is not None:
        fold, epochs = relabelled_classes(list(data), 2, args.seed), 100 if args.full else 10
        for model in (ADJACENT, GIN_ALONE) if args.full else (GIN_ALONE,):
            make = lambda model=model: model.build(1, 3, **deep)  # noqa: E731
            yield Task(model, "SR25, relabelled", make, 15, epochs, [fold])


def load(cls: type[EXP] | type[SR25], folder: Path) -> EXP | SR25 | None:
    """A data set, or ``None`` where its file is missing, which is said."""
    try:
        return cls(folder)
    except FileNotFoundError as error:
        print(f"{cls.__name__} is left out: {error}")
        return None


def fit(task: Task, case: Sequence[Any], device: torch.device) -> dict[str, float]:
    """Trains by one recipe on one fold: what it has on the part to choose by, and on the test part."""
    *_, fold, rate, seed = case
    started = time.process_time()
    seed_everything(1000 * seed + fold)
    model = Classifier(task.make(), task.classes).to(device)
    known, validation, test = task.folds[fold]
    loss = train(
        model, known, validation, task.epochs, rate, device, f"{task.data}, {task.model.name}"
    )
    right = evaluate(model, batches_of(test, 64, device))[0]
    return {"validation": loss, "test": right, "seconds": time.process_time() - started}


def trained_table(args: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: test accuracy of the rate with the lowest loss on what each fold holds out, and of
    each rate taken for all folds."""
    todo = [task for task in tasks(args) if wanted(args, task.model.name)]
    rates = RATES if args.full else RATES[1:2]
    by_case = {
        (task.model.name, task.data, digits, task.epochs, fold, rate, args.seed): task
        for task, digits in ((task, task.digits()) for task in todo)
        for fold in range(len(task.folds) if args.full else 1)
        for rate in rates
    }
    kept = Kept("trained", args, APART)
    for case in kept.missing(by_case):
        kept.keep(case, fit(by_case[case], case, torch.device(args.device)))
    rows = []
    for task in todo:
        cases = [case for case, other in by_case.items() if other is task]
        found = torch.tensor([[v["validation"], v["test"], v["seconds"]] for v in kept.of(cases)])
        loss, right, seconds = found.double().view(-1, len(rates), 3).unbind(-1)
        best = loss.argmin(1)
        scores = right.gather(1, best[:, None])
        chosen = Counter(rates[k] for k in best.tolist()).most_common()
        alone = 100 * right.mean(0)
        rows.append(
            [
                task.model.name,
                task.data,
                f"{100 * scores.mean():.2f}",
                f"{100 * scores.min():.2f}",
                str(len(scores)),
                ", ".join(f"{rate:g}: {n}" for rate, n in chosen),
                f"{alone.min():.1f} to {alone.max():.1f}",
                f"{seconds.sum():.0f}",
            ]
        )
        print("trained:", *rows[-1], flush=True)
    headers = ["", "data", "mean %", "lowest fold %", "folds", "rate: folds"]
    return [*headers, "any rate %", "CPU seconds"], rows
