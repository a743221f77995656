"""Learning to choose a subset (EquiVSet), on synthetic sets.

From pairs of a set and its right subset, a set function F is learned whose distribution p(S) ~ exp F(S)
puts its weight on the right subsets: one mean-field step from q = 1/2,
q_i = sigmoid(E[F(S + i) - F(S - i)]), with the expectation over subsets drawn with probability q, and the
cross-entropy of the new q with the right subset. Two kinds of sets: a moon with ten points of the other
moon, which are to be found; and one normal component with ten points of another.

Ou et al., "Learning neural set functions under the optimal subset oracle", NeurIPS 2022.

    python examples/equivset.py
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _scripts import run as run_script
from torch import Tensor
from tqdm import trange

from graphpool import aggr

ITEMS, CHOSEN = 100, 10
EMBEDDINGS = ("linear", "perceptron")


def two_moons(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """100 points on each of two interleaved half circles."""
    angle = torch.linspace(0, math.pi, ITEMS)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    noise = 0.1 * torch.randn(2, ITEMS, 2, generator=generator)
    shift = torch.tensor([-1.0, -0.2])
    return 2 * (upper + noise[0]) + shift, 2 * (lower + noise[1]) + shift


def two_normals(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """100 points of each of two normal distributions."""
    noise = 0.5 * torch.randn(2, ITEMS, 2, generator=generator)
    return noise[0] + 0.5**0.5, noise[1] - 0.5**0.5


SOURCES = {"moons": two_moons, "normals": two_normals}


def make_sets(source: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sets ``[count, 100, 2]`` and masks of the points to be found ``[count, 100]``."""
    generator = torch.Generator().manual_seed(seed)
    sets, masks = torch.empty(count, ITEMS, 2), torch.zeros(count, ITEMS, dtype=torch.bool)
    for i in range(count):
        first, second = SOURCES[source](generator)
        if torch.rand((), generator=generator) < 0.5:
            first, second = second, first
        places = torch.randperm(ITEMS, generator=generator)[:CHOSEN]
        intruders = torch.randperm(ITEMS, generator=generator)[:CHOSEN]
        first[places] = second[intruders]
        sets[i], masks[i, places] = first, True
    return sets, masks


def make_model(embedding: str, context: bool, width: int) -> aggr.INSET:
    """F(S), or F(S, V) with the context of the whole set; two hidden layers after the sums."""
    phi = torch.nn.Linear(2, width) if embedding == "linear" else None
    return aggr.INSET(2, hidden=width, out_channels=1, context=context, phi=phi)


def gains(model: aggr.INSET, sets: Tensor, q: float | Tensor, samples: int = 5) -> Tensor:
    """Mean of F(S + i) - F(S - i) over subsets drawn with probability ``q``: ``[B, n]``."""
    phi = model.phi(sets)
    # Without chance one subset is all there is.
    samples = 1 if isinstance(q, float) and q == 0 else samples
    shape = (samples, *phi.shape[:2])
    drawn = (torch.rand(shape, device=phi.device) < q).to(phi.dtype)
    part = torch.einsum("mbn,bnc->mbc", drawn, phi)
    # The sums of S + i and S - i differ from that of S in one element, and so do their linear images.
    each = torch.nn.functional.linear(phi, model.subset.weight)
    without = model.inner(part, phi.sum(1))[:, :, None] - drawn[..., None] * each
    up, down = (model.rho(inner.relu()) for inner in (without + each, without))
    return (up - down).squeeze(-1).mean(0)


def loss_of(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy over the right elements and as many wrong ones, drawn anew."""
    wrong = (
        torch.rand(masks.shape, device=masks.device).masked_fill(masks, 2).argsort(1)[:, :CHOSEN]
    )
    used = masks.scatter(1, wrong, True)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, masks.to(logits.dtype), reduction="none"
    )
    return each[used].mean()


@torch.no_grad()
def jaccard(model: aggr.INSET, sets: Tensor, masks: Tensor, start: float) -> float:
    """Intersection over union of the right subset and the elements with the largest gains."""
    logits = torch.cat([gains(model, part, start) for part in sets.split(50)])
    found = masks.gather(1, logits.topk(CHOSEN, dim=1).indices).sum(1).float()
    return float((found / (2 * CHOSEN - found)).mean())


def train(
    source: str, embedding: str, start: float, context: bool, args: argparse.Namespace, seed: int
) -> tuple[float, list[float]]:
    """Test Jaccard, and that of validation after every epoch."""
    sets, masks = (v.to(args.device) for v in make_sets(source, args.sets, 1))
    held = [tuple(v.to(args.device) for v in make_sets(source, args.sets // 5, s)) for s in (2, 3)]
    seed_everything(seed)
    model = make_model(embedding, context, args.width).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    curve = []
    for _ in trange(args.epochs, leave=False):
        for rows in torch.randperm(len(sets)).split(args.batch):
            optimizer.zero_grad()
            loss_of(gains(model, sets[rows], start), masks[rows]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        curve.append(jaccard(model, *held[0], start))
    return jaccard(model, *held[1], start), curve


def training_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of :func:`train`."""
    parser = make_parser(description)
    parser.add_argument("--sets", type=int, default=500, help="training sets")
    parser.add_argument("--batch", type=int, default=64, help="sets of each step")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=64)
    return parser


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--embedding", choices=EMBEDDINGS, default="perceptron")
    args = parser.parse_args()
    if args.quick:
        args.sets, args.epochs, args.width = 64, 2, 16
    start, rows = time.perf_counter(), []
    for source in SOURCES:
        test, curve = train(source, args.embedding, 0.5, False, args, args.seed)
        rows.append((source, f"{test:.3f}", " ".join(f"{v:.2f}" for v in curve)))
    table = format_table(rows, ["sets", "test Jaccard", "validation, epoch by epoch"])
    print(table)
    print(f"chance: {CHOSEN / (2 * ITEMS - CHOSEN):.3f}; {time.perf_counter() - start:.0f} s")
    (out_dir(args) / "equivset.md").write_text(table + "\n")


if __name__ == "__main__":
    run_script(main)
