"""How the Triton kernels are launched: pieces of bags, block sizes, and the arguments that say where
elements lie."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphpool.ops.fused.common import working_dtype
from graphpool.ops.fused.cuda import bags as cuda_bags
from graphpool.ops.fused.cuda import rows as cuda_rows
from graphpool.ops.fused.layout import Layout
from graphpool.ops.reference import limits

# Bags are cut so that a piece has about this many elements on average. Only sizes that the host knows
# without waiting for the device decide.
_PIECE = 2048
_MAX_PIECES = 256
_MAX_CHANNEL_BLOCK = 64
_ROWS, _GATHERED_ROWS = 256, 16


class Runs(NamedTuple):
    """The runs of elements that programs reduce: ``pieces`` for each bag, one after the other."""

    begin: Tensor
    end: Tensor
    pieces: int

    @classmethod
    def of(cls, layout: Layout, elements: int) -> Runs:
        ptr = layout.ptr
        bags = ptr.shape[0] - 1
        pieces = min(_MAX_PIECES, max(1, elements // max(bags, 1) // _PIECE))
        if pieces == 1:
            return cls(ptr[:-1].contiguous(), ptr[1:].contiguous(), 1)
        step = (ptr[1:] - ptr[:-1] + pieces - 1) // pieces
        offsets = torch.arange(pieces, device=ptr.device) * step[:, None]
        begin = torch.minimum(ptr[:-1, None] + offsets, ptr[1:, None])
        end = torch.minimum(begin + step[:, None], ptr[1:, None])
        return cls(begin.flatten(), end.flatten(), pieces)

    def by_bag(self, values: Tensor) -> Tensor:
        """Values of pieces ``[S * pieces, ...]`` as ``[S, pieces, ...]``."""
        return values.view(values.shape[0] // self.pieces, self.pieces, *values.shape[1:])


def accumulator(x: Tensor) -> Any:
    return tl.float64 if working_dtype(x) == torch.float64 else tl.float32


def channel_block(channels: int) -> int:
    return min(_MAX_CHANNEL_BLOCK, triton.next_power_of_2(channels))


def element_block(elements: int, bags: int) -> int:
    """As many elements at a time as a bag has on average, within reason."""
    return max(8, min(64, triton.next_power_of_2(elements // max(bags, 1))))


def reduce_bags(
    kernel: Any,
    arrays: tuple[Any, ...],
    x: Tensor,
    layout: Layout,
    runs: Runs,
    results: tuple[Any, ...],
    **flags: Any,
) -> None:  # noqa: E501
    """Launches a kernel of :mod:`cuda_bags` over all runs and channels of ``x``."""
    channels = x.shape[1]
    if not (runs.begin.shape[0] and channels):
        return
    block = channel_block(channels)
    # A pointer that is not read still has to be one.
    none = layout.ptr
    where = [none if v is None else v for v in (layout.perm, layout.gather, layout.weight)]
    kernel[(runs.begin.shape[0], triton.cdiv(channels, block))](
        *arrays, *where, runs.begin, runs.end, *results,
        PERM=layout.perm is not None, GATHER=layout.gather is not None,
        WEIGHT=layout.weight is not None, ACC=accumulator(x),
        BE=element_block(layout.num_elements(x), runs.begin.shape[0]), BC=block, **flags,
    )  # fmt: skip


def walk_rows(
    mode: Any,
    x: Tensor,
    layout: Layout,
    bags: tuple[Tensor, Tensor, Tensor],
    t: Tensor | None = None,
    score: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Launches :func:`cuda_rows.walk`: the gradient of the rows, and of ``t`` where it is given."""
    rows, channels = x.shape
    dtype = working_dtype(x)
    out = x.new_zeros((rows, channels), dtype=dtype)
    gathered = layout.row_ptr is not None
    step = _GATHERED_ROWS if gathered else _ROWS
    programs, block = triton.cdiv(rows, step), channel_block(channels)
    partial = x.new_zeros((programs if t is not None else 0, channels), dtype=dtype)
    heads = channels if score is None else score.shape[1]
    none = layout.ptr
    if rows and channels:
        where = (layout.bag_of, layout.weight, layout.row_ptr, layout.row_elements)
        wide = dtype == torch.float64
        cuda_rows.walk[(programs, triton.cdiv(channels, block))](
            x, *(none if v is None else v for v in (t, score, *where)), *bags, out, partial,
            rows, channels, heads, channels // heads,
            limits(x.dtype)[0], 709.782712893384 if wide else 88.72283,
            MODE=mode, PTR=gathered, ELEMENTS=layout.row_elements is not None,
            WEIGHT=layout.weight is not None, PARAMETER=t is not None, ACC=accumulator(x),
            ROWS=step, BE=8 if gathered else 32, BC=block,
        )  # fmt: skip
    return out, None if t is None else partial.sum(0)


def size_of_runs(x: Tensor, layout: Layout, runs: Runs) -> Tensor:
    """The sum of the weights of each run, in float64."""
    if layout.weight is None:
        return (runs.end - runs.begin).double()
    weight = layout.weight[:, None]
    plain = layout._replace(gather=None, weight=None)
    total = weight.new_zeros((runs.begin.shape[0], 1), dtype=torch.float64)
    results = (total, *(total,) * 4, 1)
    reduce_bags(cuda_bags.moments_forward, (weight,), weight, plain, runs, results, EXTREMA=False)
    return total[:, 0]
