"""Attention that is asked several times, by a query that remembers."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.nn import lstm_step
from graphpool.ops import segment_gather, segment_softmax_sum
from graphpool.segments import Segments


@register("set2set")
class Set2Set(MatrixAggregation):
    r"""Several readings of the bag by attention, each with a query that the one before has changed:

    .. math:: q_t = \mathrm{LSTM}(q^*_{t-1}), \qquad
              r_t = \sum_{e \in s} \mathrm{softmax}_s(q_t^\top x)_e\, x_e, \qquad q^*_t = [q_t, r_t]

    from :math:`q^*_0 = 0`, so that the first query is the same for all bags. An empty bag gives 0.

    Vinyals, Bengio, Kudlur, "Order matters: sequence to sequence for sets", ICLR 2016.

    Args:
        channels: Number of channels ``C``.
        processing_steps: Number of readings.
        scale: Divide the scores by the square root of ``C``, without which the softmax of many channels takes
            one element; the paper does not.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., 2 * C]``

    Raises:
        ValueError: ``processing_steps`` is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Set2Set(4)(torch.randn(5, 4)).shape
        torch.Size([1, 8])
    """

    learnable = True
    complexity = "K E C + K S C^2, K readings"
    example_arguments = {"processing_steps": 2}
    whole_bag = "each of its readings is a pass over the bag"

    def __init__(self, channels: int, *, processing_steps: int = 3, scale: bool = False) -> None:
        super().__init__(channels)
        self.processing_steps = as_count(processing_steps, "processing_steps")
        self.scale = scale

    def build(self, channels: int) -> None:
        self.cell = torch.nn.LSTMCell(2 * channels, channels)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else 2 * self.channels

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        bags, channels = segments.num_segments, x.size(1)
        read = x.new_zeros(bags, channels)
        state = (read, read)
        for _ in range(self.processing_steps):
            state = lstm_step(self.cell, torch.cat([state[0], read], 1), state)
            # Under autocast the cell computes in half precision; the elements are what they are.
            query = segment_gather(state[0].to(x.dtype), segments)
            score = (x * query).sum(1)
            score = score / channels**0.5 if self.scale else score
            read = segment_softmax_sum(score, x, segments, weight)
        return torch.cat([state[0].to(x.dtype), read], 1)
