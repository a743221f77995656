"""Functions of sets of numbers."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from _safe_word.problem import Problem, Scores, data_seed, generator
from graphpool import Segments, aggr, ops

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
