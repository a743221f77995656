"""Point clouds: training-free and trained encoders with any pool."""

from .encoding import encoding_matrix, frequencies, position_encoding
from .fusion import fuse, tune_fusion
from .hierarchy import Level, build_levels
from .memory import GAMMAS, MemoryBank
from .point_nn import PointNN
from .segmentation import PartMemory, PointNNSegmenter, part_iou

__all__ = [
    "GAMMAS",
    "Level",
    "MemoryBank",
    "PartMemory",
    "PointNN",
    "PointNNSegmenter",
    "build_levels",
    "encoding_matrix",
    "frequencies",
    "fuse",
    "part_iou",
    "position_encoding",
    "tune_fusion",
]
