"""The generalised norm of each bag, and two of them mixed with the mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import check_one_of, what_came
from graphpool.ops import reference as composed
from graphpool.ops.dispatch import OPERATORS, fused
from graphpool.ops.inputs import (
    Gather,
    channel_parameter,
    check_elements,
    gathered,
    working,
    working_weight,
)
from graphpool.ops.moments import segment_mean
from graphpool.segments import Segments


def segment_power(
    x: Tensor,
    segments: Segments,
    p: float | Tensor,
    q: float | Tensor = 0.0,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    negative: str = "abs",
) -> Tensor:
    r"""Generalised norm of each bag: :math:`y_s = n_s^{-q} \left(\sum_{e \in s} |x_e|^p\right)^{1/p}`.

    :math:`n_s` is the size of the bag. On non-negative elements

    ============= ========== ==========
    pool          p          q
    ============= ========== ==========
    sum           1          0
    mean          1          1
    L2 norm       2          0
    power mean    p          1 / p
    harmonic mean -1         -1
    maximum       ``+inf``   0
    minimum       ``-inf``   0
    ============= ========== ==========

    Computed in the log domain, so that large ``|p|`` neither overflows nor underflows. An element 0 is
    the limit of a small positive number: for ``p < 0`` it makes its bag 0, and its derivative is the
    right-hand one.

    Args:
        x: Elements ``[E, ..., C]``, floating point.
        segments: The bags.
        p: Exponent, one or one per channel ``[C]``; not 0 and finite (see
            :func:`segment_max` for the limit). ``[K, C]`` or ``[K, 1]`` asks for ``K`` norms of the same
            elements, which are read once.
        q: Exponent of the size, likewise.
        weight: Non-negative weight of each element ``[E]``: ``sum w |x|^p`` and ``n = sum w``.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.
        negative: What becomes of negative elements. ``"abs"``: their absolute value counts. ``"clamp"``:
            they count as 0. ``"split"``: the norm of what elements have above 0, less the norm of what they
            have below, an odd function of the bag.

    Returns:
        ``[S, ..., C]`` in the dtype of ``x``, of several norms ``[S, K, ..., C]``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: ``p`` is 0 or not finite, sizes do not fit, a weight is negative, or ``negative`` is
            unknown.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> segment_power(torch.tensor([3.0, 4.0]), segments, p=2.0)
        tensor([5.])
        >>> both = torch.tensor([[2.0], [-2.0]])
        >>> segment_power(torch.tensor([3.0, -4.0]), segments, p=both, negative="clamp").round()
        tensor([[3., 0.]])
    """
    check_elements(x, segments, weight, gather)
    check_one_of(negative, "negative", composed.SIDES)
    given = (channel_parameter(v, x, name, rows=True) for name, v in (("p", p), ("q", q)))
    order, of_size = torch.broadcast_tensors(*given)
    if _debug.values_are_checked(order.device):
        bad = (order == 0) | ~order.isfinite()
        if bad.any():
            raise ValueError(f"`p` must be finite and not 0; got {float(order[bad].flatten()[0])}.")
    # The norms of all sides are found together.
    sides = len(composed.SIDES[negative])
    p, q = (torch.cat([_rows(v, x)] * sides) for v in (order, of_size))
    if kernel := fused("segment_power", x, weight):
        y = kernel(x, segments, p, q, weight, gather, negative)
    else:
        elements = working(gathered(x, gather))
        w = working_weight(weight, x)
        y = composed.segment_powers(elements, p, q, negative, segments, w)
    if sides == 2:
        above, below = y.chunk(2, 1)
        y = above - below
    return y.reshape(segments.num_segments, *order.shape[:-1], *x.shape[1:]).to(x.dtype)


def segment_mixed_means(
    x: Tensor,
    segments: Segments,
    exponents: Tensor,
    mix: Tensor,
    growth: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    r"""Two power means of each bag and its mean, mixed, times a power of its size:

    .. math::
        y_s = n_s^g \Big[ r \big( a\, m_{p_1} + b\, m_{p_2} \big) + c\, \bar{x} \Big], \qquad
        m_p = \Big( \frac{1}{n_s} \sum_{e \in s} |x_e|^p \Big)^{1/p}, \quad
        r = \frac{\sum_e x_e}{\sum_e |x_e|}

    with :math:`p_1 > 0 > p_2`: what :class:`graphpool.aggr.GNP` computes, from one reading of the elements.
    The power means are those of :func:`segment_power`.

    Args:
        x: Elements ``[E, ..., C]``, floating point.
        segments: The bags.
        exponents: ``[2]``: p1 and p2.
        mix: ``[3, C]`` or ``[3, 1]``: a, b and c.
        growth: g, one value.
        weight: Non-negative weight of each element ``[E]``: sums are of ``w x``, and ``n`` of ``w``.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ..., C]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit, a weight is negative, or an exponent is not finite or of the wrong sign.

    Example:
        >>> segments, p = Segments(ptr=torch.tensor([0, 2])), torch.tensor([2.0, -1.0])
        >>> mix = torch.tensor([[1.0], [0.0], [0.0]])
        >>> segment_mixed_means(torch.tensor([[1.0], [7.0]]), segments, p, mix, torch.tensor(0.0))
        tensor([[5.]])
    """
    check_elements(x, segments, weight, gather)
    channels = x.size(-1) if x.dim() > 1 else 1
    shapes: dict[str, list[tuple[int, ...]]] = {
        "exponents": [(2,)],
        "mix": [(3, channels), (3, 1)],
        "growth": [(), (1,)],
    }
    for (name, allowed), v in zip(shapes.items(), (exponents, mix, growth), strict=True):
        if not isinstance(v, Tensor) or not v.is_floating_point():
            raise TypeError(f"`{name}` must be a floating point tensor; got {what_came(v)}.")
        if tuple(v.shape) not in allowed:
            raise ValueError(
                f"`{name}` must have shape {' or '.join(map(str, allowed))}; got {tuple(v.shape)}."
            )
    p, mix, growth = (v.to(working(x).dtype) for v in (exponents, mix, growth.reshape(1)))
    if _debug.values_are_checked(p.device) and not (p.isfinite().all() and p[0] > 0 and p[1] < 0):
        raise ValueError(
            f"`exponents` must be finite, the first above 0 and the second below; got {p.tolist()}."
        )
    mix = (
        mix.reshape(3, *[1] * (x.dim() - 2), mix.size(1)).expand(3, *x.shape[1:])
        if x.dim() > 1
        else mix[:, 0]
    )
    if kernel := fused("segment_mixed_means", x, weight):
        return kernel(x, segments, p, mix, growth, weight, gather)
    norms = working(segment_power(x, segments, p[:, None], 1 / p[:, None], weight, gather))
    mean, size = (
        working(segment_mean(v, segments, weight, gather)) for v in (x, composed.sizes_of(x))
    )
    n = composed.sizes(segments, working_weight(weight, x), norms.dtype)
    return composed.mixed(norms.unbind(1), mean, size, mix, growth, n).to(x.dtype)


def norms_and_sums(
    x: Tensor, segments: Segments, exponents: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What :func:`segment_mixed_means` is made of, from one reading, without a derivative:
    logs of both plain norms ``[S, 2, C]``, the sums of the elements and those of their sizes ``[S, C]``.

    ``None`` where no kernel gives them; an infinite element shows in the sums of sizes, and not in the norms.

    Args:
        x: Elements ``[E, C]``, float32 or float64.
        segments: The bags.
        exponents: ``[2]``, one above 0 and one below.

    Example:
        >>> ones = torch.ones(8, 1)
        >>> found = norms_and_sums(ones, Segments(ptr=torch.tensor([0, 8])), torch.tensor([1.0, -1.0]))
        >>> found is None or [v.flatten().tolist() for v in found[1:]]
        [[8.0], [8.0]]
    """
    if x.device.type != "cpu" or not fused("segment_mixed_means", x):
        return None
    inputs = (x.contiguous(), exponents.to(x.dtype), x.new_zeros(3, x.size(1)), x.new_zeros(1))
    with torch.no_grad():
        _, kept, _ = OPERATORS["segment_mixed_means"].results(inputs, segments, None, None)
    return kept[:, :2] * math.log(2), kept[:, 2], kept[:, 3]


def _rows(exponent: Tensor, x: Tensor) -> Tensor:
    """One exponent, ``[C]`` or ``[K, C]`` with the dimensions of ``x`` in between: ``[K, ..., C]``."""
    last = exponent.shape[-1] if exponent.dim() else 1
    rows = exponent.reshape(-1, *[1] * (x.dim() - 2), last)
    return rows.expand(-1, *x.shape[1:]) if x.dim() > 1 else rows.flatten()
