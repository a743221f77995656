"""Names that every docstring example may use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graphpool


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, graphpool=graphpool)
