"""Whole networks, in which every pool is a word."""

from graphpool.models.deconvolution import GraphDeconvolution
from graphpool.models.graph import GraphModel
from graphpool.models.links import NCN
from graphpool.models.meshes.classifier import MeshClassifier
from graphpool.models.meshes.face_mlp import FaceMLP
from graphpool.models.meshes.meshcnn import MeshCNNClassifier, MeshCNNSegmenter
from graphpool.models.meshes.segmenter import MeshSegmenter
from graphpool.models.meshes.superpixel import MeshSuperpixelSegmenter
from graphpool.models.points.edge_conv import EdgeConvClassifier
from graphpool.models.points.point_nn import PointNNClassifier
from graphpool.models.points.point_pn import PointPN
from graphpool.models.points.pointnet2 import PointNet2Classifier, PointNet2Segmenter
from graphpool.models.tracks import HyperTrack
from graphpool.models.weight_space import DWSNet

__all__ = [
    "NCN",
    "DWSNet",
    "EdgeConvClassifier",
    "FaceMLP",
    "GraphDeconvolution",
    "GraphModel",
    "HyperTrack",
    "MeshCNNClassifier",
    "MeshCNNSegmenter",
    "MeshClassifier",
    "MeshSegmenter",
    "MeshSuperpixelSegmenter",
    "PointNNClassifier",
    "PointNet2Classifier",
    "PointNet2Segmenter",
    "PointPN",
]
