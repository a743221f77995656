"""Points cut into blocks that lie together, with the box of each: what the kernels pass over."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from graphpool.ops.neighbors.clouds import Clouds
from graphpool.ops.neighbors.cuda import search as cuda_search

# Boxes are worth a sort of the points where clouds are large, and tell them apart in few coordinates.
_SORTED_FROM = 4096
_SORTED_COORDINATES = 3
_BITS = 10
# Rounded as the CPU does: a product and a sum in one step would have other bits.
EXACT = {"enable_fp_fusion": False}


class Blocks(NamedTuple):
    """Points cloud by cloud, in blocks of ``size`` rows; the last block of a cloud may be shorter.

    Row ``r`` is point ``position[r]`` of the clouds, with the coordinates ``axes[:, r]``. The blocks of cloud
    ``c`` are ``block_ptr[c], ...``; ``cloud_of`` is -1 for those that are not needed, since the host knows
    only an upper bound of their number. ``box[a, 0], box[a, 1]`` bound coordinate ``a``; ``key`` ascends with
    the rows where they are sorted by place.
    """

    axes: Tensor
    position: Tensor
    ptr: Tensor
    block_ptr: Tensor
    cloud_of: Tensor
    box: Tensor
    key: Tensor | None

    @classmethod
    def of(cls, clouds: Clouds, size: int, like: Clouds | None = None) -> Blocks:
        """``like``: the clouds by whose extent places are numbered."""
        points, ptr = clouds.points, clouds.ptr
        count, columns = points.shape
        key = None if like is None else _places(clouds, like)
        if key is None:
            order = torch.arange(count, device=points.device)
        else:
            key, order = key.sort(stable=True)
            points = points[order]
        axes = transposed(points)
        block_ptr = torch.zeros_like(ptr)
        torch.cumsum((clouds.counts + size - 1) // size, 0, out=block_ptr[1:])
        most = count // size + clouds.num_clouds
        block = torch.arange(most, device=ptr.device)
        cloud_of = torch.searchsorted(block_ptr, block, right=True) - 1
        cloud_of = torch.where(cloud_of < clouds.num_clouds, cloud_of, -1)
        box = axes.new_zeros((columns, 2, most))
        found = cls(axes, order.int(), ptr, block_ptr, cloud_of, box, key)
        if most:
            where = (axes, ptr, block_ptr, cloud_of, box, count, columns, most)
            cuda_search.boxes[(most,)](*where, BLOCK=triton.next_power_of_2(size), **EXACT)
        return found


def transposed(points: Tensor, at_least: int = 1) -> Tensor:
    """Coordinates axis by axis ``[A, N]``; zeros, which change no distance, for axes that are absent."""
    out = points.new_zeros((max(points.shape[1], at_least), points.shape[0]))
    out[: points.shape[1]] = points.T
    return out


def worth_sorting(clouds: Clouds) -> bool:
    """By sizes that the host knows without waiting for the device."""
    count, columns = clouds.points.shape
    return columns <= _SORTED_COORDINATES and count >= _SORTED_FROM * max(clouds.num_clouds, 1)


def _places(clouds: Clouds, like: Clouds) -> Tensor:
    """Numbers in the order of the clouds, then along the Z-shaped curve (Morton 1966) through all of them."""
    low, high = like.points.aminmax(dim=0)
    extent = (high - low).masked_fill(high == low, 1)
    cells = 1 << _BITS
    v = ((clouds.points - low) / extent * cells).clamp(0, cells - 1).long()
    # Two zeros between the bits of each number: from 10 bits to 30.
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        v = (v | v << shift) & mask
    axis = torch.arange(v.shape[1], device=v.device)
    return (clouds.cloud << 3 * _BITS) | (v << axis).sum(1)
