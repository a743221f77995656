"""Triangle meshes as pairs of graphs: building them, convolving, pooling and unpooling.

The system is that of PD-MeshNet (Milano et al., NeurIPS 2020), with any aggregation as the reducer
of a pool; beside it the edge-based layers of MeshCNN (Hanocka et al., SIGGRAPH 2019).
"""

from graphpool.io import MeshArrays, MeshFile, read_mesh, read_mesh_file, write_mesh
from graphpool.mesh.augment import FlipEdges, JitterVertices, Remake
from graphpool.mesh.dual.conv import MeshFeatures, PrimalDualConv, PrimalDualResidual
from graphpool.mesh.dual.graph import MeshGraph, primal_dual
from graphpool.mesh.dual.pool import (
    FaceClusterPool,
    FaceClusters,
    FaceClusterUnpool,
    PooledMesh,
    cluster_faces,
)
from graphpool.mesh.dual.selection import select_edges
from graphpool.mesh.dual.topology import MeshTopology
from graphpool.mesh.edges.conv import MeshConv
from graphpool.mesh.edges.graph import EdgeGraph, edge_graph
from graphpool.mesh.edges.pool import EdgeCollapsePool, EdgeCollapses, PooledEdges, unpool_edges
from graphpool.mesh.edges.topology import EdgeTopology
from graphpool.mesh.repair.cleaning import CleaningReport, CleanMesh, clean
from graphpool.mesh.repair.decimation import DecimatedMesh, decimate
from graphpool.mesh.repair.nearest import nearest_faces, project_labels
from graphpool.mesh.shapes import icosphere
from graphpool.mesh.standardize import EdgeStandardizer, MeshStandardizer

__all__ = [
    "CleanMesh",
    "CleaningReport",
    "DecimatedMesh",
    "EdgeCollapsePool",
    "EdgeCollapses",
    "EdgeGraph",
    "EdgeStandardizer",
    "EdgeTopology",
    "FaceClusterPool",
    "FaceClusterUnpool",
    "FaceClusters",
    "FlipEdges",
    "JitterVertices",
    "MeshArrays",
    "MeshConv",
    "MeshFeatures",
    "MeshFile",
    "MeshGraph",
    "MeshStandardizer",
    "MeshTopology",
    "PooledEdges",
    "PooledMesh",
    "PrimalDualConv",
    "PrimalDualResidual",
    "Remake",
    "clean",
    "cluster_faces",
    "decimate",
    "edge_graph",
    "icosphere",
    "nearest_faces",
    "primal_dual",
    "project_labels",
    "read_mesh",
    "read_mesh_file",
    "select_edges",
    "unpool_edges",
    "write_mesh",
]
