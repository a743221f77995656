"""Attention with the maximum of the bag as its query."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_divides
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.aggr.positions import check_pos_dim, feature_channels, split_positions
from graphpool.aggr.registry import register
from graphpool.nn import LayerNorm, reset
from graphpool.ops import (
    segment_gather,
    segment_matmul,
    segment_max,
    segment_mean,
    segment_softmax_sum,
)
from graphpool.segments import Segments


@register("dsvt")
class DSVTPool(MatrixAggregation):
    r"""Attention pool of sparse voxels: the maximum of the bag asks, all elements answer,

    .. math:: y_s = \mathrm{LN}\big(q_s + \mathrm{MHA}(q_s, \{x_e + p_e\}, \{x_e\})\big), \qquad
              q_s = \max_{e \in s} x_e

    The encoding :math:`p_e` is a learned vector of the place that an element takes within its window
    (``num_slots`` and ``slot``), a perceptron of its position relative to the centre of the bag
    (``pos_dim``), or nothing.

    Wang et al., "DSVT: dynamic sparse voxel transformer with rotated sets", CVPR 2023.

    Args:
        channels: Number of channels ``C``, positions included.
        heads: Number of heads, a divisor of the ``C - pos_dim`` features.
        num_slots: Number of places in a window. The pool is then called with ``slot``, ``[E]``, the
            place of each element, different for all elements of a bag.
        pos_dim: The first so many columns of ``x`` are positions.
        unmasked: Attend to the empty places of a window, too, as the released code does: they count as
            zero vectors, in the maximum and among the keys. Needs ``num_slots``.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., C - pos_dim]``

    Raises:
        ValueError: ``heads`` does not divide the features; ``slot`` is missing, out of range, or was given
            where there are no slots; ``unmasked`` without ``num_slots``.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.DSVTPool(8, heads=2, num_slots=4)
        >>> pool(torch.randn(3, 8), slot=torch.tensor([0, 3, 1])).shape
        torch.Size([1, 8])
    """

    learnable = True
    complexity = "E C^2 + S C^2 H"
    example_arguments = {"heads": 2}

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 1,
        num_slots: int | None = None,
        pos_dim: int = 0,
        unmasked: bool = False,
    ) -> None:
        super().__init__(channels)
        self.heads = as_count(heads, "heads")
        self.num_slots = None if num_slots is None else as_count(num_slots, "num_slots")
        self.pos_dim = check_pos_dim(self.channels, pos_dim)
        if unmasked and num_slots is None:
            raise ValueError("`unmasked` needs `num_slots`: without slots none is empty.")
        self.unmasked = unmasked

    def build(self, channels: int) -> None:
        check_pos_dim(channels, self.pos_dim)
        width = channels - self.pos_dim
        check_divides(self.heads, "heads", width)
        self.query = torch.nn.Linear(width, width)
        # A bias of the keys would add the same to all scores of a bag.
        self.key = torch.nn.Linear(width, width, bias=False)
        self.value = torch.nn.Linear(width, width)
        self.out = torch.nn.Linear(width, width)
        self.norm = LayerNorm(width)
        if self.num_slots is not None:
            self.slots = torch.nn.Parameter(torch.empty(self.num_slots, width))
        if self.pos_dim:
            self.position = torch.nn.Sequential(
                torch.nn.Linear(self.pos_dim, width), torch.nn.ReLU(), torch.nn.Linear(width, width)
            )

    def reset_parameters(self) -> None:
        reset(*self.children())
        for linear in (self.query, self.key, self.value):
            torch.nn.init.xavier_uniform_(linear.weight)
        if self.num_slots is not None:
            torch.nn.init.xavier_uniform_(self.slots)

    @property
    def out_channels(self) -> int | None:
        return feature_channels(self.channels, self.pos_dim)

    def pool_matrix(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        slot: Tensor | None = None,
    ) -> Tensor:
        position, x = split_positions(x, self.pos_dim)
        encoding: Tensor | float = 0.0
        if self.num_slots is not None:
            slot = self._checked_slot(slot, x)
            if self.unmasked:
                x, segments, slot = self._fill_windows(x, segments, weight, slot)
            encoding = self.slots.index_select(0, slot.long())  # type: ignore[union-attr]
        elif slot is not None:
            raise ValueError("`slot` was given, but the pool was made without `num_slots`.")
        if self.pos_dim:
            centre = segment_mean(position, segments, weight)
            encoding = encoding + self.position(position - segment_gather(centre, segments))
        return self._attend(x, encoding, segments, weight)

    def _attend(
        self, x: Tensor, encoding: Tensor | float, segments: Segments, weight: Tensor | None
    ) -> Tensor:
        q = segment_max(x, segments, weight)
        width = x.size(1) // self.heads
        query = self.query(q).unflatten(-1, (self.heads, width)) * width**-0.5
        # <query, key(x)> = <key^T query, x>: the keys themselves are not needed.
        back = self.key.weight.unflatten(0, (self.heads, width))
        matrix = torch.einsum("shd,hdc->sch", query, back.to(query.dtype))
        # Scores count up to a constant per bag; without the mean there is less to round.
        centred = x - segment_gather(segment_mean(x, segments, weight), segments) + encoding
        score = segment_matmul(centred, matrix, segments)
        attended = segment_softmax_sum(score, self.value(x), segments, weight)
        return self.norm(self.out(attended) + q)

    def _checked_slot(self, slot: Tensor | None, x: Tensor) -> Tensor:
        if slot is None or slot.shape != (x.size(0),) or slot.is_floating_point():
            got = "nothing" if slot is None else f"{slot.dtype} of shape {tuple(slot.shape)}"
            raise ValueError(
                f"`slot` (the place of each element in its window) must be integers of shape "
                f"({x.size(0)},); got {got}."
            )
        if slot.device.type == "cpu" and slot.numel() and not torch.compiler.is_compiling():
            low, high = (int(v) for v in slot.aminmax())
            if low < 0 or high >= self.num_slots:  # type: ignore[operator]
                raise ValueError(
                    f"`slot` must lie in [0, {self.num_slots}); got values from {low} to {high}."
                )
        return slot

    def _fill_windows(
        self, x: Tensor, segments: Segments, weight: Tensor | None, slot: Any
    ) -> tuple[Tensor, Segments, Tensor]:
        """Windows with zero vectors in their empty places."""
        if weight is not None:
            raise ValueError(
                "`weight` makes no sense with `unmasked`, where each slot counts once."
            )
        size, places = segments.num_segments, self.num_slots or 0
        full = x.new_zeros(size * places, x.size(1))
        full = full.index_put((segments.index * places + slot,), x)
        ptr = torch.arange(0, size * places + 1, places, device=x.device)
        every = torch.arange(places, device=x.device).repeat(size)
        return full, Segments(ptr=ptr, num_elements=size * places), every

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, heads={self.heads}, num_slots={self.num_slots}, "
            f"pos_dim={self.pos_dim}"
        )
