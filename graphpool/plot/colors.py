"""Colours of labels: the same one for the same label, and as different as there are labels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from graphpool._optional import require

#: Okabe and Ito, "Color universal design" (2008), the most different ones first.
HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#555555")
#: What has no label.
GRAY = (187 / 255, 187 / 255, 187 / 255)
#: Labels this far apart share a colour.
PALETTE_SIZE = 256

# Viénot, Brettel and Mollon (1999): how linear RGB looks without red or without green cones.
_VISIONS = (
    np.eye(3),
    np.array([[0.1124, 0.8876, 0.0], [0.1124, 0.8876, 0.0], [0.0040, -0.0040, 1.0]]),
    np.array([[0.2928, 0.7072, 0.0], [0.2928, 0.7072, 0.0], [-0.0223, 0.0223, 1.0]]),
)
# Oklab (Ottosson, 2020), where distances are those that people see.
_TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_FROM_CONES = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def label_colors(
    labels: Any, num_classes: int | None = None, cmap: str | None = None
) -> np.ndarray:
    """Colours ``[N, 3]`` in ``[0, 1]`` of integer labels.

    A label has the same colour whatever other labels there are: truth and prediction, training and
    test, meshes and points agree. The first seven colours are those of Okabe and Ito; each further one
    is the most different from those before it, for full colour vision and without red or green cones.
    They come again from label 256 on. Negative labels are gray, for "unlabelled"; so is 255 where
    ``num_classes`` says that it is no class.

    Args:
        labels: ``[N]``, integers.
        num_classes: How many classes there are; a label beyond them is an error.
        cmap: A map of matplotlib instead. A continuous one is divided among ``num_classes``.

    Raises:
        ValueError: A label is not below ``num_classes``.

    Example:
        >>> label_colors([0, -1, 1, 0]).round(2).tolist()[:2]
        [[0.0, 0.45, 0.7], [0.73, 0.73, 0.73]]
    """
    names = label_positions(labels, num_classes)
    free = names < 0
    if cmap is None:
        colors = _palette()[names % PALETTE_SIZE]
    else:
        table = require("matplotlib", purpose="colouring labels").colormaps[cmap]
        if num_classes is not None and table.N >= 256:
            colors = table(names / max(num_classes - 1, 1))[..., :3]
        else:
            colors = table(names % table.N)[..., :3]
    return np.where(free[..., None], GRAY, colors)


def camera(view: tuple[float, float]) -> np.ndarray:
    """Unit vectors ``[3, 3]`` to the right, up, and towards a camera; elevation and azimuth in degrees."""
    elevation, azimuth = np.radians(view)
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    flat = np.cos(elevation)
    toward = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    return np.stack([right, np.cross(toward, right), toward])


def label_positions(labels: Any, num_classes: int | None = None) -> np.ndarray:
    """The labels as int64, -1 for all that :func:`label_colors` makes gray."""
    data = np.asarray(labels).astype(np.int64)
    if num_classes is None:
        return np.maximum(data, -1)
    free = (data < 0) | ((data == 255) & (num_classes <= 255))
    beyond = ~free & (data >= num_classes)
    if beyond.any():
        raise ValueError(
            f"`labels` must be below `num_classes` = {num_classes}; got {data[beyond].max()}."
        )
    return np.where(free, -1, data)


def label_map() -> Any:
    """The colours of :func:`label_colors` as a map of matplotlib over 0, ..., 255; gray below."""
    colors = require("matplotlib.colors", purpose="colouring labels")
    return colors.ListedColormap(_palette()).with_extremes(under=GRAY)


@lru_cache(maxsize=1)
def _palette() -> np.ndarray:
    """``[PALETTE_SIZE, 3]``; the colour of a label does not depend on how many there are."""
    levels = np.linspace(0, 1, 13)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    seen = _oklab(candidates)
    # What is nearly black, white or gray is taken for a shadow, the paper, or no label.
    light, hue = seen[0, :, 0], np.linalg.norm(seen[0, :, 1:], axis=1)
    usable = (light > 0.35) & (light < 0.93) & (hue > 0.05)
    candidates, seen = candidates[usable], seen[:, usable]
    chosen = [tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)) for c in HUES[:-1]]
    nearest = np.full(len(candidates), np.inf)
    for color in [GRAY, *chosen]:
        nearest = np.minimum(nearest, _apart(seen, _oklab(np.array([color]))))
    while len(chosen) < PALETTE_SIZE:
        best = int(nearest.argmax())
        chosen.append(tuple(candidates[best]))
        nearest = np.minimum(nearest, _apart(seen, seen[:, best : best + 1]))
    return np.array(chosen)


def _oklab(colors: np.ndarray) -> np.ndarray:
    """Colours ``[N, 3]`` as three kinds of eyes see them ``[3, N, 3]``."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.stack([linear @ vision.T for vision in _VISIONS]).clip(0, 1)
    return np.cbrt(seen @ _TO_CONES.T) @ _FROM_CONES.T


def _apart(seen: np.ndarray, color: np.ndarray) -> np.ndarray:
    """The distance of each colour from one, for those eyes that see the least of it."""
    distance = np.linalg.norm(seen - color, axis=2)
    # People without red or green cones are few: full vision must tell the colours apart in any case.
    return np.minimum(distance[0], 2 * distance[1:].min(0))
