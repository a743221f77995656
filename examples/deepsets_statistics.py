"""Statistics of a population from samples of it, by every readout of the catalogue.

Four tasks of "Deep sets" (Zaheer et al., 2017): from a set of points drawn from a normal distribution, find a
number that belongs to the distribution. Entropy of one coordinate of a rotated normal; mutual information of
two blocks; total correlation of a covariance of rank one plus identity, and of a random one. The labels are
the exact values for the distributions sampled here.

    python examples/deepsets_statistics.py          # some readouts, a minute
    python examples/deepsets_statistics.py --all    # every invariant one
"""

from __future__ import annotations

import argparse
import math
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

from graphpool import Segments, aggr, catalogue

TASKS = {"rotation": 2, "correlation": 16, "rank one": 32, "random": 32}
SHORT = ("mean", "max", "std", "deepsets", "gnp", "attsets", "pma", "bilinear", "isqrt_cov", "kmax")
ARGUMENTS = {
    "midam_attention": {"num_outputs": 32, "sigmoid": False},
    "multi": {"members": ["sum", "std", "max"]},
    "kmax": {"k": 4},
    "compact_bilinear": {"out_channels": 256},
    **{name: {"heads": 4} for name in ("pma", "dsvt", "isab", "latent_attention", "ponet")},
}


def total_correlation(covariance: Tensor) -> Tensor:
    variances = covariance.diagonal(dim1=-2, dim2=-1)
    return 0.5 * (variances.log().sum(-1) - torch.logdet(covariance))


def covariances(task: str, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Covariance of each population, and its label."""
    dim = TASKS[task]
    # The family of distributions is the same for training and test sets.
    family = torch.Generator().manual_seed(3)
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    if task == "rotation":
        a = torch.rand(2, 2, generator=family, dtype=torch.float64)
        c, s = torch.cos(math.pi * u), torch.sin(math.pi * u)
        root = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2) @ a
        sigma = root @ root.mT
        return sigma, 0.5 * (2 * math.pi * math.e * sigma[:, 0, 0]).log()
    if task == "correlation":
        half = dim // 2
        a = torch.rand(half, half, generator=family, dtype=torch.float64)
        a = (a @ a.T + torch.eye(half)) / a.square().sum()
        rho = (0.01 + 0.98 * u) * torch.where(torch.rand(count, generator=generator) < 0.5, -1, 1)
        mixing = torch.ones(count, 2, 2, dtype=torch.float64)
        mixing[:, 0, 1] = mixing[:, 1, 0] = rho
        sigma = torch.stack([torch.kron(m, a) for m in mixing])
        return sigma, -0.5 * half * (1 - rho.square()).log()
    if task == "rank one":
        v = torch.rand(dim, generator=family, dtype=torch.float64)
        v = v / v.norm()
        # A wider range than [0, 1], so that sets of this size can tell.
        sigma = torch.eye(dim) + 20 * u[:, None, None] * torch.outer(v, v)
        return sigma, total_correlation(sigma)
    a = torch.rand(count, dim, dim, generator=generator, dtype=torch.float64)
    # Powers spread the labels.
    a = a ** (0.25 + 3 * u[:, None, None])
    sigma = (a @ a.mT + torch.eye(dim)) / a.square().sum((1, 2), keepdim=True)
    return sigma, total_correlation(sigma)


def make_sets(task: str, count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sets ``[count, size, dim]`` and labels ``[count]``."""
    generator = torch.Generator().manual_seed(seed)
    sigma, label = covariances(task, count, generator)
    root = torch.linalg.cholesky(sigma)
    noise = torch.randn(count, size, TASKS[task], generator=generator, dtype=torch.float64)
    return (noise @ root.mT).float(), label.float()


class Model(torch.nn.Module):
    def __init__(self, dim: int, readout: str, width: int = 32) -> None:
        super().__init__()
        self.phi = torch.nn.Sequential(
            torch.nn.Linear(dim, width),
            torch.nn.ELU(),
            torch.nn.Linear(width, width),
            torch.nn.ELU(),
        )
        self.readout = aggr.resolve(readout, channels=width, **ARGUMENTS.get(readout, {}))
        pooled = getattr(self.readout, "out_channels", None) or width
        self.rho = torch.nn.Sequential(
            torch.nn.LayerNorm(pooled),
            torch.nn.Linear(pooled, 32),
            torch.nn.ELU(),
            torch.nn.Linear(32, 1),
        )

    def forward(self, sets: Tensor) -> Tensor:
        count, size, dim = sets.shape
        ptr = torch.arange(0, count * size + 1, size, device=sets.device)
        segments = Segments(ptr=ptr, num_elements=count * size)
        return self.rho(self.readout(self.phi(sets.view(-1, dim)), segments)).squeeze(-1)


def run(
    task: str, readout: str, args: argparse.Namespace, counts: tuple[int, int], seed: int
) -> float:
    """Mean squared error on test sets, in units of the variance of the label."""
    x, y = make_sets(task, counts[0], args.size, seed)
    x_test, y_test = make_sets(task, counts[1], args.size, seed + 1000)
    mean, std = y.mean(), y.std()
    y, y_test = ((v - mean) / std for v in (y, y_test))
    scale = x.square().mean().sqrt()
    x, x_test = (v.to(args.device) / scale for v in (x, x_test))
    y, y_test = y.to(args.device), y_test.to(args.device)
    seed_everything(seed)
    model = Model(TASKS[task], readout).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    steps = args.epochs * math.ceil(len(x) / 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(args.epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss = (model(x[rows]) - y[rows]).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part) for part in x_test.split(64)])
    return float((predicted - y_test).square().mean() / y_test.var())


def plot(names: list[str], scores: Tensor, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 0.22 * len(names) + 1.2))
    image = axes.imshow(scores.clamp(1e-3, 1).log10(), cmap="viridis_r", aspect="auto")
    axes.set_xticks(range(len(TASKS)), list(TASKS), rotation=20, ha="right")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, label="log10 of error / variance")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--readouts", nargs="*", default=SHORT, help="names")
    parser.add_argument("--all", action="store_true", help="every invariant readout there is")
    parser.add_argument("--sets", type=int, default=512, help="training sets of each task")
    parser.add_argument("--size", type=int, default=64, help="points of each set")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=1, help="runs, each on sets of its own")
    args = parser.parse_args()
    names = list(args.readouts)
    if args.all:
        names = [
            e.name
            for e in catalogue.entries()
            if e.invariant and not e.needs_positions and e.width != "ragged"
        ]
    if args.quick:
        args.sets, args.epochs, args.size = 64, 1, 16
    counts = (args.sets, max(args.sets // 2, 32))
    start, rows = time.perf_counter(), []
    for name in tqdm(names):
        errors = torch.tensor(
            [
                [run(task, name, args, counts, args.seed + s) for task in TASKS]
                for s in range(args.seeds)
            ]
        )
        # The last column is the mean over the tasks, of each seed.
        rows.append((name, torch.cat([errors, errors.mean(1, keepdim=True)], dim=1)))
    rows.sort(key=lambda row: float(row[1].mean(0)[-1]))
    table = format_table(
        [(name, *(mean_and_spread(column) for column in errors.T)) for name, errors in rows],
        ["readout", *TASKS, "mean"],
    )
    print(table)
    print(f"{time.perf_counter() - start:.0f} s")
    folder = out_dir(args)
    (folder / "deepsets_statistics.md").write_text(table + "\n")
    scores = torch.stack([errors.mean(0)[:-1] for _, errors in rows])
    plot([name for name, _ in rows], scores, str(folder / "deepsets_statistics.png"))


if __name__ == "__main__":
    run_script(main)
