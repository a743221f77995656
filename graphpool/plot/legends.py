"""What the colours of a picture mean, and how long a metre is in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphpool._optional import require
from graphpool.plot.colors import label_colors


def shown_labels(values: Iterable[Any]) -> np.ndarray:
    """The different labels of several pictures; numbers, errors and colours have none."""
    found = [np.asarray(value) for value in values if value is not None]
    labels = [v.ravel() for v in found if v.ndim == 1 and v.dtype.kind in "iu"]
    return np.unique(np.maximum(np.concatenate(labels), -1)) if labels else np.zeros(0, int)


def legend(where: Any, classes: Sequence[str], shown: Any = None) -> Any:
    """Names labels by their colours, below a figure or beside axes.

    Args:
        where: A figure of matplotlib, laid out by ``"constrained"``, or axes.
        classes: Names of the labels, in order.
        shown: The labels to name, negative ones as "no label"; all by default.

    Returns:
        The legend.

    Raises:
        ValueError: A label has no name.

    Example:
        >>> from matplotlib.figure import Figure
        >>> [text.get_text() for text in legend(Figure(), ["leg", "seat"], shown=[1, -1]).get_texts()]
        ['no label', 'seat']
    """
    patches = require("matplotlib.patches", purpose="legends")
    labels = np.arange(len(classes)) if shown is None else np.unique(np.asarray(shown, dtype=int))
    if len(labels) and labels[-1] >= len(classes):
        raise ValueError(
            f"`classes` must name every label; got {len(classes)} names and label {labels[-1]}."
        )
    names = ["no label" if label < 0 else str(classes[int(label)]) for label in labels]
    handles = [patches.Patch(color=color) for color in label_colors(labels)]
    style: dict[str, Any] = {"frameon": False, "fontsize": 8}
    if not hasattr(where, "savefig"):
        return where.legend(handles, names, loc="center left", bbox_to_anchor=(1, 0.5), **style)
    letters = 13 * where.get_figwidth() / (max(map(len, names), default=1) + 6)
    columns = min(max(int(letters), 1), max(len(names), 1))
    return where.legend(handles, names, loc="outside lower center", ncols=columns, **style)


def scale_bar(ax: Any, unit: str = "") -> float:
    """Draws a bar of round length into the lower left corner of a picture of points or faces.

    The pictures are parallel projections, so it holds for what lies across, at any depth.

    Args:
        ax: Axes with a picture of :func:`graphpool.plot.cloud` or :func:`graphpool.plot.mesh`.
        unit: Of the coordinates, behind the number.

    Returns:
        The length: 1, 2 or 5 times a power of ten, at most a quarter of the width.
    """
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    power = 10.0 ** np.floor(np.log10((right - left) / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= (right - left) / 4)
    height = bottom + 0.03 * (top - bottom)
    lines = require("matplotlib.lines", purpose="scale bars")
    ends = [left, left + length], [height, height]
    ax.add_artist(lines.Line2D(*ends, color="black", linewidth=2, zorder=5))
    text = f"{length:g} {unit}".strip()
    ax.annotate(text, (left, height), (0, 3), textcoords="offset points", fontsize=7, zorder=5)
    return float(length)
