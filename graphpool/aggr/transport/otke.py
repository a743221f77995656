"""Optimal transport of a bag to learned references."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.attentive.gated import pool_heads
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.nn import l2_normalize
from graphpool.ops import segment_gather, segment_logsumexp, segment_softmax
from graphpool.segments import Segments


@register("otke")
class OTKE(MatrixAggregation):
    r"""Optimal transport kernel embedding: the bag is carried to references, each of which takes an equal
    share:

    .. math:: y_{s,k} = \sum_{e \in s} T_{e,k}\, x_e, \qquad
              T_{e,k} = u_e\, e^{\cos(x_e, z_k) / \varepsilon}\, v_{s,k}, \qquad
              \sum_k T_{e,k} = \frac{K}{n_s}, \quad \sum_{e \in s} T_{e,k} = 1

    for ``K`` references :math:`z_k`, found by Sinkhorn's iterations, which end with the second condition.
    It is attention with ``K`` seeds of which none can be left without elements, and no element without a
    seed. Weights are the other marginal: :math:`K w_e / \sum w`. Cosines of vectors shorter than 1e-6 tend
    to 0, as those of a vector without direction.

    Mialon, Chen, d'Aspremont, Mairal, "A trainable optimal transport embedding for feature aggregation and
    its relationship to attention", ICLR 2021 (whose formula has a factor :math:`1 / \sqrt K` that its code
    has not).

    Args:
        channels: Number of channels ``C``.
        num_references: Number ``K`` of references.
        eps: :math:`\varepsilon`, positive: how blurred the plan is.
        iterations: Number of iterations, through all of which the derivative goes.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., K * C]``

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> from graphpool import aggr
        >>> aggr.OTKE(4, num_references=3)(torch.randn(5, 4)).shape
        torch.Size([1, 12])
    """

    learnable = True
    complexity = "E C K + I E K, I iterations"
    example_arguments = {"num_references": 2, "iterations": 3}
    whole_bag = "each of its iterations is a pass over the bag"

    def __init__(
        self, channels: int, *, num_references: int = 8, eps: float = 0.1, iterations: int = 10
    ) -> None:
        super().__init__(channels)
        self.num_references = as_count(num_references, "num_references")
        self.iterations = as_count(iterations, "iterations")
        if not 0 < eps < math.inf:
            raise ValueError(f"`eps` must be positive and finite; got {eps}.")
        self.eps = float(eps)

    def build(self, channels: int) -> None:
        self.references = torch.nn.Parameter(torch.empty(self.num_references, channels))

    def reset_parameters(self) -> None:
        bound = self.num_references**-0.5
        torch.nn.init.uniform_(self.references, -bound, bound)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.num_references * self.channels

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return pool_heads(self._scores(x, segments, weight), x, segments, weight)

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The plan ``[E, K]`` of elements ``[E, C]``; each bag and reference sums to 1."""
        score = self._scores(x.to(self._dtype(x)), segments, weight)
        return segment_softmax(score, segments, weight).to(x.dtype)

    def _scores(self, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
        """Logarithms of the plan, up to what the softmax over the bag makes of them: the last condition."""
        with torch.autocast(x.device.type, enabled=False):
            near = l2_normalize(x) @ l2_normalize(self.references).mT / self.eps
            u = -near.logsumexp(1, keepdim=True)
            for _ in range(self.iterations - 1):
                v = -segment_logsumexp(near + u, segments, weight)
                u = -(near + segment_gather(v, segments)).logsumexp(1, keepdim=True)
            return near + u
