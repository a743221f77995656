from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from graphpool import Segments, _optional, explain, ops, use_backend
from graphpool.ops import neighbors

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_optional, "_loaded", {})


def _make_import_fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    asked: list[str] = []

    def fail(name: str) -> ModuleType:
        asked.append(name)
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    return asked


def test_present_package_is_returned():
    module = _optional.require("matplotlib", purpose="a test")
    assert module is importlib.import_module("matplotlib")
    assert _optional.has("matplotlib")


def test_submodule_is_returned():
    assert _optional.require("matplotlib.colors", purpose="a test").__name__ == "matplotlib.colors"


@pytest.mark.parametrize("name", sorted(_optional.PACKAGES))
def test_absent_package_names_purpose_and_command(monkeypatch, name):
    _make_import_fail(monkeypatch, ModuleNotFoundError(f"No module named {name!r}", name=name))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not _optional.has(name)
    with pytest.raises(ImportError) as caught:
        _optional.require(name, purpose="drawing a bunny")
    assert str(caught.value) == (
        f"drawing a bunny needs {name}, which is not installed. "
        f"To get it: {_optional.PACKAGES[name].how}"
    )
    assert caught.value.name == name


def test_missing_system_library_names_the_debian_packages(monkeypatch):
    text = "libusb-1.0.so.0: cannot open shared object file: No such file or directory"
    _make_import_fail(monkeypatch, OSError(text))
    with pytest.raises(ImportError) as caught:
        _optional.require("open3d", purpose="reading a scan")
    message = str(caught.value)
    assert text in message
    assert "installed but cannot be loaded" in message
    assert "apt-get install libusb-1.0-0 libegl1 libgl1 libgomp1 libx11-6" in message


def test_package_built_for_another_torch_is_told_apart_from_an_absent_one(monkeypatch):
    _make_import_fail(monkeypatch, OSError("undefined symbol: _ZN3c10"))
    with pytest.raises(ImportError, match="installed but cannot be loaded.*undefined symbol"):
        _optional.require("torch_scatter", purpose="a test")


def test_release_that_was_emptied_is_no_more_than_absent(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", ModuleType)
    for name, what in (("torch_scatter", "segment_csr"), ("torch_cluster", "fps")):
        assert not _optional.has(name)
        with pytest.raises(ImportError, match=f"cannot be loaded: this release holds no {what}"):
            _optional.require(name, purpose="a test")


def test_sums_searches_and_samples_need_neither_scatter_nor_cluster(monkeypatch):
    x = torch.tensor([[1.0], [2.0], [5.0]], requires_grad=True)
    bags = Segments(ptr=torch.tensor([0, 2, 3]))
    for name in ("torch_scatter", "torch_cluster"):
        monkeypatch.setitem(_optional._loaded, name, ModuleNotFoundError("gone", name=name))
    for backend in ("auto", "torch"):
        with use_backend(backend):
            y = ops.segment_softpool(x, bags, torch.tensor(0.0))
            (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            assert y.tolist() == [[1.5], [5.0]] and grad.tolist() == [[0.5], [0.5], [1.0]]
    assert "plain PyTorch" in explain("segment_product", x)
    with (
        pytest.raises(ImportError, match="torch_scatter, which is not installed"),
        use_backend("torch_scatter"),
    ):
        pass
    assert neighbors.fps(x, num_samples=2).tolist() == [0, 2]
    assert neighbors.knn(x, 2).index.tolist() == [[0, 1], [1, 0], [2, 1]]


def test_absent_dependency_of_a_package_is_not_blamed_on_the_package(monkeypatch):
    error = ModuleNotFoundError("No module named 'dash'", name="dash")
    _make_import_fail(monkeypatch, error)
    with pytest.raises(ImportError, match="open3d, which is installed but.*'dash'"):
        _optional.require("open3d", purpose="a test")


def test_failed_import_is_tried_once(monkeypatch):
    asked = _make_import_fail(monkeypatch, ImportError("no"))
    assert not _optional.has("torch_scatter")
    assert not _optional.has("torch_scatter")
    assert asked == ["torch_scatter"]


@pytest.mark.parametrize("ask", [_optional.has, lambda name: _optional.require(name, "a test")])
def test_unknown_package_is_an_error(ask):
    with pytest.raises(ValueError, match="`name` must be one of .*got 'pandas'"):
        ask("pandas")


def test_every_named_extra_exists_and_brings_the_package():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("runs from a checkout")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, package in _optional.PACKAGES.items():
        if package.extra:
            wanted = package.distribution or name.replace("_", "-")
            assert any(
                line.startswith(wanted) for line in project["optional-dependencies"][package.extra]
            ), name
