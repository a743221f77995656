"""Bags of many small pictures: training through all of them, through samples, and behind a frozen encoder."""

from __future__ import annotations

import argparse
import time

import torch
from _common import mean_and_spread
from _kept import Kept, seeds_of
from _scripts import peak_memory
from torch import Tensor, nn

import graphpool
from graphpool import aggr

CLASSES, SHARE = 10, 0.2
METHODS = ("all patches, in pieces", "samples with a memory", "frozen random encoder")


class Bags:
    """Bags of digits, of which one is a little more frequent than the others, as rows of one table."""

    def __init__(self, images: Tensor, digits: Tensor, count: int, size: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        self.images, self.labels = images, torch.arange(count) % CLASSES
        rows = [(digits == d).nonzero()[:, 0] for d in range(CLASSES)]
        self.rows = torch.empty(count, size, dtype=torch.int16)
        for bag, label in enumerate(self.labels.tolist()):
            share = torch.full((CLASSES,), (1 - SHARE) / (CLASSES - 1))
            share[label] = SHARE
            drawn = torch.multinomial(share, size, replacement=True, generator=g)
            for d in range(CLASSES):
                here = (drawn == d).nonzero()[:, 0]
                chosen = torch.randint(len(rows[d]), (len(here),), generator=g)
                self.rows[bag, here] = rows[d][chosen].short()

    def pieces(self, bag: int, size: int = 4096):
        for rows in self.rows[bag].split(size):
            yield self.images[rows.long()]


def make(seed: int, bags: int) -> tuple[nn.Module, aggr.MIDAMAttention]:
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(),
    )  # fmt: skip
    return encoder, aggr.MIDAMAttention(32, num_outputs=CLASSES, sigmoid=False, num_segments=bags)


def accuracy(encoder: nn.Module, pool: nn.Module, bags: Bags) -> float:
    with torch.no_grad():
        found = [
            graphpool.stream(encoder.eval(), pool, bags.pieces(i)).argmax() == label
            for i, label in enumerate(bags.labels)
        ]
    return float(torch.stack(found).double().mean())


def train(
    method: str, bags: Bags, seconds: float, seed: int, sample: int
) -> tuple[nn.Module, nn.Module, int]:
    """Steps of one bag each, until the time of the processor is up, which others do not take."""
    encoder, pool = make(seed, len(bags.labels))
    frozen = method == METHODS[2]
    learned = [*pool.parameters(), *([] if frozen else encoder.parameters())]
    optimizer = torch.optim.Adam(learned, lr=3e-3)
    g, start, steps = torch.Generator().manual_seed(seed), time.process_time(), 0
    kept: dict[int, list[Tensor]] = {}
    while time.process_time() - start < seconds:
        i = int(torch.randint(len(bags.labels), (), generator=g))
        if method == METHODS[1]:
            rows = bags.rows[i, torch.randint(bags.rows.size(1), (sample,), generator=g)].long()
            y = pool(encoder(bags.images[rows]), segment_index=torch.tensor([i]))
        elif frozen:
            if i not in kept:
                with torch.no_grad():
                    kept[i] = [encoder(piece) for piece in bags.pieces(i)]
            y = graphpool.stream(None, pool, kept[i])
        else:
            y = graphpool.stream(encoder, pool, lambda i=i: bags.pieces(i))
        loss = nn.functional.cross_entropy(y, bags.labels[i : i + 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return encoder, pool, steps


def compare(args: argparse.Namespace) -> list[list[str]]:
    """Accuracy on new bags of new pictures, of every method after the same time."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images).float().unsqueeze(1) / 16
    digits = torch.from_numpy(found.target)
    test = torch.arange(len(digits)) % 4 == 0
    bags = Bags(images[~test], digits[~test], args.bags, args.patches, args.seed)
    new = Bags(images[test], digits[test], args.test_bags, args.patches, args.seed + 1)
    apart = set(vars(args)) - {"patches", "bags", "test_bags", "seconds", "sample"}
    kept = Kept("streaming_digits", args, apart)
    cases = [[method, seed] for method in METHODS for seed in seeds_of(args)]
    for method, seed in kept.missing(cases):
        encoder, pool, steps = train(method, bags, args.seconds, seed, args.sample)
        score, peak = accuracy(encoder, pool, new), peak_memory()
        kept.keep([method, seed], {"accuracy": score, "steps": steps, "peak": peak})
    rows = []
    for method in METHODS:
        found = kept.of([method, seed] for seed in seeds_of(args))
        spread = mean_and_spread(torch.tensor([f["accuracy"] for f in found]), 100, 1)
        steps = [f["steps"] for f in found]
        peak = max(f["peak"] for f in found)
        rows.append([method, f"{spread} %", f"{min(steps)} to {max(steps)}", f"{peak:.0f} MB"])
    return rows
