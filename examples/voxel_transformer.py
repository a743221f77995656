"""Which object does a voxel belong to? Attention inside sets of voxels that are cut anew in every layer.

    python examples/voxel_transformer.py
    python examples/voxel_transformer.py --models mlp window dsvt:attention dsvt:mean dsvt:gnp --seeds 3
    python examples/voxel_transformer.py --timing

Generated scenes: surfaces of six kinds stand on a floor, at random places, turned and scaled. A voxel knows
where its points lie in it, how they spread, how many they are and how high it is, and shall say the kind.
Models: mlp (each voxel for itself), window (each voxel, and the mean of its window), dsvt:attention (Wang et
al., DSVT, CVPR 2023, two blocks), and dsvt:POOL with a pool over each set in the place of attention.

--timing compares attention on sets without padding with the published form, sets filled up by repeated voxels
and a mask: time forward and backward, and what is kept for the derivative.

What is finished is in --out, and an interrupted run goes on from there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _common import format_table, make_parser, mean_and_spread, seed_everything
from _kept import Kept, seeds_of
from _scripts import run
from torch import Tensor, nn

from graphpool import Segments
from graphpool.datasets import GeneratedShapes
from graphpool.nn import perceptron
from graphpool.ops import segment_gather, segment_max, segment_mean, segment_std
from graphpool.ops.neighbors import voxel_grid
from graphpool.points import DSVT, SetAttention, voxel_sets
from graphpool.train import recalibrate

KINDS = ["box", "cylinder", "cone", "torus", "star", "ellipsoid"]
SIZE, FEATURES = 0.3, 8


class Scenes(NamedTuple):
    """Voxels of several scenes."""

    x: Tensor
    cells: Tensor
    segments: Segments
    y: Tensor

    def part(self, chosen: Tensor) -> Scenes:
        """Some of the scenes."""
        new = torch.full((self.segments.num_segments,), -1, device=chosen.device)
        new[chosen] = torch.arange(chosen.numel(), device=chosen.device)
        scene = new[self.segments.index]
        kept = scene >= 0
        segments = Segments(index=scene[kept], num_segments=chosen.numel())
        return Scenes(self.x[kept], self.cells[kept], segments, self.y[kept])


def make_scenes(count: int, objects: int, seed: int) -> Scenes:
    """Objects on the squares of a floor 12 m wide, one to a square at most."""
    generator = torch.Generator().manual_seed(seed)
    shapes = GeneratedShapes(-(-count * objects // 6), 500, classes=KINDS, noise=0.01, seed=seed)
    order = torch.randperm(len(shapes), generator=generator)[: count * objects]
    pos, kind = [], []
    for i, k in enumerate(order.tolist()):
        if i % objects == 0:
            squares = torch.randperm(16, generator=generator)
        item, square = shapes[k], int(squares[i % objects])
        scale = 0.8 + 0.5 * float(torch.rand((), generator=generator))
        at = 3 * torch.tensor([square // 4, square % 4, 0.0]) + torch.rand(3, generator=generator)
        at[2] = -scale * item.pos[:, 2].min()
        pos.append(scale * item.pos + at)
        kind.append(torch.full((len(item.pos),), float(item.y)))
    points, label = torch.cat(pos), torch.cat(kind)
    scene = torch.arange(count).repeat_interleave(objects * 500)
    voxels = voxel_grid(points, SIZE, Segments(index=scene, num_segments=count))
    inside = (points / SIZE - voxels.cells[voxels.segments.index]) - 0.5
    x = torch.cat([
        segment_mean(inside, voxels.segments), segment_std(inside, voxels.segments),
        voxels.segments.counts.float().log()[:, None], voxels.cells[:, 2:].float() / 4 - 1,
    ], 1)  # fmt: skip
    y = segment_max(label, voxels.segments).long()
    return Scenes(x, voxels.cells, Segments(index=voxels.cloud, num_segments=count), y)


class Model(nn.Module):
    """An embedding, what lets voxels see one another, and a classifier."""

    def __init__(self, name: str, args: Any) -> None:
        super().__init__()
        kind, _, pool = name.partition(":")
        c = args.hidden
        self.kind, self.window = kind, tuple(args.window)
        self.embed = perceptron(FEATURES, c, c, last_activation=True)
        if kind == "dsvt":
            self.mixer = DSVT(c, self.window, args.set_size, heads=args.heads, pool=pool)
        else:
            self.mixer = perceptron(c, 4 * c, 4 * c, 4 * c, c, last_activation=True)
        self.head = perceptron(2 * c if kind == "window" else c, c, len(KINDS))

    def forward(self, data: Scenes) -> Tensor:
        h = self.embed(data.x)
        if self.kind == "dsvt":
            return self.head(self.mixer(h, data.cells, data.segments))
        h = self.mixer(h)
        if self.kind == "window":
            # As large as a set may be, each window is one.
            windows = voxel_sets(data.cells, self.window, 1 << 30, data.segments)
            h = torch.cat([h, segment_gather(segment_mean(h, windows), windows)], 1)
        return self.head(h)


def train(
    name: str, train_set: Scenes, test_set: Scenes, args: Any, seed: int
) -> tuple[dict[str, Any], Tensor]:
    """Accuracy over the voxels of the test after the last epoch, and what each was taken for."""
    seed_everything(seed)
    begin = time.process_time()
    model = Model(name, args).to(args.device)
    count = train_set.segments.num_segments
    steps = args.epochs * -(-count // args.batch)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps)
    for _ in range(args.epochs):
        for chosen in torch.randperm(count).to(args.device).split(args.batch):
            part = train_set.part(chosen)
            loss = nn.functional.cross_entropy(model(part), part.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    scenes = torch.arange(count, device=args.device)
    recalibrate(model, (train_set.part(chosen) for chosen in scenes.split(args.batch)))
    model.eval()
    with torch.no_grad():
        guess = model(test_set).argmax(1)
    size = sum(p.numel() for p in model.parameters())
    spent = time.process_time() - begin
    accuracy = float((guess == test_set.y).float().mean())
    record = {"model": name, "seed": seed, "accuracy": accuracy, "size": size, "seconds": spent}
    return record, guess


def padded(layer: SetAttention, x: Tensor, rows: Tensor, again: Tensor) -> Tensor:
    """The published layer: sets ``[S, tau]`` that are filled up by repeated voxels, and a mask."""
    c, heads = x.size(1), layer.heads
    q, k, v = (
        t.view(*rows.shape, heads, c // heads).transpose(1, 2)
        for t in layer.project(x[rows]).chunk(3, dim=-1)
    )
    mask = ~again[:, None, None, :]
    y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    y = layer.out(y.transpose(1, 2).reshape(*rows.shape, c))
    mixed = torch.zeros_like(x).index_put((rows[~again],), y[~again])
    h = layer.norm0(x + mixed)
    return layer.norm1(h + layer.network(h))


def filled(sets: Segments, tau: int) -> tuple[Tensor, Tensor]:
    """Rows of each set repeated to ``tau`` of them, and which are repetitions."""
    place = torch.arange(tau, device=sets.device) * sets.counts[:, None] // tau
    order = torch.argsort(sets.index, stable=True)
    again = torch.zeros_like(place, dtype=torch.bool)
    again[:, 1:] = place[:, 1:] == place[:, :-1]
    return order[sets.ptr[:-1, None] + place], again


def kept_megabytes(forward: Any) -> float:
    """What a forward pass keeps for the derivative, each storage once."""
    found: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        y = forward()
    return sum(found.values()) / 2**20 + 0 * float(y.detach()[0, 0])


def compared(tau: int, windows: int, args: Any) -> list[str]:
    """A row of the table: sets of ``tau`` voxels at most, of windows with a median of 12."""
    generator = torch.Generator().manual_seed(args.seed)
    number = (12 * torch.randn(windows, generator=generator).exp()).long().clamp(1, 144)
    cells = []
    for w, n in enumerate(number.tolist()):
        place = torch.randperm(144, generator=generator)[:n]
        cells.append(torch.stack([place // 12 + 12 * w, place % 12, 0 * place], 1))
    sets = voxel_sets(torch.cat(cells).to(args.device), (12, 12, 1), tau)
    layer = SetAttention(args.hidden, args.heads).to(args.device)
    count = sets.num_elements
    x = torch.randn(count, args.hidden, device=args.device, requires_grad=True)
    dense, nowhere = filled(sets, tau), torch.zeros_like(x)
    forms = (lambda: layer(x, nowhere, sets), lambda: padded(layer, x, *dense))
    difference = float((forms[0]() - forms[1]()).abs().max().detach())
    seconds: list[list[float]] = [[], []]
    for _ in range(7):
        for form, spent in zip(forms, seconds, strict=True):
            begin = time.process_time()
            form().sum().backward()
            spent.append(1e3 * (time.process_time() - begin))
    ragged, full = (sorted(s)[3] for s in seconds)
    kept = [kept_megabytes(form) for form in forms]
    pairs = int(sets.counts.square().sum())
    more = [sets.num_segments * tau / count, sets.num_segments * tau**2 / pairs]
    times = [f"{ragged:.0f}", f"{full:.0f}", f"{full / ragged:.1f}"]
    size = [f"{k:.1f}" for k in kept]
    return [str(tau), str(count), *(f"{m:.1f}" for m in more), *times, *size, f"{difference:.0e}"]


def timing(args: Any) -> None:
    """Windows whose occupancy is log-normal."""
    rows = [compared(tau, 20 if args.quick else 400, args) for tau in (36, 48)]
    heads = ["set size", "voxels", "rows x", "pairs x", "ms", "ms padded", "ratio"]
    print("milliseconds of CPU forward and backward, medians of 7; MiB kept for the derivative")
    print(format_table(rows, [*heads, "MiB", "MiB padded", "difference"]))


def draw(columns: dict[str, Tensor], path: Path) -> None:
    """The first test scene from above, voxels coloured by what they are and by what they are taken for."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = columns.pop("cells")
    top = cells[:, 2].argsort()
    size = (2.8 * len(columns), 3.4)
    figure, axes = plt.subplots(1, len(columns), figsize=size, layout="constrained")
    for ax, (title, colour) in zip(axes, columns.items(), strict=True):
        dots = ax.scatter(*cells[top, :2].T, c=colour[top], cmap="tab10", vmin=0, vmax=9, s=9, lw=0)
        ax.set_aspect("equal")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(title, fontsize=9)
    handles = [dots.cmap(k / 9) for k in range(len(KINDS))]
    marks = [plt.Line2D([], [], marker="o", ls="", color=colour) for colour in handles]
    figure.legend(
        marks, KINDS, loc="outside lower center", ncols=len(KINDS), fontsize=8, frameon=False
    )
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--models", nargs="+", default=["mlp", "window", "dsvt:attention", "dsvt:mean"]
    )
    parser.add_argument(
        "--scenes", type=int, default=24, help="for training; a third as many for the test"
    )
    parser.add_argument("--objects", type=int, default=8, help="in each scene")
    parser.add_argument("--window", nargs=3, type=int, default=[6, 6, 8], help="in voxels")
    parser.add_argument("--set-size", type=int, default=36)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--timing", action="store_true", help="time and memory only")
    args = parser.parse_args()
    if args.timing:
        timing(args)
        return
    if args.quick:
        args.scenes, args.epochs, args.models = 3, 1, args.models[:3]
    for name in args.models:
        if name not in ("mlp", "window") and not name.startswith("dsvt:"):
            raise ValueError(
                f"`models` must be mlp, window, dsvt:attention or dsvt:POOL; got {name!r}."
            )
    kept, seeds = Kept("voxel_transformer", args), seeds_of(args)
    for seed in kept.missing(seeds):
        sets = [make_scenes(n, args.objects, 2 * seed + i)
                for i, n in enumerate((args.scenes, max(args.scenes // 3, 1)))]  # fmt: skip
        moved = [
            Scenes(
                s.x.to(args.device),
                s.cells.to(args.device),
                s.segments.to(args.device),
                s.y.to(args.device),
            )
            for s in sets
        ]
        found = {name: train(name, moved[0], moved[1], args, seed) for name in args.models}
        # Of the first test scene.
        here = moved[1].segments.index == 0
        columns = {"true": moved[1].y, **{name: guess for name, (_, guess) in found.items()}}
        picture = {name: v[here].cpu() for name, v in {"cells": moved[1].cells, **columns}.items()}
        kept.keep(seed, [record for record, _ in found.values()], picture)
        print(f"seed {seed}: {len(moved[0].y):,} voxels for training, {len(moved[1].y):,} to test")
    rows, runs = [], kept.of(seeds)
    for name in args.models:
        own = [r for r in runs if r["model"] == name]
        shares = mean_and_spread(torch.tensor([r["accuracy"] for r in own]), 100, 1)
        spent = sum(r["seconds"] for r in own) / len(own)
        rows.append([name, f"{own[0]['size']:,}", shares, f"{spent:.0f}"])
    print(format_table(rows, ["model", "parameters", "accuracy %", "CPU s"]))
    draw(kept.picture(seeds[0]), path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
