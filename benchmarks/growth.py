"""Time per element from ten thousand to ten million elements, and one huge bag against many small ones.

    python benchmarks/growth.py --quick
    python benchmarks/growth.py --memory kept

Ten million elements take 2.5 GB, and so does their gradient, which the system hands out anew in each step: on
the wall clock of a virtual machine that varies more than the kernels do. With ``--memory kept`` the
process keeps what it has.
"""

from __future__ import annotations

import argparse

import matplotlib
import torch
from _common import in_turn, keep_memory, machine, make_parser, prepare, table, warmed
from _scripts import run as run_script

from graphpool import Segments, ops

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import NullFormatter  # noqa: E402

CHANNELS, BAG = 64, 16


def steps(x: torch.Tensor, segments: Segments) -> dict:
    """Forward and backward of the ops whose growth is measured."""
    x.requires_grad_()
    t = x.new_tensor(1.0).requires_grad_()
    p = x.new_tensor(2.0).requires_grad_()
    grad = torch.ones(segments.num_segments, x.shape[1], device=x.device)

    def step(run, *inputs):
        return lambda: torch.autograd.grad(run(), inputs, grad)

    return {
        "softmax": step(lambda: ops.segment_softpool(x, segments, t), x, t),
        "power": step(lambda: ops.segment_power(x, segments, p, 0.5), x, p),
        "max": step(lambda: ops.segment_max(x, segments), x),
        "mean": step(lambda: ops.segment_mean(x, segments), x),
    }


def growth(args: argparse.Namespace) -> tuple[list[int], dict[str, list[float]]]:
    sizes = [10_000, 100_000] if args.quick else args.sizes
    found: dict[str, list[float]] = {}
    for elements in sizes:
        x = torch.rand(elements, CHANNELS, device=args.device) + 0.1
        index = torch.randint(elements // BAG, (elements,)).sort()[0].to(args.device)
        times = in_turn(steps(x, warmed(index, elements // BAG)), args)
        for name, value in times.items():
            found.setdefault(name, []).append(1e6 * value / elements)
    return sizes, found


def one_bag(args: argparse.Namespace) -> list[list[str]]:
    elements = 50_000 if args.quick else 1_000_000
    x = torch.rand(elements, CHANNELS, device=args.device) + 0.1
    many = torch.randint(elements // BAG, (elements,)).sort()[0].to(args.device)
    small = steps(x, warmed(many, elements // BAG))
    huge = steps(x, warmed(torch.zeros_like(many), 1))
    rows = []
    for name in small:
        times = in_turn({"small": small[name], "huge": huge[name]}, args)
        ratio = times["huge"] / times["small"]
        rows.append([name, f"{times['small']:.0f}", f"{times['huge']:.0f}", f"{ratio:.2f}"])
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    sizes = [10_000, 100_000, 1_000_000, 10_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="numbers of elements")
    parser.add_argument("--memory", choices=["fresh", "kept"], default="fresh")
    args = parser.parse_args()
    if args.memory == "kept":
        keep_memory()
    prepare(args)
    sizes, found = growth(args)
    rows = [[name, *(f"{value:.0f}" for value in values)] for name, values in found.items()]
    headers = ["ns per element, forward + backward", *(f"E = {size:,}" for size in sizes)]
    bags = ["forward + backward, ms", f"bags of {BAG}", "one bag", "ratio"]
    text = (
        f"## Growth\n\n{machine(args)}; C = {CHANNELS}, bags of {BAG} on average, {args.memory} memory\n\n"
        f"{table(headers, rows)}\n\n{table(bags, one_bag(args))}\n"
    )
    print(text)
    (args.out / "growth.md").write_text(text)
    fig, ax = plt.subplots(figsize=(6, 3.6))
    for name, values in found.items():
        ax.loglog(sizes, values, marker="o", label=name)
    ticks = [10, 20, 50, 100, 200]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("elements")
    ax.set_ylabel("ns per element")
    ax.set_title(f"Forward + backward, {CHANNELS} channels")
    ax.legend(frameon=False)
    fig.tight_layout()
    fig.savefig(args.out / "growth.png", dpi=120)


if __name__ == "__main__":
    run_script(main)
