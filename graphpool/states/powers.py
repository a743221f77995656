"""Generalised norms that merge: exponentials of logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from graphpool.ops import align, segment_power, with_value
from graphpool.segments import Segments
from graphpool.states.families import Exponential
from graphpool.states.mergeable import Encoder, Tensors, as_is, size_of


class Powers(Exponential):
    r"""Generalised norms :math:`n^{-q} (\sum w |x|^p)^{1/p}`, those of :func:`graphpool.ops.segment_power`.

    Args:
        exponents: Gives ``p`` and ``q``, each ``[K, C]`` or ``[K, 1]``, for elements ``[..., C]``.
        finish: Makes the results of the norms ``[S, K, C]`` and the sums.
        sides: What is seen of the elements, each not negative: several functions give as many norms each,
            side by side.
        encode: See :class:`Exponential`; what is pooled is named ``x``.
        negative: What :func:`graphpool.ops.segment_power` calls the only side, if it has a name for it.
    """

    def __init__(
        self,
        exponents: Callable[[Tensor], tuple[Tensor, Tensor]],
        finish: Callable[[Tensor, Tensors], Tensor],
        sides: tuple[Callable[[Tensor], Tensor], ...],
        encode: Encoder = as_is,
        negative: str | None = None,
    ) -> None:
        self.negative = negative
        super().__init__(self._powers, self._score, encode=encode)
        self._then = finish
        self.exponents, self.sides = exponents, sides

    def _score(self, seen: Tensors) -> Tensor:
        x, parts = seen["x"], []
        p = self.exponents(x)[0].to(x.dtype)
        for side in self.sides:
            a = side(x)
            limits = torch.finfo(x.dtype)
            # Zero is the limit of a small number, and its derivative the right-hand one.
            log = with_value(a, a.clamp(2 * limits.tiny, limits.max)).log().unsqueeze(1)
            # By an infinite one nothing is moved, the exponent neither.
            infinite = (a == math.inf).unsqueeze(1)
            parts.append(torch.where(infinite, p.detach() * math.inf, p * log))
        return torch.cat(parts, 1)

    def _log_sum(self, seen: Tensors, segments: Segments) -> Tensor | None:
        x = seen["x"]
        if self.negative is None:
            return super()._log_sum(seen, segments)
        p = self.exponents(x)[0].to(x.dtype)
        n = align(segments.counts.to(x.dtype), x).unsqueeze(1)

        def says(y: Tensor) -> bool:
            """A norm that is 0 or infinite does not tell how many elements made it so."""
            return not bool((((y == 0) | y.isinf()) & (n > 0)).any())

        y = segment_power(x, segments, p, 1 / p, negative=self.negative)
        if not says(y):
            # Among many elements one is 0: then by what the scores see in its place.
            a = self.sides[0](x).clamp(min=2 * torch.finfo(x.dtype).tiny)
            y = segment_power(a, segments, p, 1 / p)
            if not says(y):
                return None
        return p * torch.where(n > 0, y, 1).log() + n.clamp(min=1).log()

    def _powers(self, mean: Tensor, log: Tensor, sums: Tensors) -> Tensor:
        p, q = (torch.cat([v.to(log.dtype)] * len(self.sides)) for v in self.exponents(log))
        infinite, limits = (log / p).detach() == math.inf, torch.finfo(log.dtype)
        y = (torch.where(infinite, 0, log / p) - q * size_of(sums, log).log()).exp()
        value = y.detach()
        value = torch.where(value < 2.0**40 * limits.tiny, 0, value)
        value = torch.where(infinite | (value > 0.99 * limits.max), math.inf, value)
        return self._then(with_value(torch.where(infinite, 0, y), value), sums)


def magnitude(x: Tensor) -> Tensor:
    """``|x|``, with the derivative 1 at 0."""
    return torch.where(x < 0, -x, x)
