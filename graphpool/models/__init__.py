"""Whole networks, in which every pool is a word."""

from .graph import GraphModel
from .mesh_classifier import MeshClassifier
from .mesh_face_mlp import FaceMLP
from .mesh_segmenter import MeshSegmenter
from .mesh_superpixel import MeshSuperpixelSegmenter
from .meshcnn import MeshCNNClassifier, MeshCNNSegmenter
from .points import EdgeConvClassifier, PointNet2Classifier, PointNet2Segmenter

__all__ = [
    "EdgeConvClassifier",
    "FaceMLP",
    "GraphModel",
    "MeshCNNClassifier",
    "MeshCNNSegmenter",
    "MeshClassifier",
    "MeshSegmenter",
    "MeshSuperpixelSegmenter",
    "PointNet2Classifier",
    "PointNet2Segmenter",
]
