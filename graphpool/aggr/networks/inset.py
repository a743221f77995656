"""A subset, pooled with an eye on the whole set."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_one_of, check_one_per
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.registry import register
from graphpool.nn import perceptron
from graphpool.ops import segment_sum
from graphpool.segments import Segments
from graphpool.states import Mergeable, Sums, Tensors

COMBINATIONS = ("add", "cat")


@register("inset")
class INSET(MatrixAggregation):
    r"""A function of a subset that also sees the whole bag:

    .. math:: y_s = \rho\Big(\sigma\big(\Theta_1 \textstyle\sum_{e \in s} m_e \phi(x_e)
                                  + \Theta_2 \sum_{e \in s} \phi(x_e)\big)\Big)

    with :math:`m_e \in [0, 1]` telling what belongs to the subset. Called without ``mask``, the subset is
    the whole bag. Use it as a set function (``out_channels=1``), or to pool one cluster in the light of
    its graph.

    Xie, Wu, et al., "Enhancing neural subset selection: integrating background information into set
    representations", ICLR 2024.

    Args:
        channels: Number of channels ``C``.
        hidden: Width of the embedding; ``C`` if ``None``.
        out_channels: Width of the output; ``C`` if ``None``.
        context: Whether the whole bag is seen; without it this is a Deep Set of the subset.
        combine: ``"add"``, as above, or ``"cat"``: the two sums are concatenated under one linear map.
        phi: Module for :math:`\phi`, a perceptron with one hidden layer if ``None``; with it ``hidden``
            is the width that it gives.

    Raises:
        ValueError: A width is less than 1, or ``combine`` is unknown; in the call, ``mask`` does not have
            one value per element.

    Example:
        >>> from graphpool import aggr
        >>> value = aggr.INSET(4, hidden=16, out_channels=1)
        >>> value(torch.randn(5, 4), mask=torch.tensor([True, False, True, False, False])).shape
        torch.Size([1, 1])
    """

    learnable = True
    multiplicity_aware = True
    complexity = "E C^2"

    def __init__(
        self,
        channels: int,
        *,
        hidden: int | None = None,
        out_channels: int | None = None,
        context: bool = True,
        combine: str = "add",
        phi: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(channels)
        self.hidden = None if hidden is None else as_count(hidden, "hidden")
        self.width = None if out_channels is None else as_count(out_channels, "out_channels")
        check_one_of(combine, "combine", COMBINATIONS)
        self.context = context
        self.combine = combine
        self._given = phi

    def build(self, channels: int) -> None:
        hidden = self.hidden or channels
        self.phi = perceptron(channels, hidden, hidden) if self._given is None else self._given
        self.subset = torch.nn.Linear(hidden, hidden)
        if self.context:
            self.whole = torch.nn.Linear(hidden, hidden, bias=False)
        wide = 2 * hidden if self.context and self.combine == "cat" else hidden
        self.rho = perceptron(wide, hidden, self.width or channels)

    @property
    def out_channels(self) -> int | None:
        return self.width or self.channels

    def pool_matrix(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        embedding = self.phi(x)
        return self.value(embedding, segments, weight, mask)

    def merging(self) -> Mergeable:
        def finish(sums: Tensors) -> Tensor:
            whole = sums["x"].to(self.subset.weight.dtype)
            return self.value_of_sums(whole, whole)

        return Sums(finish, lambda x: {"x": self.phi(x.to(self._dtype(x)))})

    def value(
        self,
        embedding: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The same from elements that went through ``phi`` already, for many subsets of one bag."""
        whole = segment_sum(embedding, segments, weight)
        chosen = embedding
        if mask is not None:
            check_one_per("element", embedding.size(0), "mask", mask.shape)
            chosen = mask.to(embedding.dtype).unsqueeze(-1) * embedding
        part = whole if mask is None else segment_sum(chosen, segments, weight)
        return self.value_of_sums(part, whole)

    def value_of_sums(self, part: Tensor, whole: Tensor) -> Tensor:
        """The same from the two sums ``[..., hidden]``."""
        return self.rho(self.inner(part, whole).relu())

    def inner(self, part: Tensor, whole: Tensor) -> Tensor:
        """What the nonlinearity is applied to; linear in the sum over the subset, ``part``."""
        inner = self.subset(part)
        if not self.context:
            return inner
        background = self.whole(whole).expand_as(inner)
        return torch.cat([inner, background], -1) if self.combine == "cat" else inner + background
