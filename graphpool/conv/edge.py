"""Convolutions whose message is a network of both ends of an edge."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch_geometric.nn import Linear
from torch_geometric.nn.inits import reset

from graphpool.conv.base import Nodes, PoolingConv, as_pair, perceptron


class EdgeConv(PoolingConv):
    r"""Edge convolution with any neighbour pool:

    .. math:: x_i' = \mathrm{pool}_{j \in N(i)}\, h([x_i;\; x_j - x_i;\; e_{ij}])

    ``aggr="max"`` is the original (Wang et al., "Dynamic Graph CNN for Learning on Point Clouds",
    ACM TOG 2019).

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call.
        out_channels: Width of a message.
        aggr: Any pool: a name, module, class, or list.
        nn: The network h; default Linear, ReLU, Linear of width ``out_channels``. It sees
            ``2 * in_channels + edge_dim`` features.
        edge_dim: Width of the edge features, if there are any.
        aggr_kwargs: Arguments of the pool.

    The output is as wide as the pool makes it (:attr:`out_channels`).

    Example:
        >>> conv = EdgeConv(3, 16)
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.randn(3, 3), edge_index).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        aggr: Any = "max",
        nn: nn.Module | None = None,
        edge_dim: int | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(aggr, out_channels, aggr_kwargs)
        self.in_channels, self.edge_dim = in_channels, edge_dim
        self.out_channels = self.pooled_channels(out_channels)
        seen = -1 if in_channels < 0 else 2 * in_channels + (edge_dim or 0)
        self.nn = perceptron([seen, out_channels, out_channels]) if nn is None else nn
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        reset(self.nn)

    def forward(
        self,
        x: Nodes,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Maps nodes ``[N, in_channels]``, or (senders, receivers), to ``[N, out_channels]``."""
        nodes = as_pair(x)
        self.check_edge_features(edge_attr)
        bags = self.neighborhoods(nodes, edge_index)
        own = nodes[1].index_select(0, bags.receivers.index)
        parts = [own, nodes[0].index_select(0, bags.senders.index) - own]
        if edge_attr is not None:
            parts.append(edge_attr)
        return self.pool_messages(self.nn(torch.cat(parts, dim=-1)), bags, edge_weight)


class PairMLPConv(PoolingConv):
    r"""Message passing with a perceptron of both ends and the edge:

    .. math:: x_i' = \mathrm{pool}_{j \in N(i)}\, \mathrm{MLP}([x_i;\; x_j;\; e_{ij}])

    with a ReLU after every linear layer, the last one included, so that the messages are not
    negative. It is the layer of the extrapolation experiments of Xu et al. ("How Neural Networks
    Extrapolate", ICLR 2021). The first linear layer is applied to senders, receivers and edges
    apart and the results are added up: the same function, at the cost of one product per node and
    not per edge.

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call.
        out_channels: Width of a message.
        aggr: Any pool: a name, module, class, or list.
        num_layers: Linear layers of the perceptron, at least 1.
        edge_dim: Width of the edge features, if there are any.
        aggr_kwargs: Arguments of the pool.

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
        in_channels: int,
        out_channels: int,
        aggr: Any = "sum",
        num_layers: int = 2,
        edge_dim: int | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        super().__init__(aggr, out_channels, aggr_kwargs)
        self.in_channels, self.edge_dim = in_channels, edge_dim
        self.out_channels = self.pooled_channels(out_channels)
        seen = -1 if in_channels < 0 else 2 * in_channels + (edge_dim or 0)
        self.first = Linear(seen, out_channels)
        widths = [out_channels] * num_layers
        self.rest = perceptron(widths, last_activation=True) if num_layers > 1 else nn.Identity()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.first.reset_parameters()
        reset(self.rest)

    def forward(
        self,
        x: Nodes,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Maps nodes ``[N, in_channels]``, or (senders, receivers), to ``[N, out_channels]``."""
        nodes = as_pair(x)
        self.check_edge_features(edge_attr)
        width = nodes[0].size(-1)
        if isinstance(self.first.weight, UninitializedParameter):
            seen = nodes[0].new_empty(0, 2 * width + (self.edge_dim or 0))
            self.first.initialize_parameters(self.first, (seen,))
        parts = self.first.weight.split([width, width, self.edge_dim or 0], dim=1)
        received = nn.functional.linear(nodes[1], parts[0], self.first.bias)
        sent = nn.functional.linear(nodes[0], parts[1])
        bags = self.neighborhoods(nodes, edge_index)
        hidden = received.index_select(0, bags.receivers.index)
        hidden = hidden + sent.index_select(0, bags.senders.index)
        if edge_attr is not None:
            hidden = hidden + nn.functional.linear(edge_attr, parts[2])
        return self.pool_messages(self.rest(hidden.relu()), bags, edge_weight)
