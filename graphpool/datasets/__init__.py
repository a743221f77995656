"""Generators and loaders. Everything comes out as :class:`torch_geometric.data.Data`."""

from .brec import BREC, BRECCopies, brec_ranges
from .cfi import cfi_graph, cfi_pair
from .circulant import CSL, circulant_graph, relabel
from .classification import GraphFamilies
from .counting import SubstructureCounts, count_substructures
from .extrapolation import HarmonicDegree, InverseSize, MaxDegree, ShortestPath
from .generated_meshes import GeneratedMeshes, LabelledMesh, generate_mesh
from .graph6 import graphs_from_graph6, read_graph6, to_graph6
from .mesh_folders import MeshClassificationFolder, MeshSegmentationFolder
from .nbody import NBody
from .neighbor_sampling import UniformNeighborSampler
from .planar_sat import CEXP, EXP
from .point_clouds import PackedPointClouds, PointClouds
from .point_files import load_cloud, read_points
from .point_folders import PointCloudFolder, model_net
from .point_parts import GeneratedParts
from .point_shapes import GeneratedShapes
from .sets import SetStatistics
from .small_graphs import Graph8c, connected_graphs
from .strongly_regular import SR25, strongly_regular_parameters
from .tu import TUGraphs

__all__ = [
    "BREC",
    "BRECCopies",
    "CEXP",
    "CSL",
    "EXP",
    "GeneratedMeshes",
    "GeneratedParts",
    "GeneratedShapes",
    "Graph8c",
    "GraphFamilies",
    "HarmonicDegree",
    "InverseSize",
    "LabelledMesh",
    "MaxDegree",
    "MeshClassificationFolder",
    "MeshSegmentationFolder",
    "NBody",
    "PackedPointClouds",
    "PointCloudFolder",
    "PointClouds",
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
    "read_graph6",
    "read_points",
    "relabel",
    "strongly_regular_parameters",
    "to_graph6",
]
