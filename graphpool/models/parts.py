"""Small parts of a graph network, by the words that name them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from graphpool.nn import LayerNorm, Linear, perceptron


def one_of(name: str, value: Any, known: Iterable[str | None]) -> None:
    """Raises ``ValueError`` unless a setting is one of those that are known."""
    if value not in known:
        named = ", ".join(map(str, known))
        raise ValueError(f"`{name}` must be one of {named}; got {value!r}.")


def network_of(query: str | nn.Module, name: str, *widths: int) -> nn.Module:
    """``"linear"``, ``"mlp"`` or a module, from the first width to the last."""
    if isinstance(query, nn.Module):
        return query
    if query == "linear":
        return Linear(widths[0], widths[-1])
    if query == "mlp":
        return perceptron(*widths)
    raise ValueError(f"`{name}` must be 'linear', 'mlp' or a module; got {query!r}.")


def norm_of(norm: str | None, width: int) -> nn.Module:
    """``"batch"``, ``"layer"`` or nothing."""
    if norm is None:
        return nn.Identity()
    return _BatchNorm(width) if norm == "batch" else LayerNorm(width)


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the last dimension, over all others."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, -2)).view(input.shape)


def jump(jumping: str, states: Iterable[Tensor]) -> Tensor:
    """The last state, or all of them in one."""
    states = list(states)
    if jumping == "last":
        return states[-1]
    if jumping == "cat":
        return torch.cat(states, dim=-1)
    stacked = torch.stack(states)
    return stacked.sum(0) if jumping == "sum" else stacked.amax(0)
