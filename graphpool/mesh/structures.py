"""What the layers and networks of meshes take, and what an error says about anything else."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch_geometric.data import Data

T = TypeVar("T")

#: For each structure where it comes from, and what takes it.
_PATHS = {
    "MeshGraph": (
        "graphpool.mesh.primal_dual makes",
        "MeshClassifier, MeshSegmenter, MeshSuperpixelSegmenter and FaceMLP take",
    ),
    "EdgeGraph": (
        "graphpool.mesh.edge_graph makes",
        "MeshCNNClassifier and MeshCNNSegmenter take",
    ),
    "MeshTopology": (
        "topology() of a MeshGraph gives",
        "PrimalDualConv and FaceClusterPool take",
    ),
    "EdgeTopology": (
        "topology() of an EdgeGraph gives",
        "MeshConv and EdgeCollapsePool take",
    ),
    "FaceClusters": ("FaceClusterPool gives as `clusters`", "FaceClusterUnpool takes"),
    "EdgeCollapses": ("EdgeCollapsePool gives as `collapses`", "unpool_edges takes"),
}


def expect(value: Any, kind: type[T], name: str) -> T:
    """``value`` itself, if it is of the structure ``kind``.

    Raises:
        TypeError: It is something else; the message says where ``kind`` comes from, and what takes what
            came, or what makes the one of the other.
    """
    if isinstance(value, kind):
        return value
    made, _ = _PATHS[kind.__name__]
    other = next((c.__name__ for c in type(value).__mro__ if c.__name__ in _PATHS), None)
    came = type(value).__name__
    if other is not None:
        came = f"{other}, which {_PATHS[other][1]}"
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], kind):
        came += "; torch_geometric.data.Batch.from_data_list makes one of several"
    elif isinstance(value, Data) and "face" in value:
        came += ", whose mesh is `pos` and `face.t()`"
    article = "an" if kind.__name__[0] in "AEIO" else "a"
    raise TypeError(f"`{name}` must be {article} {kind.__name__}, which {made}; got {came}.")


def batch_of(graph: Data, size: int) -> tuple[Tensor, int]:
    """The mesh ``[size]`` of each node of ``graph``, and the number of meshes.

    Raises:
        TypeError: ``graph`` is a batch of batches, which counts these and not their meshes.
    """
    batch = graph.batch if "batch" in graph else None
    if batch is None:
        return torch.zeros(size, dtype=torch.long, device=graph.x.device), 1
    if hasattr(graph, "_num_graphs") and "ptr" not in graph:
        raise TypeError(
            "`graph` must be a batch of graphs; got a batch of batches. Batch.from_data_list takes the "
            "graphs themselves, which `to_data_list()` of a batch gives."
        )
    return batch, getattr(graph, "num_graphs", 1)
