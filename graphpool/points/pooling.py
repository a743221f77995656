"""Pools as the point networks take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import aggr as pyg_aggr

from graphpool._arguments import check_one_of
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.nn import LayerNorm
from graphpool.segments import Segments


class Pool(torch.nn.Module):
    """Any aggregation, with a linear map behind it where its output has another width.

    Args:
        pool: What :func:`graphpool.aggr.resolve` takes.
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


def dense_blocks(widths: list[int]) -> torch.nn.Sequential:
    """A chain of :func:`dense_block`."""
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return torch.nn.Sequential(*[dense_block(a, b) for a, b in pairs])


def choose_norm(network: torch.nn.Module, norm: str) -> None:
    """Puts layer in the place of batch normalisation, if ``norm`` says so; pools keep what they have."""
    check_one_of(norm, "norm", ("batch", "layer"))
    for name, part in list(network.named_children()) if norm == "layer" else ():
        if type(part) is torch.nn.BatchNorm1d:
            setattr(network, name, LayerNorm(part.num_features))
        elif not isinstance(part, pyg_aggr.Aggregation):
            choose_norm(part, norm)


def head(
    in_channels: int, hidden: tuple[int, ...], classes: int, dropout: float
) -> torch.nn.Module:
    """A classifier: blocks of linear, batch normalisation, ReLU and dropout, then a linear layer."""
    layers: list[torch.nn.Module] = []
    for width in hidden:
        layers += [dense_block(in_channels, width, bias=True), torch.nn.Dropout(dropout)]
        in_channels = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(in_channels, classes))
