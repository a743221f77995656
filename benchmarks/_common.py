"""Timing, memory and shapes for the benchmarks of the segment operations."""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphpool import Segments

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from _scripts import ScriptParser  # noqa: E402


def make_parser(doc: str | None) -> ScriptParser:
    """A parser that shows the script's own text, with what every benchmark of operations takes."""
    parser = ScriptParser(doc)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu", "user"],
        default="wall",
        help="on a machine that others use too: cpu, the processor time of all threads; user, without "
        "what the system spends on handing out memory",
    )
    return parser


def prepare(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)


def keep_memory() -> None:
    """Has the C library (glibc) keep what is freed instead of giving it back to the system.

    The allocators that PyTorch recommends for CPUs, jemalloc and tcmalloc, do so by themselves.
    """
    never_map, trim = -4, -1
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(never_map, 0) and libc.mallopt(trim, -1)):
        raise RuntimeError("the C library does not keep memory on demand: leave out --memory kept")


def record(
    args: argparse.Namespace, key: str, unit: str, ours: float, rival: str = "", theirs: float = 0.0
) -> None:
    """Keeps one measurement in ``measured.json`` of the output folder, which README's table is made of.

    ``tools/readme_table.py`` takes the file over into the documentation. Nothing is kept of ``--quick``.
    """
    if args.quick:
        return
    file = args.out / "measured.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    kept[key] = {"unit": unit, "graphpool": ours} | (
        {"rival": rival, "instead": theirs} if rival else {}
    )
    file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], args: argparse.Namespace) -> float:
    """Milliseconds of one call by the clock of ``--clock``."""
    clock = {"wall": time.perf_counter, "cpu": time.process_time, "user": _user_time}[args.clock]
    synchronise(args.device)
    start = clock()
    run()
    synchronise(args.device)
    return 1e3 * (clock() - start)


def in_turn(rivals: dict[str, Callable[[], Any]], args: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds of each rival; all are run in turn, so that a busy moment hits all alike.

    In its turn a rival runs twice and the second counts: in a training loop a step follows itself, and
    finds the memory that it gave back a moment ago.
    """
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(args.repeats):
        for name, run in rivals.items():
            run()
            times[name].append(timed(run, args))
    return {name: statistics.median(found) for name, found in times.items()}


def _user_time() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def peak_extra_memory(run: Callable[[], Any]) -> float:
    """MiB of resident memory that ``run`` needs at its peak, beyond what is resident before (Linux)."""
    status = Path("/proc/self/status")
    run()

    def read(key: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(key))
        return int(line.split()[1])

    before = read("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run()
    return (read("VmHWM") - before) / 1024


def bags(kind: str, elements: int, count: int, ordered: bool = True) -> Tensor:
    """An index ``[E]``: ``"many"`` small bags, ``"few"`` huge ones, or ``"power"``-law sizes."""
    if kind == "power":
        sizes = torch.rand(count).pow(-1 / 1.5)
        index = torch.multinomial(sizes / sizes.sum(), elements, replacement=True)
    else:
        index = torch.randint(count, (elements,))
    return index.sort()[0] if ordered else index


def warmed(index: Tensor, count: int) -> Segments:
    """Bags whose order is known already, as in the second layer or the second epoch of a network."""
    segments = Segments(index=index, num_segments=count)
    segments.ptr, segments.perm, segments.index  # noqa: B018
    return segments


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def machine(args: argparse.Namespace) -> str:
    """The line that says where numbers come from."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = found[0].partition(":")[2].strip() if found else name
    if args.device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    return (
        f"{time.strftime('%Y-%m-%d')}, {name}, {args.threads} threads, torch {torch.__version__}, "
        f"{args.clock} time, load {_load()}"
    )


def _load() -> str:
    loads = Path("/proc/loadavg")
    return loads.read_text().split()[0] if loads.exists() else "unknown"
