"""The equivariant layer of Deep Sets."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_one_of
from graphpool.nn import reset
from graphpool.ops import segment_gather, segment_max, segment_mean
from graphpool.segments import Segments

_POOLS = {"max": segment_max, "mean": segment_mean}


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
        in_channels = as_count(in_channels, "in_channels")
        out_channels = as_count(out_channels, "out_channels")
        check_one_of(pool, "pool", _POOLS)
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
