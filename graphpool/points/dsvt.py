"""Attention inside small sets of voxels of a window, which are cut anew along another axis: DSVT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphpool._arguments import (
    as_count,
    as_indices,
    as_integer,
    check_divides,
    check_one_of,
    check_one_per,
    what_came,
)
from graphpool._debug import values_are_checked
from graphpool.nn import LayerNorm, check_input
from graphpool.ops import segment_gather
from graphpool.ops.neighbors.voxel import voxel_grid
from graphpool.points.pooling import Pool
from graphpool.segments import Segments

_CELLS = "integers [V, 3]"
_AXES = {"x": (0, 1, 2), "y": (1, 0, 2)}


class Partition(NamedTuple):
    """The voxels of windows, cut into sets along two axes; see :func:`voxel_partition`.

    Args:
        sets: The set of each voxel, ordered by y first, and by x first.
        places: Where each voxel lies from the centre of its window, ``[V, 3]``.
    """

    sets: tuple[Segments, Segments]
    places: Tensor


def voxel_sets(
    cells: Tensor,
    window: Sequence[int],
    set_size: int,
    segments: Segments | None = None,
    *,
    axis: str = "x",
    shift: Sequence[int] = (0, 0, 0),
) -> Segments:
    r"""Cuts the voxels of each window into sets of about the same size.

    A window with ``n`` voxels has :math:`S = \lceil n / \tau \rceil` sets. With its voxels in the order of
    ``axis`` (then of the other horizontal axis, then of z), set ``j`` holds the ranks
    :math:`\lfloor j n / S \rfloor` to :math:`\lfloor (j + 1) n / S \rfloor - 1`. Each voxel lies in one set,
    and sizes differ by one at most: the published sets without the voxels that fill them up.

    Args:
        cells: Integer coordinates (x, y, z) ``[V, 3]``, different within a cloud.
        window: Voxels of a window along x, y and z.
        set_size: The most voxels of a set, :math:`\tau`.
        segments: The cloud of each voxel, in any order; one cloud if ``None``.
        axis: ``"x"`` or ``"y"``.
        shift: What is added to the coordinates before they are cut into windows.

    Returns:
        The set of each voxel, in the order of the voxels; no set is empty, and the sets of a cloud follow one
        another.

    Raises:
        TypeError: ``cells`` are no integers.
        ValueError: A size is below 1, shapes do not fit, or a voxel is there twice.

    Example:
        >>> cells = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 1, 0], [4, 0, 0]])
        >>> voxel_sets(cells, window=(4, 4, 1), set_size=3).index
        tensor([0, 0, 1, 1, 2])
    """
    check_one_of(axis, "axis", _AXES)
    tau = as_count(set_size, "set_size")
    corner, inside = _windows(cells, window, shift)
    if isinstance(segments, Segments):
        check_one_per("voxel", cells.size(0), "segments", segments.num_elements)
    # Cells of a grid are numbered in the order of their coordinates: here of six, and of the first three.
    windows = voxel_grid(corner.double(), 1.0, segments).segments
    order = torch.cat([corner, inside[:, list(_AXES[axis])]], 1).double()
    ranked = voxel_grid(order, 1.0, segments).segments
    if ranked.num_segments < cells.size(0):
        row = int((ranked.counts[ranked.index] > 1).nonzero()[0])
        raise ValueError(
            f"`cells` must be different within a cloud; got {cells[row].tolist()} in row {row} and another."
        )
    n = windows.counts
    first = n.cumsum(0) - n
    number = (n + tau - 1) // tau
    before = number.cumsum(0) - number
    w = windows.index
    j = ((ranked.index - first[w] + 1) * number[w] - 1) // n[w]
    return Segments(index=before[w] + j, num_segments=int(number.sum()))


def voxel_partition(
    cells: Tensor,
    window: Sequence[int],
    set_size: int,
    segments: Segments | None = None,
    *,
    shifted: bool = False,
) -> Partition:
    """Both cuts of the windows, which all blocks of a stage share.

    Args:
        cells: As in :func:`voxel_sets`.
        window: As in :func:`voxel_sets`.
        set_size: As in :func:`voxel_sets`.
        segments: As in :func:`voxel_sets`.
        shifted: Windows twice as wide along x and y that lie askew of the others, by half a window.

    Example:
        >>> cells = torch.tensor([[0, 0, 0], [5, 0, 0]])
        >>> voxel_partition(cells, (4, 4, 2), 8).sets[0].num_segments
        2
        >>> voxel_partition(cells, (4, 4, 2), 8, shifted=True).places.tolist()
        [[-2.0, -2.0, -1.0], [3.0, -2.0, -1.0]]
    """
    size, shift = tuple(window), (0, 0, 0)
    if shifted and len(size) == 3:
        size, shift = (2 * size[0], 2 * size[1], size[2]), (size[0] // 2, size[1] // 2, 0)
    sets = [voxel_sets(cells, size, set_size, segments, axis=a, shift=shift) for a in ("y", "x")]
    inside = _windows(cells, size, shift)[1]
    return Partition((sets[0], sets[1]), inside - 0.5 * inside.new_tensor(size))


class SetAttention(torch.nn.Module):
    r"""Attention between the voxels of each set, and a perceptron:

    .. math:: h = \mathrm{LN}\big(x + \mathrm{MHA}(x + e, x + e, x)\big), \qquad
              y = \mathrm{LN}\big(h + W_2\, \mathrm{gelu}(W_1 h)\big)

    Sets of one size are multiplied together, so that nothing is padded. With a pool, each voxel gets
    :math:`W\, \mathrm{pool}(x + e)` of its set instead of attention.

    Args:
        channels: Width of the features ``C``.
        heads: Heads of the attention, a divisor of ``C``.
        hidden: Width of the perceptron, ``2 C`` if ``None``.
        pool: ``"attention"``, or what :func:`graphpool.aggr.resolve` takes.

    Example:
        >>> sets = Segments(ptr=torch.tensor([0, 2, 5]))
        >>> SetAttention(8, heads=2)(torch.randn(5, 8), torch.zeros(5, 8), sets).shape
        torch.Size([5, 8])
    """

    def __init__(
        self, channels: int, heads: int = 8, hidden: int | None = None, pool: Any = "attention"
    ) -> None:
        super().__init__()
        channels, self.heads = as_count(channels, "channels"), as_count(heads, "heads")
        hidden = 2 * channels if hidden is None else as_count(hidden, "hidden")
        self.attends = isinstance(pool, str) and pool == "attention"
        if self.attends:
            check_divides(self.heads, "heads", channels)
            self.project = torch.nn.Linear(channels, 3 * channels)
        else:
            self.pool = Pool(pool, channels)
        self.out = torch.nn.Linear(channels, channels)
        self.norm0, self.norm1 = LayerNorm(channels), LayerNorm(channels)
        self.network = torch.nn.Sequential(
            torch.nn.Linear(channels, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor, encoding: Tensor, sets: Segments) -> Tensor:
        """Maps voxels ``[V, C]`` with encodings of their places ``[V, C]`` to ``[V, C]``.

        Raises:
            TypeError: ``x`` is no tensor, or in another precision than the parameters.
            ValueError: Sizes do not fit.
        """
        check_input(x, "x", self.out.in_features, self)
        if encoding.shape != x.shape:
            raise ValueError(
                f"`encoding` must have the shape of `x`, {tuple(x.shape)}; got {what_came(encoding)}."
            )
        check_one_per("voxel", x.size(0), "sets", sets.num_elements)
        if self.attends:
            mixed = self._attend(x, encoding, sets)
        else:
            mixed = segment_gather(self.pool(x + encoding, sets), sets)
        h = self.norm0(x + self.out(mixed))
        return self.norm1(h + self.network(h))

    def _attend(self, x: Tensor, encoding: Tensor, sets: Segments) -> Tensor:
        c = x.size(1)
        weight, bias = self.project.weight, self.project.bias
        linear = torch.nn.functional.linear
        asked = linear(x + encoding, weight[: 2 * c], bias[: 2 * c])
        rows = torch.cat([asked, linear(x, weight[2 * c :], bias[2 * c :])], 1)
        # In the order of the sizes of the sets: those of one size lie together.
        order, sizes, numbers = _by_size(sets)
        parts = []
        counts = [s * n for s, n in zip(sizes, numbers, strict=True)]
        for part, size in zip(rows.index_select(0, order).split(counts), sizes, strict=True):
            heads = part.view(-1, size, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            y = torch.nn.functional.scaled_dot_product_attention(*heads.unbind(0))
            parts.append(y.transpose(1, 2).reshape(-1, c))
        if not parts:
            return x
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel(), device=order.device)
        return torch.cat(parts).index_select(0, back)


class DSVT(torch.nn.Module):
    r"""Blocks of two layers of :class:`SetAttention` each, on voxels of clouds of any size.

    .. math:: x \leftarrow \mathrm{LN}(A_y(x) + x), \qquad x \leftarrow \mathrm{LN}(A_x(x) + x), \qquad
              x \leftarrow \mathrm{LN}(x_0 + x)

    The first layer of a block cuts the voxels of a window along y, the second along x, which connects the
    sets of a window; every second block has other windows, which connects them.

    Wang et al., "DSVT: dynamic sparse voxel transformer with rotated sets", CVPR 2023. For the pool between
    its stages see :class:`graphpool.aggr.DSVTPool`.

    Args:
        channels: Width of the features ``C``.
        window: Voxels of a window along x, y and z.
        set_size: The most voxels of a set.
        blocks: Number of blocks.
        heads: Heads of the attention, a divisor of ``C``.
        hidden: Width of the perceptrons, ``2 C`` if ``None``.
        pool: ``"attention"``, or what :func:`graphpool.aggr.resolve` takes, in its place.
        released: The second layer of a block sees the places of the voxels in the windows of odd blocks, the
            first layer those of even blocks, as in the released code.

    Raises:
        ValueError: ``heads`` does not divide ``channels``, or a number is less than 1.

    Example:
        >>> cells = torch.tensor([[0, 0, 0], [1, 0, 0], [9, 4, 2]])
        >>> DSVT(8, window=(4, 4, 2), set_size=8, heads=2)(torch.randn(3, 8), cells).shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        channels: int,
        window: Sequence[int] = (12, 12, 1),
        set_size: int = 36,
        *,
        blocks: int = 2,
        heads: int = 8,
        hidden: int | None = None,
        pool: Any = "attention",
        released: bool = False,
    ) -> None:
        super().__init__()
        self.channels = as_count(channels, "channels")
        self.window = _as_window(window)
        self.set_size, self.released = as_count(set_size, "set_size"), released
        # Flat windows have places in the plane.
        self.axes = 2 if self.window[2] == 1 else 3
        count = as_count(blocks, "blocks")

        def layers(make: Any) -> torch.nn.ModuleList:
            return torch.nn.ModuleList(make() for _ in range(2 * count))

        self.attention = layers(lambda: SetAttention(channels, heads, hidden, pool))
        self.norms = layers(lambda: LayerNorm(channels))
        self.places = layers(
            lambda: torch.nn.Sequential(
                torch.nn.Linear(self.axes, channels),
                torch.nn.BatchNorm1d(channels),
                torch.nn.ReLU(),
                torch.nn.Linear(channels, channels),
            )
        )
        self.ends = torch.nn.ModuleList(LayerNorm(channels) for _ in range(count))
        for name, p in self.named_parameters():
            if p.dim() > 1 and ".pool." not in name:
                torch.nn.init.xavier_uniform_(p)

    def forward(self, x: Tensor, cells: Tensor, segments: Segments | None = None) -> Tensor:
        """Maps features of voxels ``[V, C]`` to ``[V, C]``.

        Args:
            x: The features.
            cells: Integer coordinates (x, y, z) ``[V, 3]``, different within a cloud.
            segments: The cloud of each voxel, in any order; one cloud if ``None``.

        Raises:
            TypeError: ``cells`` are no integers, or ``x`` is in another precision than the parameters.
            ValueError: Sizes do not fit, a voxel is there twice, or in training there is but one.
        """
        check_input(x, "x", self.channels, self.attention)
        check_one_per("voxel", x.size(0), "cells", as_indices(cells, "cells", _CELLS).size(0))
        if self.training and x.size(0) == 1:
            raise ValueError(
                "`cells` must hold two voxels or more in training, as places are normalised over the batch; "
                "got 1. Larger batches have more; `eval()` needs no second."
            )
        count = min(len(self.ends), 2)
        parts = [
            voxel_partition(cells, self.window, self.set_size, segments, shifted=bool(i))
            for i in range(2 if self.released else count)
        ]
        for b, end in enumerate(self.ends):
            before = x
            for i in range(2):
                at = 2 * b + i
                seen = parts[i if self.released else b % 2].places[:, : self.axes]
                encoding = self.places[at](seen.to(x.dtype))
                x = self.norms[at](self.attention[at](x, encoding, parts[b % 2].sets[i]) + x)
            x = end(before + x)
        return x

    def extra_repr(self) -> str:
        return f"channels={self.channels}, window={self.window}, set_size={self.set_size}"


def _as_window(window: Sequence[int]) -> tuple[int, int, int]:
    if not isinstance(window, Sequence) or len(window) != 3:
        raise ValueError(f"`window` must have three sizes, along x, y and z; got {window!r}.")
    x, y, z = (as_count(size, "window") for size in window)
    return x, y, z


def _windows(cells: Tensor, window: Sequence[int], shift: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The window of each voxel, and its coordinates there, ``[V, 3]`` each."""
    cells = as_indices(cells, "cells", _CELLS)
    if cells.dim() != 2 or cells.size(1) != 3:
        raise ValueError(f"`cells` must have shape [V, 3]; got {what_came(cells)}.")
    if values_are_checked(cells.device) and cells.numel():
        low, high = (int(v) for v in cells.aminmax())
        if not -(2**52) < low <= high < 2**52:
            raise ValueError(f"`cells` must lie within +-2^52; got {low} to {high}.")
    size = cells.new_tensor(_as_window(window))
    offset = [as_integer(s, "shift") for s in shift]
    if len(offset) != 3:
        raise ValueError(f"`shift` must have three entries, along x, y and z; got {shift!r}.")
    moved = cells + cells.new_tensor(offset)
    corner = moved.div(size, rounding_mode="floor")
    return corner, moved - corner * size


def _by_size(sets: Segments) -> tuple[Tensor, list[int], list[int]]:
    """The elements by ascending size of their sets, set by set; the sizes, and how many sets have each."""
    by_set = torch.argsort(sets.index, stable=True)
    order = by_set[torch.argsort(sets.counts[sets.index[by_set]], stable=True)]
    sizes, numbers = sets.counts[sets.counts > 0].unique(return_counts=True)
    return order, sizes.tolist(), numbers.tolist()
