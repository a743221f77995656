"""Everything that wants a GPU, in one run: tests, values, times. No build, no arguments needed.

    PYTHONPATH=. python benchmarks/gpu.py                  # one card, below ten minutes
    PYTHONPATH=. python benchmarks/gpu.py --parts values   # one part
    PYTHONPATH=. python benchmarks/gpu.py --resume         # what is missing or has failed
    PYTHONPATH=. python benchmarks/gpu.py --interpret      # no card: Triton's interpreter, tiny shapes

It needs torch, PyTorch Geometric, Triton and Numba. Each part runs in a process of its own and gets a share
of ``--minutes``; what it does not reach is listed, not forgotten. A failure, a crash or a kernel that hangs
ends its item alone: the part goes on in a new process. ``results.jsonl`` grows with every item;
``gpu.json`` and ``gpu.md`` are made of it. The exit status is 1 if anything failed, 77 without a card.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

if "--interpret" in sys.argv:
    # Read while triton is imported, and by the processes of the parts.
    os.environ["TRITON_INTERPRET"] = "1"

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from _scripts import ScriptParser  # noqa: E402

# Where each part is, and how many of ten minutes it may take.
PARTS = {
    "tests": ("checks", 2.2),
    "opcheck": ("checks", 0.5),
    "conformance": ("checks", 1.4),
    "values": ("checks", 1.2),
    "copy": ("timings", 0.2),
    "searches": ("timings", 0.8),
    "attention": ("timings", 1.3),
    "reductions": ("timings", 1.6),
    "gin": ("timings", 0.5),
    "point_nn": ("timings", 0.3),
}
NO_CARD = 77
Record = dict[str, Any]


def options() -> ScriptParser:
    parser = ScriptParser(__doc__)
    # No device is asked for unless somebody names one: not having a card is no mistake.
    parser.set_defaults(device=None, out=Path("outputs/gpu"))
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument(
        "--interpret", action="store_true", help="on the CPU, by Triton's interpreter"
    )
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--resume", action="store_true", help="keep what has succeeded before")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument(
        "--grace",
        type=float,
        default=60,
        help="seconds beyond its share until an item counts as hanging",
    )
    return parser


def read(file: Path) -> list[Record]:
    """The last word on every item, in the order in which they were first met."""
    found: dict[tuple[str, str], Record] = {}
    for line in file.read_text("utf-8").splitlines() if file.exists() else ():
        record = json.loads(line)
        found[record["part"], record["item"]] = record
    return list(found.values())


def write(file: Path, part: str, item: str, status: str, **more: Any) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps({"part": part, "item": item, "status": status, **more}) + "\n")


def child(args: argparse.Namespace) -> int:
    """The items of one part that no one has started yet; 3 where the device does not answer any more."""
    from _gpu.run import Run

    if args.interpret:
        from _gpu import interpreted

        interpreted.take_over()
    import torch

    size = "interpret" if args.interpret else "quick" if args.quick else "full"
    run = Run("cpu" if args.interpret else args.device, args.seed, size)
    if not args.interpret:
        torch.cuda.set_device(torch.device(args.device))
    log, part = args.out / "results.jsonl", args.child
    met = {r["item"] for r in read(log) if r["part"] == part}
    module = importlib.import_module(f"_gpu.{PARTS[part][0]}")
    for item, call in getattr(module, part)(run):
        if item in met:
            continue
        if time.time() > args.until:
            write(log, part, item, "not reached")
            continue
        print(f"{part}: {item}", flush=True)
        write(log, part, item, "started")
        torch.manual_seed(args.seed)
        start = time.time()
        try:
            found = call()
        except Exception as error:
            said = f"{type(error).__name__}: {error}".strip()[:2000]
            where = traceback.format_exc()[-3000:]
            write(log, part, item, "failed", said=said, trace=where)
            print(f"  FAILED {said.splitlines()[0]}", flush=True)
            if "CUDA error" in said or "AcceleratorError" in said:
                return 3
        else:
            write(log, part, item, "ok", seconds=time.time() - start, found=found)
            shown = ", ".join(f"{k} {show(v)}" for k, v in found.items())
            print(f"  {shown}" if shown else "  ok", flush=True)
    return 0


def run_process(command: list[str], limit: float) -> int | None:
    """The exit status; ``None`` if the process, and whatever it has started, had to be ended."""
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def conduct(args: argparse.Namespace) -> None:
    """Runs the parts, each in processes of its own, until all of its items have been met."""
    log = args.out / "results.jsonl"
    end, left = time.time() + 60 * args.minutes, dict.fromkeys(args.parts)
    command = [sys.executable, str(Path(__file__).resolve())]
    command += [] if args.interpret else ["--device", args.device]
    command += ["--seed", str(args.seed), "--out", str(args.out)]
    command += ["--quick"] * args.quick + ["--interpret"] * args.interpret
    for part in args.parts:
        # What a part does not use is there for those that follow.
        share = PARTS[part][1] / sum(PARTS[p][1] for p in left)
        until = time.time() + max(share * (end - time.time()), 20)
        del left[part]
        for _ in range(20):
            limit = max(until - time.time(), 0) + args.grace
            status = run_process([*command, "--child", part, "--until", str(until)], limit)
            said = f"the process ended with {status}"
            if status is None:
                said = f"ended after {limit:.0f} s, in which the part did not come to an end"
            begun = [r for r in read(log) if r["part"] == part and r["status"] == "started"]
            for record in begun:
                write(log, part, record["item"], "failed", said=said)
            if status == 0:
                break
            if status != 3 and not begun:
                write(log, part, "(the part itself)", "failed", said=said)
                break
        else:
            write(log, part, "(the part itself)", "failed", said="given up after twenty processes")


def show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)


def shares(records: list[Record]) -> None:
    """Adds to each reduction what it moves, as a share of what a copy on the device moves."""
    speeds = [r["found"]["GB/s"] for r in records if r["part"] == "copy" and r["status"] == "ok"]
    for record in records:
        found = record.get("found", {})
        ms = found.get("forward: graphpool ms")
        if speeds and "forward bytes" in found and isinstance(ms, float):
            moved = found.pop("forward bytes") / ms / 1e6
            found["forward: share of a copy"] = moved / speeds[0]


def report(args: argparse.Namespace, where: str) -> int:
    records = read(args.out / "results.jsonl")
    shares(records)
    bad = [r for r in records if r["status"] == "failed"]
    missed = [r for r in records if r["status"] == "not reached"]
    lines = ["# On a GPU", "", where, ""]
    for part in PARTS:
        mine = [r for r in records if r["part"] == part]
        if not mine:
            continue
        ok = [r for r in mine if r["status"] == "ok"]
        lines += [f"## {part}", "", f"{len(ok)} of {len(mine)} items succeeded.", ""]
        columns = list(dict.fromkeys(key for r in ok for key in r["found"]))
        if columns:
            lines += ["| item | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
            for r in ok:
                cells = [show(r["found"].get(key)).replace("|", "/") for key in columns]
                lines.append(f"| {r['item']} | " + " | ".join(cells) + " |")
            lines.append("")
    if missed:
        lines += [
            "## Not reached in time",
            "",
            *(f"- {r['part']}: {r['item']}" for r in missed),
            "",
        ]
    lines += ["## Failures", ""]
    lines += [f"- {r['part']}: {r['item']}: {r['said']}" for r in bad] or ["None."]
    (args.out / "gpu.md").write_text("\n".join(lines) + "\n", "utf-8")
    kept = {"where": where, "seed": args.seed, "records": records}
    (args.out / "gpu.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    print("\n" + "\n".join(lines))
    print(f"\nwritten to {args.out}/gpu.md and gpu.json")
    return 1 if bad else 0


def described(args: argparse.Namespace) -> str:
    import torch
    import torch_geometric
    import triton

    versions = (
        f"torch {torch.__version__}, PyG {torch_geometric.__version__}, Triton {triton.__version__}"
    )
    name = "Triton's interpreter: no figure here says anything of a GPU"
    if not args.interpret:
        card = torch.cuda.get_device_properties(args.device)
        name = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    kind = "quick sizes, " if args.quick else ""
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {name}, {versions}, {kind}seed {args.seed}."


def main() -> int:
    args = options().parse_args()
    args.device = args.device or "cuda"
    if args.child:
        return child(args)
    import torch

    if not args.interpret and not torch.cuda.is_available():
        print(
            "There is no CUDA device here, so nothing was run. --interpret tries the script without."
        )
        return NO_CARD
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "results.jsonl"
    kept = [r for r in read(log) if args.resume and r["status"] == "ok"]
    log.write_text("".join(json.dumps(r) + "\n" for r in kept), "utf-8")
    where = described(args)
    print(where, flush=True)
    conduct(args)
    return report(args, where)


if __name__ == "__main__":
    sys.exit(main())
