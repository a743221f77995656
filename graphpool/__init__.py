"""Pooling functions over bags of vectors."""

from ._version import __version__

__all__ = ["__version__"]
