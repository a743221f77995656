"""The segment operations beside what a user would pick instead.

    python benchmarks/segment_ops.py --quick
    python benchmarks/segment_ops.py --shapes sorted --ops softmax power

Pools are modules, called as in a network; ``attention`` is one expression in both libraries. Rivals run in
turn in one process on the same tensors; times are medians in milliseconds. ``graphpool`` gets its bags as
:class:`graphpool.Segments`, whose order and checks every layer and epoch shares; ``graphpool, index`` gets
the index alone, as PyG does, and checks and sorts it anew in each call. Reading ``x`` once (a sum over
everything) and copying it are the limits that memory sets.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch
from _common import (
    bags,
    in_turn,
    machine,
    make_parser,
    peak_extra_memory,
    prepare,
    record,
    table,
    warmed,
)
from _scripts import run as run_script
from torch import Tensor
from torch_geometric.nn import aggr as pyg
from torch_geometric.utils import scatter, softmax

from graphpool import Segments, aggr, ops, use_backend

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

OPS = ("softmax", "power", "attention", "max", "mean", "sum", "four")
FOUR = ("var", "mean", "min", "max")
# Kind of bags, share of the elements, elements to a bag (0: four bags in all), channels, sorted.
SHAPES = {
    "sorted": ("many", 1, 16, 64, True),
    "unsorted": ("many", 1, 16, 64, False),
    "few": ("few", 1, 0, 64, True),
    "power-law": ("power", 1, 16, 64, True),
    "narrow": ("many", 1, 16, 16, True),
    "wide": ("many", 4, 16, 256, True),
}
TITLES = {
    "sorted": "many small bags, C = 64, sorted",
    "unsorted": "many small bags, C = 64, unsorted",
    "few": "few huge bags, C = 64, sorted",
    "power-law": "power-law bags, C = 64, sorted",
    "narrow": "many small bags, C = 16, sorted",
    "wide": "many small bags, C = 256, sorted",
}


class Problem:
    """The tensors of one shape, and for each operation its rivals with the inputs they differentiate."""

    def __init__(self, args, kind, elements, count, channels, ordered):
        device = args.device
        self.index = bags(kind, elements, count, ordered).to(device)
        self.count, self.ordered = count, ordered
        self.segments = warmed(self.index, count)
        self.x = (torch.rand(elements, channels, device=device) + 0.1).requires_grad_()
        self.score = torch.randn(elements, channels, device=device, requires_grad=True)
        self.grad = torch.rand(count, channels, device=device)
        self.pools = {
            "softmax": aggr.SoftPool(learn=True),
            "power": aggr.GNP(form="paper", sign="plus", p=2.0, q=0.5),
            "max": aggr.Max(),
            "mean": aggr.Mean(),
            "sum": aggr.Sum(),
            "four": aggr.Multi(members=list(FOUR)),
        }
        self.pyg_pools = {
            "softmax": pyg.SoftmaxAggregation(learn=True),
            "power": pyg.PowerMeanAggregation(learn=True, p=2.0),
            "max": pyg.MaxAggregation(),
            "mean": pyg.MeanAggregation(),
            "sum": pyg.SumAggregation(),
            "four": pyg.MultiAggregation(list(FOUR)),
        }
        for pool in (*self.pools.values(), *self.pyg_pools.values()):
            pool.to(device)

    def ours(self, op: str, known: bool = True) -> Callable[[], Tensor]:
        """``known``: the bags are, not only the index."""
        x, index, n = self.x, self.index, self.count
        if op == "attention":

            def attention() -> Tensor:
                bags = self.segments if known else Segments(index=index, num_segments=n)
                return ops.segment_softmax_sum(self.score, x, bags)

            return attention
        pool, bags = self.pools[op], self.segments if known else index
        return lambda: pool(x, bags, dim_size=n)

    def pyg(self, op: str, **where: Any) -> Callable[[], Tensor]:
        x, index, n = self.x, self.index, self.count
        where = where or {"index": index}
        if op == "attention":
            share = {"index": index} if "index" in where else where

            def attention() -> Tensor:
                a = softmax(self.score, num_nodes=n, **share)
                return scatter(a * x, index, 0, n, "sum")

            return attention
        return lambda: self.pyg_pools[op](x, dim_size=n, **where)

    def inputs(self, op: str, ours: bool) -> list[Tensor]:
        if op == "attention":
            return [self.x, self.score]
        return [self.x, *(self.pools if ours else self.pyg_pools)[op].parameters()]

    def rivals(self, op: str, everyone: bool) -> dict[str, tuple[Callable[[], Tensor], list]]:
        found = {
            "graphpool": (self.ours(op), self.inputs(op, True)),
            "graphpool, index": (self.ours(op, known=False), self.inputs(op, True)),
            "PyG": (self.pyg(op), self.inputs(op, False)),
        }
        if everyone and self.ordered:
            found["PyG ptr"] = (self.pyg(op, ptr=self.segments.ptr), self.inputs(op, False))
        for backend in ("torch_scatter", "torch") if everyone else ():

            def composed(backend=backend):
                with use_backend(backend):
                    return self.ours(op)()

            found[f"composed, {backend}"] = (composed, self.inputs(op, True))
        return found

    def gradient(self, op: str) -> Tensor:
        return self.grad.repeat(1, len(FOUR)) if op == "four" else self.grad


def differentiate(run: Callable[[], Tensor], inputs: list[Tensor], grad: Tensor) -> Callable:
    return lambda: torch.autograd.grad(run(), inputs, grad, allow_unused=True)


def measure(problem: Problem, op: str, args: argparse.Namespace, everyone: bool) -> dict:
    rivals = problem.rivals(op, everyone)
    usable = {}
    for name, (run, inputs) in rivals.items():
        try:
            differentiate(run, inputs, problem.gradient(op))()
        except (NotImplementedError, ImportError, RuntimeError) as error:
            print(f"  {op}: {name} cannot: {str(error).splitlines()[0]}")
        else:
            usable[name] = (run, inputs)

    def without_grad(run):
        def forward():
            with torch.no_grad():
                return run()

        return forward

    forward = {name: without_grad(run) for name, (run, _) in usable.items()}
    both = {
        name: differentiate(run, inputs, problem.gradient(op))
        for name, (run, inputs) in usable.items()
    }
    return {
        "forward": in_turn(forward, args),
        "both": in_turn(both, args),
    }


def limits(problem: Problem, args: argparse.Namespace) -> dict[str, float]:
    x = problem.x.detach()
    return in_turn({"read x": lambda: x.sum(), "copy x": lambda: x.clone()}, args)


def report(title: str, found: dict[str, dict], bounds: dict[str, float]) -> str:
    names = list(dict.fromkeys(name for by in found.values() for name in by["both"]))
    rows = []
    for op, by in found.items():
        for what, label in (("forward", "forward"), ("both", "forward + backward")):
            ours = by[what]["graphpool"]
            cells = [f"{by[what][n]:.1f}" if n in by[what] else "-" for n in names]
            rows.append([op, label, *cells, f"{by[what]['PyG'] / ours:.1f}x"])
    headers = ["op", "pass", *names, "PyG / graphpool"]
    limit = ", ".join(f"{name} {value:.1f} ms" for name, value in bounds.items())
    return f"### {title}\n\n{limit}\n\n{table(headers, rows)}\n"


def memory(title: str, problem: Problem, ops_: list[str], args: argparse.Namespace) -> str:
    rows = []
    for op in ops_:
        used = {}
        for name, (run, inputs) in problem.rivals(op, everyone=False).items():
            if name == "graphpool, index":
                continue
            gc.collect()
            used[name] = peak_extra_memory(differentiate(run, inputs, problem.gradient(op)))
        # Small tensors come out of memory that the process holds already.
        record(args, f"segment_ops memory {op}", "MiB", used["graphpool"], "PyG", used["PyG"])
        share = f"{used['graphpool'] / used['PyG']:.0%}" if used["PyG"] >= 1 else "-"
        rows.append([op, *(f"{v:.0f}" for v in used.values()), share])
    headers = ["op", "graphpool", "PyG", "share"]
    return f"### Peak extra memory, forward + backward, MiB; {title}\n\n{table(headers, rows)}\n"


def plot(found: dict[str, dict], title: str, path: Path) -> None:
    fig, ax = plt.subplots(figsize=(8, 3.6))
    names = list(found)
    ratios = [found[op]["both"]["PyG"] / found[op]["both"]["graphpool"] for op in names]
    # A bar grows from 1, where both take the same time: upwards where PyG takes longer.
    ax.bar(names, [ratio - 1 for ratio in ratios], bottom=1, color="#2b6cb0")
    ax.axhline(1, color="black", linewidth=0.8)
    ax.bar_label(ax.containers[0], [f"{r:.1f}x" for r in ratios])
    ax.set_yscale("log")
    ax.set_ylim(min(1, 0.9 * min(ratios)), 1.3 * max(1, *ratios))
    ax.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylabel("time of PyG / graphpool")
    ax.set_title(f"Forward + backward, {title}")
    fig.tight_layout()
    fig.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--ops", nargs="+", default=list(OPS), choices=OPS)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--elements", type=int, default=800_000)
    parser.add_argument("--everyone", action="store_true", help="all rivals, not PyG alone")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    args = parser.parse_args()
    prepare(args)
    size = args.elements // (20 if args.quick else 1)
    text = f"## Segment operations\n\n{machine(args)}\n\n"
    for name in args.shapes:
        kind, share, per_bag, channels, ordered = SHAPES[name]
        elements = size // share
        count = elements // per_bag if per_bag else 4
        problem = Problem(args, kind, elements, count, channels, ordered)
        title = f"{TITLES[name]} (E = {elements:,}, S = {count:,})"
        if args.memory:
            section = memory(title, problem, args.ops, args)
        else:
            found = {op: measure(problem, op, args, args.everyone) for op in args.ops}
            section = report(title, found, limits(problem, args))
            for op, by in found.items():
                both = by["both"]
                key = f"segment_ops {name} {op} forward+backward"
                record(args, key, "ms", both["graphpool"], "PyG", both["PyG"])
            plot(found, TITLES[name], args.out / f"segment_ops_{name}.png")
        print(section, flush=True)
        text += section + "\n"
        (args.out / "segment_ops.md").write_text(text)


if __name__ == "__main__":
    run_script(main)
