from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def passes_interpreted():
    """Runs the tests of a file once more, in a process in which Triton interprets its kernels."""

    def run(file: str, timeout: int) -> None:
        # Triton reads the variable while it is imported, which in this process has been.
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
            env={**os.environ, "TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert "passed" in done.stdout

    return run
