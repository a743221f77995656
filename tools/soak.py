"""Random ops on random bags for as long as one likes, against a float64 reference; memory must stay flat.

python tools/soak.py --minutes 30
"""

from __future__ import annotations

import argparse
import gc
import inspect
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import graphpool
from graphpool import Segments
from graphpool.testing.ops import segment_functions

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
Options = dict[str, Tensor]


def _rows(x: Tensor, options: Options) -> tuple[Tensor, Options]:
    """The elements themselves, for ops that read no rows in place."""
    rest = dict(options)
    gather = rest.pop("gather", None)
    if gather is None:
        return x, rest
    # Back again, rows that are read often add up what they get: not in half precision.
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return wide[gather].to(x.dtype), rest


OPS = segment_functions()


def resident_mib() -> float:
    """Memory held by the process, in MiB."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def case(generator: torch.Generator) -> tuple[Tensor, Segments, Options]:
    """Random elements, bags and options."""

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    bags, elements = number(1, 200), number(0, 5000)
    shape = ((), (1,), (3,), (16,), (64,), (2, 8))[number(0, 6)]
    index = torch.randint(0, bags, (elements,), generator=generator)
    form = number(0, 3)
    if form == 0:
        segments = Segments(index=index, num_segments=bags)
    elif form == 1:
        segments = Segments(index=index.sort().values, num_segments=bags)
    else:
        segments = Segments.from_counts(torch.bincount(index, minlength=bags))
    options: Options = {}
    if number(0, 3) == 0:
        options["weight"] = torch.randint(0, 4, (elements,), generator=generator)
    rows = elements
    if number(0, 3) == 0 and elements:
        rows = number(1, elements + 1)
        options["gather"] = torch.randint(0, rows, (elements,), generator=generator)
    dtype = list(TOLERANCE)[number(0, 4)]
    x = torch.randn(rows, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return x, segments, options


def deviation(name: str, x: Tensor, segments: Segments, options: Options) -> float:
    """Largest deviation of value and gradient from the composed float64 form, relative to its scale."""
    op, takes = OPS[name], inspect.signature(OPS[name]).parameters
    if "gather" not in takes:
        x, options = _rows(x, options)
        x = x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)  # some take matrices alone
    options = {option: value for option, value in options.items() if option in takes}
    leaf = x.clone().requires_grad_()
    y = op(leaf, segments, **options)
    # Different everywhere: a constant would hide what softmax-like derivatives do.
    grad = torch.arange(y.numel(), dtype=torch.float64).cos().view(y.shape).to(y.dtype)
    with graphpool.use_backend("torch"):
        exact = x.double().requires_grad_()
        reference = op(exact, segments, **options)
        (expected,) = torch.autograd.grad(reference, exact, grad.double())
    (found,) = torch.autograd.grad(y, leaf, grad)
    worst = 0.0
    for a, b in ((y, reference), (found, expected)):
        if a.numel():
            gap = (a.detach().double() - b.detach()).abs() / (1 + b.detach().abs())
            worst = max(worst, float(gap.max()) if not gap.isnan().any() else float("inf"))
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", type=float, default=64.0, help="MiB that memory may grow")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder for the report")
    arguments = parser.parse_args()

    generator = torch.Generator().manual_seed(arguments.seed)
    names = list(OPS)
    counts: Counter[str] = Counter()
    worst: dict[torch.dtype, float] = dict.fromkeys(TOLERANCE, 0.0)
    start = time.monotonic()
    settled = None
    first = resident_mib()
    with tqdm(total=round(60 * arguments.minutes), unit="s") as bar:
        while (elapsed := time.monotonic() - start) < 60 * arguments.minutes:
            name = names[sum(counts.values()) % len(names)]
            x, segments, options = case(generator)
            gap = deviation(name, x, segments, options)
            counts[name] += 1
            worst[x.dtype] = max(worst[x.dtype], gap)
            if gap > TOLERANCE[x.dtype]:
                print(
                    f"{name} deviates by {gap:.2e}: {x.shape}, {x.dtype}, {segments}, {list(options)}"
                )
                return 1
            # Compiled kernels and allocator pools are in place after the first tenth.
            if settled is None and elapsed > 6 * arguments.minutes:
                gc.collect()
                settled = resident_mib()
            bar.update(round(elapsed) - bar.n)
    gc.collect()
    last = resident_mib()
    growth = last - (settled or first)
    report = [
        f"{sum(counts.values())} calls of {len(counts)} ops in {arguments.minutes:g} minutes",
        f"memory: {first:.0f} MiB at the start, {settled or first:.0f} after the first tenth, "
        f"{last:.0f} at the end",
    ]
    report += [
        f"  {str(dtype).removeprefix('torch.'):9} largest deviation {gap:.1e}"
        for dtype, gap in worst.items()
    ]
    print("\n".join(report))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "soak.txt").write_text("\n".join(report) + "\n")
    return 1 if growth > arguments.growth else 0


if __name__ == "__main__":
    sys.exit(main())
