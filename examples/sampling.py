"""Farthest points, neighbourhoods and voxels of one shape, drawn.

    python examples/sampling.py                                   # a generated creature
    python examples/sampling.py --mesh stanford-bunny.obj --up y

Draws points from the surface, picks farthest points from them, groups the nearest neighbours of some
picks, and bins the points into voxels; prints how long each took. The groups and the voxels are bags: any
pool of the library takes them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from _common import format_table, make_parser, out_dir, seed_everything
from _scripts import run as run_script
from torch import Tensor

from graphpool import aggr, plot
from graphpool.datasets import generate_mesh
from graphpool.datasets.surfaces import sample_surface
from graphpool.mesh import read_mesh
from graphpool.ops.neighbors import fps, knn_groups, voxel_segments
from graphpool.plot.colors import HUES

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402


def shape(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Vertices, with z up, and faces."""
    if args.mesh is None:
        found = generate_mesh("creature", seed=args.seed)
        return found.vertices, found.faces
    vertices, faces = read_mesh(args.mesh)[:2]
    return (vertices[:, [2, 0, 1]] if args.up == "y" else vertices), faces


def timed(call: Callable[[], Any]) -> tuple[Any, str]:
    """The answer of a second call (the first one compiles), and its milliseconds."""
    call()
    begin = time.perf_counter()
    answer = call()
    return answer, f"{1e3 * (time.perf_counter() - begin):.1f}"


def draw(
    points: Tensor, picks: Tensor, near: Tensor, group: Tensor, voxel: Tensor, path: Path
) -> None:
    """Picks in their order, neighbourhoods, voxels."""
    hues = torch.tensor([to_rgb(hue) for hue in HUES])
    gray = torch.full((len(points), 3), 0.88)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    view = (15.0, -50.0)
    plot.cloud(axes[0], points, gray, size=6, view=view)
    late = torch.arange(len(picks)) / len(picks)
    plot.cloud(axes[0], points[picks], late, size=22, view=view)
    axes[0].set_title(f"{len(picks)} farthest points, dark first", fontsize=10)
    grouped = gray.clone()
    grouped[near] = hues[group % len(hues)]
    plot.cloud(axes[1], points, grouped, size=6, view=view)
    axes[1].set_title(f"{int(group.max()) + 1} picks with their nearest points", fontsize=10)
    plot.cloud(axes[2], points, hues[voxel * 5 % len(hues)], size=6, view=view)
    axes[2].set_title(f"{int(voxel.max()) + 1} voxels", fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mesh", type=Path, help="an .obj, .off or .ply file")
    parser.add_argument("--up", choices=("y", "z"), default="z", help="axis that points up")
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--picks", type=int, default=256)
    parser.add_argument("--k", type=int, default=250)
    parser.add_argument("--groups", type=int, default=24)
    args = parser.parse_args()
    if args.quick:
        args.points, args.picks, args.k, args.groups = 2000, 64, 40, 8
    seed_everything(args.seed)
    folder = out_dir(args)
    vertices, faces = shape(args)
    drawn, _ = sample_surface(vertices, faces, args.points, np.random.default_rng(args.seed))
    points = torch.from_numpy(drawn).float().to(args.device)
    size = float((points.amax(0) - points.amin(0)).max()) / 8
    picks, picking = timed(lambda: fps(points, num_samples=args.picks))
    asked = points[picks[: args.groups]]
    groups, grouping = timed(lambda: knn_groups(points, args.k, asked))
    voxels, binning = timed(lambda: voxel_segments(points, size))
    rows = [
        ["farthest points", picking], ["nearest neighbours", grouping], ["voxels", binning]
    ]  # fmt: skip
    print(format_table(rows, [f"{len(points):,} points", "milliseconds"]))
    shift = aggr.resolve("mean")(points[groups.index], groups.segments) - asked
    print(f"the mean of a group lies {float(shift.norm(dim=1).mean()):.3f} from its pick")
    draw(
        points.cpu(), picks.cpu(), groups.index.cpu(), groups.segments.index.cpu(),
        voxels.index.cpu(), folder / "sampling.png",
    )  # fmt: skip
    print(f"picture: {folder / 'sampling.png'}")


if __name__ == "__main__":
    run_script(main)
