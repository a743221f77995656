"""Draws docs/images/walk.png: the files between a layer of a graph network and the loop that adds numbers."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# Okabe and Ito's palette, which stays apart for colour-blind eyes.
ROOMS = {
    "conv": "#0072B2",
    "aggr": "#009E73",
    "ops": "#D55E00",
    "ops/fused": "#CC79A7",
    "ops/fused/cpu": "#555555",
}
STEPS = (
    ("conv", "gin.py", "x [N, C] in; (1 + eps) x + pooled, then the network h"),
    ("conv", "base.py", "edges become bags: pool rows x[senders] by receiver"),
    ("aggr", "pyg.py", "calls the pool, which may be someone else's"),
    ("aggr", "base.py", "bags as Segments, elements on dimension 0"),
    ("aggr", "statistics/moments.py", "Sum is segment_sum"),
    ("ops", "reduce.py", "checks x, bags, weight and gather"),
    ("ops", "dispatch.py", "which path: dtype, device, use_backend"),
    ("ops/fused", "moments.py", "x as a matrix [N, C]; the result back in its shape"),
    ("ops/fused", "fused_op.py", "the operator: outputs are made, x becomes an array"),
    ("ops/fused/cpu", "moments.py", "for each bag: y[s] += x[sender[e]]"),
)


def main() -> None:
    figure, ax = plt.subplots(figsize=(10, 6.6), layout="constrained")
    ax.set(xlim=(0, 10), ylim=(-0.2, len(STEPS) * 1.0))
    ax.axis("off")
    for step, (room, file, does) in enumerate(STEPS):
        y = len(STEPS) - 1 - step
        ax.add_patch(
            FancyBboxPatch(
                (1.9, y + 0.12),
                2.75,
                0.56,
                boxstyle="round,pad=0.05",
                fc="white",
                ec=ROOMS[room],
                lw=1.8,
            )
        )
        ax.text(3.27, y + 0.4, file, ha="center", va="center", fontsize=11, family="monospace")
        ax.text(4.95, y + 0.4, does, ha="left", va="center", fontsize=11)
        if step + 1 < len(STEPS):
            arrow = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "black"}
            ax.add_patch(FancyArrowPatch((3.27, y + 0.07), (3.27, y - 0.27), **arrow))
    for room, colour in ROOMS.items():
        rows = [len(STEPS) - 1 - i for i, step in enumerate(STEPS) if step[0] == room]
        ax.plot([1.65] * 2, [min(rows) + 0.1, max(rows) + 0.7], color=colour, lw=4)
        middle = (min(rows) + max(rows)) / 2 + 0.4
        ax.text(1.5, middle, f"{room}/", ha="right", va="center", fontsize=11, color=colour)
    target = Path(__file__).parents[1] / "images" / "walk.png"
    figure.savefig(target, dpi=110)
    print(target)


if __name__ == "__main__":
    main()
