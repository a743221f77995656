"""Every registered pool in reads of its input, beside the floor that memory or matrix products set.

    python benchmarks/reads.py --quick
    python benchmarks/reads.py                          # every pool, bags of 16
    python benchmarks/reads.py --shapes all --pools sum softmax gnp
    python benchmarks/reads.py --fresh                  # forget what an earlier run measured

A *read* is the time of adding up all numbers of ``x`` once, here and now. The forward pass is given in
reads, both passes together in nanoseconds for each element, which is a row of ``x``. No pool can be faster
than its *floor*: forward a read, both passes a read and a copy (``x`` is read again, its gradient written);
or, where that takes longer, the multiply-adds in its products of matrices at the rate of one large product.
*Share* is the floor over the time. Each pool and shape is saved when it is measured, and a run that was
stopped goes on from there.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
import torch
from _common import bags, in_turn, machine, make_parser, prepare, table, timed, warmed
from _scripts import run as run_script
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from graphpool import aggr

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

# Seconds for one pass of one pool; a pool that takes longer has one repetition.
PATIENCE = 2.0
# Pools whose cost grows faster than their bags, in elements.
FEWER = {"ward": 16_000, "isqrt_cov": 40_000}
ARGUMENTS = {"pyramid": {"pos_dim": 3}, "midam_attention": {"num_outputs": 64}}
# Without products of matrices and with one pass: what other shapes are measured for unless asked.
COLUMNWISE = [
    "sum",
    "mean",
    "max",
    "min",
    "var",
    "std",
    "multi",
    "softmax",
    "logsumexp",
    "powermean",
]
COLUMNWISE += ["gem", "gnp", "median", "quantile", "kmax"]


@dataclass(frozen=True)
class Shape:
    """``kind`` as in ``_common.bags``; ``order``: of the index, ``"gathered"`` for rows read in place."""

    elements: int = 400_000
    per_bag: int = 16
    channels: int = 64
    kind: str = "many"
    order: str = "sorted"


SHAPES = {
    "bags of 16": Shape(),
    "bags of 1,000": Shape(per_bag=1_000),
    "power law": Shape(kind="power"),
    "four bags": Shape(per_bag=100_000, kind="few"),
    "C = 16": Shape(channels=16),
    "C = 256": Shape(elements=100_000, channels=256),
    "unsorted": Shape(order="unsorted"),
    "gathered": Shape(order="gathered"),
    "E = 10^5": Shape(elements=100_000),
    "E = 10^6": Shape(elements=1_000_000),
    "E = 10^7": Shape(elements=10_000_000, channels=16),
}


class Problem:
    """Elements in bags of random sizes, the same for all pools, and what memory and products cost."""

    def __init__(self, shape: Shape, elements: int, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        count = max(1, elements // shape.per_bag)
        index = bags(shape.kind, elements, count, shape.order != "unsorted").to(args.device)
        self.segments = warmed(index, count)
        self.segments.counts  # noqa: B018
        rows, self.gather = elements, None
        if shape.order == "gathered":
            rows = elements // 8
            self.gather = torch.randint(rows, (elements,)).to(args.device)
        self.x = torch.randn(rows, shape.channels).to(args.device).requires_grad_()
        self.elements, self.device = elements, args.device
        x = self.x.detach()
        matrix, other = torch.randn(shape.channels, shape.channels).to(args.device), x.clone()
        limits = in_turn(
            {
                "read": lambda: x.sum(),
                "copy": lambda: other.copy_(x),
                "product": lambda: torch.mm(x, matrix, out=other),
            },
            args,
        )
        scale = elements / rows
        self.read, self.copy = limits["read"] * scale, limits["copy"] * scale
        self.rate = rows * shape.channels**2 / limits["product"]

    def passes(self, name: str) -> tuple[Callable[[], Any], ...]:
        """The forward pass without gradients and with them, and both passes."""
        torch.manual_seed(0)
        pool = aggr.resolve(name, channels=self.x.size(1), **ARGUMENTS.get(name, {}))
        pool = pool.to(self.device)
        inputs = [self.x, *(p for p in pool.parameters() if p.requires_grad)]
        where = {} if self.gather is None else {"gather": self.gather}

        def pooled() -> Tensor:
            y: Tensor | tuple = pool(self.x, self.segments, **where)
            return y[0] if isinstance(y, tuple) else y

        def forward() -> Tensor:
            pool.eval()
            with torch.no_grad():
                return pooled()

        grad = torch.rand_like(forward())

        def both() -> None:
            pool.train()
            for each in inputs:
                each.grad = None
            pooled().backward(grad)

        return forward, pooled, both


def multiply_adds(run: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


def median(run: Callable[[], Any], args: argparse.Namespace) -> float:
    first = timed(run, args)
    repeats = min(args.repeats, max(1, int(1e3 * PATIENCE / first)))
    return statistics.median(timed(run, args) for _ in range(repeats))


def measure(problem: Problem, name: str, args: argparse.Namespace) -> dict[str, float]:
    forward, pooled, both = problem.passes(name)
    read, copy = problem.read, problem.copy
    found: dict[str, Any] = {"elements": problem.elements, "read": read}
    # The counter's hooks want gradients.
    passes = ("forward", forward, pooled, read), ("both", both, both, read + copy)
    for what, run, counted, floor in passes:
        products = multiply_adds(counted) / problem.rate
        found |= {what: median(run, args), f"{what} floor": max(floor, products)}
        found[f"{what} bound"] = "products" if products > floor else "memory"
    return found


def report(shape: str, results: dict[str, dict]) -> str:
    s, read = SHAPES[shape], statistics.median(r["read"] for r in results.values())
    elements = max(r["elements"] for r in results.values())
    rows = []
    for name, r in sorted(results.items(), key=lambda item: item[1]["both"] / item[1]["elements"]):
        cells = [f"`{name}`", f"{r['forward'] / r['read']:.1f}"]
        cells.append(f"{1e6 * r['both'] / r['elements']:,.0f}")
        for what in ("forward", "both"):
            share = 100 * r[f"{what} floor"] / r[what]
            cells.append(f"{share:.0f} %" + (" *" if r[f"{what} bound"] == "products" else ""))
        few = r["elements"] < elements
        rows.append([*cells, f"{r['elements'] // 1000}k" if few else ""])
    of = "four bags" if s.kind == "few" else f"bags of {s.per_bag:,} on average"
    law = ", sizes by a power law" if s.kind == "power" else ""
    headers = ["pool", "forward, reads", "both, ns per element"]
    headers += ["share of the floor, forward", "both", "fewer elements"]
    return (
        f"### {shape}\n\nE = {elements:,}, C = {s.channels}, {of}{law}, {s.order}; a read takes "
        f"{read:.1f} ms.\n\n{table(headers, rows)}\n"
    )


def plot(results: dict[str, dict], path: str) -> None:
    names = sorted(results, key=lambda name: results[name]["forward"] / results[name]["read"])[::-1]
    figure, axes = plt.subplots(figsize=(6, 0.2 * len(names) + 1))
    reads = [results[n]["forward"] / results[n]["read"] for n in names]
    floors = [results[n]["forward floor"] / results[n]["read"] for n in names]
    axes.barh(names, reads, color="C0", label="time")
    axes.plot(floors, names, "k|", label="floor: memory, or products of matrices")
    axes.set_xscale("log")
    axes.set_xlim(left=0.8)
    axes.set_xlabel("forward pass, in reads of the input")
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=7, loc="upper right")
    axes.margins(y=0.01)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--shapes", nargs="+", default=["bags of 16"], help=f"all, or {[*SHAPES]}")
    parser.add_argument("--pools", nargs="+", help="default: all; those without matrices elsewhere")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --out")
    args = parser.parse_args()
    shapes = [*SHAPES] if args.shapes == ["all"] else args.shapes
    if unknown := [*set(shapes) - set(SHAPES)]:
        parser.error(f"--shapes: no shape {unknown[0]!r}; there are {', '.join(SHAPES)}")
    if args.quick:
        args.repeats = 1
    prepare(args)
    file = args.out / "reads.json"
    kept = json.loads(file.read_text()) if file.exists() and not args.fresh else {}
    for shape in shapes:
        s, results = SHAPES[shape], kept.setdefault(shape, {})
        pools = args.pools or (aggr.names() if shape == "bags of 16" else COLUMNWISE)
        sizes = {
            n: 4_000 if args.quick else min(s.elements, FEWER.get(n, s.elements)) for n in pools
        }
        todo = sorted(
            (n for n in pools if n not in results), key=lambda n: (sizes[n], pools.index(n))
        )
        problem = None
        for name in tqdm(todo, desc=shape):
            if problem is None or problem.elements != sizes[name]:
                problem = Problem(s, sizes[name], args)
            results[name] = measure(problem, name, args)
            gc.collect()
            if not args.quick:
                file.write_text(json.dumps(kept, indent=1))
    print(machine(args))
    text = "\n".join(report(shape, kept[shape]) for shape in shapes)
    print(text)
    (args.out / "reads.md").write_text(f"{machine(args)}\n\n{text}")
    plot(kept[shapes[0]], str(args.out / "reads.png"))


if __name__ == "__main__":
    run_script(main)
