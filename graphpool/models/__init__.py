"""Whole networks, in which every pool is a word."""

from .graph import GraphModel

__all__ = ["GraphModel"]
