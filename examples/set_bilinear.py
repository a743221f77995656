"""Telling textures apart by how their channels go together: second-order pools.

A texture is a set of filter responses without an order. All classes here have the same mean and the same
variance in every channel; they differ in the correlations between channels alone. A linear classifier on the
pooled responses shows what a pool sees of that; first-order pools see nothing.

    python examples/set_bilinear.py
"""

from __future__ import annotations

import argparse
import time

import torch
from _common import (
    format_table,
    make_parser,
    mean_and_spread,
    out_dir,
    seed_everything,
)
from _scripts import run as run_script
from torch import Tensor
from tqdm import tqdm

from graphpool import Segments, aggr
from graphpool.train import recalibrate

CLASSES, CHANNELS = 10, 16
READOUTS = {
    "mean": {},
    "max": {},
    "std": {},
    "softmax": {},
    "gnp": {},
    "attsets": {},
    "pma": {"heads": 4, "num_seeds": 4},
    "deepsets": {"hidden": 64, "out_channels": 64},
    "lowrank_bilinear": {"rank": 64, "out_channels": 64, "mean": True},
    "mfb": {"out_channels": 64},
    "compact_bilinear": {"out_channels": 136},
    "bilinear": {},
    "isqrt_cov": {},
}


def make_textures(count: int, size: int, strength: float, seed: int) -> tuple[Tensor, Tensor]:
    """Responses ``[count, size, CHANNELS]`` and classes ``[count]``."""
    family = torch.Generator().manual_seed(5)
    factors = torch.randn(CLASSES, CHANNELS, CHANNELS, generator=family, dtype=torch.float64)
    covariance = strength * factors @ factors.mT / CHANNELS + torch.eye(CHANNELS)
    scale = covariance.diagonal(dim1=1, dim2=2).rsqrt()
    root = torch.linalg.cholesky(scale[:, :, None] * covariance * scale[:, None, :])
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(CLASSES, (count,), generator=generator)
    noise = torch.randn(count, size, CHANNELS, generator=generator, dtype=torch.float64)
    # Light: each picture has a brightness of its own, which says nothing of the class.
    brightness = torch.rand(count, 1, 1, generator=generator, dtype=torch.float64) + 0.5
    return (brightness * (noise @ root[label].mT)).float(), label


class Model(torch.nn.Module):
    def __init__(self, readout: str) -> None:
        super().__init__()
        self.readout = aggr.resolve(readout, channels=CHANNELS, **READOUTS[readout])
        width = getattr(self.readout, "out_channels", None) or CHANNELS
        self.norm = torch.nn.BatchNorm1d(width)
        self.head = torch.nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        count, size, channels = x.shape
        bags = Segments(ptr=torch.arange(0, count * size + 1, size, device=x.device))
        return self.head(self.norm(self.readout(x.reshape(-1, channels), bags)))


def run(readout: str, args: argparse.Namespace, seed: int) -> float:
    """Accuracy on test textures."""
    x, label = (v.to(args.device) for v in make_textures(args.sets, args.size, args.strength, 1))
    x_test, y_test = (v.to(args.device) for v in make_textures(1000, args.size, args.strength, 2))
    seed_everything(seed)
    model = Model(readout).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for _ in range(args.epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), label[rows]).backward()
            optimizer.step()
        schedule.step()
    recalibrate(model, x.split(64))
    model.eval()
    with torch.no_grad():
        return float((model(x_test).argmax(1) == y_test).float().mean())


def std(scores: Tensor) -> Tensor:
    return scores.std() if len(scores) > 1 else torch.zeros(())


def plot(rows: list[tuple[str, Tensor]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5))
    means, spread = ([float(f(scores)) for _, scores in rows] for f in (torch.mean, std))
    axes.bar([name for name, _ in rows], means, yerr=spread)
    axes.axhline(1 / CLASSES, color="grey", linestyle=":")
    axes.set_ylabel("accuracy (dotted: chance)")
    axes.set_xticks(range(len(rows)), [r[0] for r in rows], rotation=50, ha="right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sets", type=int, default=1000, help="training textures")
    parser.add_argument("--size", type=int, default=64, help="responses of each texture")
    parser.add_argument("--strength", type=float, default=1.0, help="of the correlations")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if args.quick:
        args.sets, args.epochs, args.seeds = 200, 2, 1
    start, rows = time.perf_counter(), []
    for name in tqdm(READOUTS):
        rows.append(
            (name, torch.tensor([run(name, args, args.seed + s) for s in range(args.seeds)]))
        )
    width = {name: Model(name).head.in_features for name in READOUTS}
    table = format_table(
        [(name, width[name], mean_and_spread(scores, 100, 1)) for name, scores in rows],
        ["readout", "width", "accuracy %"],
    )
    print(table)
    print(f"chance: {100 / CLASSES:.0f} %; {time.perf_counter() - start:.0f} s")
    folder = out_dir(args)
    (folder / "set_bilinear.md").write_text(table + "\n")
    plot(rows, str(folder / "set_bilinear.png"))


if __name__ == "__main__":
    run_script(main)
