"""Attention with the maximum of the bag as its query."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, as_indices, check_divides, what_came
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
    (``window_size`` and ``window_index``), a perceptron of its position relative to the centre of the bag
    (``pos_dim``), or nothing.

    Wang et al., "DSVT: dynamic sparse voxel transformer with rotated sets", CVPR 2023.

    Args:
        channels: Number of channels ``C``, positions included.
        heads: Number of heads, a divisor of the ``C - pos_dim`` features.
        window_size: Number of places in a window. The pool is then called with ``window_index``, ``[E]``,
            the place of each element, different for all elements of a bag.
        pos_dim: The first so many columns of ``x`` are positions.
        unmasked: Attend to the empty places of a window, too, as the released code does: they count as
            zero vectors, in the maximum and among the keys. Needs ``window_size``.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., C - pos_dim]``

    Raises:
        TypeError: ``window_index`` is missing, or does not hold integers.
        ValueError: ``heads`` does not divide the features; ``window_index`` is out of range, or was given
            where there are no places; ``unmasked`` without ``window_size``.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.DSVTPool(8, heads=2, window_size=4)
        >>> pool(torch.randn(3, 8), window_index=torch.tensor([0, 3, 1])).shape
        torch.Size([1, 8])
    """

    learnable = True
    whole_bag = "its query is the maximum of the bag, which is a pass of its own"
    complexity = "E C^2 + S C^2 H"
    example_arguments = {"heads": 2}

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 1,
        window_size: int | None = None,
        pos_dim: int = 0,
        unmasked: bool = False,
    ) -> None:
        super().__init__(channels)
        self.heads = as_count(heads, "heads")
        self.window_size = None if window_size is None else as_count(window_size, "window_size")
        self.pos_dim = check_pos_dim(self.channels, pos_dim)
        if unmasked and window_size is None:
            raise ValueError("`unmasked` needs `window_size`: without windows no place is empty.")
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
        if self.window_size is not None:
            self.places = torch.nn.Parameter(torch.empty(self.window_size, width))
        if self.pos_dim:
            self.position = torch.nn.Sequential(
                torch.nn.Linear(self.pos_dim, width), torch.nn.ReLU(), torch.nn.Linear(width, width)
            )

    def reset_parameters(self) -> None:
        reset(*self.children())
        for linear in (self.query, self.key, self.value):
            torch.nn.init.xavier_uniform_(linear.weight)
        if self.window_size is not None:
            torch.nn.init.xavier_uniform_(self.places)

    @property
    def out_channels(self) -> int | None:
        return feature_channels(self.channels, self.pos_dim)

    def pool_matrix(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        window_index: Tensor | None = None,
    ) -> Tensor:
        position, x = split_positions(x, self.pos_dim)
        encoding: Tensor | float = 0.0
        if self.window_size is not None:
            place = self._checked_place(window_index, x)
            if self.unmasked:
                x, segments, place = self._fill_windows(x, segments, weight, place)
            encoding = self.places.index_select(0, place)
        elif window_index is not None:
            raise ValueError(
                "`window_index` was given, but the pool was made without `window_size`."
            )
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

    def _checked_place(self, window_index: Tensor | None, x: Tensor) -> Tensor:
        expected = f"the place of each element in its window, integers ({x.size(0)},)"
        place = as_indices(window_index, "window_index", expected)
        if place.shape != (x.size(0),):
            raise ValueError(f"`window_index` must be {expected}; got {what_came(place)}.")
        if _debug.values_are_checked(place.device) and place.numel():
            low, high = (int(v) for v in place.aminmax())
            if low < 0 or high >= self.window_size:  # type: ignore[operator]
                raise ValueError(
                    f"`window_index` must lie in [0, {self.window_size}); got values from {low} to {high}."
                )
        return place

    def _fill_windows(
        self, x: Tensor, segments: Segments, weight: Tensor | None, place: Tensor
    ) -> tuple[Tensor, Segments, Tensor]:
        """Windows with zero vectors in their empty places."""
        if weight is not None:
            raise ValueError(
                "`weight` makes no sense with `unmasked`, where each place counts once."
            )
        count, size = segments.num_segments, self.window_size or 0
        full = x.new_zeros(count * size, x.size(1))
        full = full.index_put((segments.index * size + place,), x)
        ptr = torch.arange(0, count * size + 1, size, device=x.device)
        every = torch.arange(size, device=x.device).repeat(count)
        return full, Segments(ptr=ptr, num_elements=count * size), every
