"""What pools that mix channels share: elements as a matrix, and the pieces they are made of."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.aggr.base import Aggregation
from graphpool.aggr.lazy import as_integer
from graphpool.ops import align, check_elements, segment_sum, working
from graphpool.segments import Segments


class FlatAggregation(Aggregation):
    """A pool that is written for elements ``[E, C]`` only.

    :meth:`pool` makes every further dimension part of the bags, computes in the precision of the
    parameters, and sets empty bags to 0, so that :meth:`pool_flat` holds the formula and nothing else.
    """

    formula = "pool_flat"
    empty_gives_zero: ClassVar[bool] = False
    """Whether the formula itself gives 0 for an empty bag, which saves a copy of a wide result."""

    @abstractmethod
    def pool_flat(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """Pools ``[E, C]`` to ``[S, out_channels]``; what it gives for an empty bag does not matter."""

    def pool(
        self, x: Tensor, segments: Segments, weight: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        check_elements(x, segments, weight)
        middle = x.shape[1:-1]
        if middle and any(isinstance(v, Tensor) for v in kwargs.values()):
            raise ValueError(
                f"{', '.join(kwargs)} can only be given with elements [E, C]; got {tuple(x.shape)}."
            )
        flat, bags, w = _fold(x, segments, weight)
        y = self.pool_flat(flat.to(self._dtype(x)), bags, w, **kwargs)
        if w is not None or not self.empty_gives_zero:
            y = fill_empty(y, bags, w)
        y = y.to(x.dtype)
        return y.reshape(segments.num_segments, *middle, *y.shape[1:]) if middle else y

    def _dtype(self, x: Tensor) -> torch.dtype:
        for parameter in self.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return working(x).dtype


def _fold(
    x: Tensor, segments: Segments, weight: Tensor | None
) -> tuple[Tensor, Segments, Tensor | None]:
    """Elements ``[E, ..., C]`` as a matrix, with bags of their own for each of the slices."""
    if x.dim() == 2:
        return x, segments, weight
    slices = x.shape[1:-1].numel()
    place = torch.arange(slices, device=x.device)
    index = (segments.index[:, None] * slices + place).reshape(-1)
    bags = Segments(index=index, num_segments=segments.num_segments * slices)
    if weight is not None:
        weight = weight.repeat_interleave(slices)
    return x.reshape(-1, x.size(-1)), bags, weight


def bag_sizes(segments: Segments, weight: Tensor | None, like: Tensor) -> Tensor:
    """The size of each bag, 1 for an empty one, shaped to divide ``like`` ``[S, ...]``."""
    n = segments.counts if weight is None else segment_sum(weight.to(like.dtype), segments)
    return align(torch.where(n == 0, 1, n).to(like.dtype), like)


def fill_empty(
    y: Tensor, segments: Segments, weight: Tensor | None = None, value: float = 0.0
) -> Tensor:
    """``y`` with ``value`` for bags that have no element, or none whose weight is not 0."""
    n = segments.counts if weight is None else segment_sum((weight != 0).long(), segments)
    return torch.where(align(n == 0, y), value, y)


class LayerNorm(torch.nn.LayerNorm):
    """PyTorch's, but for transforms, where the derivative of its tangent is wrong (PyTorch 2.13); elements
    may be of higher precision than the parameters."""

    def forward(self, x: Tensor) -> Tensor:
        if not _debug.inside_transform():
            dtype = torch.promote_types(x.dtype, self.weight.dtype)
            weight, bias = self.weight.to(dtype), self.bias.to(dtype)
            return torch.nn.functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        deviation = x - x.mean(-1, keepdim=True)
        scale = (deviation.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return deviation * scale * self.weight + self.bias


def signed_sqrt(x: Tensor, eps: float = 1e-6) -> Tensor:
    r""":math:`\mathrm{sign}(x) \sqrt{|x|}`, smoothed near 0, where its derivative would be infinite."""
    return x * (x.abs() + eps).rsqrt()


def l2_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """``x / |x|`` over the channels; a zero vector stays zero, with a finite derivative."""
    return x * inverse_length(x, eps)


def inverse_length(x: Tensor, eps: float = 1e-6) -> Tensor:
    """``1 / |x|`` over the channels ``[..., 1]``, at most ``1 / eps``."""
    return (x * x).sum(-1, keepdim=True).clamp_min(eps * eps).rsqrt()


def check_count(value: Any, name: str, low: int = 1) -> int:
    """``value`` as an int, if it is an integer (of any type) of at least ``low``.

    Raises:
        ValueError: It is not.
    """
    try:
        count = as_integer(value, name)
    except TypeError:
        count = low - 1
    if count < low:
        raise ValueError(f"`{name}` must be an int of at least {low}; got {value!r}.")
    return count


def check_divides(value: int, name: str, channels: int) -> None:
    """Raises unless ``value`` divides the number of channels.

    Raises:
        ValueError: It does not; the message lists those that do.
    """
    if channels % value:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        raise ValueError(
            f"`{name}` must divide the number of channels, {channels}; got {value}. "
            f"These do: {', '.join(map(str, divisors[:12]))}."
        )


def perceptron(*widths: int) -> torch.nn.Sequential:
    """Linear layers of these widths with a ReLU between each two."""
    layers: list[torch.nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def reset(*modules: torch.nn.Module) -> None:
    """Restores the initial parameters of modules and all that they contain."""
    for module in modules:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]
        else:
            reset(*module.children())
