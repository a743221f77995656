"""What is shipped, and that it works without the optional packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from graphpool import _optional

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "graphpool").rglob("*.py")
    if "__pycache__" not in path.parts
)


def run_python(code: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dotted(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def test_every_module_imports_without_the_optional_packages():
    hidden = sorted(_optional.PACKAGES)
    # CUDA kernels are loaded for CUDA tensors alone, and only where triton is.
    modules = [dotted(path) for path in MODULES if "/cuda/" not in path]
    # An adapter is imported by who has the package.
    modules = [name for name in modules if not name.startswith("graphpool.adapters.")]
    run_python(
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({hidden!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "from graphpool import _optional\n"
        f"assert not any(map(_optional.has, {hidden!r}))\n"
    )


@pytest.mark.parametrize("told, status", [("No matching distribution found for", 3), ("error", 1)])
def test_where_there_is_no_source_of_the_compiled_packages_nothing_is_built(tmp_path, told, status):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] || echo "ERROR: {told} torch-scatter"\nexit 1\n')
    python.chmod(0o755)
    script = ["bash", str(ROOT / "tools" / "build_compiled.sh"), str(python)]
    done = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "CXX": "sh"})
    assert done.returncode == status, done.stdout + done.stderr
    assert ("everything else works without them" in done.stdout) == (status == 3)


def test_import_is_quick_and_leaves_optional_packages_alone(fresh):
    """CPU time, because the wall clock of a busy machine says nothing; beyond torch and torch_geometric."""
    heavy = ["matplotlib", "open3d", "networkx", "torch_cluster"]
    code = (
        "import sys, time, torch, torch_geometric.data, torch_geometric.nn\n"
        "start = time.process_time()\n"
        "import graphpool\n"
        "print(time.process_time() - start)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    (done,) = fresh(["-c", code])
    spent, loaded = done.stdout.splitlines()
    assert float(spent) < 2.5
    assert loaded == "[]"


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_package_and_nothing_else(tmp_path):
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("runs from a checkout")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert wheel.name.endswith("-py3-none-any.whl")

    with zipfile.ZipFile(wheel) as archive:
        shipped = [name for name in archive.namelist() if ".dist-info/" not in name]
        metadata_file = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(metadata_file).decode()
        archive.extractall(tmp_path / "site")
    assert sorted(shipped) == sorted([*MODULES, "graphpool/py.typed"])
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    assert sorted(required) == ["numba", "numpy", "scipy", "torch", "torch-geometric", "tqdm"]

    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", *MODULES} <= inside

    site = str(tmp_path / "site")
    where = run_python("import graphpool; print(graphpool.__file__)", tmp_path, PYTHONPATH=site)
    assert where.startswith(site)
