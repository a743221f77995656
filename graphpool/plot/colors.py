"""Colours of labels that people with any colour vision can tell apart."""

from __future__ import annotations

from typing import Any

from graphpool._optional import require

#: Okabe and Ito, "Color universal design" (2008), the most different ones first.
HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#555555")


def label_map(count: int) -> Any:
    """A colour map of matplotlib for labels 0 to ``count - 1``: :data:`HUES`, or more and paler ones."""
    if count > len(HUES):
        return require("matplotlib", purpose="colouring labels").colormaps["tab20"]
    return require("matplotlib.colors", purpose="colouring labels").ListedColormap(HUES)
