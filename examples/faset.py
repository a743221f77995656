"""Training attention in two stages (FASet) against training everything at once.

Objects are binary occupancy grids; a view shows a few numbers that depend on the object and on the
direction it is seen from. A network encodes each view, pools any number of them with AttSets, and predicts
the grid. Jointly trained, attention gets used to the bag sizes of training. FASet first trains all but the
attention on single views, then the attention alone on bags, so that the network at one view is exactly the
single-view one.

Yang, Wang, Markham, Trigoni, "Robust attentional aggregation of deep feature sets", IJCV 2020.

    python examples/faset.py
"""

from __future__ import annotations

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
from tqdm import trange

from graphpool import Segments, aggr

VIEWS, LATENT, CELLS = 24, 12, 128
SIZES = (1, 2, 3, 5, 8, 12, 16, 24)


class World:
    """Objects, what the views show of them, and their grids; the same for every seed of training.

    An object is 12 numbers, and a view shows ``seen`` combinations of them.
    """

    def __init__(self, device: str, seen: int = 6) -> None:
        generator = torch.Generator().manual_seed(11)
        self.camera = torch.randn(VIEWS, LATENT, seen, generator=generator).to(device) / LATENT**0.5
        self.direction = torch.randn(VIEWS, 8, generator=generator).to(device)
        self.shape = torch.randn(LATENT, CELLS, generator=generator).to(device)
        self.device = device
        self.width = seen + 8

    def sample(self, objects: int, views: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Views ``[objects * views, width]`` and grids ``[objects, CELLS]``."""
        z = torch.randn(objects, LATENT, generator=generator).to(self.device)
        order = torch.rand(objects, VIEWS, generator=generator).argsort(1)[:, :views]
        order = order.to(self.device)
        image = torch.einsum("ol,ovls->ovs", z, self.camera[order])
        noise = torch.randn(image.shape, generator=generator).to(self.device)
        # Some views are blurred, and say so: what attention can make use of.
        blur = torch.rand(objects, views, 1, generator=generator).to(self.device).square()
        image = torch.cat([image + blur * noise, blur, self.direction[order][..., :7]], dim=-1)
        return image.flatten(0, 1), (z @ self.shape > 0).float()


class Network(torch.nn.Module):
    def __init__(self, pool: str, channels: int, width: int = 64) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(channels, 128),
            torch.nn.ReLU(),
            torch.nn.Linear(128, width),
            torch.nn.ReLU(),
        )
        self.pool = aggr.resolve(pool, channels=width)
        self.decoder = torch.nn.Sequential(
            torch.nn.Linear(width, 128), torch.nn.ReLU(), torch.nn.Linear(128, CELLS)
        )

    def forward(self, views: Tensor, bags: Segments) -> Tensor:
        return self.decoder(self.pool(self.encoder(views), bags))


def bags_of(objects: int, views: int, device: str) -> Segments:
    return Segments(ptr=torch.arange(0, objects * views + 1, views, device=device))


def train(
    network: Network, world: World, parameters: list, sizes: tuple[int, ...], steps: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in trange(steps, leave=False):
        views = sizes[step % len(sizes)]
        # As many views in every step: what a bag has more, the batch has less bags.
        objects = max(4, 192 // views)
        x, grid = world.sample(objects, views, generator)
        optimizer.zero_grad()
        logits = network(x, bags_of(objects, views, world.device))
        torch.nn.functional.binary_cross_entropy_with_logits(logits, grid).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def evaluate(
    network: Network, world: World, views: int, objects: int = 1000
) -> tuple[float, float]:
    """Cross-entropy and intersection over union at one bag size."""
    x, grid = world.sample(objects, views, torch.Generator().manual_seed(99))
    logits = network(x, bags_of(objects, views, world.device))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, grid)
    hit, full = (logits > 0) & (grid > 0), (logits > 0) | (grid > 0)
    return float(loss), float((hit.sum(1) / full.sum(1).clamp(min=1)).mean())


def methods(world: World, steps: int, seed: int) -> dict[str, Network]:
    networks = {}
    for name, pool, sizes in (
        ("mean, joint (bags of 12)", "mean", (12,)),
        ("max, joint (bags of 12)", "max", (12,)),
        ("attsets, joint (bags of 12)", "attsets", (12,)),
        ("attsets, joint (bags of 1 to 24)", "attsets", SIZES),
    ):
        seed_everything(seed)
        networks[name] = Network(pool, world.width).to(world.device)
        train(networks[name], world, list(networks[name].parameters()), sizes, steps, seed)
    seed_everything(seed)
    network = Network("attsets", world.width).to(world.device)
    for stage, sizes in (("base", (1,)), ("attention", (12,))):
        with aggr.faset_stage(network, stage) as parameters:
            train(network, world, parameters, sizes, steps // 2, seed)
    networks["attsets, FASet (1, then 12)"] = network
    return networks


def plot(results: dict[str, Tensor], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, values in results.items():
        loss = values[..., 0]
        (line,) = axes.plot(SIZES, loss.mean(0), "o-", label=name, markersize=3)
        low, high, color = loss.amin(0), loss.amax(0), line.get_color()
        axes.fill_between(SIZES, low, high, color=color, alpha=0.15, linewidth=0)
    axes.axvline(12, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("views in a bag (dotted: bag size of training)")
    axes.set_ylabel("cross-entropy")
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.2))
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seen", type=int, default=6, help="numbers that a view shows, of 12")
    args = parser.parse_args()
    steps = 60 if args.quick else args.steps
    start, world = time.perf_counter(), World(args.device, args.seen)
    runs = [methods(world, steps, args.seed + s) for s in range(args.seeds)]
    # [seeds, sizes, (cross-entropy, intersection over union)]
    results = {
        name: torch.tensor([[evaluate(run[name], world, v) for v in SIZES] for run in runs])
        for name in runs[0]
    }
    tables = []
    for column, title in enumerate(("cross-entropy", "intersection over union")):
        rows = [
            (name, *(mean_and_spread(values[:, i, column]) for i in range(len(SIZES))))
            for name, values in results.items()
        ]
        tables.append(f"{title}\n\n{format_table(rows, ['views in a bag', *SIZES])}")
    table = "\n\n".join(tables)
    print(table)
    print(f"{time.perf_counter() - start:.0f} s")
    folder = out_dir(args)
    (folder / "faset.md").write_text(table + "\n")
    plot(results, str(folder / "faset.png"))


if __name__ == "__main__":
    run_script(main)
