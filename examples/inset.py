"""A subset pooled in the light of its set (INSET), against a network that sees the subset alone.

Ten points of the other moon hide among ninety of one moon. Which moon is the foreign one depends on the
set. Both networks are trained in the same way, by ``equivset.py``: the worth of an element is how much it
adds to subsets that are drawn with probability q. With q = 1/2, as published, such a subset is half of the
set, and shows which moon it is by itself; with q = 0 it is empty, and only the context can tell.

Xie, Wu, et al., "Enhancing neural subset selection", ICLR 2024.

    python examples/inset.py
"""

from __future__ import annotations

import time

import torch
from _common import format_table, mean_and_spread, out_dir
from _scripts import run as run_script
from equivset import CHOSEN, EMBEDDINGS, ITEMS, SOURCES, train, training_parser

NETWORKS = {"subset only": False, "subset and set (INSET)": True}
Curves = dict[tuple[str, str, float, str], list[float]]


def plot(curves: Curves, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys(key[:2] for key in curves))
    starts = list(dict.fromkeys(key[2] for key in curves))
    size = (3.3 * len(panels) + 0.6, 3.2)
    figure, grid = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for (source, embedding, start, name), curve in curves.items():
        axes = grid[0][panels.index((source, embedding))]
        # Where curves run over one another, those below are wider, and each has marks at epochs of its own.
        place = len(NETWORKS) * starts.index(start) + list(NETWORKS).index(name)
        epochs = range(1, len(curve) + 1)
        axes.plot(
            epochs, curve, color=f"C{place}", linewidth=max(8 - 2.2 * place, 1), zorder=2 + place,
            marker="osD^"[place % 4], markevery=slice(place, None, len(NETWORKS) * len(starts)),
            ms=11 - 2 * place, markeredgecolor="white", label=f"{name}, q = {start:g}",
        )  # fmt: skip
        axes.set_title(f"{source}, {embedding} embedding", fontsize=9)
        axes.set_xlabel("epoch")
    grid[0][0].set_ylabel("validation Jaccard")
    grid[0][0].set_ylim(0, 1.02)
    grid[0][-1].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--embeddings", nargs="+", default=["linear"], choices=EMBEDDINGS)
    parser.add_argument("--starts", nargs="+", type=float, default=[0.5, 0.0], metavar="Q")
    args = parser.parse_args()
    if args.quick:
        args.sets, args.epochs, args.width, args.seeds = 64, 2, 16, 1
    began, rows, curves = time.perf_counter(), [], Curves()
    cells = [(s, e, q) for s in args.sources for e in args.embeddings for q in args.starts]
    for source, embedding, start in cells:
        row = [source, embedding, f"{start:g}"]
        for name, context in NETWORKS.items():
            results = [
                train(source, embedding, start, context, args, args.seed + s)
                for s in range(args.seeds)
            ]
            values = torch.tensor([test for test, _ in results])
            curve = torch.tensor([c for _, c in results]).mean(0).tolist()
            curves[source, embedding, start, name] = curve
            row.append(mean_and_spread(values))
        print(*row, flush=True)
        rows.append(row)
    table = format_table(rows, ["sets", "embedding", "q", *NETWORKS])
    print(table)
    print(f"chance: {CHOSEN / (2 * ITEMS - CHOSEN):.3f}; {time.perf_counter() - began:.0f} s")
    folder = out_dir(args)
    (folder / "inset.md").write_text(table + "\n")
    plot(curves, str(folder / "inset.png"))


if __name__ == "__main__":
    run_script(main)
