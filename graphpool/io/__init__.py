"""Files in, arrays out: readers and writers that know no data set and no network."""

from graphpool.io.graph6 import format_graph6, parse_graph6, read_graph6_edges
from graphpool.io.meshes.formats import MeshArrays, read_mesh, read_mesh_file, write_mesh
from graphpool.io.meshes.mesh_file import MeshFile
from graphpool.io.points.fields import CloudArrays
from graphpool.io.points.formats import read_cloud, read_points, write_cloud
from graphpool.io.untrusted import load_tensors

__all__ = [
    "CloudArrays",
    "MeshArrays",
    "MeshFile",
    "format_graph6",
    "load_tensors",
    "parse_graph6",
    "read_cloud",
    "read_graph6_edges",
    "read_mesh",
    "read_mesh_file",
    "read_points",
    "write_cloud",
    "write_mesh",
]
