"""Generalised norms on the CPU."""
