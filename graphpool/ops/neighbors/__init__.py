"""Sampling and grouping of points: exact, deterministic, and defined for ragged and unsorted clouds."""

from graphpool.ops.neighbors.interpolation import interpolate
from graphpool.ops.neighbors.sampling import fps
from graphpool.ops.neighbors.search import Groups, Neighbors, knn, knn_groups, radius
from graphpool.ops.neighbors.voxel import Voxels, voxel_grid, voxel_segments

__all__ = [
    "Groups",
    "Neighbors",
    "Voxels",
    "fps",
    "interpolate",
    "knn",
    "knn_groups",
    "radius",
    "voxel_grid",
    "voxel_segments",
]
