"""What launches the kernels of samples and searches: the same arguments and results as on the CPU."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from graphpool.ops.neighbors.clouds import Clouds
from graphpool.ops.neighbors.cuda import sampling as cuda_sampling
from graphpool.ops.neighbors.cuda import search as cuda_search
from graphpool.ops.neighbors.cuda.blocks import EXACT, Blocks, transposed, worth_sorting

_BLOCK = 32
# Bytes of what the threads of one program keep in registers: four values of each point, or one.
_ALL_ON_CHIP, _DISTANCES_ON_CHIP = 1 << 17, 1 << 16
# So many blocks, at most, of the points of a large cloud; a pick goes through a group of them at once.
_BLOCKS, _SMALLEST, _LARGEST, _GROUP = 512, 256, 4096, 4


@torch.compiler.disable
def fps(clouds: Clouds, first: Tensor, samples: Tensor) -> Tensor:
    """Positions of the samples; ``first`` and ``samples`` are per cloud."""
    points, ptr = clouds.points, clouds.ptr
    out_ptr = torch.zeros_like(ptr)
    torch.cumsum(samples, 0, out=out_ptr[1:])
    if not clouds.num_clouds:
        return torch.empty(0, dtype=torch.long, device=points.device)
    total, most = torch.stack([out_ptr[-1], clouds.counts.max()]).tolist()
    out = torch.empty(total, dtype=torch.long, device=points.device)
    if not total:
        return out
    count, columns = points.shape
    block = triton.next_power_of_2(most)
    size = block * points.element_size()
    grid = (clouds.num_clouds,)
    with torch.cuda.device_of(points):
        if size <= _DISTANCES_ON_CHIP:
            kept = columns <= 3 and 4 * size <= _ALL_ON_CHIP
            axes = transposed(points, 3)
            warps = max(4, min(32, block // 256))
            cuda_sampling.sample_on_chip[grid](
                axes, ptr, first, out_ptr, out, count, columns, KEPT=kept, BLOCK=block,
                num_warps=warps, **EXACT,
            )  # fmt: skip
            return out
        size = max(_SMALLEST, min(_LARGEST, triton.next_power_of_2(-(-most // _BLOCKS))))
        blocks = Blocks.of(clouds, size, clouds if columns <= 3 else None)
        distance = points.new_full((count,), torch.inf)
        cuda_sampling.sample_blocks[grid](
            blocks.axes, blocks.position, blocks.box, blocks.block_ptr, ptr, points, first, out_ptr, out,
            distance, count, columns, blocks.box.shape[2],
            NB=triton.next_power_of_2(triton.cdiv(most, size)), GROUP=min(_GROUP, _LARGEST // size),
            BLOCK=size, num_warps=8, **EXACT,
        )  # fmt: skip
    return out


@torch.compiler.disable
def knn(
    clouds: Clouds, queries: Clouds, k: int, exclude: Tensor | None, limit: float, same: bool
) -> tuple[Tensor, Tensor]:
    """Positions ``[M, k]`` (-1 where missing) and squared distances (inf), at most ``limit``."""
    count = queries.points.shape[0]
    index = torch.empty((count, k), dtype=torch.long, device=queries.points.device)
    squared = queries.points.new_empty((count, k))
    with torch.cuda.device_of(index):
        points, asked = _both(clouds, queries, same)
        if count:
            arguments = (
                *_where(points, asked),
                _home(points, asked),
                *_limits(asked, exclude, limit),
            )
            cuda_search.nearest[(asked.cloud_of.shape[0],)](
                *arguments, squared, index, *_sizes(points, asked), k,
                EXCLUDE=exclude is not None, K=triton.next_power_of_2(k), BLOCK=_BLOCK, **EXACT,
            )  # fmt: skip
    return index, squared


@torch.compiler.disable
def within(
    clouds: Clouds,
    queries: Clouds,
    limit: float,
    inclusive: bool,
    exclude: Tensor | None,
    same: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets ``[M + 1]``, positions and squared distances of all points within ``limit``."""
    count = queries.points.shape[0]
    offsets = torch.zeros(count + 1, dtype=torch.long, device=queries.points.device)
    index, squared = offsets.new_empty(0), queries.points.new_empty(0)
    if not count:
        return offsets, index, squared
    with torch.cuda.device_of(offsets):
        points, asked = _both(clouds, queries, same)
        arguments = (*_where(points, asked), *_limits(asked, exclude, limit), offsets)

        def find(index: Tensor, squared: Tensor, fill: bool) -> None:
            cuda_search.within[(asked.cloud_of.shape[0],)](
                *arguments, squared, index, *_sizes(points, asked),
                EXCLUDE=exclude is not None, INCLUSIVE=inclusive, FILL=fill, BLOCK=_BLOCK, **EXACT,
            )  # fmt: skip

        find(index, squared, False)
        torch.cumsum(offsets, 0, out=offsets)
        total = int(offsets[-1])
        index, squared = offsets.new_empty(total), squared.new_empty(total)
        find(index, squared, True)
    # By query, then by distance, then by position: the least significant first.
    order = index.argsort(stable=True)
    order = order[squared[order].argsort(stable=True)]
    bag = torch.arange(count, device=offsets.device)
    bag = bag.repeat_interleave(offsets.diff(), output_size=total)
    order = order[bag[order].argsort(stable=True)]
    return offsets, index[order], squared[order]


def _both(clouds: Clouds, queries: Clouds, same: bool) -> tuple[Blocks, Blocks]:
    like = clouds if worth_sorting(clouds) else None
    points = Blocks.of(clouds, _BLOCK, like)
    return points, points if same else Blocks.of(queries, _BLOCK, like)


def _where(points: Blocks, asked: Blocks) -> tuple[Any, ...]:
    return (
        points.axes, points.position, points.box, points.block_ptr, points.ptr,
        asked.axes, asked.position, asked.box, asked.block_ptr, asked.ptr, asked.cloud_of,
    )  # fmt: skip


def _sizes(points: Blocks, asked: Blocks) -> tuple[int, ...]:
    columns, count = points.axes.shape
    return count, asked.axes.shape[1], columns, points.box.shape[2], asked.box.shape[2]


def _limits(asked: Blocks, exclude: Tensor | None, limit: float) -> tuple[Tensor, Tensor]:
    """As tensors: Triton takes numbers in float32. A pointer that is not read still has to be one."""
    return asked.ptr if exclude is None else exclude, asked.axes.new_full((1,), limit)


def _home(points: Blocks, asked: Blocks) -> Tensor:
    """The block of its cloud, counted from the first, in which the first query of each block would lie."""
    cloud = asked.cloud_of.clamp_min(0)
    local = torch.arange(cloud.shape[0], device=cloud.device) - asked.block_ptr[cloud]
    blocks = points.block_ptr.diff()[cloud]
    if points is not asked:
        if points.key is None or asked.key is None:
            return torch.zeros_like(cloud)
        first = (asked.ptr[cloud] + local * _BLOCK).clamp(0, asked.key.shape[0] - 1)
        local = (torch.searchsorted(points.key, asked.key[first]) - points.ptr[cloud]) // _BLOCK
    return torch.minimum(local, blocks - 1).clamp_min(0)
