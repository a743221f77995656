"""Adaptive exponential pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.aggr.rowwise import rowwise
from graphpool.ops import (
    align,
    check_elements,
    segment_gather,
    segment_mean,
    segment_softmax,
    segment_softmax_sum,
    segment_softpool,
    segment_sum,
    working,
)
from graphpool.segments import Segments

SIMILARITIES = ("channel", "vector")


@register("adapool")
class AdaPool(Aggregation):
    r"""A mixture of two softmax-weighted sums: by likeness to the mean, and by size (:class:`SoftPool`):

    .. math::
        y_s = \beta \sum_{e \in s} \mathrm{softmax}_s(d)_e\, x_e
            + (1 - \beta) \sum_{e \in s} \mathrm{softmax}_s(x)_e\, x_e, \qquad
        d_e = \frac{2 |x_e \bar x_s|}{x_e^2 + \bar x_s^2}

    The likeness :math:`d \in [0, 1]` is the Dice-Sørensen coefficient with the mean of the bag, per
    channel (as in the released code) or of whole vectors, :math:`2 |\langle x, \bar x\rangle| / (|x|^2 +
    |\bar x|^2)` (as the paper writes it); where both are 0 it is 1. :math:`\beta = \mathrm{sigmoid}(b)`
    lies in [0, 1] by construction, one per channel, or one for all.

    Stergiou, Poppe, "AdaPool: exponential adaptive pooling for information-retaining downsampling", IEEE
    TIP 2023.

    Args:
        channels: Number of channels ``C``.
        similarity: ``"channel"`` or ``"vector"``.
        per_channel: One ``beta`` for each channel.
        semi_grad: Treat all weights as constants in the backward pass, as the released code does.

    Raises:
        ValueError: ``similarity`` is unknown.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.AdaPool(1)
        >>> y = pool(torch.tensor([[2.0], [2.0]]))
        >>> y.detach(), pool.beta.detach()
        (tensor([[2.]]), tensor([0.5000]))
    """

    learnable = True
    whole_bag = "its scores need the mean of the bag first, which is a pass of its own"

    def __init__(
        self,
        channels: int,
        *,
        similarity: str = "channel",
        per_channel: bool = True,
        semi_grad: bool = False,
    ) -> None:
        super().__init__(channels)
        if similarity not in SIMILARITIES:
            raise ValueError(f"`similarity` must be one of {SIMILARITIES}; got {similarity!r}.")
        self.similarity = similarity
        self.per_channel = per_channel
        self.semi_grad = semi_grad

    def build(self, channels: int) -> None:
        self.logit = torch.nn.Parameter(torch.empty(channels if self.per_channel else 1))

    def reset_parameters(self) -> None:
        torch.nn.init.zeros_(self.logit)

    @property
    def beta(self) -> Tensor:
        """Share of the sum weighted by likeness, ``[C]`` or ``[1]``, in [0, 1]."""
        return self.logit.sigmoid()

    def _scores(
        self, x: Tensor, segments: Segments, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The scores of both sums, ``[E, ..., C]`` (or 1 for vectors)."""
        if self.semi_grad:
            x = x.detach()
        mean = segment_gather(segment_mean(x, segments, weight), segments)
        likeness = _vector_likeness if self.similarity == "vector" else _likeness
        return rowwise(likeness, x, mean), x

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        check_elements(x, segments, weight)
        elements = working(x)
        likeness, size = self._scores(elements, segments, weight)
        by_likeness = segment_softmax_sum(likeness, elements, segments, weight)
        if self.semi_grad:
            by_size = segment_softmax_sum(size, elements, segments, weight)
        else:
            by_size = segment_softpool(elements, segments, weight=weight)
        beta = self.beta.to(elements.dtype)
        return (beta * by_likeness + (1 - beta) * by_size).to(x.dtype)

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, ..., C]`` of both sums together; each bag and channel sums to 1."""
        likeness, size = (
            segment_softmax(score, segments, weight) for score in self._scores(x, segments, weight)
        )
        return self.beta * likeness + (1 - self.beta) * size

    def unpool(
        self,
        y: Tensor,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        keep_scale: bool = True,
    ) -> Tensor:
        r"""Hands pooled vectors back to the elements, by the weights with which these were pooled:
        :math:`\hat x_e = n_s a_e y_{s(e)}`, where :math:`a` is :meth:`attention`.

        Args:
            y: Pooled vectors ``[S, ..., C]``.
            x: The elements that were pooled, ``[E, ..., C]``.
            segments: The bags.
            weight: The weights with which they were pooled.
            keep_scale: Multiply by the size of the bag, so that equal elements come back as they were.
                Without it the elements of a bag add up to ``y``.

        Raises:
            ValueError: ``y`` does not have one row per bag and the channels of ``x``.

        Example:
            >>> from graphpool import aggr
            >>> pool, x = aggr.AdaPool(1), torch.tensor([[3.0], [3.0]])
            >>> pool.unpool(pool(x), x, Segments(ptr=torch.tensor([0, 2]))).detach()
            tensor([[3.],
                    [3.]])
        """
        if y.shape != (segments.num_segments, *x.shape[1:]):
            raise ValueError(
                f"`y` must have shape {(segments.num_segments, *x.shape[1:])}; got {tuple(y.shape)}."
            )
        share = self.attention(x, segments, weight) * segment_gather(y, segments)
        if not keep_scale:
            return share
        n = segments.counts if weight is None else segment_sum(weight, segments)
        share = share * align(segment_gather(n.to(x.dtype), segments), x)
        # The share of an element that stands for several is that of all of them together.
        return share if weight is None else share / align(torch.where(weight == 0, 1, weight), x)

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, similarity={self.similarity!r}, "
            f"per_channel={self.per_channel}, semi_grad={self.semi_grad}"
        )


def _likeness(x: Tensor, mean: Tensor) -> Tensor:
    """Dice-Sørensen coefficient of numbers, 1 where both are 0."""
    return _dice(x * mean, torch.addcmul(x * x, mean, mean))


def _vector_likeness(x: Tensor, mean: Tensor) -> Tensor:
    """Dice-Sørensen coefficient of whole vectors ``[..., 1]``, 1 where both are 0."""
    inner, size = x * mean, torch.addcmul(x * x, mean, mean)
    return _dice(inner.sum(-1, keepdim=True), size.sum(-1, keepdim=True))


def _dice(inner: Tensor, size: Tensor) -> Tensor:
    # A 1 above and below where both are 0: cheaper than to choose, and nothing is divided by 0.
    zero = (size == 0).to(size.dtype)
    return torch.add(zero, inner.abs(), alpha=2) / (size + zero)
