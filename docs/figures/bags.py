"""Draws docs/images/bags.png: five places where a network pools, and the one thing they share."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

# Okabe and Ito's palette, which stays apart for colour-blind eyes.
BAGS = ("#0072B2", "#D55E00", "#009E73")
GREY, LIGHT = "#777777", "#D9D9D9"


def network(
    ax: Axes, position: np.ndarray, edges: list[tuple[int, int]], colour: list[str]
) -> None:
    for a, b in edges:
        ax.plot(*position[[a, b]].T, color=GREY, lw=1.2, zorder=1)
    ax.scatter(*position.T, s=130, c=colour, edgecolor="white", linewidth=1.2, zorder=2)


def neighbours(ax: Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 6)[:-1] + 0.3
    ring = np.c_[np.cos(angle), np.sin(angle)] * 0.75
    outer = ring[[0, 2]] * 1.65
    position = np.r_[[[0, 0]], ring, outer]
    edges = [(0, i) for i in range(1, 6)] + [(1, 6), (3, 7), (1, 2)]
    network(ax, position, edges, ["white", *[BAGS[0]] * 5, LIGHT, LIGHT])
    ax.scatter(0, 0, s=150, facecolor="white", edgecolor="black", linewidth=1.6, zorder=3)


def graphs(ax: Axes) -> None:
    left = np.array([[-1.1, 0.4], [-0.6, 0.9], [-0.2, 0.2], [-0.8, -0.3]])
    right = np.array([[0.3, -0.2], [0.9, 0.2], [0.6, -0.9]])
    network(ax, left, [(0, 1), (1, 2), (2, 3), (3, 0)], [BAGS[0]] * 4)
    network(ax, right, [(0, 1), (0, 2)], [BAGS[1]] * 3)


def points(ax: Axes) -> None:
    rng = np.random.default_rng(4)
    cloud = rng.uniform(-1.15, 1.15, (60, 2))
    centres = np.array([[-0.45, 0.4], [0.5, -0.35]])
    colour = np.array([LIGHT] * 60)
    for centre, shade in zip(centres, BAGS, strict=False):
        distance = np.linalg.norm(cloud - centre, axis=1)
        nearest = np.argsort(distance)[:8]
        colour[nearest] = shade
        ax.add_patch(Circle(centre, distance[nearest[-1]] + 0.07, fill=False, color=shade, lw=1.2))
    ax.scatter(*cloud.T, s=34, c=colour)
    ax.scatter(*centres.T, s=70, marker="x", c="black", zorder=3)


def faces(ax: Axes) -> None:
    size, clusters = 4, np.array([[0, 0, 1, 1], [0, 0, 1, 2], [0, 2, 2, 2], [2, 2, 2, 1]])
    clusters[3, 3] = 2
    x = np.linspace(-1.1, 1.1, size + 1)
    for i in range(size):
        for j in range(size):
            corners = np.array(
                [[x[j], x[i]], [x[j + 1], x[i]], [x[j + 1], x[i + 1]], [x[j], x[i + 1]]]
            )
            corners[:, 0] += 0.16 * corners[:, 1]
            for triangle in ([0, 1, 2], [0, 2, 3]):
                shade = BAGS[clusters[i, j]]
                ax.add_patch(Polygon(corners[triangle], fc=shade, ec="white", lw=1.2, alpha=0.9))


def members(ax: Axes) -> None:
    rng = np.random.default_rng(1)
    for centre, shade, count in (((-0.55, 0), BAGS[0], 5), ((0.65, 0), BAGS[1], 3)):
        ax.add_patch(
            FancyBboxPatch(
                (centre[0] - 0.42, -0.85),
                0.84,
                1.7,
                boxstyle="round,pad=0.05",
                fill=False,
                ec=GREY,
                lw=1.2,
            )
        )
        height = np.linspace(-0.65, 0.65, count)
        across = centre[0] + rng.uniform(-0.22, 0.22, count)
        ax.scatter(across, height, s=130, c=shade, edgecolor="white")


PLACES = (
    ("message passing", "messages from the\nneighbours of a node", neighbours),
    ("readout", "the nodes of\na graph", graphs),
    ("point clouds", "the points around\na sampled centre", points),
    ("meshes", "the faces of\na cluster", faces),
    ("sets", "the members\nof a set", members),
)


def strip(ax: Axes) -> None:
    """A bag of vectors, a pool, one vector."""
    rng = np.random.default_rng(0)
    ax.set(xlim=(0, 10), ylim=(0, 2))
    ax.axis("off")
    shades = plt.get_cmap("Blues")
    for element in range(5):
        for channel in range(4):
            value = rng.uniform(0.15, 0.95)
            corner = (2.0 + 0.34 * element, 0.3 + 0.34 * channel)
            ax.add_patch(plt.Rectangle(corner, 0.26, 0.3, fc=shades(value), ec="white"))
    ax.text(1.75, 0.98, "a bag of\nvectors", ha="right", va="center", fontsize=12)
    ax.add_patch(
        FancyArrowPatch(
            (3.85, 0.98), (4.35, 0.98), arrowstyle="-|>", mutation_scale=16, color="black"
        )
    )
    ax.add_patch(
        FancyBboxPatch((4.5, 0.55), 1.6, 0.86, boxstyle="round,pad=0.08", fc="#FFF4D6", ec="black")
    )
    ax.text(5.3, 0.98, "sum, max, GNP,\nattention, ...", ha="center", va="center", fontsize=12)
    ax.add_patch(
        FancyArrowPatch(
            (6.28, 0.98), (6.78, 0.98), arrowstyle="-|>", mutation_scale=16, color="black"
        )
    )
    for channel in range(4):
        corner = (6.95, 0.3 + 0.34 * channel)
        ax.add_patch(plt.Rectangle(corner, 0.26, 0.3, fc=shades(rng.uniform(0.3, 0.9)), ec="white"))
    ax.text(7.45, 0.98, "one vector\nper bag", ha="left", va="center", fontsize=12)


def main() -> None:
    figure = plt.figure(figsize=(12, 4.7), layout="constrained")
    grid = figure.add_gridspec(2, 5, height_ratios=[2.5, 1.3])
    for column, (title, subtitle, draw) in enumerate(PLACES):
        ax = figure.add_subplot(grid[0, column])
        draw(ax)
        ax.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
        ax.axis("off")
        ax.set_title(title, fontsize=14, fontweight="bold")
        ax.text(0, -1.45, subtitle, ha="center", va="top", fontsize=11)
    strip(figure.add_subplot(grid[1, :]))
    target = Path(__file__).parents[1] / "images" / "bags.png"
    figure.savefig(target, dpi=110)
    print(target)


if __name__ == "__main__":
    main()
