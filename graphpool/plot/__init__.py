"""Pictures of points, meshes and results. Nothing here is imported before it is used."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "cluster_colors": "mesh",
    "export_ply": "mesh",
    "face_colors": "mesh",
    "mesh": "mesh",
    "mesh_sheet": "mesh",
    "show_mesh": "mesh",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
