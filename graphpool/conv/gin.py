"""Graph isomorphism convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphpool.aggr.lazy import kept
from graphpool.aggr.pyg import keeps_width
from graphpool.conv.base import (
    Nodes,
    PoolingConv,
    Size,
    Width,
    edge_layer,
    width_pair,
)
from graphpool.nn import Linear, perceptron, reset


class GINConv(PoolingConv):
    r"""Graph isomorphism convolution with any neighbour pool:

    .. math:: x_i' = h\big((1 + \epsilon)\, x_i + \mathrm{pool}_{j \in N(i)}\, m_{ij}\big)

    with :math:`m_{ij} = x_j`, or :math:`\mathrm{ReLU}(x_j + W e_{ij})` where there are edge
    features. ``aggr="sum"`` is the original (Xu et al., "How Powerful are Graph Neural Networks?",
    ICLR 2019); edge features as in Hu et al., "Strategies for Pre-training Graph Neural Networks",
    ICLR 2020.

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call; or a pair, of the senders
            and of the receivers.
        out_channels: Width of the output.
        aggr: Any pool: a name, module, class, or list.
        nn: The network h; default Linear, ReLU, Linear of width ``out_channels``.
        eps: Start of epsilon.
        train_eps: Whether epsilon is learned.
        edge_dim: Width of the edge features, if there are any.
        aggr_kwargs: Arguments of the pool.
        **kwargs: ``flow`` and ``node_dim``, see :class:`~graphpool.conv.base.PoolingConv`.

    What a pool gives (such as a list) that is not as wide as the receivers is brought to their width by
    a linear layer; so is, always, what a pool makes of senders whose width is a pair not known yet.
    Receivers without features, ``x=(senders, None)`` with ``size``, leave out the first term.
    ``edge_weight`` in the call weights the elements of the bag, so that 2 counts like a
    double edge.

    Example:
        >>> conv = GINConv(8, 16, aggr="max")
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.randn(3, 8), edge_index).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        in_channels: Width,
        out_channels: int,
        aggr: Any = "sum",
        nn: nn.Module | None = None,
        eps: float = 0.0,
        train_eps: bool = False,
        edge_dim: int | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        sent, received = width_pair(in_channels)
        super().__init__(aggr, sent, aggr_kwargs, **kwargs)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.nn = perceptron(received, out_channels, out_channels) if nn is None else nn
        self.initial_eps = eps
        epsilon = torch.tensor([float(eps)])
        if train_eps:
            self.eps = torch.nn.Parameter(epsilon)
        else:
            self.register_buffer("eps", epsilon)
        self.edge_dim = edge_dim
        self.lin_edge = edge_layer(edge_dim, sent)
        self.project: torch.nn.Module | None = None
        if sent > 0 and received > 0:
            pooled = self.pooled_channels(sent)
            if pooled != received:
                self.project = Linear(pooled, received)
        elif not isinstance(in_channels, int) or not keeps_width(self.aggr_module):
            # Its output is set at the first call, which tells both widths.
            self.project = torch.nn.LazyLinear(0)
        with kept(nn, aggr):
            self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        reset(self.nn)
        self.eps.data.fill_(self.initial_eps)
        for layer in (self.lin_edge, self.project):
            if layer is not None:
                reset(layer)

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
        pooled, own = self.pool_neighbors(call, torch.relu), call.receivers
        if isinstance(self.project, torch.nn.LazyLinear):
            self.project.out_features = (pooled if own is None else own).size(-1)
            with torch.inference_mode(False):
                self.project.initialize_parameters(pooled)
        if self.project is not None:
            pooled = self.project(pooled)
        if own is not None and own.size(-1) != pooled.size(-1):
            raise ValueError(
                f"Receivers of {own.size(-1)} channels, and {pooled.size(-1)} pooled from their senders, "
                f"cannot be added: give in_channels=(senders, receivers); it is {self.in_channels}."
            )
        return self.nn(pooled if own is None else (1 + self.eps) * own + pooled)
