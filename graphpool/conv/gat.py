"""Graph attention convolution."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.nn.dense.linear import is_uninitialized_parameter
from torch_geometric.typing import OptTensor, PairTensor
from torch_geometric.utils import is_sparse

from graphpool._arguments import what_came
from graphpool.aggr.lazy import kept
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.conv.base import checked_nodes, edge_features
from graphpool.conv.neighborhoods import neighborhoods, sparse_entries
from graphpool.segments import Segments


class GATv2Conv(pyg.GATv2Conv):
    r"""Graph attention whose attended messages go into any pool:

    .. math:: x_i' = \mathrm{pool}_{j \in N(i)}\, \alpha_{ij} W x_j

    with the attention weights :math:`\alpha_{ij}` of Brody et al., "How Attentive are Graph
    Attention Networks?", ICLR 2022. ``aggr="sum"`` is the original. All arguments but ``aggr`` and
    ``aggr_kwargs`` are those of :class:`torch_geometric.nn.GATv2Conv`; the pool must return as many
    channels as it gets (``heads * out_channels``).

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call; or a pair, of the senders
            and of the receivers.
        out_channels: Width of each head.
        heads: Number of heads.
        aggr: Any pool: a name, module or class.
        aggr_kwargs: Arguments of the pool.
        **kwargs: ``concat``, ``negative_slope``, ``dropout``, ``add_self_loops``, ``edge_dim``, ...
            .

    Raises:
        ValueError: If the pool changes the number of channels.

    Example:
        >>> conv = GATv2Conv(8, 4, heads=2, aggr="max")
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.randn(3, 8), edge_index).shape
        torch.Size([3, 8])
    """

    # PyTorch Geometric reads these off the source of its class, by name, and ours has the same name.
    edge_updater_type: ClassVar = {"x": PairTensor, "edge_attr": OptTensor}
    propagate_type: ClassVar = {"x": PairTensor, "alpha": Tensor}

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        aggr: Any = "sum",
        aggr_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("node_dim", 0) != 0:
            raise ValueError(
                "GATv2Conv takes x of shape [num_nodes, channels] only, no `node_dim`."
            )
        channels = heads * out_channels
        module = resolve_pool(aggr, channels=channels, **(aggr_kwargs or {}))
        pooled = pooled_width(module, channels)
        if pooled != channels:
            raise ValueError(
                f"`aggr` must return the {channels} channels of the {heads} heads; got {pooled}."
            )
        with kept(aggr):
            super().__init__(in_channels, out_channels, heads, aggr=module, **kwargs)

    def forward(
        self,
        x: Any,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
        edge_weight: None = None,
    ) -> Any:
        """Maps nodes ``[N, in_channels]``, or (senders, receivers), to ``[N, heads * out_channels]``.

        Args:
            x: Node features, or a pair of them.
            edge_index: ``[2, E]``, a sparse adjacency ``[receivers, senders]``, or
                :class:`~graphpool.conv.Neighborhoods`.
            edge_attr: Edge features ``[E, edge_dim]``, exactly if the layer was made for them.
            return_attention_weights: Returns ``(edge_index, attention)`` as well.
            edge_weight: Not taken: the attention weights the edges.

        Raises:
            ValueError: If an argument does not fit; the message names it.
        """
        if edge_weight is not None:
            raise ValueError("GATv2Conv takes no `edge_weight`: the attention weights the edges.")
        parts = checked_nodes(self, x)
        senders, receivers = parts
        if senders is None or receivers is None or {p.dim() for p in (senders, receivers)} != {2}:
            raise ValueError(
                "`x` must be [num_nodes, channels] of senders and of nodes that receive for GATv2Conv; got "
                f"{', '.join(map(what_came, parts))}."
            )
        self._build(senders, receivers)
        values = None
        if is_sparse(edge_index):
            source, _, values = sparse_entries(edge_index)
            edges = source.numel()
        else:
            # The largest node is not looked for in each layer: the graph is kept.
            graph = neighborhoods(edge_index, senders.size(0), receivers.size(0))
            values, edge_index, edges = graph.values, graph.edge_index, graph.num_edges
        if values is not None and (edge_attr is not None or values.dim() != 2):
            raise ValueError(
                "Of a sparse adjacency GATv2Conv takes values [num_edges, edge_dim] as `edge_attr`, "
                f"in place of it; got values of shape {tuple(values.shape)}."
            )
        given = edge_attr if values is None else values
        edge_attr = edge_features(self, given, self.edge_dim, edges)
        return super().forward(x, edge_index, edge_attr, return_attention_weights)

    def _build(self, senders: Tensor, receivers: Tensor) -> None:
        """Makes the weights that awaited the first input, such that they can be trained if that comes in
        inference mode."""
        for layer, part in ((self.lin_l, senders), (self.lin_r, receivers), (self.res, receivers)):
            if layer is not None and is_uninitialized_parameter(layer.weight):
                with torch.inference_mode(False):
                    layer.initialize_parameters(layer, (part,))

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int | None = None) -> Tensor:
        if dim_size is None:
            raise ValueError("`dim_size`, the number of receiving nodes, must be given.")
        receivers = Segments(index=index, num_segments=dim_size)
        pooled = pool(self.aggr_module, inputs.flatten(1), receivers)
        return pooled.view(dim_size, *inputs.shape[1:])
