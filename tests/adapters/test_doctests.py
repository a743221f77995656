"""The examples of the adapters: collected with all others, they would load packages in every process."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import graphpool

FOLDER = Path(graphpool.__file__).parent / "adapters"
EXAMPLES = {path.stem: path.read_text().count(">>> ") for path in sorted(FOLDER.glob("*.py"))}
PACKAGES = {"graphgym": "yacs"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.needs(PACKAGES.get(n, n))) for n in EXAMPLES if EXAMPLES[n]],
)
def test_examples(name):
    module = importlib.import_module(f"graphpool.adapters.{name}")
    found = doctest.testmod(
        module,
        extraglobs={"torch": torch, "graphpool": graphpool},
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert found.attempted == EXAMPLES[name] and not found.failed
