"""How well the motion of points is estimated."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphpool._arguments import check_one_per
from graphpool.ops import segment_mean
from graphpool.segments import Segments


class FlowErrors(NamedTuple):
    """What :func:`flow_errors` gives: a number for each pair, ``[P]``.

    Args:
        epe: Mean length of the error.
        acc5: Share of points with an error below 0.05, or below 5 % of the true motion.
        acc10: The same with 0.1 and 10 %.
        outliers: Share of points with an error above 0.3, or above 10 % of the true motion.
    """

    epe: Tensor
    acc5: Tensor
    acc10: Tensor
    outliers: Tensor


def flow_errors(flow: Tensor, truth: Tensor, segments: Segments | None = None) -> FlowErrors:
    """How far motions are from the true ones, by the measures of the field, for each pair.

    Args:
        flow: Motions ``[N, D]``, in metres.
        truth: True motions ``[N, D]``.
        segments: The pair of each point; one pair if ``None``.

    Returns:
        :class:`FlowErrors`; an empty pair has 0 everywhere.

    Raises:
        TypeError: They are not floating point.
        ValueError: Shapes differ.

    Example:
        >>> truth = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
        >>> errors = flow_errors(truth + torch.tensor([[0.0, 0.2]]), truth)
        >>> [round(float(e), 2) for e in errors]
        [0.2, 0.5, 0.5, 0.5]
    """
    if flow.dim() != 2 or flow.shape != truth.shape:
        raise ValueError(
            f"`flow` and `truth` must have one shape [N, D]; got {tuple(flow.shape)} and "
            f"{tuple(truth.shape)}."
        )
    if not (flow.is_floating_point() and truth.is_floating_point()):
        raise TypeError(
            f"`flow` and `truth` must be floating point; got {flow.dtype} and {truth.dtype}."
        )
    if segments is None:
        segments = Segments(ptr=torch.tensor([0, flow.size(0)], device=flow.device))
    check_one_per("point", flow.size(0), "segments", segments.num_elements)
    error, length = (flow - truth).norm(dim=1), truth.norm(dim=1)
    near = [(error < a) | (error < a * length) for a in (0.05, 0.1)]
    # So that an error that is no number is none that is small.
    far = ~((error <= 0.3) & (error <= 0.1 * length))
    columns = torch.stack([error, *(t.to(error.dtype) for t in (*near, far))], 1)
    return FlowErrors(*segment_mean(columns, segments).unbind(1))
