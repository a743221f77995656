"""Pooling functions over bags of vectors, for graphs, point clouds, meshes and sets."""

from typing import Any

from graphpool import aggr, ops
from graphpool._debug import debug
from graphpool._recorded import savable
from graphpool._version import __version__
from graphpool.aggr.contributions import attention, contributions
from graphpool.ops import backend, explain, use_backend
from graphpool.segments import Segments
from graphpool.states import stream

__all__ = [
    "Segments",
    "__version__",
    "aggr",
    "backend",
    "attention",
    "contributions",
    "debug",
    "explain",
    "load",
    "ops",
    "savable",
    "save",
    "stream",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    if name not in ("load", "save"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # All networks and readers come with it.
    from graphpool.files import checkpoint

    return getattr(checkpoint, name)
