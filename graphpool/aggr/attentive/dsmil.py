"""Attention to the instance with the highest score."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.attentive.gated import pool_heads
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.ops import segment_gather, segment_max, segment_mean, segment_softmax
from graphpool.segments import Segments


@register("dsmil")
class DSMIL(MatrixAggregation):
    r"""Dual-stream attention: the element with the highest score is the query of its bag,

    .. math:: y_{s,k} = \sum_{e \in s} a_{e,k} x_e, \qquad
              a_{\cdot,k} = \mathrm{softmax}_s\big(q(x)^\top q(x_{e^*_k}) / \sqrt H\big), \qquad
              e^*_k = \arg\max_{e \in s} c_k(x_e)

    with :math:`c` linear and :math:`q(x) = \tanh(L_2\, \mathrm{relu}(L_1 x))`. Elements that share the
    highest score are the query together, by the mean of their :math:`q`.

    A choice has no derivative: :math:`c` is trained by a second half of the loss, on :meth:`bag_scores`, the
    highest score of each bag, as in the paper::

        loss = 0.5 * bce(head(pool(x, bags)), y) + 0.5 * bce(pool.bag_scores(x, bags), y)

    Li, Li, Eliceiri, "Dual-stream multiple instance learning network for whole slide image classification
    with self-supervised contrastive learning", CVPR 2021.

    Args:
        channels: Number of channels ``C``.
        num_outputs: Number ``K`` of classes, each with a score and a pooled vector of its own.
        hidden: Width ``H`` of :math:`q`.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * C]``

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.DSMIL(8, num_outputs=2)
        >>> x = torch.randn(5, 8)
        >>> pool(x).shape, pool.bag_scores(x, graphpool.Segments(ptr=torch.tensor([0, 5]))).shape
        (torch.Size([1, 16]), torch.Size([1, 2]))
    """

    learnable = True
    complexity = "E C H"
    example_arguments = {"hidden": 4, "num_outputs": 2}
    whole_bag = "its query is an element that must be found first, which is a pass of its own"

    def __init__(self, channels: int, *, num_outputs: int = 1, hidden: int = 128) -> None:
        super().__init__(channels)
        self.num_outputs = as_count(num_outputs, "num_outputs")
        self.hidden = as_count(hidden, "hidden")

    def build(self, channels: int) -> None:
        self.score = torch.nn.Linear(channels, self.num_outputs)
        self.query = torch.nn.Sequential(
            torch.nn.Linear(channels, self.hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(self.hidden, self.hidden),
            torch.nn.Tanh(),
        )

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_outputs * self.channels

    def bag_scores(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The highest score of each bag and class, ``[E, C]`` to ``[S, K]``."""
        return segment_max(self.score(x), segments, weight)

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return pool_heads(self._logits(x, segments, weight), x, segments, weight)

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, K]`` of elements ``[E, C]``; each bag and class sums to 1."""
        score = self._logits(x.to(self._dtype(x)), segments, weight)
        return segment_softmax(score, segments, weight).to(x.dtype)

    def _logits(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        q, score = self.query(x), self.score(x).detach()
        chosen = score == segment_gather(segment_max(score, segments, weight), segments)
        logits = []
        for hit in chosen.unbind(1):
            times = hit.to(q.dtype) if weight is None else hit * weight.to(q.dtype)
            critical = segment_mean(q, segments, times)
            logits.append((q * segment_gather(critical, segments)).sum(1))
        return torch.stack(logits, 1) / self.hidden**0.5
