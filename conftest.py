"""Names that every docstring example may use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graphpool
from graphpool import _optional

#: Doctests of adapters need the package that the file is called after.
collect_ignore = [
    f"graphpool/adapters/{file}.py"
    for file, package in {
        "chemprop": "chemprop",
        "graphgym": "yacs",
        "sentence_transformers": "sentence_transformers",
        "sklearn": "sklearn",
    }.items()
    if not _optional.has(package)
]


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, graphpool=graphpool)
