"""Pooling functions over bags of vectors, for graphs, point clouds, meshes and sets."""

from graphpool import aggr, ops
from graphpool._debug import debug
from graphpool._version import __version__
from graphpool.aggr.contributions import attention, contributions
from graphpool.ops import backend, explain, use_backend
from graphpool.segments import Segments

__all__ = [
    "Segments",
    "__version__",
    "aggr",
    "backend",
    "attention",
    "contributions",
    "debug",
    "explain",
    "ops",
    "use_backend",
]
