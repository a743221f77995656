"""Packages that make more possible but are not required, imported in this one place."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Package:
    """How to get an optional package.

    Args:
        extra: The extra of graphpool that brings it.
        gives: What becomes possible or faster with it.
        how: The command that installs it.
        system: Debian packages that hold the shared libraries it loads.
        distribution: What it is called where it is installed from, if not by its module.
        names: What it must hold; a release that was emptied imports, and is no more than absent.
        runs: Whether its code is run; of a package of data only the files are read.
    """

    extra: str
    gives: str
    how: str
    system: tuple[str, ...] = ()
    distribution: str = ""
    names: tuple[str, ...] = ()
    runs: bool = True


def _extra(name: str) -> str:
    return f"pip install 'graphpool[{name}]'"


# Compiled against the torch that is installed, so pip must not build them in isolation from it.
_COMPILED = "pip install --no-build-isolation 'graphpool[compiled]'"

PACKAGES: dict[str, Package] = {
    "torch_scatter": Package(
        "compiled",
        "faster composed segment operations",
        _COMPILED,
        names=("segment_csr", "gather_csr"),
    ),
    "torch_cluster": Package(
        "compiled", "a reference for neighbour searches", _COMPILED, names=("fps", "knn")
    ),
    "open3d": Package(
        "open3d",
        "windows that show meshes, and thinning them",
        _extra("open3d"),
        ("libusb-1.0-0", "libegl1", "libgl1", "libgomp1", "libx11-6"),
    ),
    "laspy": Package("formats", "reading airborne laser scans (.las, .laz)", _extra("formats")),
    "h5py": Package("formats", "reading point clouds in HDF5 (.h5)", _extra("formats")),
    "trimesh": Package("formats", "reading glTF meshes (.glb, .gltf)", _extra("formats")),
    "matplotlib": Package("viz", "pictures", _extra("viz")),
    "networkx": Package("viz", "layouts of graphs", _extra("viz")),
    "dask": Package("dask", "pooling arrays that lie on a cluster", _extra("dask")),
    "datasketches": Package("sketches", "quantiles of bags in pieces", _extra("sketches")),
    "tgp": Package(
        "interop", "more ways to coarsen", _extra("interop"), distribution="torch-geometric-pool"
    ),
    "sklearn": Package(
        "interop", "estimators for bags, clouds", _extra("interop"), distribution="scikit-learn"
    ),
    "chemprop": Package(
        "interop",
        "pools over the atoms of molecules",
        _extra("interop"),
        ("libx11-6", "libxext6", "libxrender1"),
    ),
    "sentence_transformers": Package(
        "interop", "pools over the tokens of sentences", _extra("interop")
    ),
    "yacs": Package("interop", "pools in GraphGym", _extra("interop")),
    "safetensors": Package("test", "checkpoints without pickle", _extra("test")),
    "mil": Package("data", "data sets of multiple-instance learning", _extra("data"), runs=False),
    "qm9pack": Package("data", "the molecules of QM9", _extra("data"), runs=False),
    "triton": Package("", "fused kernels on CUDA", "a CUDA build of torch, which brings triton"),
}

_loaded: dict[str, ModuleType | ImportError] = {}


def _load(name: str) -> ModuleType | ImportError:
    """The module, or why it cannot be imported; tried once per process.

    A package compiled against another torch raises OSError while its library loads, which is turned
    into the ImportError it amounts to.
    """
    top = name.partition(".")[0]
    if top not in PACKAGES:
        raise ValueError(
            f"`name` must be one of the optional packages {sorted(PACKAGES)}; got {name!r}."
        )
    if name not in _loaded:
        try:
            module = importlib.import_module(name) if PACKAGES[top].runs else _unread(name)
            lacking = [n for n in PACKAGES[top].names if name == top and not hasattr(module, n)]
            if lacking:
                raise ImportError(f"this release holds no {lacking[0]}", name=top)
            _loaded[name] = module
        except ImportError as error:
            _loaded[name] = error
        except OSError as error:
            _loaded[name] = ImportError(str(error), name=top)
    return _loaded[name]


def _unread(name: str) -> ModuleType:
    """A package of which only the files are wanted: its ``__path__`` is there, its code has not run."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return importlib.util.module_from_spec(spec)


def has(name: str) -> bool:
    """Whether an optional package can be imported (not just found: its libraries load too).

    Args:
        name: The module name, such as ``"torch_scatter"``.

    Raises:
        ValueError: The package is not one that graphpool uses.

    Example:
        >>> has("torch_scatter") in (True, False)
        True
    """
    return isinstance(_load(name), ModuleType)


def require(name: str, purpose: str) -> ModuleType:
    """An optional package, or an error that says how to get it.

    Args:
        name: The module name; a submodule (``"matplotlib.pyplot"``) is fine.
        purpose: What needs it, as a noun phrase; the error starts with it.

    Returns:
        The imported module.

    Raises:
        ImportError: It is not installed, or cannot load; the message names the command to run.
        ValueError: The package is not one that graphpool uses.

    Example:
        >>> require("matplotlib", purpose="plot.curves").__name__
        'matplotlib'
    """
    module = _load(name)
    if isinstance(module, ModuleType):
        return module
    raise ImportError(_explain(name, purpose, module), name=name) from module


def _explain(name: str, purpose: str, error: ImportError) -> str:
    top = name.partition(".")[0]
    package = PACKAGES[top]
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == top:
        return f"{purpose} needs {top}, which is not installed. To get it: {package.how}"
    message = f"{purpose} needs {top}, which is installed but cannot be loaded: {error}."
    if package.system and ".so" in str(error):
        libraries = " ".join(package.system)
        return f"{message} On Debian or Ubuntu its libraries come with: apt-get install {libraries}"
    return f"{message} To install it again: {package.how}"
