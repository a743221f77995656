"""Triangle meshes as pairs of graphs: building them, convolving, pooling and unpooling.

The system is that of PD-MeshNet (Milano et al., NeurIPS 2020), with any aggregation as the reducer
of a pool; beside it the edge-based layers of MeshCNN (Hanocka et al., SIGGRAPH 2019).
"""

from .cleaning import CleaningReport, CleanMesh, clean
from .conv import MeshFeatures, PrimalDualConv, PrimalDualResidual
from .decimation import DecimatedMesh, decimate
from .edge_conv import MeshConv
from .edge_graph import EdgeGraph, edge_graph
from .edge_pool import EdgeCollapsePool, EdgeCollapses, PooledEdges, unpool_edges
from .edge_topology import EdgeTopology
from .graph import MeshGraph, primal_dual
from .io import MeshArrays, read_mesh, read_mesh_file, write_mesh
from .mesh_file import MeshFile
from .nearest import nearest_faces, project_labels
from .pool import FaceClusterPool, FaceClusters, FaceClusterUnpool, PooledMesh, cluster_faces
from .selection import select_edges
from .shapes import icosphere
from .standardize import MeshStandardizer
from .topology import MeshTopology

__all__ = [
    "CleanMesh",
    "CleaningReport",
    "DecimatedMesh",
    "EdgeCollapsePool",
    "EdgeCollapses",
    "EdgeGraph",
    "EdgeTopology",
    "FaceClusterPool",
    "FaceClusterUnpool",
    "FaceClusters",
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
