"""Every pool of the catalogue beside ``attsets``: one step forward and backward.

    python benchmarks/catalogue.py --quick
    python benchmarks/catalogue.py isab slots        # some of them; results are added to those in --out

Pools have their default arguments, and take turns with ``attsets`` in one process on the same elements. The
multiply-adds in products of matrices are counted, too: where they make the time, no code could save it.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import statistics
from collections.abc import Callable

import matplotlib
import torch
from _common import machine, make_parser, prepare, table, timed
from _scripts import run as run_script
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from graphpool import Segments, aggr

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

REFERENCE, LIMIT = "attsets", 4.0
# Seconds of one pool, after a first step; a pool that takes longer has one step.
PATIENCE = 3.0
# Pools whose cost grows faster than their bags, in elements.
FEWER = {"ward": 16_000, "isqrt_cov": 40_000}
ARGUMENTS = {"pyramid": {"pos_dim": 3}, "midam_attention": {"num_outputs": 64}}


class Problem:
    """Elements in bags of random sizes, the same for all pools."""

    def __init__(self, elements: int, args: argparse.Namespace) -> None:
        generator = torch.Generator().manual_seed(args.seed)
        bags = elements // args.bag
        index = torch.randint(bags, (elements,), generator=generator).sort()[0]
        self.segments = Segments(index=index.to(args.device), num_segments=bags)
        self.segments.ptr, self.segments.perm, self.segments.counts  # noqa: B018
        x = torch.randn(elements, args.channels, generator=generator)
        self.x = x.to(args.device).requires_grad_()
        self.device = args.device

    def step(self, name: str) -> Callable[[], None]:
        torch.manual_seed(0)
        arguments = ARGUMENTS.get(name, {})
        pool = aggr.resolve(name, channels=self.x.size(1), **arguments).to(self.device)
        inputs = [self.x, *(p for p in pool.parameters() if p.requires_grad)]

        def run() -> None:
            y: Tensor | tuple = pool(self.x, self.segments)
            y = y[0] if isinstance(y, tuple) else y
            for each in inputs:
                each.grad = None
            y.backward(torch.ones_like(y))

        return run


def multiply_adds(problem: Problem, name: str) -> float:
    """Multiply-adds in products of matrices, forward and backward, for each element."""
    with FlopCounterMode(display=False) as counter:
        problem.step(name)()
    return counter.get_total_flops() / 2 / problem.x.size(0)


def measure(problem: Problem, name: str, args: argparse.Namespace) -> tuple[float, float]:
    """Median milliseconds of the pool and of the reference, in turn."""
    steps = [problem.step(name), problem.step(REFERENCE)]
    # The first step warms up.
    first = max(timed(run, args) for run in steps)
    repeats = min(args.repeats, max(1, int(1e3 * PATIENCE / first)))
    times = [[timed(run, args) for run in steps] for _ in range(repeats)]
    gc.collect()
    own, reference = zip(*times, strict=True)
    return statistics.median(own), statistics.median(reference)


def plot(results: dict[str, dict], path: str) -> None:
    names = sorted(results, key=lambda name: results[name]["ratio"])
    figure, axes = plt.subplots(figsize=(6, 0.2 * len(names) + 1))
    axes.barh(names, [results[n]["ratio"] for n in names], color="C0", label="time")
    axes.plot(
        [max(results[n]["products"], 0.03) for n in names],
        names,
        "k|",
        label="multiply-adds in products of matrices",
    )
    axes.axvline(LIMIT, color="grey", linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel(f"in units of {REFERENCE} (dotted: {LIMIT:g})")
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def report(results: dict[str, dict]) -> str:
    rows = [
        [
            f"`{name}`",
            f"{r['elements'] // 1000}k",
            f"{r['ms']:.0f} ms",
            f"{r['ratio']:.1f}",
            f"{r['products']:.1f}" if r["products"] else "",
            aggr.lookup(name).complexity,
            ", ".join(f"{k}={v}" for k, v in r["arguments"].items()),
        ]
        for name, r in sorted(results.items(), key=lambda item: item[1]["ratio"])
    ]
    headers = ["pool", "elements", "time", "ratio", "products", "complexity", "arguments"]
    return table(headers, rows)


def numbers(name: str) -> dict[str, int]:
    """The numbers among the default arguments, and what is given here."""
    parameters = inspect.signature(aggr.lookup(name).__init__).parameters
    found = {
        key: p.default
        for key, p in parameters.items()
        if isinstance(p.default, int) and not isinstance(p.default, bool) and key != "seed"
    }
    found.update(ARGUMENTS.get(name, {}))
    return {key: value for key, value in found.items() if value or key in ARGUMENTS.get(name, {})}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("names", nargs="*", help="pools; all if none")
    parser.add_argument(
        "--elements", type=int, help="default: 800,000, fewer for the slowest pools"
    )
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--bag", type=int, default=16, help="mean size of a bag")
    args = parser.parse_args()
    if args.quick:
        args.elements, args.repeats = 4_000, 1
    prepare(args)
    file = args.out / "catalogue.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    small = Problem(args.bag * 500, args)
    unit = multiply_adds(small, REFERENCE)
    problems: dict[int, Problem] = {}
    for name in tqdm(args.names or aggr.names()):
        elements = args.elements or FEWER.get(name, 800_000)
        if elements not in problems:
            problems[elements] = Problem(elements, args)
        problem = problems[elements]
        milliseconds, reference = measure(problem, name, args)
        results[name] = {
            "ms": milliseconds,
            "ratio": milliseconds / reference,
            "products": multiply_adds(small, name) / unit,
            "elements": elements,
            "arguments": numbers(name),
        }
        tqdm.write(f"{name:18s} {milliseconds:9.1f} ms {results[name]['ratio']:6.1f}")
        file.write_text(json.dumps(results, indent=1))
    print(machine(args))
    print(report(results))
    (args.out / "catalogue.md").write_text(report(results) + "\n")
    plot(results, str(args.out / "catalogue.png"))


if __name__ == "__main__":
    run_script(main)
