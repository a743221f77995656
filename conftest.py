"""Names that every docstring example may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graphpool
from graphpool import _optional

ADAPTERS = Path(graphpool.__file__).parent / "adapters"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Doctests of an adapter need its package; that it is not there is said by its tests."""
    if collection_path.parent != ADAPTERS or collection_path.stem.startswith("_"):
        return None
    package = {"graphgym": "yacs"}.get(collection_path.stem, collection_path.stem)
    return None if _optional.has(package) else True


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, graphpool=graphpool)
