"""Ops in one pass, with derivatives: a custom operator each, on kernels for the CPU and for CUDA."""
