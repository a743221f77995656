"""What a bug report should say: ``python -m graphpool.info``."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch

import graphpool
from graphpool import _optional
from graphpool._version import __version__

_REQUIRED = ("torch", "torch-geometric", "numpy", "scipy", "numba")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _optional_version(name: str) -> str:
    package = _optional.PACKAGES[name]
    version = _version(package.distribution or name.replace("_", "-"))
    # What only adapters need is not imported for a report: some take seconds.
    if package.extra == "interop" or version == "not installed" or _optional.has(name):
        return version
    return f"{version}, but it cannot be imported"


def _devices() -> str:
    names = ["cpu"]
    names += [
        f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        names.append("mps")
    return ", ".join(names)


def collect() -> dict[str, str]:
    """Versions, devices and settings that decide which code runs.

    Returns:
        Name to value, in the order to print them.

    Example:
        >>> list(collect())[:3]
        ['graphpool', 'python', 'platform']
    """
    facts = {
        "graphpool": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    facts.update({name: _version(name) for name in _REQUIRED})
    facts.update({name: _optional_version(name) for name in _optional.PACKAGES})
    facts["cuda"] = torch.version.cuda or "torch is built without it"
    facts["devices"] = _devices()
    facts["cores"] = str(os.cpu_count())
    facts["torch threads"] = str(torch.get_num_threads())
    facts["backend"] = _backend()
    return facts


def _backend() -> str:
    backend = getattr(graphpool, "backend", None)
    return str(backend()) if callable(backend) else "torch"


def main() -> None:
    """Prints :func:`collect`, one fact a line."""
    facts = collect()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
