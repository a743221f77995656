"""Attention between the elements of bags and a few vectors per bag, without padding.

Scores take room for each element and head; nothing grows with the square of a bag.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.ops import segment_matmul, segment_outer, segment_softmax, segment_softmax_sum
from graphpool.segments import Segments


def attend_over_elements(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    heads: int,
    scale: float,
    weight: Tensor | None = None,
) -> Tensor:
    r"""A few queries attend to the elements of each bag.

    Args:
        query: ``[M, D]``, the same for all bags.
        key: ``[E, D]``.
        value: ``[E, D]``.
        segments: The bags.
        heads: Number of heads, a divisor of ``D``; each has its block of channels.
        scale: Factor of the inner products.
        weight: ``[E]``: how often each element counts.

    Returns:
        ``[S, M, D]``.
    """
    score = element_scores(query, key, heads, scale)
    return weighted_values(score, value, segments, weight).view(-1, *query.shape)


def element_scores(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """Scores ``[E, M, H]`` of elements ``[E, D]`` for queries ``[M, D]``."""
    queries = scale * query.unflatten(-1, (heads, -1))
    return torch.einsum("ehd,mhd->emh", key.unflatten(-1, (heads, -1)), queries)


def weighted_values(
    score: Tensor, value: Tensor, segments: Segments, weight: Tensor | None = None
) -> Tensor:
    """Softmax-weighted sums of the values: scores ``[E, M, H]``, values ``[E, D]``; ``[S, M, D]``."""
    count, heads = score.size(1), score.size(2)
    if count < 4:
        parts = [
            segment_softmax_sum(score[:, m].contiguous(), value, segments, weight)
            for m in range(count)
        ]
        return torch.stack(parts, dim=1)
    # Many queries: one product of matrices per bag and head, instead of a pass for each query.
    share = segment_softmax(score, segments, weight)
    # Split, not sliced: the derivative of a slice is an array of zeros as large as the whole.
    shares, blocks = share.unbind(-1), value.split(value.size(-1) // heads, dim=-1)
    parts = [segment_outer(a, v, segments) for a, v in zip(shares, blocks, strict=True)]
    return torch.cat(parts, dim=-1)


def attend_to_bag(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, heads: int, scale: float
) -> Tensor:
    r"""Each element attends to a few vectors of its bag.

    Args:
        query: ``[E, D]``.
        key: ``[S, M, D]``.
        value: ``[S, M, D]``.
        segments: The bags.
        heads: Number of heads, a divisor of ``D``.
        scale: Factor of the inner products.

    Returns:
        ``[E, D]``.
    """
    width = query.size(-1) // heads
    outputs = []
    for q, k, v in zip(*(t.split(width, dim=-1) for t in (query, key, value)), strict=True):
        score = segment_matmul(q, (scale * k.mT).contiguous(), segments)
        outputs.append(segment_matmul(score.softmax(-1), v.contiguous(), segments))
    return torch.cat(outputs, dim=-1)
