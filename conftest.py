"""Names that every docstring example may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graphpool

ADAPTERS = Path(graphpool.__file__).parent / "adapters"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Examples of an adapter load its package: tests/adapters runs them, not each process that collects."""
    return True if collection_path.parent == ADAPTERS else None


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, graphpool=graphpool)
