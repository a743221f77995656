"""Pictures of graphs: matplotlib, without a display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool._optional import require


def graph(
    ax: Any,
    edge_index: Tensor | np.ndarray,
    values: Tensor | np.ndarray,
    labels: Sequence[str] | None = None,
    limit: float | None = None,
    size: float = 260.0,
) -> Any:
    """Draws one graph into ``ax``: nodes in the shade of their values, edges as lines.

    The layout is that of Kamada and Kawai (1989), which draws molecules much as chemists do.

    Args:
        ax: Axes of matplotlib.
        edge_index: ``[2, E]``; directions and doubles do not show.
        values: One number per node, ``[N]``. Where some are negative the shades run both ways from white.
        labels: A short text per node.
        limit: The value (in absolute terms) of the darkest shade; the largest of ``values`` if ``None``.
        size: Area of a node.

    Returns:
        The nodes, as ``figure.colorbar`` takes them.

    Raises:
        ValueError: Shapes do not fit, or an edge ends outside of the graph.
    """
    shade = np.asarray(torch.as_tensor(values).detach().cpu(), dtype=float)
    edges = np.asarray(torch.as_tensor(edge_index).cpu())
    if shade.ndim != 1:
        raise ValueError(f"`values` must have shape [N]; got {shade.shape}.")
    if edges.ndim != 2 or len(edges) != 2:
        raise ValueError(f"`edge_index` must have shape [2, E]; got {edges.shape}.")
    if edges.size and not 0 <= edges.min() <= edges.max() < len(shade):
        raise ValueError(
            f"`edge_index` must name nodes 0 to {len(shade) - 1}; got {edges.min()} to {edges.max()}."
        )
    if labels is not None and len(labels) != len(shade):
        raise ValueError(f"`labels` must name {len(shade)} nodes; got {len(labels)}.")
    networkx = require("networkx", purpose="the layout of graphs")
    drawn = networkx.empty_graph(len(shade))
    drawn.add_edges_from(edges.T.tolist())
    place = networkx.kamada_kawai_layout(drawn) if len(shade) > 1 else {0: (0.0, 0.0)}
    where = np.array([place[i] for i in range(len(shade))]).reshape(-1, 2)
    for a, b in drawn.edges:
        ax.plot(*where[[a, b]].T, color="#888888", linewidth=1.4, zorder=1)
    top = float(np.abs(shade).max(initial=0)) if limit is None else limit
    signed = bool((shade < 0).any())
    nodes = ax.scatter(
        where[:, 0], where[:, 1], c=shade, s=size, zorder=2, edgecolors="#444444", linewidths=0.8,
        cmap="PuOr_r" if signed else "Blues", vmin=-top if signed else 0.0, vmax=top or 1.0,
    )  # fmt: skip
    for (x, y), value, text in zip(where, shade, labels or [], strict=False):
        dark = abs(value) > 0.6 * top
        ax.text(
            x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else "black"
        )
    ax.set_aspect("equal")
    ax.margins(0.12)
    ax.axis("off")
    return nodes
