"""Random ops on random bags for as long as one likes, against a float64 reference; memory must stay flat.

python tools/soak.py --minutes 30
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import graphpool
from graphpool import Segments, ops

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
OPS = {
    "sum": lambda x, s, **k: ops.segment_sum(x, s, **k),
    "mean": lambda x, s, **k: ops.segment_mean(x, s, **k),
    "max": lambda x, s, **k: ops.segment_max(x, s, **k),
    "var": lambda x, s, **k: ops.segment_var(x, s, **k),
    "moments": lambda x, s, **k: torch.cat(ops.segment_moments(x, s, ("mean", "min", "var"), **k)),
    "logsumexp": lambda x, s, **k: ops.segment_logsumexp(x, s, **k),
    "softpool": lambda x, s, **k: ops.segment_softpool(x, s, 0.7, **k),
    "power": lambda x, s, **k: ops.segment_power(x, s, 1.7, 0.4, **k),
    "median": lambda x, s, **k: ops.segment_median(x, s, **k),
}


def resident_mib() -> float:
    """Memory held by the process, in MiB."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def case(generator: torch.Generator) -> tuple[Tensor, Segments, dict[str, Tensor]]:
    """Random elements, bags and options."""

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    bags, elements = number(1, 200), number(0, 5000)
    channels = (1, 3, 16, 64)[number(0, 4)]
    index = torch.randint(0, bags, (elements,), generator=generator)
    if number(0, 2):
        index = index.sort().values
    segments = Segments(index=index, num_segments=bags)
    options: dict[str, Tensor] = {}
    if number(0, 3) == 0:
        options["weight"] = torch.randint(0, 4, (elements,), generator=generator)
    rows = elements
    if number(0, 3) == 0 and elements:
        rows = number(1, elements + 1)
        options["gather"] = torch.randint(0, rows, (elements,), generator=generator)
    dtype = list(TOLERANCE)[number(0, 4)]
    x = torch.randn(rows, channels, generator=generator, dtype=torch.float64).to(dtype)
    return x, segments, options


def deviation(name: str, x: Tensor, segments: Segments, options: dict[str, Tensor]) -> float:
    """Largest deviation of value and gradient from the composed float64 form, relative to its scale."""
    op = OPS[name]
    leaf = x.clone().requires_grad_()
    y = op(leaf, segments, **options)
    with graphpool.use_backend("torch"):
        exact = x.double().requires_grad_()
        reference = op(exact, segments, **options)
    grad = torch.ones_like(reference)
    (expected,) = torch.autograd.grad(reference, exact, grad)
    (found,) = torch.autograd.grad(y, leaf, grad.to(y.dtype))
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
    growth = resident_mib() - (settled or 0.0)
    report = [
        f"{sum(counts.values())} calls; memory grew by {growth:.1f} MiB after the first tenth"
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
