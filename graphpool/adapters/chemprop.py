"""A pool as the aggregation of chemprop: atoms of a molecule are a bag."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from graphpool import _optional
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.segments import Segments

_nn: Any = _optional.require("chemprop.nn", "graphpool.adapters.chemprop")


@_nn.AggregationRegistry.register("bag")
class BagAggregation(_nn.Aggregation):
    """Any pool over the atoms of a molecule, for ``chemprop.models.MPNN(message_passing, agg, predictor)``.

    Args:
        dim: 0, as chemprop gives it.
        channels: Width of the atoms, ``message_passing.output_dim``.
        pool: Its name, class or list, what :func:`graphpool.aggr.resolve` takes but a module, so that a
            checkpoint of chemprop can make it again.
        **kwargs: Arguments of the pool.

    Attributes:
        out_channels: Width of the molecules, the ``input_dim`` of the predictor.

    Raises:
        TypeError: ``pool`` is a module.
    """

    def __init__(self, dim: int = 0, *, channels: int, pool: Any = "gnp", **kwargs: Any) -> None:
        super().__init__(dim)
        if dim != 0 or not isinstance(pool, str | list | type):
            raise TypeError(
                f"`pool` must be a name, class or list, and `dim` 0; got {type(pool).__name__}, {dim}."
            )
        self.pool = resolve_pool(pool, channels, **kwargs)
        self.out_channels = pooled_width(self.pool, channels)
        self.hparams.update(channels=channels, pool=pool, **kwargs)

    def forward(self, H: Tensor, batch: Tensor) -> Tensor:
        count = int(batch.max()) + 1 if batch.numel() else 0
        return pool(self.pool, H, Segments(index=batch, num_segments=count))
