"""Pictures of point clouds: matplotlib, without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool._optional import require
from graphpool.plot.colors import PALETTE_SIZE, camera, label_map, label_positions, upright
from graphpool.plot.legends import legend, scale_bar, shown_labels


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
    up: str = "z",
    percentiles: tuple[float, float] = (0, 100),
) -> Any:
    """Draws one cloud into a plain 2-D ``ax``: a parallel projection, near points over far ones.

    Args:
        ax: Axes of matplotlib.
        pos: Points ``[N, 3]``.
        values: Labels ``[N]`` (integers, one colour each, negative ones grey), numbers (a colour scale) or
            colours ``[N, 3]``, integers in [0, 255] or floating in [0, 1]; depth if ``None``.
        size: Area of a point.
        view: Elevation and azimuth in degrees.
        num_values: Number of labels, which have the colours of :func:`graphpool.plot.label_colors`; a
            label beyond them is an error.
        up: The axis that points up, ``"x"``, ``"y"`` or ``"z"``.
        percentiles: Between which the colour scale of numbers runs. Intensities of lidar have a few values
            that are far larger than the rest: ``(2, 98)``.

    Returns:
        The points, as ``figure.colorbar`` takes them; its ends are pointed where values lie beyond the scale.

    Raises:
        ValueError: Shapes do not fit, or a colour is out of range.
    """
    points = np.asarray(torch.as_tensor(pos).detach().cpu(), dtype=float)
    if points.ndim != 2 or points.shape[1] != 3:
        hint = "; pass its transpose" if points.ndim == 2 and len(points) == 3 else ""
        raise ValueError(f"`pos` must have shape [N, 3]; got {points.shape}{hint}.")
    points = upright(points, up)
    across, above, toward = camera(view)
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
        else:
            options |= _limits(color, percentiles)
    where = np.stack([points @ across, points @ above], 1)[order]
    dots = ax.scatter(*where.T, c=color[order], s=size, linewidths=0, **options)
    # The box keeps its size, so that titles of a row of pictures stand at one height.
    ax.set_aspect("equal", adjustable="datalim")
    ax.axis("off")
    return dots


def _limits(color: np.ndarray, percentiles: tuple[float, float]) -> dict[str, Any]:
    """Ends of a colour scale, and pointed ends for the values beyond it."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"`percentiles` must rise within [0, 100]; got {percentiles}.")
    finite = color[np.isfinite(color)]
    if not finite.size:
        return {}
    first, last = np.percentile(finite, [low, high])
    below, beyond = bool((finite < first).any()), bool((finite > last).any())
    cmap = require("matplotlib", purpose="pictures of point clouds").colormaps["viridis"].copy()
    cmap.colorbar_extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[
        below, beyond
    ]
    return {"vmin": first, "vmax": last, "cmap": cmap}


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
    *,
    classes: Sequence[str] | None = None,
    unit: str | None = None,
    cell: float = 2.4,
    dpi: float = 130,
    **options: Any,
) -> None:
    """Writes a picture with many clouds, one per cell.

    Args:
        clouds: Points ``[N_i, 3]``.
        titles: One per cloud.
        path: File to write, such as ``errors.png``.
        values: What colours the points of each cloud; see :func:`cloud`.
        columns: Cells per row.
        num_values: Number of labels; see :func:`cloud`.
        classes: Names of the labels, for a legend of those that occur.
        unit: Of the coordinates: each cloud gets a bar of a round length.
        cell: Width of a cell in inches.
        dpi: Pixels per inch.
        options: For :func:`cloud`: ``size``, ``view``, ``up``, ``percentiles``.

    Raises:
        ValueError: There is no cloud, the numbers of clouds, titles and values differ, or a label has no
            name.
    """
    if not clouds or len(clouds) != len(titles) or (values and len(values) != len(clouds)):
        raise ValueError("`clouds`, `titles` and `values` must have the same length >= 1.")
    columns = min(columns, len(clouds))
    rows = -(-len(clouds) // columns)
    figure = _figure(cell * columns, (cell + 0.2) * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, ax in enumerate(axes):
        ax.axis("off")
        if i < len(clouds):
            paint = None if values is None else values[i]
            cloud(ax, clouds[i], paint, num_values=num_values, **options)
            ax.set_title(titles[i], fontsize=8)
    shown = shown_labels(np.asarray(torch.as_tensor(v).cpu()) for v in values or ())
    if classes is not None and len(shown):
        legend(figure, classes, shown)
    if unit is not None:
        figure.draw_without_rendering()  # settles how much of the plane each box shows
        for ax in axes[: len(clouds)]:
            scale_bar(ax, unit)
    figure.savefig(path, dpi=dpi)
