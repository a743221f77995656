"""A training-free classifier beside a trained one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Shares of the bank that :func:`tune_fusion` chooses from.
SHARES: tuple[float, ...] = tuple(step / 20 for step in range(21))


def fuse(logits: Tensor, scores: Tensor, weight: float) -> Tensor:
    r"""Class probabilities of a trained network and a memory bank, interpolated.

    .. math:: p = (1 - \lambda)\, \mathrm{softmax}(\text{logits}) + \lambda \frac{s}{\sum s}

    Args:
        logits: ``[B, classes]`` of the trained network.
        scores: ``[B, classes]`` of :meth:`MemoryBank.scores`, >= 0.
        weight: :math:`\lambda` in [0, 1]: the share of the bank.

    Returns:
        ``[B, classes]``, rows sum to 1.

    Raises:
        ValueError: Shapes differ, a score is negative, or the weight is out of range.

    Example:
        >>> fuse(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]]), weight=0.5)
        tensor([[0.6250, 0.3750]])
    """
    if logits.shape != scores.shape or logits.dim() != 2:
        raise ValueError(
            f"`logits` and `scores` must both be [B, classes]; got {tuple(logits.shape)} and "
            f"{tuple(scores.shape)}."
        )
    if not 0 <= weight <= 1:
        raise ValueError(f"`weight` must lie in [0, 1]; got {weight}.")
    if scores.numel() and not bool((scores >= 0).all()):
        raise ValueError("`scores` must be >= 0.")
    total = scores.sum(1, keepdim=True)
    tiny = torch.finfo(scores.dtype).tiny
    return (1 - weight) * logits.softmax(1) + weight * scores / total.clamp_min(tiny)


def tune_fusion(
    logits: Tensor,
    scores: Tensor,
    labels: Tensor,
    weights: Sequence[float] = SHARES,
) -> float:
    """The ``weight`` of :func:`fuse` with the best accuracy on these clouds, of equals the smallest.

    Pass clouds that neither the network nor the bank has seen, such as a held-out part of the training
    set, and never the test set.

    Raises:
        ValueError: ``weights`` is empty, or sizes do not fit.

    Example:
        >>> logits, scores = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> tune_fusion(logits, scores, torch.tensor([1]), weights=(0.0, 0.5, 1.0))
        0.5
    """
    if not weights:
        raise ValueError("`weights` must not be empty.")
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"`labels` must have shape ({logits.size(0)},); got {tuple(labels.shape)}."
        )
    hits = [int((fuse(logits, scores, w).argmax(1) == labels).sum()) for w in sorted(weights)]
    return sorted(weights)[hits.index(max(hits))]
