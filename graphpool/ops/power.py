"""The generalised norm of each bag."""

from __future__ import annotations

from torch import Tensor

from graphpool import _debug
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
        x: Elements ``[E, ..., C]``, floating point; only their absolute value counts.
        segments: The bags.
        p: Exponent, one or one per channel ``[C]``; not 0 and finite (see
            :func:`segment_max` for the limit).
        q: Exponent of the size, one or one per channel ``[C]``.
        weight: Non-negative weight of each element ``[E]``: ``sum w |x|^p`` and ``n = sum w``.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ..., C]`` in the dtype of ``x``; an empty bag gives 0.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: ``p`` is 0 or not finite, sizes do not fit, or a weight is negative.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> segment_power(torch.tensor([3.0, 4.0]), segments, p=2.0)
        tensor([5.])
    """
    check_elements(x, segments, weight, gather)
    p, q = channel_parameter(p, x, "p"), channel_parameter(q, x, "q")
    if _debug.values_are_checked(p.device):
        bad = (p == 0) | ~p.isfinite()
        if bad.any():
            raise ValueError(f"`p` must be finite and not 0; got {float(p[bad].flatten()[0])}.")
    if kernel := fused("segment_power", x, weight):
        return kernel(x, segments, p, q, weight, gather)
    x = gathered(x, gather)
    y = composed.segment_power(working(x), p, q, segments, working_weight(weight, x))
    return y.to(x.dtype)
