"""Whole networks for meshes."""
