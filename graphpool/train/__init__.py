"""Mini-batches of graphs, a plain training loop, losses, and statistics, as the examples use them."""

from graphpool.train.loops import (
    Forward,
    GraphBatches,
    History,
    Metric,
    MiniBatch,
    accuracy,
    class_weights,
    cross_entropy,
    fit,
    predict,
)
from graphpool.train.reweighting import (
    GraphReweighter,
    decorrelation,
    random_cosines,
    stable_clusters,
)
from graphpool.train.running import recalibrate

__all__ = [
    "Forward",
    "GraphBatches",
    "GraphReweighter",
    "History",
    "Metric",
    "MiniBatch",
    "accuracy",
    "class_weights",
    "cross_entropy",
    "decorrelation",
    "fit",
    "predict",
    "random_cosines",
    "recalibrate",
    "stable_clusters",
]
