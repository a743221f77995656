"""Pools as the point networks take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool import aggr
from graphpool.aggr.foreign import pool, pooled_width
from graphpool.ops import segment_moments
from graphpool.segments import Segments


class MaxPlusMean(aggr.Aggregation):
    r"""Maximum plus mean, :math:`y_s = \max_e x_e + \frac{1}{n_s} \sum_e x_e`; the pool of Point-PN.

    Args:
        channels: See :class:`graphpool.aggr.Aggregation`.

    Example:
        >>> MaxPlusMean()(torch.tensor([[1.0], [3.0]]))
        tensor([[5.]])
    """

    multiplicity_aware = True

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        highest, mean = segment_moments(x, segments, ("max", "mean"), weight)
        return highest + mean


def resolve_pool(query: Any, channels: int) -> torch.nn.Module:
    """What :func:`graphpool.aggr.resolve` makes of it; ``"max+mean"`` is :class:`MaxPlusMean`."""
    if isinstance(query, str) and query.lower() == "max+mean":
        return MaxPlusMean(channels)
    return aggr.resolve(query, channels=channels)


class Pool(torch.nn.Module):
    """Any aggregation, with a linear map behind it where its output has another width.

    Args:
        pool: What :func:`graphpool.aggr.resolve` takes, or ``"max+mean"`` (:class:`MaxPlusMean`).
        channels: Width of the elements and of the result.
    """

    def __init__(self, pool: Any, channels: int) -> None:
        super().__init__()
        self.aggr = resolve_pool(pool, channels)
        width = pooled_width(self.aggr, channels)
        self.project = (
            torch.nn.Identity() if width == channels else torch.nn.Linear(width, channels)
        )

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        return self.project(pool(self.aggr, x, segments))


def dense_block(in_channels: int, out_channels: int, bias: bool = False) -> torch.nn.Sequential:
    """Linear, batch normalisation, ReLU."""
    return torch.nn.Sequential(
        torch.nn.Linear(in_channels, out_channels, bias=bias),
        torch.nn.BatchNorm1d(out_channels),
        torch.nn.ReLU(),
    )


def perceptron(widths: list[int]) -> torch.nn.Sequential:
    """A chain of :func:`dense_block`."""
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return torch.nn.Sequential(*[dense_block(a, b) for a, b in pairs])


def head(
    in_channels: int, hidden: tuple[int, ...], classes: int, dropout: float
) -> torch.nn.Module:
    """A classifier: blocks of linear, batch normalisation, ReLU and dropout, then a linear layer."""
    layers: list[torch.nn.Module] = []
    for width in hidden:
        layers += [dense_block(in_channels, width, bias=True), torch.nn.Dropout(dropout)]
        in_channels = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(in_channels, classes))
