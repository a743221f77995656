"""Pools in GraphGym: a head whose pool is any, by the name in the configuration."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graphpool import _optional
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.segments import Segments

_optional.require("yacs.config", "graphpool.adapters.graphgym")
from torch_geometric.graphgym.config import cfg  # noqa: E402
from torch_geometric.graphgym.models.layer import MLP, new_layer_config  # noqa: E402
from torch_geometric.graphgym.register import head_dict, register_head  # noqa: E402


class BagHead(nn.Module):
    """GraphGym's head for graphs with ``cfg.model.graph_pooling`` any pool, learned ones too.

    Importing this file registers it: ``cfg.gnn.head = "bag"``. Names are those of
    :func:`graphpool.aggr.resolve`, with ``+`` between those to be added; ``"add"`` is the sum.

    Args:
        dim_in: Width of the nodes.
        dim_out: Width of the prediction.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.pool = resolve_pool(cfg.model.graph_pooling, dim_in)
        width = pooled_width(self.pool, dim_in)
        self.layer_post_mp = MLP(
            new_layer_config(
                width, dim_out, cfg.gnn.layers_post_mp, has_act=False, has_bias=True, cfg=cfg
            )
        )

    def forward(self, batch: Any) -> tuple[Tensor, Any]:
        graphs = Segments(index=batch.batch, num_segments=batch.num_graphs)
        batch.graph_feature = self.layer_post_mp(pool(self.pool, batch.x, graphs))
        return batch.graph_feature, batch.y


if "bag" not in head_dict:
    register_head("bag", BagHead)
