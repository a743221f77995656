"""Graph attention convolution."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.typing import OptTensor, PairTensor

from graphpool.aggr.foreign import pool, pooled_width, resolve_pool
from graphpool.segments import Segments


class GATv2Conv(pyg.GATv2Conv):
    r"""Graph attention whose attended messages go into any pool:

    .. math:: x_i' = \mathrm{pool}_{j \in N(i)}\, \alpha_{ij} W x_j

    with the attention weights :math:`\alpha_{ij}` of Brody et al., "How Attentive are Graph
    Attention Networks?", ICLR 2022. ``aggr="sum"`` is the original. All arguments but ``aggr`` and
    ``aggr_kwargs`` are those of :class:`torch_geometric.nn.GATv2Conv`; the pool must return as many
    channels as it gets (``heads * out_channels``).

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call.
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
        channels = heads * out_channels
        module = resolve_pool(aggr, channels=channels, **(aggr_kwargs or {}))
        pooled = pooled_width(module, channels)
        if pooled != channels:
            raise ValueError(
                f"aggr must return the {channels} channels of the {heads} heads; got {pooled}"
            )
        super().__init__(in_channels, out_channels, heads, aggr=module, **kwargs)

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int | None = None) -> Tensor:
        if dim_size is None:
            raise ValueError("dim_size, the number of receiving nodes, must be given")
        bags = Segments(index=index, num_segments=dim_size)
        pooled = pool(self.aggr_module, inputs.flatten(1), bags)
        return pooled.view(dim_size, *inputs.shape[1:])
