"""Bags that do not fit into memory: pooled in pieces, trained through, shared, stopped and resumed.

python examples/streaming.py                      # all parts, small
python examples/streaming.py --parts memory --elements 1000000000
python examples/streaming.py --parts digits --patches 100000 --seconds 600
python examples/streaming.py --parts window errors --steps 10000000 --merges 10000000 --lidar sweep.bin
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from _common import format_table, make_parser, out_dir
from _scripts import run as run_script
from _streaming_digits import compare
from _streaming_jobs import CHANNELS, POOLS, ROWS, generated
from _streaming_numbers import fixed_point, merged_one_by_one, ranges, windows
from torch import nn
from tqdm import tqdm

import graphpool
from graphpool import aggr
from graphpool.states import Window, average_gradients

PARTS = ("memory", "digits", "shards", "window", "errors", "restart")
FORMATS = {
    "float32": {"dtype": torch.float32},
    "float32, compensated": {"dtype": torch.float32, "compensated": True},
    "float64": {},
    "float64, compensated": {"compensated": True},
    "int64, fixed point": {},
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run"
    )
    parser.add_argument("--elements", type=int, default=4_000_000, help="of the largest stream")
    parser.add_argument(
        "--train-elements", type=int, default=100_000, help="of the largest bag trained on"
    )
    parser.add_argument("--patches", type=int, default=5000, help="of a bag of digits")
    parser.add_argument("--bags", type=int, default=60, help="of digits, to train on")
    parser.add_argument("--test-bags", type=int, default=20, help="of digits, to test on")
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="of the processor, to train each method and seed on digits",
    )
    parser.add_argument("--sample", type=int, default=100, help="patches of a sample")
    parser.add_argument("--seeds", type=int, default=1, help="of training on digits")
    parser.add_argument("--processes", type=int, nargs="+", default=[2], help="to compare with one")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the window")
    parser.add_argument("--lidar", type=Path, help="a sweep of KITTI (.bin) for the window")
    parser.add_argument(
        "--merges", type=int, default=1_000_000, help="most merges whose error is measured"
    )
    args = parser.parse_args(arguments)
    if args.quick:
        args.elements, args.train_elements, args.patches, args.seconds = 300_000, 40_000, 500, 0.5
        args.bags, args.test_bags, args.steps, args.merges = 10, 10, 60_000, 30_000
    return args


def run_job(name: str, count: int) -> dict:
    command = [
        sys.executable,
        str(Path(__file__).with_name("_streaming_jobs.py")),
        name,
        str(count),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- parts -------------------------------------------------------------------------------------------


def memory(args: argparse.Namespace) -> None:
    made = run_job("make", args.elements)
    rows = [["made and read", f"{made['peak']:.0f} MB", f"{made['seconds']:.1f} s", ""]]
    for name in (*POOLS, "all"):
        found = run_job(name, args.elements)
        share = 100 * made["seconds"] / found["seconds"]
        rows.append(
            [name, f"{found['peak']:.0f} MB", f"{found['seconds']:.1f} s", f"{share:.0f} %"]
        )
    size = f"{args.elements:,} x {CHANNELS} numbers, {args.elements * CHANNELS * 4e-9:.2f} GB"
    headers = ["made and pooled by", "peak memory", "time", "speed"]
    print(f"\n{size}\n{format_table(rows, headers)}")
    sizes = [args.train_elements // 10, args.train_elements // 3, args.train_elements]
    found = {
        name: [run_job(name, n) for n in tqdm(sizes, desc=name, leave=False)]
        for name in ("full", "stream")
    }
    rows = [
        [f"{n:,}", *(f"{found[k][i]['peak']:.0f} MB, {found[k][i]['seconds']:.1f} s" for k in found),
         f"{abs(found['full'][i]['slope'] / found['stream'][i]['slope'] - 1):.0e}"]
        for i, n in enumerate(sizes)
    ]  # fmt: skip
    headers = ["elements", "all at once", "in pieces", "gradients apart"]
    print(f"\nan encoder trained through pools\n{format_table(rows, headers)}")
    draw_memory(sizes, found, out_dir(args) / "streaming_memory.png")


def digits(args: argparse.Namespace) -> None:
    rows = compare(args)
    print(
        f"\nwhich of ten digits is most frequent among {args.patches:,} patches, "
        f"{args.seconds:g} s of the processor for training"
    )
    print(format_table(rows, ["trained on", "accuracy", "steps", "most memory so far"]))


def _share_of(rank: int, size: int, folder: str, start: list[int]) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store{size}", rank=rank, world_size=size
    )
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 16), nn.GELU(), nn.Linear(16, 8)).double()
    pool, head = aggr.PMA(8, heads=2).double(), nn.Linear(8, 1).double()
    x = torch.randn(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = x[start[rank] : start[rank + 1]]
    network, losses = nn.ModuleList([encoder, pool, head]), []
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(20):
        y = graphpool.stream(encoder, pool, x.split(256), group=dist.group.WORLD)
        loss = (head(y) - 1).square().sum()
        optimizer.zero_grad()
        loss.backward()
        average_gradients(network.parameters())
        optimizer.step()
        losses.append(loss.item())
    if rank == 0:
        slopes = [p.grad for p in network.parameters()]
        values = [torch.tensor(losses), *slopes, *(p.detach() for p in network.parameters())]
        torch.save(torch.cat([v.double().flatten() for v in values]), f"{folder}/{size}.pt")
    dist.destroy_process_group()


def shards(args: argparse.Namespace) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (1, *args.processes):
            # Shares of 1, 2, 3, ... parts.
            parts = torch.arange(size + 1).cumsum(0)
            start = (2000 * parts // parts[-1]).tolist()
            torch.multiprocessing.start_processes(
                _share_of, (size, folder, start), nprocs=size, start_method="spawn"
            )
            found, alone = (torch.load(f"{folder}/{n}.pt") for n in (size, 1))
            shares = [b - a for a, b in zip(start[:-1], start[1:], strict=True)]
            rows.append([str(size), str(shares), f"{float((found - alone).abs().max()):.0e}"])
    headers = ["processes", "elements of each", "loss, gradients, parameters after 20 steps apart"]
    print(f"\none bag in unequal shards\n{format_table(rows, headers)}")


@torch.no_grad()
def window(args: argparse.Namespace) -> None:
    """Deviations of the last ranges of a sweep, over and over, in which one return is false."""
    width, r = 1000, ranges(args.lidar, seed=args.seed)
    rows = windows(r, width, args.steps)
    headers = ["deviation of a window", "per step", "worst error (m)", "at the end", "none"]
    where = "generated" if args.lidar is None else args.lidar.name
    print(
        f"\nlast {width} of {len(r):,} ranges ({where}), one of them false, {args.steps:,} steps, compiled\n"
        f"{format_table(rows, headers)}"
    )
    pool, queue, x = aggr.Std(), Window(aggr.Std()), torch.from_numpy(r).unsqueeze(1)
    steps, took, apart = min(args.steps, 3 * width), {"two stacks": 0.0, "computed anew": 0.0}, 0.0
    for i in range(steps):
        start = time.process_time()
        queue.push(x[i : i + 1])
        if i >= width:
            queue.pop()
        found = queue.result()
        middle = time.process_time()
        anew = pool(x[max(0, i - width + 1) : i + 1])
        took["two stacks"] += middle - start
        took["computed anew"] += time.process_time() - middle
        apart = max(apart, float(((found - anew).abs() / anew.clamp(min=1e-3)).max()))
    rows = [[name, f"{1e6 * total / steps:.0f} us"] for name, total in took.items()]
    print(f"\nthe same by states, {steps:,} steps; at most {apart:.0e} apart\n"
          f"{format_table(rows, ['window', 'per step'])}")  # fmt: skip


@torch.no_grad()
def errors(args: argparse.Namespace) -> None:
    """The variance of N(100, 1), one element per merge."""
    x = 100 + torch.randn(args.merges, generator=torch.Generator().manual_seed(args.seed))
    powers = {int(10 ** (k / 4)) for k in range(4, 40)}
    at = sorted({n for n in powers if n < args.merges} | {args.merges})
    # NumPy adds in pairs: right to the last digits, where one after the other is not.
    exact = np.array([x[:n].numpy().astype(np.float64).var() for n in at])
    few = [n for n in at if n <= 100]
    curves, apart = {}, 0.0
    for name, kind in tqdm(FORMATS.items(), desc="formats", leave=False):
        v = x.to(kind.get("dtype", torch.float64)).numpy()
        if name == "int64, fixed point":
            found = fixed_point(v, np.array(at), 36)
            state = aggr.Var().begin(1).add(x[: few[-1], None].double()).fixed_point(36)
        else:
            found = merged_one_by_one(v, np.array(at), kind.get("compensated", False))
            state = aggr.Var().begin(1, **kind)
        curves[name] = np.abs(found / exact - 1).tolist()
        for n, piece in enumerate(x[: few[-1], None].split(1), start=1):
            state.add(piece)
            if n in few:
                value = float(state.result(torch.float64)) / exact[at.index(n)] - 1
                apart = max(apart, abs(abs(value) - curves[name][at.index(n)]))
    rows = [
        [name, *(f"{errors[at.index(n)]:.0e}" for n in (at[len(at) // 2], at[-1]))]
        for name, errors in curves.items()
    ]
    headers = ["sums in", f"{at[len(at) // 2]:,} merges", f"{at[-1]:,} merges"]
    print(
        f"\nrelative error of a variance, compiled; those of states differ by at most {apart:.0e} up to "
        f"{few[-1]} merges\n{format_table(rows, headers)}"
    )
    draw_errors(at, curves, out_dir(args) / "streaming_errors.png")


def restart(args: argparse.Namespace) -> None:
    pool = aggr.resolve(["std", "pma", "gnp"], channels=CHANNELS)
    pieces = list(generated(3 * ROWS, seed=args.seed))
    straight, half = pool.begin(1), pool.begin(1)
    for piece in pieces:
        straight.add(piece)
    for piece in pieces[:1]:
        half.add(piece)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state").write_bytes(pickle.dumps(half))
        torch.save(pieces[1:], Path(folder, "rest"))
        code = (
            "import pickle, sys, torch; from pathlib import Path; f = Path(sys.argv[1]);"
            "state = pickle.loads((f / 'state').read_bytes());"
            "[state.add(p) for p in torch.load(f / 'rest')]; torch.save(state.state_dict(), f / 'done')"
        )
        subprocess.run([sys.executable, "-c", code, folder], check=True)
        done = torch.load(Path(folder, "done"))
    same = all(torch.equal(v, done[k]) for k, v in straight.state_dict().items())
    size = len(pickle.dumps(half)) / 1024
    print(f"\nstopped after one of three pieces, {size:.0f} KB pickled, finished by another process: "
          f"{'the same bits' if same else 'OTHER BITS'}")  # fmt: skip
    if not same:
        raise RuntimeError("a state that was stopped and resumed came out different")


def draw_memory(sizes: list[int], found: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, label), colour, marker in zip(
        {"full": "all at once", "stream": "in pieces"}.items(),
        ("#D55E00", "#0072B2"),
        "so",
        strict=True,
    ):
        ax.plot(sizes, [r["peak"] for r in found[name]], color=colour, marker=marker, label=label)
    ax.set(xlabel="elements of the bag", ylabel="peak memory (MB)", xscale="log", ylim=(0, None))
    ax.set_title("training an encoder through a pool")
    ax.legend()
    figure.savefig(path, dpi=120)
    print(path)


def draw_errors(at: list[int], curves: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    colours = ("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73")
    for (name, values), colour, marker in zip(curves.items(), colours, "sov^x", strict=True):
        ax.plot(at, [max(v, 1e-17) for v in values], color=colour, marker=marker, ms=4, label=name)
    ax.set(xlabel="merges", ylabel="relative error", xscale="log", yscale="log")
    ax.set_title("variance of N(100, 1), one element per merge")
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    print(path)


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    parts = {f.__name__: f for f in (memory, digits, shards, window, errors, restart)}
    for name in tqdm(args.parts, desc="parts", disable=len(args.parts) < 2):
        parts[name](args)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_script(main)
