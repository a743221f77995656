"""A picture of which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphpool._optional import require

_MANY = 15  # From so many classes on, cells are small and hold percentages of two digits.


def confusion_matrix(
    predicted: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    path: str | Path,
    ignore_index: int = -1,
    ax: Any = None,
) -> Tensor:
    """Writes a picture of how often each class (row) was taken for each (column).

    A cell is as dark as its share of the row. Up to 15 classes it holds the count, beyond that the share in
    per cent, where it is at least 1. Behind each row stand the recall of its class and how many it has.

    Args:
        predicted: Predicted classes ``[N]``.
        labels: True classes ``[N]``.
        classes: Names of the classes.
        path: File to write.
        ignore_index: The label of what has none and is left out.
        ax: Axes of matplotlib to draw into; ``path`` is then not written.

    Returns:
        The counts ``[classes, classes]``.

    Raises:
        ValueError: Shapes differ, or a class is out of range.
    """
    size = len(classes)
    if predicted.shape != labels.shape or labels.dim() != 1:
        raise ValueError(
            f"`predicted` and `labels` must both be [N]; got {tuple(predicted.shape)} and "
            f"{tuple(labels.shape)}."
        )
    used = labels != ignore_index
    predicted, labels = predicted[used], labels[used]
    both = torch.cat([predicted, labels])
    if both.numel() and not (int(both.min()) >= 0 and int(both.max()) < size):
        raise ValueError(f"Classes must lie in [0, {size}).")
    counts = torch.bincount(labels * size + predicted, minlength=size * size).view(size, size)
    if ax is not None:
        _draw(ax, counts, classes)
        return counts
    side = (0.42 if size <= _MANY else 0.24) * size + 2.4
    figures = require("matplotlib.figure", purpose="pictures of classifications")
    figure = figures.Figure(figsize=(side + 1, max(side, 3.2)), layout="constrained")
    _draw(figure.subplots(), counts, classes)
    figure.savefig(path, dpi=130)
    return counts


def _draw(ax: Any, counts: Tensor, classes: Sequence[str]) -> None:
    size, total = len(classes), counts.sum(1)
    share = counts.double() / total.clamp_min(1)[:, None]
    many = size > _MANY
    ax.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    font = 7 if many else 9
    ax.set_xticks(range(size), classes, rotation=90, fontsize=font)
    ax.set_yticks(range(size), classes, fontsize=font)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    for i, j in (share >= (0.01 if many else 1e-300)).nonzero().tolist():
        text = f"{100 * float(share[i, j]):.0f}" if many else str(int(counts[i, j]))
        tone = "white" if share[i, j] > 0.5 else "black"
        ax.text(j, i, text, ha="center", va="center", color=tone, fontsize=5 if many else 7)
    recall = [
        f"{100 * float(share[i, i]):.0f} % of {int(total[i])}" if total[i] else "none"
        for i in range(size)
    ]
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(size), recall, fontsize=font)
    right.set_ylabel("recall")
    # A line between the classes tells rows apart where there are many.
    for line in range(1, size):
        for draw in (ax.axhline, ax.axvline):
            draw(line - 0.5, color="#dddddd", linewidth=0.3, zorder=1)
    there = total > 0
    if bool(there.any()):
        right_ones = int(counts.diagonal().sum())
        mean = float(share.diagonal()[there].mean())
        ax.set_title(
            f"{100 * right_ones / int(total.sum()):.1f} % right, "
            f"mean of the classes {100 * mean:.1f} %" + ("; cells in %" if many else ""),
            fontsize=10,
        )  # fmt: skip
