"""Point clouds: training-free and trained encoders with any pool."""

from .encoding import encoding_matrix, frequencies, position_encoding
from .fusion import fuse, tune_fusion
from .hierarchy import Level, build_levels
from .memory import GAMMAS, MemoryBank
from .point_nn import PointNN
from .point_pn import PointPN
from .pooling import MaxPlusMean, Pool
from .segmentation import PartMemory, PointNNSegmenter, part_iou
from .set_abstraction import FeaturePropagation, GlobalAbstraction, SetAbstraction
from .voxel_pool import Pooled, VoxelPool

__all__ = [
    "GAMMAS",
    "FeaturePropagation",
    "GlobalAbstraction",
    "Level",
    "MaxPlusMean",
    "MemoryBank",
    "PartMemory",
    "PointNN",
    "PointNNSegmenter",
    "PointPN",
    "Pool",
    "Pooled",
    "SetAbstraction",
    "VoxelPool",
    "build_levels",
    "encoding_matrix",
    "frequencies",
    "fuse",
    "part_iou",
    "position_encoding",
    "tune_fusion",
]
