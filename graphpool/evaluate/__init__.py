"""Evaluation procedures."""

from graphpool.evaluate.expressiveness import (
    Separation,
    embed,
    relabelled,
    relative_distance,
    separate_pairs,
    similar_pairs,
    undistinguished_pairs,
)
from graphpool.evaluate.paired import (
    PairedResult,
    compare_pair,
    copies_block,
    hotelling,
    statistical_threshold,
)

__all__ = [
    "PairedResult",
    "Separation",
    "compare_pair",
    "copies_block",
    "embed",
    "hotelling",
    "relabelled",
    "relative_distance",
    "separate_pairs",
    "similar_pairs",
    "statistical_threshold",
    "undistinguished_pairs",
]
