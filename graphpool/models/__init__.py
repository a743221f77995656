"""Whole networks, in which every pool is a word."""

from .graph import GraphModel
from .points import EdgeConvClassifier, PointNet2Classifier, PointNet2Segmenter

__all__ = ["EdgeConvClassifier", "GraphModel", "PointNet2Classifier", "PointNet2Segmenter"]
