"""Where Triton kernels run: on a GPU, or in the interpreter of Triton, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture
def triton_device(device):
    """The device whose tensors the kernels take here."""
    if device == "cpu" and not INTERPRETED:
        pytest.skip("interpreted in a process of its own, by another test of this file")
    return device


@pytest.fixture
def passes_interpreted():
    """Runs the tests of files, all or the ``chosen``, in a process in which Triton interprets its kernels."""

    def run(*files: str, timeout: int, chosen: str = "") -> None:
        if INTERPRETED:
            pytest.skip("this is that process")
        # Triton reads the variable while it is imported, which in this process has been.
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "--device",
                "cpu",
                "-k",
                chosen,
                *files,
            ],
            env={**os.environ, "TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert "passed" in done.stdout

    return run
