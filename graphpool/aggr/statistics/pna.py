"""Several statistics, each also scaled by the size of the bag."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from graphpool.aggr.absent import segment_sizes
from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import lookup, register
from graphpool.ops import segment_moments, working
from graphpool.segments import Segments
from graphpool.states import Mergeable, Several, Tensors, size_of

SCALERS = {"identity": 0, "amplification": 1, "attenuation": -1}
STATISTICS = ("sum", "mean", "var", "std", "min", "max")


@register("pna")
class PNA(Aggregation):
    r"""Principal neighbourhood aggregation: statistics of the bag, side by side, each times powers of the
    logarithm of its size:

    .. math:: y_s = \Big[ \Big(\frac{\log(n_s + 1)}{\delta}\Big)^{a} f(s) \Big]_{a, f}, \qquad
              a \in \{0, 1, -1\}, \quad f \in \{\mathrm{mean}, \max, \min, \mathrm{std}\}

    All statistics are found in one pass. :math:`n_s` is the sum of the weights where there are any. The
    standard deviation has derivative 0 where it is 0.

    Corso et al., "Principal neighbourhood aggregation for graph nets", NeurIPS 2020.

    Args:
        channels: See :class:`Aggregation`.
        statistics: Names among sum, mean, var, std, min, max.
        scalers: Names among identity (:math:`a = 0`), amplification (1), attenuation (-1).
        delta: :math:`\delta`, the mean of :math:`\log(n + 1)` over the bags of training; or the sizes of
            these bags, a list or a tensor, to take it from. It is part of the state. 1 leaves logarithms as
            they are.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., scalers * statistics * C]``; all statistics with the first scaler come
        first.

    Raises:
        ValueError: A name is unknown, there is none, or ``delta`` is not positive.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.PNA(delta=[2, 2], statistics=["mean", "max"], scalers=["identity", "amplification"])
        >>> pool(torch.tensor([[1.0], [3.0]]))
        tensor([[2., 3., 2., 3.]])
    """

    multiplicity_aware = True
    delta: Tensor

    def __init__(
        self,
        channels: int | None = None,
        *,
        statistics: Sequence[str] = ("mean", "max", "min", "std"),
        scalers: Sequence[str] = tuple(SCALERS),
        delta: float | Sequence[int] | Tensor = 1.0,
    ) -> None:
        super().__init__(channels)
        for name, given, known in (
            ("statistics", statistics, STATISTICS),
            ("scalers", scalers, tuple(SCALERS)),
        ):
            if isinstance(given, str) or not given or not set(given) <= set(known):
                raise ValueError(f"`{name}` must be a list of some of {known}; got {given!r}.")
        self.statistics, self.scalers = tuple(statistics), tuple(scalers)
        sizes = torch.as_tensor(delta, dtype=torch.double)
        value = float(sizes.log1p().mean() if sizes.dim() else sizes)
        if not 0 < value < math.inf:
            raise ValueError(f"`delta` must be positive, or sizes of bags; got {value}.")
        self.register_buffer("delta", torch.tensor(value))

    @property
    def out_channels(self) -> int | None:
        if self.channels in (None, -1):
            return self.channels
        return len(self.scalers) * len(self.statistics) * self.channels

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        found = segment_moments(working(x), segments, self.statistics, weight)
        y = torch.cat(list(found), dim=-1)
        return self._scaled(y, segment_sizes(segments, weight, y)).to(x.dtype)

    def _scaled(self, y: Tensor, sizes: Tensor) -> Tensor:
        # The size of an empty bag is 1, and its statistics are 0.
        log = sizes.log1p() / self.delta.to(y.dtype)
        scales = [log ** SCALERS[name] for name in self.scalers]
        if torch.is_grad_enabled():
            return torch.cat([y * scale for scale in scales], dim=-1)
        # The same bits, written once; backward this would make an array of the size of the result.
        return (y.unsqueeze(-2) * torch.cat(scales, dim=-1).unsqueeze(-1)).flatten(-2)

    def merging(self) -> Mergeable:
        def combine(parts: Tensors, sums: Tensors) -> Tensor:
            y = torch.cat(list(parts.values()), dim=-1)
            return self._scaled(y, size_of(sums, y))

        return Several({name: lookup(name)().merging() for name in self.statistics}, combine)

    def extra_repr(self) -> str:
        return (
            f"statistics={self.statistics}, scalers={self.scalers}, delta={float(self.delta):.4g}"
        )
