"""Ever coarser subsets of clouds, and the neighbourhoods that lead from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.ops.neighbors.sampling import fps
from graphpool.ops.neighbors.search import largest_cloud, search
from graphpool.segments import Segments


@dataclass(frozen=True)
class Level:
    """One step from points to fewer points.

    Args:
        pos: The points ``[N, 3]``, in the order of their clouds.
        segments: Their clouds.
        centre: The points that remain, ``[M]`` positions into ``pos``, in the order of the picks.
        centre_segments: The clouds of the centres.
        neighbor: ``[M, k]`` positions of the nearest points of each centre, itself among them; -1 fills
            the rows of clouds with fewer than ``k`` points. There are no more columns than the largest
            cloud has points.
    """

    pos: Tensor
    segments: Segments
    centre: Tensor
    centre_segments: Segments
    neighbor: Tensor

    @property
    def centre_pos(self) -> Tensor:
        return self.pos.index_select(0, self.centre)


def halvings(counts: Tensor, steps: int) -> list[Tensor]:
    """Sizes of the clouds after each halving; a cloud that has points keeps at least one."""
    sizes = []
    for _ in range(steps):
        counts = torch.where(counts > 0, (counts // 2).clamp_min(1), 0)
        sizes.append(counts)
    return sizes


def build_levels(
    pos: Tensor,
    segments: Segments,
    steps: int,
    k: int,
    start: int | Tensor | str = 0,
    generator: torch.Generator | None = None,
) -> list[Level]:
    """Halves each cloud ``steps`` times by farthest point sampling, with ``k`` neighbours per centre.

    The picks of one sampling serve every level, because the first picks are the smaller sampling.

    Args:
        pos: Points ``[N, 3]``, in the order of their clouds.
        segments: Their clouds, sorted.
        steps: Number of levels, >= 1.
        k: Neighbours per centre, >= 1.
        start: First pick; see :func:`graphpool.ops.neighbors.fps`.
        generator: Source of randomness for ``start="random"``.
    """
    steps = as_count(steps, "steps")
    k = as_count(k, "k")
    sizes = halvings(segments.counts, steps)
    levels: list[Level] = []
    centre = fps(pos, segments, sizes[0], start=start, generator=generator)
    for size in sizes:
        centres = Segments.from_counts(size)
        if levels:
            # The points of this level are picks, in order: its centres are the first of each cloud.
            slot = torch.arange(centres.num_elements, device=pos.device)
            centre = slot - centres.ptr[centres.index] + segments.ptr[centres.index]
        near = pos.index_select(0, centre)
        neighbor, _ = search(
            pos, min(k, largest_cloud(pos, segments)), near, segments, centres, False,
            float("inf"), ascending=False,
        )  # fmt: skip
        levels.append(Level(pos, segments, centre, centres, neighbor))
        pos, segments = near, centres
    return levels
