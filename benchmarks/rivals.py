"""What a user could take instead: the fastest of every row against graphpool.

    python benchmarks/rivals.py --quick
    python benchmarks/rivals.py --lidar sweep.bin
    python benchmarks/rivals.py --rows "k-NN*" --fresh

Pools: PyG as it is and under ``torch.compile``, the pool in plain PyTorch as it is and compiled (sums by
``index_add``, extrema by ``scatter_reduce``, a median by two sorts), and our composed form on torch-scatter.
Farthest points: the bucket samplers of fpsample at every height that suits the number of points. They start
at a point of their own; each is checked to be greedy from there. Nearest neighbours: SciPy's tree with all
workers, as it is and unbalanced, pykdtree and Open3D; building the tree counts, for all. What is not
installed is left out, and said. Rivals run in turn in one process, numbers are medians, of one run for
those that are far behind. A row is kept when it is measured, and a run that was stopped goes on from there;
compiled code is kept by PyTorch.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import bags, in_turn, machine, make_parser, prepare, record, table, timed, warmed
from _scripts import run as run_script
from torch import Tensor
from torch_geometric.nn import aggr as pyg
from torch_geometric.utils import scatter, softmax

from graphpool import aggr, ops, use_backend
from graphpool.datasets import read_points
from graphpool.ops.neighbors import fps, knn

Run = Callable[[], Any]
ELEMENTS, CHANNELS, BAG = 800_000, 64, 16
POOLS = ("softmax", "attention", "power", "max", "mean", "sum", "median")
#: Points and picks.
SAMPLES = [(1_024, 512), (10_000, 1_024), (100_000, 4_096), (1_000_000, 4_096)]
NEIGHBORS = (1_000, 100_000, 1_000_000)
SCIPY = {"SciPy": {}, "SciPy, unbalanced": {"balanced_tree": False, "compact_nodes": False}}
HEIGHTS = (3, 5, 7, 9, 11)
#: Rivals that take longer than the fastest by this factor are timed once; seconds for the others.
NEAR, PATIENCE = 1.5, 15.0


class Plain:
    """Each pool as one would write it in PyTorch alone."""

    def __init__(self, index: Tensor, count: int) -> None:
        self.index, self.count = index, count

    def sum(self, x: Tensor) -> Tensor:
        return x.new_zeros(self.count, x.size(1)).index_add(0, self.index, x)

    def mean(self, x: Tensor) -> Tensor:
        sizes = self.index.bincount(minlength=self.count).clamp_min(1)
        return self.sum(x) / sizes[:, None]

    def max(self, x: Tensor) -> Tensor:
        places = self.index[:, None].expand_as(x)
        start = x.new_zeros(self.count, x.size(1))
        return start.scatter_reduce(0, places, x, "amax", include_self=False)

    def power(self, x: Tensor, p: Tensor) -> Tensor:
        return self.mean(x.clamp_min(1e-7) ** p) ** (1 / p)

    def attention(self, x: Tensor, score: Tensor) -> Tensor:
        share = (score - self.max(score.detach())[self.index]).exp()
        return self.sum(share * x) / self.sum(share)

    def softmax(self, x: Tensor, t: Tensor) -> Tensor:
        return self.attention(x, t * x)

    def median(self, x: Tensor) -> Tensor:
        by_value = x.argsort(0)
        order = by_value.gather(0, self.index[by_value].argsort(0, stable=True))
        sizes = self.index.bincount(minlength=self.count)
        middle = sizes.cumsum(0) - sizes + (sizes - 1).clamp_min(0) // 2
        found = x.gather(0, order[middle.clamp_max(len(x) - 1)])
        return found * (sizes > 0)[:, None]


def pool_rivals(op: str, args: argparse.Namespace) -> dict[str, Run]:
    elements = 2_000 if args.quick else ELEMENTS
    count = elements // BAG
    index = bags("many", elements, count).to(args.device)
    segments, grad = warmed(index, count), torch.rand(count, CHANNELS, device=args.device)
    x = (torch.rand(elements, CHANNELS, device=args.device) + 0.1).requires_grad_()
    score = torch.randn(elements, CHANNELS, device=args.device, requires_grad=True)
    number = torch.tensor(2.0, device=args.device, requires_grad=True)
    ours = {
        "softmax": aggr.SoftPool(learn=True),
        "power": aggr.GNP(form="paper", sign="plus", p=2.0, q=0.5),
        "max": aggr.Max(),
        "mean": aggr.Mean(),
        "sum": aggr.Sum(),
        "median": aggr.Median(),
    }
    theirs = {
        "softmax": pyg.SoftmaxAggregation(learn=True),
        "power": pyg.PowerMeanAggregation(learn=True, p=2.0),
        "max": pyg.MaxAggregation(),
        "mean": pyg.MeanAggregation(),
        "sum": pyg.SumAggregation(),
        "median": pyg.MedianAggregation(),
    }
    plain = getattr(Plain(index, count), op)
    if op == "attention":
        inputs = [x, score]

        def own() -> Tensor:
            return ops.segment_softmax_sum(score, x, segments)

        def eager(x: Tensor, score: Tensor) -> Tensor:
            return scatter(softmax(score, index, num_nodes=count) * x, index, 0, count, "sum")

        given, taken = (x, score), [x, score]
    else:
        pool, module = ours[op].to(args.device), theirs[op].to(args.device)
        inputs = [x, *pool.parameters()]

        def own() -> Tensor:
            return pool(x, segments, dim_size=count)

        def eager(x: Tensor) -> Tensor:
            return module(x, index, dim_size=count)

        given, taken = (x,), [x, *module.parameters()]

    def composed() -> Tensor:
        with use_backend("torch_scatter"):
            return own()

    learned = (x, number) if op in ("softmax", "power") else given
    of_plain = [v for v in learned if v.requires_grad]
    compiled = partial(torch.compile, dynamic=False)
    passes = {
        "graphpool": (own, inputs),
        "PyG": (partial(eager, *given), taken),
        "PyG, compiled": (partial(compiled(eager), *given), taken),
        "plain PyTorch": (partial(plain, *learned), of_plain),
        "plain PyTorch, compiled": (partial(compiled(plain), *learned), of_plain),
        "torch-scatter": (composed, inputs),
    }

    def both(run: Run, wanted: list) -> Run:
        return lambda: torch.autograd.grad(run(), wanted, grad, allow_unused=True)

    return {name: both(*found) for name, found in passes.items()}


def sample_rivals(points: Tensor, samples: int, args: argparse.Namespace) -> dict[str, Run]:
    found: dict[str, Run] = {"graphpool": lambda: fps(points, num_samples=samples)}
    module, array = importlib.import_module("fpsample"), points.numpy()
    for h in HEIGHTS:
        if 4 << h <= len(points):
            found[f"fpsample kdline, h = {h}"] = partial(
                module.bucket_fps_kdline_sampling, array, samples, h, start_idx=0
            )
    if len(points) <= 200_000:
        found["fpsample kdtree"] = partial(
            module.bucket_fps_kdtree_sampling, array, samples, start_idx=0
        )
    for name, run in found.items():
        picks = torch.from_numpy(np.asarray(run()).astype(np.int64))
        same = fps(points, num_samples=samples, start=int(picks[0]))
        # Points at one distance may be picked in another order; the radius then stays.
        if (picks == same).float().mean() < 0.99 and name != "graphpool":
            print(f"{name}: {(picks == same).float().mean():.0%} of the picks are greedy")
    return found


def neighbor_rivals(points: Tensor, args: argparse.Namespace) -> dict[str, Run]:
    from scipy.spatial import cKDTree

    array, k = points.numpy(), 16
    found: dict[str, Run] = {"graphpool": lambda: knn(points, k)}
    # A million points take it as long as all others together, and it is never the fastest.
    for name, options in SCIPY.items() if len(points) <= 200_000 else ():
        found[name] = partial(
            lambda options: cKDTree(array, **options).query(array, k, workers=args.threads), options
        )
    if importlib.util.find_spec("pykdtree"):
        tree = importlib.import_module("pykdtree.kdtree").KDTree
        for leaf in (16, 32):
            found[f"pykdtree, leaves of {leaf}"] = partial(
                lambda leaf: tree(array, leafsize=leaf).query(array, k), leaf
            )
    if importlib.util.find_spec("open3d"):
        o3d = importlib.import_module("open3d")

        def search() -> Any:
            tensor = o3d.core.Tensor(array)
            index = o3d.core.nns.NearestNeighborSearch(tensor)
            index.knn_index()
            return index.knn_search(tensor, k)

        found["Open3D"] = search
    return found


def rows(args: argparse.Namespace) -> dict[str, Callable[[], dict[str, Run]]]:
    """Every row by its name, and what makes its rivals."""
    found: dict[str, Callable[[], dict[str, Run]]] = {
        f"pool {op}": partial(pool_rivals, op, args) for op in POOLS
    }
    if importlib.util.find_spec("fpsample"):
        for size, samples in SAMPLES:
            few = max(64, size // 100) if args.quick else size
            points = torch.rand(few, 3)
            wanted = min(samples, few // 2)
            found[f"FPS {size:,} to {samples:,}"] = partial(sample_rivals, points, wanted, args)
        if args.lidar:
            sweep = torch.from_numpy(read_points(args.lidar)[0]).float()
            name = f"FPS lidar sweep {len(sweep):,} to 4,096"
            found[name] = partial(sample_rivals, sweep, 4_096, args)
    for size in NEIGHBORS:
        points = torch.rand(max(100, size // 100) if args.quick else size, 3)
        found[f"k-NN {size:,}, k = 16"] = partial(neighbor_rivals, points, args)
    return found


def measure(name: str, make: Callable[[], dict[str, Run]], args: argparse.Namespace) -> dict:
    rivals, once = make(), {}
    for rival, run in rivals.items():
        try:
            run()
        except (ImportError, NotImplementedError, RuntimeError) as error:
            if rival == "graphpool":
                raise
            print(f"  {name}: {rival} cannot: {str(error).splitlines()[0]}")
        else:
            once[rival] = timed(run, args)
    # Only those that may be the fastest are worth the time of more runs.
    least = min(value for rival, value in once.items() if rival != "graphpool")
    near = {r: rivals[r] for r in once if r == "graphpool" or once[r] <= NEAR * least}
    fits = int(1e3 * PATIENCE / (2 * sum(once[r] for r in near)))
    settings = argparse.Namespace(**{**vars(args), "repeats": max(1, min(args.repeats, fits))})
    times = in_turn(near, settings)
    best = min((rival for rival in times if rival != "graphpool"), key=times.__getitem__)
    record(args, f"rivals {name}", "ms", times["graphpool"], best, times[best])
    return {"times": once | times, "best": best, "where": machine(args)}


def page(kept: dict[str, dict]) -> str:
    """The tables in Markdown."""
    summary, details = [], []
    for name, found in kept.items():
        times = found["times"]
        own, best = times["graphpool"], times[found["best"]]
        summary.append([name, f"{own:.2f}", found["best"], f"{best:.2f}", f"**{best / own:.1f}x**"])
        others = ", ".join(
            f"{rival} {value:,.1f}"
            for rival, value in sorted(times.items(), key=lambda item: item[1])
            if rival != "graphpool"
        )
        details.append([name, others])
    head = ["", "graphpool ms", "the fastest of the others", "ms", "ratio"]
    return f"{table(head, summary)}\n\n{table(['', 'all of them, ms'], details)}\n"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", default="*", help="which rows, as a pattern of the shell")
    parser.add_argument("--lidar", type=Path, help="a sweep of float32 x, y, z, reflectance")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --out")
    args = parser.parse_args()
    prepare(args)
    args.repeats = 1 if args.quick else args.repeats
    file = args.out / "rivals.json"
    kept = json.loads(file.read_text()) if file.exists() and not args.quick else {}
    for package in ("fpsample", "pykdtree", "open3d", "torch_scatter"):
        if not importlib.util.find_spec(package):
            print(f"{package} is not installed and left out")
    for name, make in rows(args).items():
        if not fnmatch.fnmatch(name, args.rows) or (name in kept and not args.fresh):
            continue
        torch.manual_seed(args.seed)
        torch.compiler.reset()
        kept[name] = measure(name, make, args)
        print(name, {rival: round(value, 2) for rival, value in kept[name]["times"].items()})
        if not args.quick:
            file.write_text(json.dumps(kept, indent=1) + "\n")
    text = page(kept)
    print(machine(args), text, sep="\n\n")
    (args.out / "rivals.md").write_text(text)


if __name__ == "__main__":
    run_script(main)
