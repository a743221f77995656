"""Graph isomorphism convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Linear
from torch_geometric.nn.inits import reset

from graphpool.conv.base import Nodes, PoolingConv, as_pair, edge_layer, perceptron


class GINConv(PoolingConv):
    r"""Graph isomorphism convolution with any neighbour pool:

    .. math:: x_i' = h\big((1 + \epsilon)\, x_i + \mathrm{pool}_{j \in N(i)}\, m_{ij}\big)

    with :math:`m_{ij} = x_j`, or :math:`\mathrm{ReLU}(x_j + W e_{ij})` where there are edge
    features. ``aggr="sum"`` is the original (Xu et al., "How Powerful are Graph Neural Networks?",
    ICLR 2019); edge features as in Hu et al., "Strategies for Pre-training Graph Neural Networks",
    ICLR 2020.

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call.
        out_channels: Width of the output.
        aggr: Any pool: a name, module, class, or list.
        nn: The network h; default Linear, ReLU, Linear of width ``out_channels``.
        eps: Start of epsilon.
        train_eps: Whether epsilon is learned.
        edge_dim: Width of the edge features, if there are any.
        aggr_kwargs: Arguments of the pool.

    A pool whose output is wider than its input (such as a list) is projected back by a linear
    layer. ``edge_weight`` in the call weights the elements of the bag, so that 2 counts like a
    double edge.

    Example:
        >>> conv = GINConv(8, 16, aggr="max")
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.randn(3, 8), edge_index).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        aggr: Any = "sum",
        nn: nn.Module | None = None,
        eps: float = 0.0,
        train_eps: bool = False,
        edge_dim: int | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(aggr, in_channels, aggr_kwargs)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.nn = perceptron([in_channels, out_channels, out_channels]) if nn is None else nn
        self.initial_eps = eps
        epsilon = torch.tensor([float(eps)])
        if train_eps:
            self.eps = torch.nn.Parameter(epsilon)
        else:
            self.register_buffer("eps", epsilon)
        self.edge_dim = edge_dim
        self.lin_edge = edge_layer(edge_dim, in_channels)
        pooled = self.pooled_channels(in_channels)
        self.project = None if pooled == in_channels else Linear(pooled, in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        reset(self.nn)
        self.eps.data.fill_(self.initial_eps)
        for layer in (self.lin_edge, self.project):
            if layer is not None:
                layer.reset_parameters()

    def forward(
        self,
        x: Nodes,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Maps nodes ``[N, in_channels]``, or (senders, receivers), to ``[N, out_channels]``."""
        nodes = as_pair(x)
        pooled = self.pool_neighbors(nodes, edge_index, edge_attr, edge_weight, torch.relu)
        if self.project is not None:
            pooled = self.project(pooled)
        return self.nn((1 + self.eps) * nodes[1] + pooled)
