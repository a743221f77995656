"""Names that every docstring example may use."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

import graphpool

#: Doctests of adapters need the package that the file is called after.
collect_ignore = [
    f"graphpool/adapters/{file}.py"
    for file, package in {
        "chemprop": "chemprop",
        "graphgym": "yacs",
        "sentence_transformers": "sentence_transformers",
        "sklearn": "sklearn",
    }.items()
    # Importing them all would take longer than most tests.
    if importlib.util.find_spec(package) is None
]


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, graphpool=graphpool)
