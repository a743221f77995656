"""Sampling and grouping of points: exact, deterministic, and defined for ragged and unsorted clouds."""

from .interpolation import interpolate
from .sampling import fps
from .search import Groups, Neighbors, knn, knn_groups, radius
from .voxel import Voxels, voxel_grid, voxel_segments

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
