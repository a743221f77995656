"""What a task is: problems, and how they are judged."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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


def average(measure: str, values: list[float]) -> float:
    """Arithmetic for accuracies, geometric for errors, which differ by orders."""
    if measure == "accuracy":
        return sum(values) / len(values)
    return math.exp(sum(math.log(max(value, 1e-12)) for value in values) / len(values))
