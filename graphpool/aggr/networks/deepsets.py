"""Deep Sets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.pyg import merging_of
from graphpool.aggr.registry import register, resolve
from graphpool.aggr.statistics.moments import Mean, Sum
from graphpool.nn import may_be_folded, perceptron, reset, through
from graphpool.segments import Segments
from graphpool.states import Mapped, Mergeable


@register("deepsets")
class DeepSets(MatrixAggregation):
    r"""A network of a sum of a network: :math:`y_s = \rho\big(\sum_{e \in s} \phi(x_e)\big)`.

    Any invariant function of sets of bounded size has this form. With the default widths both networks
    are perceptrons with one hidden layer; give modules for others. An empty bag gives 0, not
    :math:`\rho(0)`.

    Zaheer, Kottur, Ravanbakhsh, Póczos, Salakhutdinov, Smola, "Deep sets", NIPS 2017.

    Args:
        channels: Number of channels ``C``.
        hidden: Width of the hidden layers and of the sum; ``C`` if ``None``.
        out_channels: Width of the output; ``C`` if ``None``.
        pool: What takes the place of the sum: any name, class or module.
        phi: Module for :math:`\phi`; with it ``hidden`` is the width that it gives.
        rho: Module for :math:`\rho`; with it ``out_channels`` is the width that it gives.

    Raises:
        ValueError: A width is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.DeepSets(4, hidden=16, out_channels=1)(torch.randn(10, 4)).shape
        torch.Size([1, 1])
    """

    learnable = True
    multiplicity_aware = True
    complexity = "E C^2"
    bags_apart = True

    def __init__(
        self,
        channels: int,
        *,
        hidden: int | None = None,
        out_channels: int | None = None,
        pool: Any = "sum",
        phi: torch.nn.Module | None = None,
        rho: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(channels)
        self.hidden = None if hidden is None else as_count(hidden, "hidden")
        self.width = None if out_channels is None else as_count(out_channels, "out_channels")
        self.inner = pool
        self._given = (phi, rho)

    def build(self, channels: int) -> None:
        phi, rho = self._given
        hidden, out = self.hidden or channels, self.width or channels
        self.phi = perceptron(channels, hidden, hidden) if phi is None else phi
        self.inner_pool = resolve(self.inner, channels=hidden)
        width = getattr(self.inner_pool, "out_channels", None) or hidden
        self.rho = perceptron(width, hidden, out) if rho is None else rho

    def reset_parameters(self) -> None:
        reset(self.phi, self.inner_pool, self.rho)

    @property
    def out_channels(self) -> int | None:
        return self.width or self.channels

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        last = self._commutes()
        if last is None:
            return self.rho(self.inner_pool(self.phi(x), segments, dim=0, weight=weight))
        x = through(list(self.phi)[:-1], x)  # type: ignore[call-overload]
        pooled = self.inner_pool(x, segments, dim=0, weight=weight)
        if type(self.inner_pool) is Mean or last.bias is None:
            return self.rho(last(pooled))
        offset = segment_sizes(segments, weight, pooled) * last.bias
        return self.rho(torch.nn.functional.linear(pooled, last.weight) + offset)

    def merging(self) -> Mergeable:
        return Mapped(
            merging_of(self.inner_pool),
            lambda x: self.phi(x.to(self._dtype(x))),
            lambda y, sums: self.rho(y.to(self._dtype(y))),
        )

    def _commutes(self) -> torch.nn.Linear | None:
        """The last layer of the inner network, if it and the pool are linear: it may come after the pool."""
        if type(self.inner_pool) not in (Sum, Mean) or type(self.phi) is not torch.nn.Sequential:
            return None
        last = self.phi[-1] if len(self.phi) else None
        if not isinstance(last, torch.nn.Linear) or not may_be_folded(self.phi, last):
            return None
        return last if self.inner_pool.channels in (None, last.in_features) else None
