"""Sum, mean, extrema and moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.ops import (
    Gather,
    segment_max,
    segment_mean,
    segment_min,
    segment_product,
    segment_std,
    segment_sum,
    segment_var,
    standard_deviation,
)
from graphpool.segments import Segments
from graphpool.states import Central, Extremum, Mergeable, Sums, size_of


class Moment(Aggregation):
    """A pool that :func:`~graphpool.ops.segment_moments` can compute together with others."""

    supports_gather = True
    moment: ClassVar[str]
    operation: ClassVar[Callable[..., Tensor]]

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        return self.operation(x, segments, weight, gather)


@register("sum", "add")
class Sum(Moment):
    r"""Sum, :math:`y_s = \sum_{e \in s} x_e`. Takes integers, too.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Sum()(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 0, 1]), dim_size=2)
        tensor([[3.],
                [4.]])
    """

    multiplicity_aware = True
    accepts_integers = True
    moment = "sum"
    operation = staticmethod(segment_sum)

    def merging(self) -> Mergeable:
        return Sums(lambda sums: sums["x"], integers=True)


@register("mean", "avg")
class Mean(Moment):
    r"""Mean, :math:`y_s = \frac{1}{n_s} \sum_{e \in s} x_e`.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Mean()(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 0, 1]), dim_size=2)
        tensor([[1.5000],
                [4.0000]])
    """

    moment = "mean"
    operation = staticmethod(segment_mean)

    def merging(self) -> Mergeable:
        return Central(lambda mean, square, sums: mean)


@register("max")
class Max(Moment):
    r"""Maximum per channel. Elements that attain it share the derivative. Takes integers, too.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Max()(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 0, 1]), dim_size=3)
        tensor([[2.],
                [4.],
                [0.]])
    """

    accepts_integers = True
    moment = "max"
    operation = staticmethod(segment_max)

    def merging(self) -> Mergeable:
        return Extremum()


@register("min")
class Min(Moment):
    r"""Minimum per channel. Elements that attain it share the derivative. Takes integers, too.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Min()(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 0, 1]), dim_size=2)
        tensor([[1.],
                [4.]])
    """

    accepts_integers = True
    moment = "min"
    operation = staticmethod(segment_min)

    def merging(self) -> Mergeable:
        return Extremum(largest=False)


@register("var")
class Var(Moment):
    r"""Biased variance, :math:`y_s = \frac{1}{n_s} \sum_{e \in s} (x_e - \bar x_s)^2`.

    Computed from deviations, so that a large common offset does no harm.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Var()(torch.tensor([[4096.0], [4097.0], [4098.0]]))
        tensor([[0.6667]])
    """

    moment = "var"
    operation = staticmethod(segment_var)

    def merging(self) -> Mergeable:
        return Central(lambda mean, square, sums: square / size_of(sums, square))


@register("std")
class Std(Moment):
    r"""Standard deviation, the square root of :class:`Var`; derivative 0 where it is 0.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Std()(torch.tensor([[1.0], [3.0]]))
        tensor([[1.]])
    """

    moment = "std"
    operation = staticmethod(segment_std)

    def merging(self) -> Mergeable:
        return Central(
            lambda mean, square, sums: standard_deviation(square / size_of(sums, square))
        )


@register("mul", "prod")
class Mul(Aggregation):
    r"""Product per channel, :math:`y_s = \prod_{e \in s} x_e`, see :func:`graphpool.ops.segment_product`.

    The derivative is right where elements are 0, too. Takes integers. An empty bag gives 0, as in every
    pool of this library, and not the empty product.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Mul()(torch.tensor([[2.0], [-3.0], [4.0]]), torch.tensor([0, 0, 1]), dim_size=3)
        tensor([[-6.],
                [ 4.],
                [ 0.]])
    """

    multiplicity_aware = True
    accepts_integers = True
    complexity = "E C log n for bags of n"
    exempt = {
        "offset": "a product of large numbers overflows, and is not the product plus the offset"
    }

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return segment_product(x, segments, weight)

    def merging(self) -> Mergeable:
        return Sums(self._product, self._logarithms, of_weight=False)

    def _logarithms(self, x: Tensor) -> dict[str, Tensor]:
        zero, infinite = x == 0, x.isinf()
        log = torch.where(zero | infinite, 1, x.double().abs()).log()
        # Those that are 0 or infinite have the derivative of a factor.
        return {
            "log": log,
            "odd": (x < 0).to(log.dtype),
            "zeros": zero.to(log.dtype),
            "zero": torch.where(zero, x, 0),
            "infinite": infinite.to(log.dtype),
            "far": torch.where(infinite, x.abs(), 0),
        }

    def _product(self, sums: dict[str, Tensor]) -> Tensor:
        zeros, infinite, far = sums["zeros"], sums["infinite"], sums["far"]
        sign = 1 - 2 * (sums["odd"].detach() % 2)
        # A negative number to a power that is no whole number.
        sign = torch.where((sign.abs() == 1), sign, torch.nan)
        others = sign * sums["log"].exp()
        # Beside another one that is infinite, a factor of any size has an infinite derivative.
        far = far * torch.where(infinite > 1, torch.inf, 1.0)
        others = others * torch.where(infinite == 0, 1, far)
        many = torch.where(infinite == 0, 0, torch.nan).to(others.dtype)
        return torch.where(zeros == 0, others, torch.where(zeros == 1, others * sums["zero"], many))
