"""The generalised norm of each bag."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import check_one_of
from graphpool.ops import reference as composed
from graphpool.ops.dispatch import fused
from graphpool.ops.inputs import (
    Gather,
    channel_parameter,
    check_elements,
    gathered,
    working,
    working_weight,
)
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


def _rows(exponent: Tensor, x: Tensor) -> Tensor:
    """One exponent, ``[C]`` or ``[K, C]`` with the dimensions of ``x`` in between: ``[K, ..., C]``."""
    last = exponent.shape[-1] if exponent.dim() else 1
    rows = exponent.reshape(-1, *[1] * (x.dim() - 2), last)
    return rows.expand(-1, *x.shape[1:]) if x.dim() > 1 else rows.flatten()
