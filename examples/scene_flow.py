"""How did each point move from one scan to the next? A small network for each pair of scans.

    python examples/scene_flow.py                                  # generated objects
    python examples/scene_flow.py --lidar kitti_000001.bin         # and a real sweep, moved
    python examples/scene_flow.py --pools mean softmax max --scenes articulated
    python examples/scene_flow.py --timing

Scenes: rigid (a generated surface turns and moves), articulated (every part of a generated object also turns
by itself), lidar (a sweep as a car sees it that drives on, in which six clusters of points move by
themselves; ground taken off). The two clouds of a pair have no point in common: points are dealt to them at
random. In the second a side is hidden, and both are noisy. Lengths are metres, objects about 4 m long.

Compared are no motion (zero), the way to the nearest point (nearest), one rigid motion for each pair by
iterated closest points (icp), and the neural scene flow prior with any pool as the reducer of its loss (Li,
Pontes, Lucey, NeurIPS 2021). --timing takes as many steps with a batch as with a loop of plain PyTorch.

What is finished is in --out, and an interrupted run goes on from there.
"""

from __future__ import annotations

import copy
import itertools
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _common import format_table, make_parser, mean_and_spread, seed_everything
from _kept import Kept, seeds_of
from _scripts import run
from torch import Tensor

from graphpool import Segments
from graphpool.datasets import GeneratedParts, GeneratedShapes, read_cloud
from graphpool.evaluate import flow_errors
from graphpool.nn import perceptron
from graphpool.ops import connected_components, segment_mean, segment_outer
from graphpool.ops.neighbors import knn, radius
from graphpool.points import scene_flow

GROUND, REACH, LIMIT = -1.4, 15.0, 2.0


class Pairs(NamedTuple):
    """Two clouds for each pair, and the true motion of the points of the first."""

    pos: Tensor
    target: Tensor
    segments: Segments
    target_segments: Segments
    truth: Tensor


def rotation(angle: float, axis: Tensor) -> Tensor:
    """A turn about an axis."""
    x, y, z = (axis / axis.norm()).tolist()
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return torch.linalg.matrix_exp(angle * skew)


def moved(pos: Tensor, part: Tensor, scene: str) -> Tensor:
    """Points after the motion: of all together, and of each part about its centre where parts move."""
    out = pos.clone()
    up, turn, step = torch.tensor([0.0, 0.0, 1.0]), 0.2, 0.3
    if scene == "lidar":
        turn, step = 0.05, 0.8
    for p in part.unique().tolist() if scene != "rigid" else []:
        rows = part == p
        centre = pos[rows].mean(0)
        if scene == "lidar" and p >= 0:
            out[rows] += torch.randn(3) * torch.tensor([0.8, 0.8, 0.0])
        elif scene == "articulated":
            r = rotation(0.25 * float(torch.randn(())), torch.randn(3))
            out[rows] = (out[rows] - centre) @ r.T + centre
    axis = up if scene == "lidar" else torch.randn(3)
    r = rotation(turn * (2 * float(torch.rand(())) - 1), axis)
    shift = torch.randn(3)
    shift[2] *= 0.0 if scene == "lidar" else 1.0
    return out @ r.T + step * shift / shift.norm()


def sweep_parts(pos: Tensor) -> Tensor:
    """The six largest clusters of points within 0.6 m of one another but for the largest; -1 are others."""
    near = radius(pos, 0.6)
    part = connected_components(near.edge_index, len(pos))
    names, counts = part.unique(return_counts=True)
    chosen = names[counts.argsort(descending=True)[1:7]]
    return torch.where(torch.isin(part, chosen), part, -1)


def one_pair(scene: str, index: int, args: Any, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """First cloud, second cloud and motion of the first."""
    n = args.points
    if scene == "lidar":
        pos = torch.from_numpy(read_cloud(args.lidar).points).float()
        pos = pos[(pos[:, 2] > GROUND) & (pos[:, :2].norm(dim=1) < REACH)]
        part = sweep_parts(pos)
    else:
        make = GeneratedShapes if scene == "rigid" else GeneratedParts
        data = make(1, 3 * n, noise=0.0, seed=1000 * seed + index // 6)
        item = data[index % len(data)]
        pos = 2 * item.pos
        part = torch.zeros(len(pos)) if scene == "rigid" else item.y
    after = moved(pos, part, scene)
    order = torch.randperm(len(pos))
    first, rest = order[:n], order[n:]
    # A side of what is left is hidden in the second cloud.
    direction = torch.randn(3)
    seen = (after[rest] @ direction).argsort()[: int(0.85 * len(rest))]
    second = rest[seen[torch.randperm(len(seen))[:n]]]
    noise = [args.noise * torch.randn(n, 3) for _ in range(2)]
    return pos[first] + noise[0], after[second] + noise[1], after[first] - pos[first]


def make_pairs(scene: str, args: Any, seed: int) -> Pairs:
    count = max(args.pairs // 3, 1) if scene == "lidar" else args.pairs
    made = [one_pair(scene, i, args, seed) for i in range(count)]
    pos, target, truth = (torch.cat(t).to(args.device) for t in zip(*made, strict=True))
    sizes = [torch.tensor([len(m[k]) for m in made], device=args.device) for k in range(2)]
    segments, target_segments = (Segments.from_counts(s) for s in sizes)
    return Pairs(pos, target, segments, target_segments, truth)


def towards_nearest(pos: Tensor, pairs: Pairs) -> Tensor:
    found = knn(pairs.target, 1, pos, pairs.target_segments, pairs.segments)
    return pairs.target[found.index[:, 0]] - pos


def icp(pairs: Pairs, steps: int = 50) -> Tensor:
    """One rigid motion for each pair; what is farther from its nearest point than the limit is left out."""
    bags, pos = pairs.segments, pairs.pos.double()
    now = pos
    for _ in range(steps):
        found = knn(pairs.target.double(), 1, now, pairs.target_segments, bags)
        goal = pairs.target.double()[found.index[:, 0]]
        weight = (found.squared_distance[:, 0] < LIMIT).double()
        means = [segment_mean(x, bags, weight) for x in (pos, goal)]
        a, b = (x - m[bags.index] for x, m in zip((pos, goal), means, strict=True))
        u, _, vt = torch.linalg.svd(segment_outer(a, b, bags, weight))
        sign = torch.linalg.det(u @ vt).sign()
        u[:, :, -1] *= sign[:, None]
        turned = torch.einsum("nd,ndc->nc", pos - means[0][bags.index], (u @ vt)[bags.index])
        now = turned + means[1][bags.index]
    return (now - pos).to(pairs.pos.dtype)


def estimate(method: str, pairs: Pairs, args: Any) -> Tensor:
    if method == "zero":
        return torch.zeros_like(pairs.pos)
    if method == "nearest":
        return towards_nearest(pairs.pos, pairs)
    if method == "icp":
        return icp(pairs)
    return scene_flow(
        *pairs[:4], pool=method.partition(":")[2], limit=LIMIT, width=args.width, layers=args.layers,
        max_steps=args.steps, patience=args.patience,
    ).flow  # fmt: skip


def plain(x: Tensor, y: Tensor, width: int, layers: int, steps: int) -> None:
    """The same for one pair, with layers and optimiser of PyTorch, and the same search.

    The last step has no backward pass, as in `scene_flow`: what it would lead to is not looked at.
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        d = (a - b[knn(b, 1, a).index[:, 0]]).square().sum(1)
        return torch.where(d < LIMIT, d, 0).mean()

    g = perceptron(3, *[width] * layers, 3).to(x)
    h = copy.deepcopy(g)
    optimizer = torch.optim.Adam([*g.parameters(), *h.parameters()], 0.008, weight_decay=1e-4)
    for step in range(steps):
        z = x + g(x)
        back = z - h(z)
        loss = distance(y, z) + distance(z, y) + distance(back, x) + distance(x, back)
        if step == steps - 1:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def products(x: Tensor, width: int, layers: int, steps: int) -> None:
    """The products of matrices in these steps, of all pairs, and nothing else."""
    sizes = [x.size(-1), *[width] * layers, x.size(-1)]
    weights = [x.new_ones(len(x), a, b) for a, b in itertools.pairwise(sizes)]
    values = [x, *(x.new_ones(len(x), x.size(1), size) for size in sizes[1:])]
    slopes, gradients = [torch.ones_like(v) for v in values], [torch.empty_like(w) for w in weights]
    for step, network in itertools.product(range(steps), range(2)):
        for i, weight in enumerate(weights):
            torch.bmm(values[i], weight, out=values[i + 1])
            if step == steps - 1:
                continue
            torch.bmm(values[i].mT, slopes[i + 1], out=gradients[i])
            if i or network:  # nobody asks for the derivative of the points themselves
                torch.bmm(slopes[i + 1], weight.mT, out=slopes[i])


def timing(args: Any) -> None:
    """Time of a step of all pairs: in a batch, of its products alone, and one pair after the other."""
    rows = []
    steps, count = (2, 4) if args.quick else (5, 64)
    for points, width in ((32, 64), (64, 64), (128, 64), (128, 128), (512, 128)):
        pos = torch.randn(count * points, 3, device=args.device)
        pairs = Segments.from_counts(torch.full((count,), points, device=args.device))
        how = {"width": width, "layers": args.layers, "patience": steps + 1}
        seconds: list[list[float]] = [[], [], []]
        for turn in range(4):
            begin = time.process_time()
            scene_flow(pos, pos + 0.1, pairs, pairs, max_steps=steps, **how)
            middle = time.process_time()
            some = max(count // 8, 1)
            for x in pos.split(points)[:some]:
                plain(x, x + 0.1, width, args.layers, steps)
            end = time.process_time()
            products(pos.unflatten(0, (count, points)).clone(), width, args.layers, steps)
            last = time.process_time()
            if turn:  # the first compiles
                seconds[0].append((middle - begin) / steps)
                seconds[1].append((end - middle) * count / some / steps)
                seconds[2].append((last - end) / steps)
        batch, loop, alone = (1e3 * sorted(s)[1] for s in seconds)
        milliseconds = [f"{t:.0f}" for t in (batch, loop, alone)]
        ratios = [f"{loop / t:.1f}" for t in (batch, alone)]
        rows.append([str(points), str(width), *milliseconds, *ratios])
    print(f"milliseconds of CPU for a step of {count} pairs, medians of 3")
    head = ["points", "width", "batch", "loop of plain PyTorch", "products alone"]
    print(format_table(rows, [*head, "loop / batch", "loop / products"]))


def draw(shown: dict[str, list[tuple[str, Tensor, Tensor, Tensor]]], path: Path) -> None:
    """First clouds as they are estimated to lie, coloured by error, over second ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = max(map(len, shown.values()))
    size = (2.4 * columns, 2.1 * len(shown))
    figure, axes = plt.subplots(
        len(shown), columns, figsize=size, squeeze=False, layout="constrained"
    )
    for row, (scene, cells) in zip(axes, shown.items(), strict=True):
        for ax, (name, where, target, error) in zip(row, cells, strict=True):
            ax.scatter(*target[:, :2].T, s=2, c="0.75", lw=0)
            dots = ax.scatter(*where[:, :2].T, s=3, c=error, vmin=0, vmax=0.5, cmap="plasma", lw=0)
            ax.set_aspect("equal")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(f"{scene}: {name}", fontsize=8)
    figure.colorbar(dots, ax=axes, label="error [m]", shrink=0.6)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--scenes", nargs="+", choices=("rigid", "articulated", "lidar"), default=None
    )
    parser.add_argument("--lidar", type=Path, default=None, help="a sweep, .bin, .ply, ...")
    parser.add_argument("--pools", nargs="+", default=["mean"])
    parser.add_argument("--pairs", type=int, default=12, help="a third as many of the sweep")
    parser.add_argument("--points", type=int, default=512, help="of each cloud")
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation in metres")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--patience", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--timing", action="store_true", help="time only")
    args = parser.parse_args()
    if args.timing:
        timing(args)
        return
    if args.quick:
        args.pairs, args.points, args.steps, args.width = 3, 64, 10, 16
    scenes = args.scenes or ["rigid", "articulated", *(["lidar"] if args.lidar else [])]
    if "lidar" in scenes and args.lidar is None:
        raise ValueError("`lidar` must name a file for the scene of that name; got none.")
    methods = ["zero", "nearest", "icp", *(f"nsfp:{pool}" for pool in args.pools)]
    kept, seeds = Kept("scene_flow", args), seeds_of(args)
    for seed in kept.missing(seeds):
        runs: list[dict[str, Any]] = []
        shown: dict[str, list[tuple[str, Tensor, Tensor, Tensor]]] = {scene: [] for scene in scenes}
        for scene in scenes:
            seed_everything(seed)
            pairs = make_pairs(scene, args, seed)
            for method in methods:
                seed_everything(seed)
                begin = time.process_time()
                flow = estimate(method, pairs, args)
                spent = time.process_time() - begin
                errors = flow_errors(flow, pairs.truth, pairs.segments)
                row = [float(e.mean()) for e in errors] + [spent]
                runs.append({"scene": scene, "method": method, "measured": row})
                first = pairs.segments.index == 0
                cell = (
                    method,
                    (pairs.pos + flow)[first].cpu(),
                    pairs.target[pairs.target_segments.index == 0].cpu(),
                    (flow - pairs.truth)[first].norm(dim=1).cpu(),
                )
                shown[scene].append(cell)
        kept.keep(seed, runs, shown)
    rows, everything = [], kept.of(seeds)
    for scene in scenes:
        for method in methods:
            mine = [r for r in everything if (r["scene"], r["method"]) == (scene, method)]
            epe, acc5, acc10, outliers, spent = torch.tensor([r["measured"] for r in mine]).T
            shares = [mean_and_spread(t, 100, 1) for t in (acc5, acc10, outliers)]
            rows.append(
                [scene, method, mean_and_spread(epe), *shares, f"{float(spent.mean()):.1f}"]
            )
    print(
        format_table(rows, ["scene", "method", "EPE m", "Acc5 %", "Acc10 %", "outliers %", "CPU s"])
    )
    draw(kept.picture(seeds[0]), path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
