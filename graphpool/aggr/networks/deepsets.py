"""Deep Sets: the invariant pool, and the equivariant layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool.aggr.flat import FlatAggregation, check_count, perceptron, reset
from graphpool.aggr.registry import register, resolve
from graphpool.ops import segment_gather, segment_max, segment_mean
from graphpool.segments import Segments

_POOLS = {"max": segment_max, "mean": segment_mean}


@register("deepsets")
class DeepSets(FlatAggregation):
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
        self.hidden = None if hidden is None else check_count(hidden, "hidden")
        self.width = None if out_channels is None else check_count(out_channels, "out_channels")
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

    def pool_flat(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return self.rho(self.inner_pool(self.phi(x), segments, dim=0, weight=weight))

    def extra_repr(self) -> str:
        return f"channels={self.channels}, hidden={self.hidden}, out_channels={self.width}"


class SetEquivariant(torch.nn.Module):
    r"""The equivariant layer of Deep Sets, from elements to elements.

    ================== ================================================= ===================
    ``separate``       formula                                           in the paper's code
    ================== ================================================= ===================
    ``False``          :math:`\Gamma(x_e - \mathrm{pool}_s(x))`          ``perm_equi1``
    ``True``           :math:`\Gamma(x_e) - \Lambda \mathrm{pool}_s(x)`  ``perm_equi2``
    ================== ================================================= ===================

    with :math:`\Gamma` linear with bias, :math:`\Lambda` linear without, and the maximum or the mean for
    the pool. With ``separate=False`` a common offset of a bag drops out, and so does everything about a
    bag of one element. The activation is up to the caller.

    Args:
        in_channels: Width of the elements.
        out_channels: Width of the result.
        pool: ``"max"`` or ``"mean"``.
        separate: Whether the pool has a map of its own.

    Raises:
        ValueError: A width is less than 1, or the pool is unknown.

    Example:
        >>> layer = SetEquivariant(3, 8, pool="mean", separate=False)
        >>> x, segments = torch.randn(5, 3), Segments(ptr=torch.tensor([0, 2, 5]))
        >>> torch.allclose(layer(x, segments), layer(x + 1, segments), atol=1e-6)
        True
    """

    def __init__(
        self, in_channels: int, out_channels: int, pool: str = "max", separate: bool = True
    ) -> None:
        super().__init__()
        in_channels = check_count(in_channels, "in_channels")
        out_channels = check_count(out_channels, "out_channels")
        if pool not in _POOLS:
            raise ValueError(f"`pool` must be one of {list(_POOLS)}; got {pool!r}.")
        self.pool = pool
        self.gamma = torch.nn.Linear(in_channels, out_channels)
        self.lambda_ = torch.nn.Linear(in_channels, out_channels, bias=False) if separate else None

    def reset_parameters(self) -> None:
        """Restores the initial parameters."""
        reset(*self.children())

    def forward(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """Maps elements ``[E, in_channels]`` to ``[E, out_channels]``.

        Args:
            x: Elements.
            segments: The bags.
            weight: ``[E]``: how often each element counts in the pool.
        """
        pooled = _POOLS[self.pool](x, segments, weight)
        if self.lambda_ is None:
            return self.gamma(x - segment_gather(pooled, segments))
        return self.gamma(x) - segment_gather(self.lambda_(pooled), segments)

    def extra_repr(self) -> str:
        return f"pool={self.pool!r}"
