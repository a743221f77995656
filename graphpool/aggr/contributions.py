"""What each element has to do with the result."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.aggr.base import as_segments
from graphpool.aggr.pyg import pool
from graphpool.aggr.registry import one_vector_per_segment
from graphpool.ops import segment_sum, working
from graphpool.segments import Segments


def contributions(
    aggr: torch.nn.Module,
    x: Tensor,
    index: Tensor | Segments | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Divides each pooled channel among the elements: what comes out adds up to the result, bag by bag.

    A pool that weighs its elements, :math:`y_s = \sum_e a_e x_e` with the weights of :func:`attention`, is
    divided into :math:`a_e x_e`. Every other one into

    .. math:: k_{e,c} = \sum_{c'} x_{e,c'} \, \frac{\partial y_{s(e),c}}{\partial x_{e,c'}}

    which adds up, by Euler's theorem, where doubling all elements doubles the result: sum, mean, extrema,
    quantiles, standard deviation, power means, GNP (its linear map included), and lists of these. A pool
    of which neither holds, a perceptron or an attention with a residual say, cannot be divided so, and is
    refused.

    Args:
        aggr: The pool, of this package or of PyTorch Geometric.
        x: Elements ``[E, C]``, floating point.
        index: Bag of each element ``[E]``, or :class:`~graphpool.Segments`.
        ptr: CSR offsets instead.
        dim_size: The number of bags.
        weight: ``[E]``: how often each element counts.

    Returns:
        ``[E, out_channels]``, without a gradient of its own. Takes one backward pass per channel.

    Raises:
        TypeError: ``x`` is not a floating point matrix.
        ValueError: The parts do not add up to the result for this pool.

    Example:
        >>> from graphpool import aggr
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> aggr.contributions(aggr.Mean(), x)
        tensor([[0.5000],
                [1.5000]])
    """
    segments = _bags(aggr, x, index, ptr, dim_size)
    with torch.enable_grad():
        times = torch.ones_like(x[:, :1], requires_grad=True)
        y = pool(aggr, x.detach() * times, segments, weight)
        found = [
            torch.autograd.grad(channel.sum(), times, retain_graph=True, allow_unused=True)[0]
            for channel in y.unbind(-1)
        ]
    parts = torch.cat([torch.zeros_like(times) if g is None else g for g in found], dim=1)
    y = y.detach()
    if hasattr(aggr, "attention"):
        with torch.no_grad():
            share: Tensor = aggr.attention(x, segments, weight)  # type: ignore[operator]
        if share.dim() == 2 and y.size(-1) == x.size(-1) and _add_up(share * x, y, segments):
            return share * x
    if not _add_up(parts, y, segments):
        raise ValueError(
            f"{type(aggr).__name__} cannot be divided among the elements: it neither weighs them nor "
            "doubles where they do, so the parts would not add up to the result."
        )
    return parts


def attention(
    aggr: torch.nn.Module,
    x: Tensor,
    index: Tensor | Segments | None = None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""The weights that a pool gives to its elements, between 0 and 1; those of a bag add up to 1.

    They tell which elements count, not how much of the result comes from them:
    that is :func:`contributions`, and the two cannot be compared.

    Arguments as in :func:`contributions`.

    Returns:
        ``[E, C]``, a weight for each channel; ``[E, 1]`` where all channels share one (MIDAM), and
        ``[E, num_seeds, heads]`` of :class:`~graphpool.aggr.PMA`. Without a gradient.

    Raises:
        TypeError: ``x`` is not a floating point matrix.
        ValueError: The pool has no such weights.

    Example:
        >>> from graphpool import aggr
        >>> aggr.attention(aggr.SoftPool(), torch.tensor([[0.0], [0.0]]))
        tensor([[0.5000],
                [0.5000]])
    """
    segments = _bags(aggr, x, index, ptr, dim_size)
    if not hasattr(aggr, "attention"):
        raise ValueError(
            f"{type(aggr).__name__} has no attention weights; `contributions` divides its result."
        )
    with torch.no_grad():
        return aggr.attention(x, segments, weight)  # type: ignore[operator]


def _bags(
    aggr: torch.nn.Module,
    x: Tensor,
    index: Tensor | Segments | None,
    ptr: Tensor | None,
    dim_size: int | None,
) -> Segments:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() != 2:
        raise TypeError("`x` must be a floating point tensor [E, C].")
    one_vector_per_segment(aggr)
    return as_segments(x, index, ptr, dim_size)


def _add_up(parts: Tensor, y: Tensor, segments: Segments) -> bool:
    parts, y = working(parts), working(y)
    rounding = torch.finfo(y.dtype).eps ** 0.5
    scale = torch.maximum(segment_sum(parts.abs(), segments), y.abs())
    return not bool(((segment_sum(parts, segments) - y).abs() > rounding * scale).any())
