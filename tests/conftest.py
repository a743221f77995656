from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, or a skip that says where it was looked for."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GRAPHPOOL_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (GRAPHPOOL_SHARED_DATA names another folder)")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
