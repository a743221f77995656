"""Attention of multiple-instance learning: one score for each element."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.ops import segment_softmax, segment_softmax_sum
from graphpool.segments import Segments
from graphpool.states import Exponential, Mergeable, Tensors


@register("gated_attention", "abmil")
class GatedAttention(MatrixAggregation):
    r"""Attention with a score for each element, from a small network with a gate:

    .. math:: y_s = \sum_{e \in s} a_e x_e, \qquad
              a = \mathrm{softmax}_s\big(u^\top (\tanh(V x) \odot \sigma(U x))\big)

    Without the gate :math:`a = \mathrm{softmax}_s(u^\top \tanh(V x))`. Scores are bounded by the sum of
    :math:`|u|`. :math:`u = 0` is the mean; the size of the bag is not seen.

    Ilse, Tomczak, Welling, "Attention-based deep multiple instance learning", ICML 2018.

    Args:
        channels: Number of channels ``C``.
        hidden: Width of the network.
        gated: Whether there is a gate.
        num_outputs: Number ``K`` of pooled vectors, each with scores of its own.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * C]``

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.GatedAttention(3, hidden=8)(torch.tensor([[1.0, 2.0, 3.0]])).detach()
        tensor([[1., 2., 3.]])
    """

    learnable = True
    complexity = "E C H"
    example_arguments = {"hidden": 4, "num_outputs": 2}

    def __init__(
        self, channels: int, *, hidden: int = 128, gated: bool = True, num_outputs: int = 1
    ) -> None:
        super().__init__(channels)
        self.hidden = as_count(hidden, "hidden")
        self.num_outputs = as_count(num_outputs, "num_outputs")
        self.gated = gated

    def build(self, channels: int) -> None:
        self.v = torch.nn.Linear(channels, self.hidden)
        if self.gated:
            self.gate = torch.nn.Linear(channels, self.hidden)
        # A bias would be the same for all elements, and no softmax would see it.
        self.u = torch.nn.Linear(self.hidden, self.num_outputs, bias=False)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_outputs * self.channels

    def scores(self, x: Tensor) -> Tensor:
        """The score of each element for each of the ``K`` outputs, ``[E, C]`` to ``[E, K]``."""
        hidden = self.v(x).tanh()
        return self.u(hidden * self.gate(x).sigmoid() if self.gated else hidden)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return pool_heads(self.scores(x), x, segments, weight)

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            x = x.to(self._dtype(x))
            return {"x": x.unsqueeze(1), "score": self.scores(x).unsqueeze(2)}

        return Exponential(
            lambda mean, log, sums: mean.flatten(1), lambda s: s["score"], lambda s: s["x"], encode
        )

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, K]`` of elements ``[E, C]``; each bag and output sums to 1."""
        return segment_softmax(self.scores(x.to(self._dtype(x))), segments, weight).to(x.dtype)


def pool_heads(
    score: Tensor, x: Tensor, segments: Segments, weight: Tensor | None = None
) -> Tensor:
    """All of ``x`` ``[E, C]`` weighed by a softmax of each column of ``score`` ``[E, K]``: ``[S, K * C]``."""
    parts = [segment_softmax_sum(column, x, segments, weight) for column in score.unbind(1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
