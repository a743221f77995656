"""Convolutions whose message is a network of both ends of an edge."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from graphpool._arguments import check_at_least
from graphpool.aggr.lazy import kept
from graphpool.conv.base import (
    Incoming,
    Nodes,
    PoolingConv,
    Size,
    Width,
    total_width,
    width_pair,
)
from graphpool.nn import Linear, perceptron, reset


class EdgeConv(PoolingConv):
    r"""Edge convolution with any neighbour pool:

    .. math:: x_i' = \mathrm{pool}_{j \in N(i)}\, h([x_i;\; x_j - x_i;\; e_{ij}])

    ``aggr="max"`` is the original (Wang et al., "Dynamic Graph CNN for Learning on Point Clouds",
    ACM TOG 2019).

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call; or a pair, of the senders
            and of the receivers, which must agree, because they are subtracted.
        out_channels: Width of a message.
        aggr: Any pool: a name, module, class, or list.
        nn: The network h; default Linear, ReLU, Linear of width ``out_channels``. It sees
            ``2 * in_channels + edge_dim`` features.
        edge_dim: Width of the edge features, if there are any.
        aggr_kwargs: Arguments of the pool.
        **kwargs: ``flow`` and ``node_dim``, see :class:`~graphpool.conv.base.PoolingConv`.

    The output is as wide as the pool makes it (:attr:`out_channels`).

    Example:
        >>> conv = EdgeConv(3, 16)
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.randn(3, 3), edge_index).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        in_channels: Width,
        out_channels: int,
        aggr: Any = "max",
        nn: nn.Module | None = None,
        edge_dim: int | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(aggr, out_channels, aggr_kwargs, **kwargs)
        self.in_channels, self.edge_dim = in_channels, edge_dim
        self.out_channels = self.pooled_channels(out_channels)
        sent, received = width_pair(in_channels)
        if sent > 0 and received > 0 and sent != received:
            raise ValueError(
                f"EdgeConv subtracts senders and receivers; `in_channels` must agree; got {in_channels}."
            )
        seen = total_width(sent, received, edge_dim)
        self.nn = perceptron(seen, out_channels, out_channels) if nn is None else nn
        with kept(nn, aggr):
            self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        reset(self.nn)

    def forward(
        self,
        x: Nodes,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        size: Size = None,
    ) -> Tensor:
        """Maps nodes ``[..., N, in_channels]``, or (senders, receivers), to ``[..., N, out_channels]``."""
        call = self.incoming(x, edge_index, edge_attr, edge_weight, size)
        receivers = features_of_receivers(call)
        if call.senders.size(-1) != receivers.size(-1):
            raise ValueError(
                "EdgeConv subtracts senders and receivers; `x` must have one width; got "
                f"{call.senders.size(-1)} and {receivers.size(-1)}."
            )
        own = self.at_receivers(receivers, call.edges)
        parts = [own, self.at_senders(call.senders, call.edges) - own]
        if call.edge_attr is not None:
            parts.append(call.edge_attr.expand(*own.shape[:-1], -1))
        return self.pool_messages(self.nn(torch.cat(parts, dim=-1)), call)


def features_of_receivers(call: Incoming) -> Tensor:
    if call.receivers is None:
        raise ValueError(
            "The message sees both ends of an edge: the features of the nodes that receive, in `x`, "
            "must be a tensor; got None."
        )
    return call.receivers


class PairMLPConv(PoolingConv):
    r"""Message passing with a perceptron of both ends and the edge:

    .. math:: x_i' = \mathrm{pool}_{j \in N(i)}\, \mathrm{MLP}([x_i;\; x_j;\; e_{ij}])

    with a ReLU after every linear layer, the last one included, so that the messages are not
    negative. It is the layer of the extrapolation experiments of Xu et al. ("How Neural Networks
    Extrapolate", ICLR 2021). The first linear layer is applied to senders, receivers and edges
    apart and the results are added up: the same function, at the cost of one product per node and
    not per edge.

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call; or a pair, of the senders
            and of the receivers.
        out_channels: Width of a message.
        aggr: Any pool: a name, module, class, or list.
        num_layers: Linear layers of the perceptron, at least 1.
        edge_dim: Width of the edge features, if there are any.
        aggr_kwargs: Arguments of the pool.
        **kwargs: ``flow`` and ``node_dim``, see :class:`~graphpool.conv.base.PoolingConv`.

    The output is as wide as the pool makes it (:attr:`out_channels`).

    Raises:
        ValueError: If ``num_layers`` is below 1.

    Example:
        >>> conv = PairMLPConv(1, 16, aggr="sum")
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.ones(3, 1), edge_index).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        in_channels: Width,
        out_channels: int,
        aggr: Any = "sum",
        num_layers: int = 2,
        edge_dim: int | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_at_least(num_layers, "num_layers", 1)
        super().__init__(aggr, out_channels, aggr_kwargs, **kwargs)
        self.in_channels, self.edge_dim = in_channels, edge_dim
        self.out_channels = self.pooled_channels(out_channels)
        seen = total_width(*width_pair(in_channels), edge_dim)
        self.first = Linear(seen, out_channels)
        widths = [out_channels] * num_layers
        self.rest = perceptron(*widths, last_activation=True) if num_layers > 1 else nn.Identity()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.first.reset_parameters()
        reset(self.rest)

    def forward(
        self,
        x: Nodes,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        size: Size = None,
    ) -> Tensor:
        """Maps nodes ``[..., N, in_channels]``, or (senders, receivers), to ``[..., N, out_channels]``."""
        call = self.incoming(x, edge_index, edge_attr, edge_weight, size)
        receivers = features_of_receivers(call)
        widths = [receivers.size(-1), call.senders.size(-1), self.edge_dim or 0]
        if isinstance(self.first.weight, UninitializedParameter):
            seen = receivers.new_empty(0, sum(widths))
            self.first.initialize_parameters(self.first, (seen,))
        parts = self.first.weight.split(widths, dim=1)
        received = nn.functional.linear(receivers, parts[0], self.first.bias)
        sent = nn.functional.linear(call.senders, parts[1])
        hidden = self.at_receivers(received, call.edges) + self.at_senders(sent, call.edges)
        if call.edge_attr is not None:
            hidden = hidden + nn.functional.linear(call.edge_attr, parts[2])
        return self.pool_messages(self.rest(hidden.relu()), call)
