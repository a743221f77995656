from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def loops():
    """The Python-loop reference."""
    spec = importlib.util.spec_from_file_location(
        "mesh_loop_reference", Path(__file__).with_name("loop_reference.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shrec_files(shared_data):
    return sorted((shared_data / "shrec16").glob("*/*/*.obj"))
