"""A subset pooled in the light of its set (INSET), against a network that sees the subset alone.

Ten points of the other moon hide among ninety of one moon. Which moon is the foreign one, the subset alone
cannot say: its set must be seen. Both networks are trained in the same way, by ``equivset.py``.

Xie, Wu, et al., "Enhancing neural subset selection", ICLR 2024.

    python examples/inset.py
"""

from __future__ import annotations

import argparse
import time

import torch
from _common import format_table, out_dir
from equivset import CHOSEN, ITEMS, SOURCES, add_arguments, train


def plot(curves: dict[tuple[str, str], list[float]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sources = list(dict.fromkeys(source for source, _ in curves))
    size = (4 * len(sources) + 1, 3.2)
    figure, grid = plt.subplots(1, len(sources), figsize=size, sharey=True, squeeze=False)
    panels = list(grid[0])
    for (source, name), curve in curves.items():
        axes = panels[sources.index(source)]
        axes.plot(range(1, len(curve) + 1), curve, label=name)
        axes.set_title(source)
        axes.set_xlabel("epoch")
        axes.legend(fontsize=8)
    panels[0].set_ylabel("validation Jaccard")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    args = parser.parse_args()
    if args.quick:
        args.sets, args.epochs, args.width, args.seeds = 64, 2, 16, 1
    start, rows, curves = time.perf_counter(), [], {}
    for source in args.sources:
        for name, context in (("subset only", False), ("subset and set (INSET)", True)):
            results = [train(source, context, args, args.seed + s) for s in range(args.seeds)]
            values = torch.tensor([test for test, _ in results])
            curves[source, name] = torch.tensor([c for _, c in results]).mean(0).tolist()
            spread = f" +- {float(values.std()):.3f}" if len(values) > 1 else ""
            rows.append((source, name, f"{float(values.mean()):.3f}{spread}"))
    table = format_table(rows, ["sets", "network", "test Jaccard"])
    print(table)
    print(f"chance: {CHOSEN / (2 * ITEMS - CHOSEN):.3f}; {time.perf_counter() - start:.0f} s")
    folder = out_dir(args)
    (folder / "inset.md").write_text(table + "\n")
    plot(curves, str(folder / "inset.png"))


if __name__ == "__main__":
    main()
