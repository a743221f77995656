"""The segment operations beside what a user would pick instead.

    python benchmarks/segment_ops.py --quick

Rivals run in turn in one process on the same tensors; times are medians in milliseconds. Reading ``x`` once
(a sum over everything) and copying it are the limits that memory sets.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from typing import Any

import matplotlib
import torch
from _common import (
    add_arguments,
    bags,
    in_turn,
    machine,
    peak_extra_memory,
    prepare,
    table,
    warmed,
)
from torch import Tensor
from torch_geometric.nn import aggr as pyg
from torch_geometric.utils import scatter, softmax

from graphpool import ops, use_backend

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

# What each operation is measured against, and the factor it should reach forward and backward.
GOALS = {"softmax": 12, "power": 10, "attention": 12, "max": 5, "mean": 1, "sum": 1, "four": 6}
FOUR = ("var", "mean", "min", "max")


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
        self.t = torch.tensor(1.0, device=device, requires_grad=True)
        self.p = torch.tensor(2.0, device=device, requires_grad=True)
        self.q = torch.tensor(0.5, device=device, requires_grad=True)
        self.soft = pyg.SoftmaxAggregation(learn=True).to(device)
        self.power = pyg.PowerMeanAggregation(learn=True, p=2.0).to(device)
        self.several = pyg.MultiAggregation(list(FOUR))

    def ours(self, op: str) -> Callable[[], Tensor]:
        x, s = self.x, self.segments
        return {
            "softmax": lambda: ops.segment_softpool(x, s, self.t),
            "power": lambda: ops.segment_power(x, s, self.p, self.q),
            "attention": lambda: ops.segment_softmax_sum(self.score, x, s),
            "max": lambda: ops.segment_max(x, s),
            "mean": lambda: ops.segment_mean(x, s),
            "sum": lambda: ops.segment_sum(x, s),
            "four": lambda: torch.cat(ops.segment_moments(x, s, FOUR), 1),
        }[op]

    def pyg(self, op: str, **where: Any) -> Callable[[], Tensor]:
        x, index, n = self.x, self.index, self.count
        where = where or {"index": index}
        simple = {"max": pyg.MaxAggregation, "mean": pyg.MeanAggregation, "sum": pyg.SumAggregation}
        if op == "attention":
            share = {"index": index} if "index" in where else where

            def attention() -> Tensor:
                a = softmax(self.score, num_nodes=n, **share)
                return scatter(a * x, index, 0, n, "sum")

            return attention
        module = {"softmax": self.soft, "power": self.power, "four": self.several}.get(op)
        module = simple[op]() if module is None else module
        return lambda: module(x, dim_size=n, **where)

    def inputs(self, op: str, ours: bool) -> list[Tensor]:
        extra = {
            "softmax": [self.t] if ours else [self.soft.t],
            "power": [self.p, self.q] if ours else [self.power.p],
            "attention": [self.score],
        }
        return [self.x, *extra.get(op, [])]

    def rivals(self, op: str, everyone: bool) -> dict[str, tuple[Callable[[], Tensor], list]]:
        found = {
            "graphpool": (self.ours(op), self.inputs(op, True)),
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
            goal = f"{GOALS[op]}x" if what == "both" else ""
            rows.append([op, label, *cells, f"{by[what]['PyG'] / ours:.1f}x", goal])
    headers = ["op", "pass", *names, "PyG / graphpool", "goal"]
    limit = ", ".join(f"{name} {value:.1f} ms" for name, value in bounds.items())
    return f"### {title}\n\n{limit}\n\n{table(headers, rows)}\n"


def memory(problem: Problem, ops_: list[str]) -> str:
    rows = []
    for op in ops_:
        used = {}
        for name, (run, inputs) in problem.rivals(op, everyone=False).items():
            gc.collect()
            used[name] = peak_extra_memory(differentiate(run, inputs, problem.gradient(op)))
        # Small tensors come out of memory that the process holds already.
        share = f"{used['graphpool'] / used['PyG']:.0%}" if used["PyG"] >= 1 else "-"
        rows.append([op, *(f"{v:.0f}" for v in used.values()), share])
    headers = ["op", "graphpool", "PyG", "share"]
    return f"### Peak extra memory, forward + backward, MiB\n\n{table(headers, rows)}\n"


def plot(found: dict[str, dict], path) -> None:
    fig, ax = plt.subplots(figsize=(8, 3.6))
    names = list(found)
    ratios = [found[op]["both"]["PyG"] / found[op]["both"]["graphpool"] for op in names]
    ax.bar(names, ratios, color="#2b6cb0", label="PyG / graphpool")
    ax.scatter(names, [GOALS[op] for op in names], marker="_", s=900, color="#c05621", label="goal")
    ax.axhline(1, color="black", linewidth=0.8)
    ax.bar_label(ax.containers[0], [f"{r:.1f}x" for r in ratios])
    ax.set_yscale("log")
    ax.set_ylabel("times faster")
    ax.set_title("Forward + backward, many small bags")
    ax.legend(frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--ops", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--elements", type=int, default=800_000)
    parser.add_argument("--main-only", action="store_true", help="only the shape of the goals")
    parser.add_argument("--everyone", action="store_true", help="all rivals, not PyG alone")
    args = parser.parse_args()
    prepare(args)
    size = 20 if args.quick else 1
    elements, count = args.elements // size, args.elements // size // 16
    shapes = [
        ("many small bags, C = 64, sorted", "many", elements, count, 64, True),
        ("many small bags, C = 64, unsorted", "many", elements, count, 64, False),
    ]
    if not args.main_only:
        shapes += [
            ("few huge bags, C = 64, sorted", "few", elements, 4, 64, True),
            ("power-law bags, C = 64, sorted", "power", elements, count, 64, True),
            ("many small bags, C = 16, sorted", "many", elements, count, 16, True),
            ("many small bags, C = 256, sorted", "many", elements // 4, count // 4, 256, True),
        ]
    text = f"## Segment operations\n\n{machine(args)}\n\n"
    for i, (title, kind, e, n, channels, ordered) in enumerate(shapes):
        problem = Problem(args, kind, e, n, channels, ordered)
        found = {op: measure(problem, op, args, args.everyone and i == 0) for op in args.ops}
        section = report(f"{title} (E = {e:,}, S = {n:,})", found, limits(problem, args))
        if i == 0:
            plot(found, args.out / "segment_ops.png")
            if args.device == "cpu":
                section += "\n" + memory(problem, [op for op in args.ops if op != "sum"])
        print(section, flush=True)
        text += section + "\n"
        (args.out / "segment_ops.md").write_text(text)


if __name__ == "__main__":
    main()
