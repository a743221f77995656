"""Draws docs/images/forgets.png: how well pools see that two equal elements have parted (worst of 64 bags).

PYTHONPATH=. python docs/figures/forgets.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from graphpool import Segments, aggr
from graphpool.evaluate import matching_distance

CHANNELS, WIDTH, SIZE, PAIRS = 2, 33, 4, 64
SEPARATIONS = torch.logspace(0, -4, 17, dtype=torch.double)
COLOURS = {
    "sum of a perceptron": "#0072B2", "mean": "#56B4E9", "max": "#009E73", "pma": "#E69F00", "gnp": "#CC79A7",
    "fsw": "#D55E00",
}  # fmt: skip


def pools() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    lift = [torch.nn.Linear(CHANNELS, WIDTH), torch.nn.Tanh()]
    made = {
        "sum of a perceptron": torch.nn.Sequential(*lift, aggr.Sum()),
        **{name: aggr.resolve(name, channels=CHANNELS) for name in ("mean", "max", "pma", "gnp")},
        "fsw": aggr.FSW(CHANNELS, out_channels=WIDTH + 1),
    }
    return {name: pool.double().eval() for name, pool in made.items()}


def apply(pool: torch.nn.Module, x: torch.Tensor, bags: Segments) -> torch.Tensor:
    if isinstance(pool, torch.nn.Sequential):
        *before, last = pool
        return last(torch.nn.Sequential(*before)(x), bags)
    return pool(x, bags)


def curve(pool: torch.nn.Module, channels: int, separations: torch.Tensor) -> list[float]:
    """For each separation the worst of all bags, over the median of random pairs."""
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, PAIRS, SIZE, channels, generator=random, dtype=torch.double)
    direction = torch.nn.functional.normalize(y[:, 0], dim=1)
    together = x.clone()
    together[:, 1] = together[:, 0]
    found = []
    for d in separations:
        parted = together.clone()
        parted[:, 0] += d * direction
        parted[:, 1] -= d * direction
        found.append(float(ratios(pool, together, parted).min() / ratios(pool, x, y).median()))
    return found


def ratios(pool: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Distance of outputs over that of bags, for pairs of bags ``[PAIRS, SIZE, CHANNELS]``."""
    bags = Segments.from_counts(torch.full((PAIRS,), SIZE))
    a, b = (apply(pool, v.flatten(0, 1), bags) for v in (x, y))
    apart = [matching_distance(u, v) for u, v in zip(x, y, strict=True)]
    return (a - b).norm(dim=1) / torch.tensor(apart)


@torch.no_grad()
def main() -> None:
    figure, axes = plt.subplots(figsize=(5.5, 3.4))
    for name, pool in pools().items():
        found = curve(pool, CHANNELS, SEPARATIONS)
        # What is 0 has no logarithm.
        floor = torch.tensor(found).clamp_min(1e-6)
        style = "--" if name == "max" else "-"
        axes.loglog(SEPARATIONS, floor, style, color=COLOURS[name], label=name, lw=2)
        print(f"{name}: {found[0]:.3g} at a separation of 1, {found[-1]:.3g} at 1e-4")
    axes.invert_xaxis()
    axes.set_ylim(5e-7, 5)
    axes.set_xlabel("how far two equal elements are pulled apart")
    axes.set_ylabel(
        "how far the output moves, worst of 64 bags\n(1: as for random bags as far apart)",
        fontsize=8,
    )
    axes.legend(fontsize=7, loc="upper right", bbox_to_anchor=(1, 0.83))
    axes.grid(alpha=0.2)
    figure.tight_layout()
    figure.savefig(Path(__file__).parents[1] / "images" / "forgets.png", dpi=150)


if __name__ == "__main__":
    main()
