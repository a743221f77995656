"""Generators and loaders. Everything comes out as :class:`torch_geometric.data.Data`."""

from graphpool.datasets.bags import BagFolder, Bags, MultipleInstances
from graphpool.datasets.graphs.brec import BREC, BRECCopies, brec_ranges
from graphpool.datasets.graphs.cfi import cfi_graph, cfi_pair
from graphpool.datasets.graphs.circulant import CSL, circulant_graph, relabel
from graphpool.datasets.graphs.classification import GraphFamilies
from graphpool.datasets.graphs.counting import SubstructureCounts, count_substructures
from graphpool.datasets.graphs.extrapolation import (
    HarmonicDegree,
    InverseSize,
    MaxDegree,
    ShortestPath,
)
from graphpool.datasets.graphs.nbody import NBody
from graphpool.datasets.graphs.neighbor_sampling import UniformNeighborSampler
from graphpool.datasets.graphs.planar_sat import CEXP, EXP
from graphpool.datasets.graphs.small_graphs import Graph8c, connected_graphs
from graphpool.datasets.graphs.strongly_regular import SR25, strongly_regular_parameters
from graphpool.datasets.graphs.tu import TUGraphs
from graphpool.datasets.graphs.undirected import graphs_from_graph6, read_graph6, to_graph6
from graphpool.datasets.meshes.folders import (
    MeshClassificationFolder,
    MeshFolder,
    MeshSegmentationFolder,
)
from graphpool.datasets.meshes.generated import GeneratedMeshes, LabelledMesh, generate_mesh
from graphpool.datasets.molecules import QM9
from graphpool.datasets.points.clouds import HDF5PointClouds, PackedPointClouds, PointClouds
from graphpool.datasets.points.drawing import load_cloud
from graphpool.datasets.points.folders import PointCloudFolder, model_net
from graphpool.datasets.points.parts import GeneratedParts
from graphpool.datasets.points.shapes import GeneratedShapes
from graphpool.datasets.sets import SetStatistics
from graphpool.io import CloudArrays, read_cloud, read_points, write_cloud

__all__ = [
    "BREC",
    "BagFolder",
    "Bags",
    "BRECCopies",
    "CEXP",
    "CSL",
    "CloudArrays",
    "EXP",
    "GeneratedMeshes",
    "GeneratedParts",
    "GeneratedShapes",
    "Graph8c",
    "GraphFamilies",
    "HDF5PointClouds",
    "HarmonicDegree",
    "InverseSize",
    "LabelledMesh",
    "MaxDegree",
    "MeshClassificationFolder",
    "MeshFolder",
    "MeshSegmentationFolder",
    "MultipleInstances",
    "NBody",
    "PackedPointClouds",
    "PointCloudFolder",
    "PointClouds",
    "QM9",
    "SR25",
    "SetStatistics",
    "ShortestPath",
    "SubstructureCounts",
    "TUGraphs",
    "UniformNeighborSampler",
    "brec_ranges",
    "cfi_graph",
    "cfi_pair",
    "circulant_graph",
    "connected_graphs",
    "count_substructures",
    "generate_mesh",
    "graphs_from_graph6",
    "load_cloud",
    "model_net",
    "read_cloud",
    "read_graph6",
    "read_points",
    "relabel",
    "strongly_regular_parameters",
    "to_graph6",
    "write_cloud",
]
