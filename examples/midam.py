"""Bags with far more instances than are looked at: stochastic pooling (MIDAM) against full bags.

A bag is positive if a few of its instances are. Full-bag training keeps what the network computes for
every instance until the backward pass. MIDAM looks at a handful of instances of a bag and keeps one running
number for each bag; sampling without that memory is the third contender. All minimise the min-max margin
loss of the area under the ROC curve, and all are tested on whole bags.

Zhu et al., "Provable multi-instance deep AUC maximization with stochastic pooling", ICML 2023.

    python examples/midam.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

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
from tqdm import trange

from graphpool import Segments, aggr
from graphpool.sets import MinMaxAUCLoss

CHANNELS = 16
RATES, GAMMAS = (1e-3, 4e-3, 1.6e-2), (0.2, 0.4, 0.8)


class Settings(NamedTuple):
    """Learning rate, and the share of the new sample in the memory."""

    lr: float
    gamma: float = 1.0


# What --tune found on validation bags.
CHOSEN = {
    ("lse", "full bags"): Settings(1e-3),
    ("lse", "MIDAM"): Settings(4e-3, 0.8),
    ("lse", "sample only"): Settings(4e-3),
    ("attention", "full bags"): Settings(1e-3),
    ("attention", "MIDAM"): Settings(4e-3, 0.8),
    ("attention", "sample only"): Settings(4e-3),
}


def make_bags(count: int, size: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Bags ``[count, size, CHANNELS]`` and labels; in positive ones a share of instances is special."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size, CHANNELS, generator=generator)
    label = (torch.arange(count) % 2 == 0).long()
    special = torch.rand(count, size, generator=generator) < share * label[:, None]
    # Special instances lie around one of three places, the same for all bags.
    family = torch.Generator().manual_seed(7)
    places = torch.nn.functional.normalize(torch.randn(3, 4, generator=family), dim=1)
    which = torch.randint(3, (count, size), generator=generator)
    near = 2.5 * places[which] + 0.5 * torch.randn(count, size, 4, generator=generator)
    x[..., :4] = torch.where(special[..., None], near, x[..., :4])
    return x, label


class Model(torch.nn.Module):
    """Scores of instances, or features for the attention, and a stochastic pool."""

    def __init__(self, kind: str, num_segments: int, gamma: float, width: int = 64) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(
            torch.nn.Linear(CHANNELS, width), torch.nn.ReLU(),
            torch.nn.Linear(width, width), torch.nn.ReLU(),
        )  # fmt: skip
        if kind == "lse":
            self.head: torch.nn.Module = torch.nn.Sequential(
                torch.nn.Linear(width, 1), torch.nn.Sigmoid()
            )
            self.pool = aggr.MIDAMLogSumExp(1, tau=0.1, num_segments=num_segments, gamma=gamma)
        else:
            self.head = torch.nn.Identity()
            self.pool = aggr.MIDAMAttention(width, num_segments=num_segments, gamma=gamma)

    def forward(self, x: Tensor, segment_index: Tensor | None = None) -> Tensor:
        count, size, channels = x.shape
        bags = Segments(ptr=torch.arange(0, count * size + 1, size, device=x.device))
        features = self.head(self.trunk(x.reshape(-1, channels)))
        return self.pool(features, bags, segment_index=segment_index).squeeze(-1)


def auc(score: Tensor, label: Tensor) -> float:
    """Area under the ROC curve: how often a positive bag scores above a negative one."""
    above = score[label > 0][:, None] - score[label == 0]
    return float((above > 0).float().mean() + 0.5 * (above == 0).float().mean())


class Saved:
    """Bytes of the tensors kept for the backward pass while the context lasts, each storage once."""

    def __enter__(self) -> Saved:
        self.storages: dict[int, int] = {}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda t: t)
        self.hooks.__enter__()
        return self

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)
        self.bytes = sum(self.storages.values())


def batches(label: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """Batches of bags with as many positive as negative ones."""
    halves = [(label == c).nonzero().squeeze(1) for c in (0, 1)]
    halves = [rows[torch.randperm(len(rows), generator=generator)] for rows in halves]
    pairs = zip(*(rows.split(size // 2) for rows in halves), strict=False)
    return [torch.cat(pair) for pair in pairs]


def run(
    kind: str, how: str, settings: Settings, args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """One training. Validation bags say how good the settings are; test bags are looked at in the end."""
    parts = [make_bags(args.bags, args.size, args.share, 100 + 3 * seed + i) for i in range(3)]
    (x, label), held, test = parts
    seed_everything(seed)
    # Without a memory (gamma = 1) the estimate of a bag is that of its last sample.
    model = Model(kind, len(x), settings.gamma).to(args.device)
    loss = MinMaxAUCLoss(margin=1.0).to(args.device)
    # The margins a and b must keep up with the scores, or they pull these to where they started.
    groups = [{"params": model.parameters()}, {"params": loss.parameters(), "lr": 0.05}]
    optimizer = torch.optim.Adam(groups, lr=settings.lr)
    generator = torch.Generator().manual_seed(seed)
    peak, instances, curve = 0, 0, []
    for epoch in trange(args.epochs, leave=False, disable=None):
        if epoch == args.epochs // 2:
            optimizer.param_groups[0]["lr"] /= 5
            model.pool.gamma = settings.gamma if settings.gamma == 1 else settings.gamma / 2
        model.train()
        for rows in batches(label, args.batch, generator):
            part, ids = x[rows], None
            if how != "full bags":
                picked = torch.rand(len(rows), x.size(1), generator=generator).argsort(1)
                picked = picked[:, : args.sampled]
                part, ids = part.gather(1, picked[..., None].expand(-1, -1, CHANNELS)), rows
            optimizer.zero_grad()
            with Saved() as saved:
                value = loss(model(part.to(args.device), ids), label[rows])
            value.backward()
            optimizer.step()
            loss.ascend(0.1, from_batch=True)
            peak, instances = max(peak, saved.bytes), instances + part.size(0) * part.size(1)
        if epoch % args.every == args.every - 1:
            curve.append(evaluate(model, *held))
    return {
        "validation": evaluate(model, *held),
        "test": evaluate(model, *test),
        "curve": curve,
        "train": evaluate(model, x, label),
        "megabytes": peak / 2**20,
        "instances": instances,
    }


@torch.no_grad()
def evaluate(model: Model, x: Tensor, label: Tensor) -> float:
    model.eval()
    return auc(torch.cat([model(part) for part in x.split(50)]), label)


def candidates(kind: str, how: str, tune: bool) -> list[Settings]:
    """What is tried: the settings that won on validation bags, or all of them."""
    if not tune:
        return [CHOSEN[kind, how]]
    gammas = GAMMAS if how == "MIDAM" else (1.0,)
    return [Settings(lr, gamma) for lr in RATES for gamma in gammas]


def best(kind: str, how: str, args: argparse.Namespace) -> tuple[Settings, list[dict[str, Any]]]:
    """The settings with the best mean score on validation bags, and their runs."""
    found = []
    for settings in candidates(kind, how, args.tune):
        runs = [run(kind, how, settings, args, args.seed + s) for s in range(args.seeds)]
        found.append((sum(r["validation"] for r in runs), settings, runs))
    _, settings, runs = max(found, key=lambda each: each[0])
    return settings, runs


def plot(results: dict[tuple[str, str], list[dict[str, Any]]], every: int, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(kind for kind, _ in results))
    figure, grid = plt.subplots(
        1, len(kinds), figsize=(4.5 * len(kinds), 3.5), squeeze=False, sharey=True
    )
    panels = list(grid[0])
    for (kind, how), runs in results.items():
        axes = panels[kinds.index(kind)]
        curve = torch.tensor([r["curve"] for r in runs])
        tested = range(every, curve.size(1) * every + 1, every)
        label = f"{how} ({runs[0]['megabytes']:.1f} MB)"
        (line,) = axes.plot(tested, curve.mean(0), label=label)
        axes.fill_between(
            tested, curve.amin(0), curve.amax(0), color=line.get_color(), alpha=0.15, linewidth=0
        )
        axes.set_title({"lse": "smoothed maximum", "attention": "attention"}[kind])
        axes.set_xlabel("epoch")
        axes.legend(fontsize=8, loc="lower right")
    panels[0].set_ylabel("validation AUC, whole bags")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--bags", type=int, default=160, help="training bags")
    parser.add_argument("--size", type=int, default=400, help="instances of each bag")
    parser.add_argument("--sampled", type=int, default=16, help="instances looked at in a step")
    parser.add_argument("--share", type=float, default=0.08, help="special ones in a positive bag")
    parser.add_argument("--batch", type=int, default=16, help="bags of each step")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=4, help="epochs between two validations")
    parser.add_argument("--seeds", type=int, default=1, help="runs, each on bags of its own")
    parser.add_argument("--tune", action="store_true", help="choose the settings anew")
    parser.add_argument("--pools", nargs="+", default=["lse", "attention"], help="of these two")
    args = parser.parse_args()
    if args.quick:
        args.bags, args.size, args.epochs, args.every = 60, 100, 3, 1
    start, rows, results = time.perf_counter(), [], {}
    for kind in args.pools:
        for how in ("full bags", "MIDAM", "sample only"):
            settings, runs = best(kind, how, args)
            results[kind, how] = runs
            scores = [
                mean_and_spread(torch.tensor([r[k] for r in runs]))
                for k in ("test", "validation", "train")
            ]
            last = runs[-1]
            seen = f"{last['instances'] / 1e6:.2f} M"
            rows.append(
                (kind, how, *scores, f"{last['megabytes']:.2f}", seen, settings.lr, settings.gamma)
            )
            print(*rows[-1], sep="  ", flush=True)
    headers = ["pool", "training", "test AUC", "validation AUC", "train AUC", "MB for backward"]
    table = format_table(rows, [*headers, "instances seen", "rate", "gamma"])
    print(table)
    print(f"{time.perf_counter() - start:.0f} s")
    folder = out_dir(args)
    (folder / "midam.md").write_text(table + "\n")
    plot(results, args.every, str(folder / "midam.png"))


if __name__ == "__main__":
    run_script(main)
