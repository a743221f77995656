"""Pictures of graphs, points, meshes and results. Nothing here is imported before it is used."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "cloud": "points",
    "cloud_gallery": "points",
    "cluster_colors": "meshes",
    "confusion_matrix": "confusion",
    "export_ply": "meshes",
    "face_colors": "meshes",
    "graph": "graphs",
    "label_colors": "colors",
    "legend": "legends",
    "mesh": "meshes",
    "mesh_sheet": "meshes",
    "scale_bar": "legends",
    "show_mesh": "meshes",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
