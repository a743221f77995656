"""The way back, from coarse elements to fine ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool.coarsen.reduce import reduce
from graphpool.coarsen.select import Selection
from graphpool.ops import gathered


def lift(
    values: Tensor, selection: Selection, pool: Any = "mean", fill: Tensor | None = None
) -> Tensor:
    r"""Gives every fine element what the coarse ones that it belongs to hold.

    The bag of a fine element is the coarse elements that it belongs to, pooled by their weights. Where it
    belongs to one, that is a copy; the mean of a soft assignment is
    :math:`\sum_k S_{ik} y_k / \sum_k S_{ik}`, and ``"sum"`` is :math:`S Y`, the transpose of :func:`reduce`
    by sum.

    Args:
        values: ``[K, C]`` or ``[K]``, one row per coarse element.
        selection: Who belongs where.
        pool: As in :func:`reduce`.
        fill: What an element gets that belongs nowhere: a row ``[C]``; 0 if absent.

    Returns:
        ``[N, C']``, or ``[N]``.

    Raises:
        ValueError: As in :func:`reduce`.

    Example:
        >>> clusters = Selection.from_cluster(torch.tensor([1, -1, 1]), 2, may_vanish=True)
        >>> lift(torch.tensor([[4.0], [7.0]]), clusters, fill=torch.tensor([-1.0]))
        tensor([[ 7.],
                [-1.],
                [ 7.]])
    """
    if isinstance(values, Tensor) and values.shape[:1] != (selection.num_coarse,):
        raise ValueError(
            f"`values` must have one row per coarse element, {selection.num_coarse}; got "
            f"{tuple(values.shape)}."
        )
    if selection.fine is None and selection.weight is None and pool == "mean":
        return gathered(values, selection.coarse)
    lifted = reduce(values, selection.transposed(), pool)
    if fill is None or selection.fine is None:
        return lifted
    nowhere = selection.fine.counts == 0
    return torch.where(nowhere.view(-1, *[1] * (lifted.dim() - 1)), fill.to(lifted.dtype), lifted)
