"""Scores over information: a step of maximum likelihood."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from graphpool._arguments import as_count
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.ops import segment_sum
from graphpool.segments import Segments
from graphpool.states import Mergeable, Sums, Tensors


@register("fishnets")
class Fishnets(MatrixAggregation):
    r"""Every element yields a score and how much it knows, and the bag divides the one by the other:

    .. math:: y_s = P \Big(I + \sum_{e \in s} F_e\Big)^{-1} \sum_{e \in s} t_e, \qquad F_e = L_e L_e^\top

    with a score :math:`t`, Fisher matrices :math:`F`, and :math:`t` and the lower triangular :math:`L`
    linear in the element, the diagonal of :math:`L` through a softplus, and :math:`I` the information
    before any element. An element that knows nothing changes nothing; a bag copied ever more often tends to
    :math:`P (\sum F)^{-1} \sum t`. All of it is float64: :math:`I` counts as
    :math:`(1 + 10^{-15}\, \mathrm{tr} \sum F)\, I`, which is it for elements of common sizes and what
    rounding leaves of it for enormous ones.

    Makinen, Alsing, Wandelt, "Fishnets: information-optimal, scalable aggregation for sets and graphs", 2023.

    Args:
        channels: Number of channels ``C``.
        parameters: Number ``q`` of parameters that the bag is to tell.
        out_channels: Width of the linear map :math:`P` behind, which has no bias; ``C`` if ``None``.

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Fishnets(8, parameters=3)(torch.randn(5, 8)).shape
        torch.Size([1, 8])
    """

    learnable = True
    multiplicity_aware = True
    complexity = "E C q^2 + S q^3"
    example_arguments = {"parameters": 3}

    def __init__(
        self, channels: int, *, parameters: int = 8, out_channels: int | None = None
    ) -> None:
        super().__init__(channels)
        self.size = as_count(parameters, "parameters")
        self.width = None if out_channels is None else as_count(out_channels, "out_channels")

    def build(self, channels: int) -> None:
        q = self.size
        self.score = torch.nn.Linear(channels, q)
        self.root = torch.nn.Linear(channels, q * (q + 1) // 2)
        self.p = torch.nn.Linear(q, self.width or channels, bias=False)

    @property
    def out_channels(self) -> int | None:
        return self.width or self.channels

    def scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score ``[E, q]`` and Fisher matrix ``[E, q, q]`` of each element, in float64."""
        q, entries = self.size, self.root(x)
        below, diagonal = entries[:, q:], softplus(entries[:, :q])
        row, column = torch.tril_indices(q, q, -1, device=x.device)
        # Which number goes to which place below the diagonal. Far from 0 what an element does not know is
        # lost beside what it knows.
        places = torch.eye(q * q, dtype=torch.double, device=x.device)[q * row + column]
        root = (below.double() @ places).view(-1, q, q) + torch.diag_embed(diagonal.double())
        return self.score(x).double(), root @ root.mT

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            score, fisher = self.scores(x)
            total = segment_sum(score, segments, weight)
            return self._solved(total, segment_sum(fisher.flatten(1), segments, weight))

    def _solved(self, total: Tensor, known: Tensor) -> Tensor:
        """The result of the sums of scores ``[S, q]`` and Fisher matrices ``[S, q * q]``."""
        known = known.unflatten(1, (self.size, self.size))
        eye = torch.eye(self.size, dtype=known.dtype, device=known.device)
        # What rounding would lose beside the sum. Without it the matrix of large elements is singular.
        least = 4 * torch.finfo(known.dtype).eps * known.diagonal(dim1=1, dim2=2).sum(1)
        # The tangent of a tangent of linalg.solve is wrong (PyTorch 2.13); the matrix is at least 1.
        inverse = torch.linalg.inv(eye * (1 + least)[:, None, None] + known)
        solved = (inverse @ total.unsqueeze(-1)).squeeze(-1)
        return self.p(solved.to(self.p.weight.dtype))

    def merging(self) -> Mergeable:
        def encode(x: Tensor) -> Tensors:
            score, fisher = self.scores(x.to(self._dtype(x)))
            return {"score": score, "fisher": fisher.flatten(1)}

        return Sums(lambda sums: self._solved(sums["score"], sums["fisher"]), encode)
