"""Sampling, neighbour search and the Point-NN encoder beside torch-cluster and the dense formulation.

    python benchmarks/neighbors.py --lidar sweep.bin --modelnet modelnet10_1024_int16.npz

Alternatives run in turn in one process. ``--lidar`` is a sweep of float32 x, y, z, reflectance and
``--modelnet`` a packed set of clouds; without them these rows are left out. Sampling 4,096 of 100,000
points takes torch-cluster half a minute, so it is timed once.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from _common import in_turn, machine, make_parser, prepare, record, table
from _scripts import run as run_script
from torch import Tensor
from tqdm import tqdm

from graphpool import Segments, _optional
from graphpool.datasets import PackedPointClouds, read_points
from graphpool.ops.neighbors import fps, knn
from graphpool.points import PointNN, position_encoding


def ragged(clouds: int, size: int) -> Segments:
    return Segments(ptr=torch.arange(0, clouds * size + 1, size))


def compare(name: str, ours, theirs, args: argparse.Namespace, repeats: int | None = None) -> list:
    """A row with both medians and their ratio."""
    settings = argparse.Namespace(**{**vars(args), "repeats": repeats or args.repeats})
    if theirs is None:
        found = in_turn({"ours": ours}, settings)
        return [name, f"{found['ours']:.1f}", "", ""]
    if repeats:
        # One run of the slow one, without warm-up; ours is still a median.
        slow = in_turn(
            {"theirs": _once(theirs)}, argparse.Namespace(**{**vars(args), "repeats": 1})
        )
        found = {**slow, **in_turn({"ours": ours}, args)}
    else:
        found = in_turn({"ours": ours, "theirs": theirs}, settings)
    ratio = found["theirs"] / found["ours"]
    rival = "dense formulation" if name.startswith("Point-NN") else "torch-cluster"
    record(args, f"neighbors {name}", "ms", found["ours"], rival, found["theirs"])
    return [name, f"{found['ours']:.1f}", f"{found['theirs']:.1f}", f"{ratio:.1f}x"]


def _once(run):
    """Skips the warm-up call."""
    calls = iter([False])
    return lambda: next(calls, True) and run()


def neighbors(args: argparse.Namespace) -> list[list]:
    cluster = None
    if _optional.has("torch_cluster"):
        cluster = _optional.require("torch_cluster", purpose="the comparison")
    scale = 20 if args.quick else 1
    n, m = 100_000 // scale, 4096 // scale
    points = torch.rand(n, 3)
    small = torch.rand(32 * 1024, 3)
    clouds = ragged(32, 1024)
    queries, asked = small.view(32, 1024, 3)[:, :512].reshape(-1, 3).contiguous(), ragged(32, 512)
    one = torch.zeros(n, dtype=torch.long)

    def theirs(run):
        return None if cluster is None else run

    jobs = [
        (
            f"FPS {n:,} to {m:,}",
            lambda: fps(points, num_samples=m),
            theirs(lambda: cluster.fps(points, one, (m - 0.5) / n, random_start=False)),
            1,
        ),
        (
            "FPS 32 x 1,024 to 512",
            lambda: fps(small, clouds, num_samples=512),
            theirs(lambda: cluster.fps(small, clouds.index, 0.5, random_start=False)),
            None,
        ),
        (
            f"k-NN {n:,}, k = 16",
            lambda: knn(points, 16),
            theirs(lambda: cluster.knn(points, points, 16)),
            None,
        ),
        (
            "k-NN 32 x (512 of 1,024), k = 90",
            lambda: knn(small, 90, queries, clouds, asked),
            theirs(lambda: cluster.knn(small, queries, 90, clouds.index, asked.index)),
            None,
        ),
    ]
    if args.lidar:
        sweep = torch.from_numpy(read_points(args.lidar)[0]).float()
        name = f"FPS lidar sweep {len(sweep):,} to 4,096"
        jobs.append((name, lambda: fps(sweep, num_samples=4096), None, None))
        jobs.append(
            (f"k-NN lidar sweep {len(sweep):,}, k = 16", lambda: knn(sweep, 16), None, None)
        )
    return [compare(*job[:3], args, job[3]) for job in tqdm(jobs, desc="neighbours")]


def growth(args: argparse.Namespace) -> list[list]:
    rows = []
    for n in (10_000, 30_000) if args.quick else (10_000, 100_000, 1_000_000):
        points = torch.rand(n, 3)
        found = in_turn(
            {
                "fixed": lambda p=points: fps(p, num_samples=4096),
                "ratio": lambda p=points: fps(p, ratio=0.1),
                "knn": lambda p=points: knn(p, 16),
            },
            args,
        )
        cells = [f"{v:.0f} ({1e6 * v / n:.0f} ns)" for v in found.values()]
        rows.append([f"{n:,}", *cells])
    return rows


def dense(pos: Tensor, k: int = 90, channels: int = 72) -> Tensor:
    """Point-NN on a padded batch ``[B, N, 3]``, with every tensor of the method written to memory."""
    x = position_encoding(pos, channels)
    count, size, rows = *pos.shape[:2], torch.arange(len(pos))[:, None]
    for _ in range(4):
        size //= 2
        centre = fps(pos.flatten(0, 1), ragged(count, pos.size(1)), num_samples=size).view(
            count, size
        )
        centre = centre - torch.arange(count)[:, None] * pos.size(1)
        p, c = pos[rows, centre], x[rows, centre]
        neighbor = torch.cdist(p, pos).topk(k, largest=False).indices.flatten(1)
        dp = pos[rows, neighbor].view(count, size, k, 3) - p[:, :, None]
        dx = x[rows, neighbor].view(count, size, k, -1) - c[:, :, None]
        dp = dp / (dp.std((1, 2, 3), keepdim=True) + 1e-5)
        dx = dx / (dx.std((1, 2, 3), keepdim=True) + 1e-5)
        f = torch.cat([dx, c[:, :, None].expand_as(dx)], 3)
        # As published: one tensor of angles per axis, sines and cosines interleaved.
        width = f.size(3) // 6
        omega = 100 / 1000 ** (torch.arange(width) / width)
        angle = dp[..., None] * omega
        e = torch.stack([angle.sin(), angle.cos()], -1).flatten(3)
        w = (f + e) * e
        x = torch.nn.functional.gelu((w.amax(2) + w.mean(2)) / math.sqrt(1 + 1e-5))
        pos = p
    return x.amax(1) + x.mean(1)


def encoder(args: argparse.Namespace) -> list[list]:
    count = 2 if args.quick else 8
    if args.modelnet:
        clouds = PackedPointClouds(args.modelnet, "test")
        pos = torch.stack([clouds[100 * i].pos for i in range(count)])
    else:
        pos = torch.rand(count, 1024, 3) * 2 - 1
    flat, ptr, model = pos.flatten(0, 1), ragged(count, 1024).ptr, PointNN()
    error = (model(flat, ptr=ptr) - dense(pos)).norm(dim=1) / dense(pos).norm(dim=1)
    row = compare(
        f"Point-NN, {count} x 1,024 points", lambda: model(flat, ptr=ptr), lambda: dense(pos), args
    )
    return [[*row, f"{float(error.max()):.1e}", f"{float(row[1]) / count:.1f}"]]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--lidar", type=Path)
    parser.add_argument("--modelnet", type=Path)
    args = parser.parse_args()
    prepare(args)
    parts = [
        table(["", "graphpool ms", "torch-cluster ms", "ratio"], neighbors(args)),
        table(
            ["points", "FPS to 4,096, ms (per point)", "FPS to a tenth", "k-NN, k = 16"],
            growth(args),
        ),
        table(
            ["", "fused ms", "dense ms", "ratio", "largest relative difference", "ms per cloud"],
            encoder(args),
        ),
        machine(args),
    ]
    text = "\n\n".join(parts)
    print(text)
    (args.out / "neighbors.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
