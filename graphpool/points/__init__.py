"""Point clouds: the layers of networks and the training-free encoder, with any pool."""

from graphpool.points.encoding import (
    encoding_matrix,
    frequencies,
    gaussian_encoding,
    position_encoding,
)
from graphpool.points.fusion import fuse, tune_fusion
from graphpool.points.hierarchy import Level, build_levels
from graphpool.points.memory import GAMMAS, MemoryBank
from graphpool.points.point_nn import PointNN
from graphpool.points.pooling import Pool
from graphpool.points.segmentation import PartMemory, PointNNSegmenter, part_iou
from graphpool.points.set_abstraction import FeaturePropagation, GlobalAbstraction, SetAbstraction
from graphpool.points.voxel_pool import Pooled, VoxelPool

__all__ = [
    "GAMMAS",
    "FeaturePropagation",
    "GlobalAbstraction",
    "Level",
    "MemoryBank",
    "PartMemory",
    "PointNN",
    "PointNNSegmenter",
    "Pool",
    "Pooled",
    "SetAbstraction",
    "VoxelPool",
    "build_levels",
    "encoding_matrix",
    "frequencies",
    "fuse",
    "gaussian_encoding",
    "part_iou",
    "position_encoding",
    "tune_fusion",
]
