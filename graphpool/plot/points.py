"""Pictures of point clouds and of classifications: matplotlib, without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool._optional import require
from graphpool.plot.colors import PALETTE_SIZE, camera, label_map, label_positions


def _figure(width: float, height: float) -> Any:
    return require("matplotlib.figure", purpose="pictures of point clouds").Figure(
        figsize=(width, height), layout="constrained"
    )


def cloud(
    ax: Any,
    pos: Tensor | np.ndarray,
    values: Tensor | np.ndarray | None = None,
    size: float = 4.0,
    view: tuple[float, float] = (20.0, -60.0),
    num_values: int | None = None,
) -> None:
    """Draws one cloud into a plain 2-D ``ax``: a parallel projection, near points over far ones.

    Args:
        ax: Axes of matplotlib.
        pos: Points ``[N, 3]``; z points up.
        values: Labels ``[N]`` (integers, one colour each, negative ones grey), numbers (a colour scale) or
            colours ``[N, 3]``, integers in [0, 255] or floating in [0, 1]; depth if ``None``.
        size: Area of a point.
        view: Elevation and azimuth in degrees.
        num_values: Number of labels, which have the colours of :func:`graphpool.plot.label_colors`; a
            label beyond them is an error.

    Raises:
        ValueError: Shapes do not fit, or a colour is out of range.
    """
    points = np.asarray(torch.as_tensor(pos).detach().cpu(), dtype=float)
    if points.ndim != 2 or points.shape[1] != 3:
        hint = "; pass its transpose" if points.ndim == 2 and len(points) == 3 else ""
        raise ValueError(f"`pos` must have shape [N, 3]; got {points.shape}{hint}.")
    right, up, toward = camera(view)
    depth = points @ toward
    order = depth.argsort()
    color: np.ndarray = depth
    options: dict[str, Any] = {"cmap": "viridis"}
    if values is not None:
        color = np.asarray(torch.as_tensor(values).detach().cpu())
        if color.shape not in ((len(points),), (len(points), 3)):
            raise ValueError(
                f"`values` must have shape ({len(points)},) or ({len(points)}, 3); got {color.shape}."
            )
        if color.ndim == 2:
            color, options = _rgb(color), {}
        elif color.dtype.kind in "iub":
            color = label_positions(color, num_values)
            color = np.where(color < 0, -1, color % PALETTE_SIZE)
            options = {"cmap": label_map(), "vmin": 0, "vmax": PALETTE_SIZE - 1}
    across, along = points @ right, points @ up
    ax.scatter(across[order], along[order], c=color[order], s=size, linewidths=0, **options)
    ax.set_aspect("equal")
    ax.axis("off")


def _rgb(color: np.ndarray) -> np.ndarray:
    """Colours as numbers in [0, 1]; which scale they have is said by their type, not by their values."""
    integers = color.dtype.kind in "iu"
    top = 255 if integers else 1
    if color.size and not (color.min() >= 0 and color.max() <= top):
        what = "integer colours in [0, 255]" if integers else "floating colours in [0, 1]"
        hint = "" if integers else "; divide colours of 0 to 255 by 255, or pass them as integers"
        raise ValueError(f"`values` must be {what}; got {color.min():g} to {color.max():g}{hint}.")
    return color / top


def cloud_gallery(
    clouds: Sequence[Tensor],
    titles: Sequence[str],
    path: str | Path,
    values: Sequence[Tensor] | None = None,
    columns: int = 4,
    num_values: int | None = None,
) -> None:
    """Writes a picture with many clouds, one per cell.

    Args:
        clouds: Points ``[N_i, 3]``.
        titles: One per cloud.
        path: File to write, such as ``errors.png``.
        values: What colours the points of each cloud; see :func:`cloud`.
        columns: Cells per row.
        num_values: Number of labels; see :func:`cloud`.

    Raises:
        ValueError: There is no cloud, or the numbers of clouds, titles and values differ.
    """
    if not clouds or len(clouds) != len(titles) or (values and len(values) != len(clouds)):
        raise ValueError("`clouds`, `titles` and `values` must have the same length >= 1.")
    columns = min(columns, len(clouds))
    rows = -(-len(clouds) // columns)
    figure = _figure(2.4 * columns, 2.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, ax in enumerate(axes):
        ax.axis("off")
        if i < len(clouds):
            cloud(ax, clouds[i], None if values is None else values[i], num_values=num_values)
            ax.set_title(titles[i], fontsize=8)
    figure.savefig(path, dpi=130)


def confusion_matrix(
    predicted: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    path: str | Path,
    ignore_index: int = -1,
) -> Tensor:
    """Writes a picture of how often each class (row) was taken for each (column).

    Args:
        predicted: Predicted classes ``[N]``.
        labels: True classes ``[N]``.
        classes: Names of the classes.
        path: File to write.
        ignore_index: The label of what has none and is left out.

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
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    side = max(4.0, 0.42 * size + 2)
    figure = _figure(side, side)
    ax = figure.subplots()
    ax.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(size), classes, rotation=90)
    ax.set_yticks(range(size), classes)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    for i in range(size):
        for j in range(size):
            if counts[i, j]:
                tone = "white" if share[i, j] > 0.5 else "black"
                ax.text(j, i, int(counts[i, j]), ha="center", va="center", color=tone, fontsize=7)
    figure.savefig(path, dpi=130)
    return counts
