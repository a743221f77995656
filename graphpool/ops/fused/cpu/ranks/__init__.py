"""Kernels of elements in the order of their values."""
