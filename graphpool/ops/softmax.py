"""Softmax over each bag and what is built on it."""

from __future__ import annotations

from torch import Tensor

from graphpool import _debug
from graphpool.ops import reference as composed
from graphpool.ops.dispatch import fused
from graphpool.ops.inputs import (
    Gather,
    align,
    channel_parameter,
    check_elements,
    gathered,
    working,
    working_weight,
)
from graphpool.segments import Segments


def segment_softmax(
    score: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    r"""Softmax over each bag: :math:`a_e = w_e e^{s_e} / \sum_{j \in s(e)} w_j e^{s_j}`, per channel.

    Args:
        score: Scores ``[E, ...]``, floating point. An element with score ``-inf`` gets no share; a bag of
            nothing else gives zeros. Elements with ``+inf`` share their bag among themselves.
        segments: The bags.
        weight: Non-negative weight of each element ``[E]``; an integer counts as so many equal elements,
            of which the share given back is the sum.
        gather: ``[E]``: element ``e`` has the score ``score[gather[e]]``.

    Returns:
        ``[E, ...]`` in the dtype of ``score``; each bag sums to 1.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit, or a weight is negative.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2, 3]))
        >>> segment_softmax(torch.tensor([0.0, 0.0, 9.0]), segments)
        tensor([0.5000, 0.5000, 1.0000])
    """
    check_elements(score, segments, weight, gather, name="score")
    if kernel := fused("segment_softmax", score, weight):
        return kernel(score, segments, weight, gather)
    score = gathered(score, gather)
    y = composed.segment_softmax(working(score), segments, working_weight(weight, score))
    return y.to(score.dtype)


def segment_logsumexp(
    x: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    tau: float | Tensor = 1.0,
    mean: bool = False,
) -> Tensor:
    r"""Soft maximum of each bag: :math:`y_s = \tau \log \sum_{e \in s} w_e e^{x_e / \tau}`, per channel.

    Args:
        x: Elements ``[E, ..., C]``, floating point.
        segments: The bags.
        weight: Non-negative weight of each element ``[E]``.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.
        tau: Temperature, one or one per channel ``[C]``, finite and not 0; a negative one gives a soft
            minimum.
        mean: Take the mean of the exponentials, not their sum: :math:`y_s - \tau \log n_s`.

    Returns:
        ``[S, ...]`` in the dtype of ``x``. An empty bag gives 0, as in every op of this library (the
        logarithm of an empty sum would be ``-inf``).

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit, a weight is negative, or ``tau`` is 0 or not finite.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2, 2]))
        >>> segment_logsumexp(torch.tensor([1000.0, 1000.0]), segments)
        tensor([1000.6932,    0.0000])
    """
    check_elements(x, segments, weight, gather)
    tau = channel_parameter(tau, x, "tau")
    if _debug.values_are_checked(tau.device):
        bad = (tau == 0) | ~tau.isfinite()
        if bad.any():
            raise ValueError(f"`tau` must be finite and not 0; got {float(tau[bad].flatten()[0])}.")
    if kernel := fused("segment_logsumexp", x, weight):
        return kernel(x, segments, weight, gather, tau, mean)
    x = gathered(x, gather)
    w = working_weight(weight, x)
    return composed.segment_logsumexp(working(x), segments, w, tau, mean).to(x.dtype)


def segment_softmax_sum(
    score: Tensor,
    value: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    r"""Softmax-weighted sum, the heart of attention: :math:`y_s = \sum_{e \in s} a_e v_e`.

    :math:`a` is :func:`segment_softmax` of the scores, taken per channel, per head, or once:

    ============== =====================================================================
    ``score``      one score for
    ============== =====================================================================
    ``[E, C]``     each channel (the shape of ``value``)
    ``[E, H]``     each head: ``H`` divides ``C``, head ``h`` weighs the ``h``-th ``C / H`` channels
    ``[E]``        the whole element (also ``[E, 1]``)
    ============== =====================================================================

    Dimensions of ``value`` between the first and the last are kept; ``score`` has them too, or 1.

    Args:
        score: Scores, floating point.
        value: Elements to be summed ``[E, ..., C]`` (or ``[E]``), floating point.
        segments: The bags.
        weight: Non-negative weight of each element ``[E]``.
        gather: ``[E]``: element ``e`` has the value ``value[gather[e]]``; scores are per element.

    Returns:
        ``[S, ..., C]`` in the dtype of ``value``; an empty bag gives 0. An element without share adds
        nothing, be it infinite.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit, or a weight is negative.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> value = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> segment_softmax_sum(torch.zeros(2), value, segments)
        tensor([[2., 3.]])
    """
    check_elements(value, segments, weight, gather, name="value")
    check_elements(score, segments, name="score")
    _check_heads(score, value)
    if kernel := fused("segment_softmax_sum", value, weight):
        return kernel(score, value, segments, weight, gather)
    value = gathered(value, gather)
    score, v = _broadcast(working(score), working(value))
    y = composed.segment_softmax_sum(score, v, segments, working_weight(weight, value))
    return y.reshape(segments.num_segments, *value.shape[1:]).to(value.dtype)


def segment_softpool(
    x: Tensor,
    segments: Segments,
    t: float | Tensor = 1.0,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    r"""Sum of the elements weighted by a softmax of themselves: :math:`y_s = \sum_e a_e x_e` with
    :math:`a = \mathrm{softmax}(t x)`, per channel.

    ``t = 0`` is the mean, ``t -> inf`` the maximum, ``t -> -inf`` the minimum.

    Args:
        x: Elements ``[E, ..., C]``, floating point.
        segments: The bags.
        t: Inverse temperature, one or one per channel ``[C]``.
        weight: Non-negative weight of each element ``[E]``.
        gather: ``[E]``: element ``e`` is ``x[gather[e]]``.

    Returns:
        ``[S, ..., C]`` in the dtype of ``x``; an empty bag gives 0.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> segment_softpool(torch.tensor([0.0, 1.0]), segments, t=0.0)
        tensor([0.5000])
    """
    check_elements(x, segments, weight, gather)
    t = channel_parameter(t, x, "t")
    if kernel := fused("segment_softpool", x, weight):
        return kernel(x, segments, t, weight, gather)
    x = gathered(x, gather)
    elements = working(x)
    w = working_weight(weight, x)
    return composed.segment_softpool(elements, t, segments, w).to(x.dtype)


def _check_heads(score: Tensor, value: Tensor) -> None:
    """Raises unless the scores fit the value."""
    if score.dim() == 1 or score.shape[1:] == value.shape[1:]:
        return
    fits = score.dim() == value.dim() and all(
        s in (1, v) for s, v in zip(score.shape[1:-1], value.shape[1:-1], strict=True)
    )
    if not fits or score.size(-1) == 0 or value.size(-1) % score.size(-1):
        raise ValueError(
            "`score` must be [E], have the shape of `value`, or one column per head with the number of "
            f"heads dividing the channels; got score {tuple(score.shape)} for value "
            f"{tuple(value.shape)}."
        )


def _broadcast(score: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and value shaped so that they broadcast; the value may get an axis for the heads."""
    if score.dim() == 1:
        return align(score, value), value
    if score.size(-1) in (1, value.size(-1)):
        return score, value
    heads = score.size(-1)
    return score.unsqueeze(-1), value.reshape(*value.shape[:-1], heads, value.size(-1) // heads)
