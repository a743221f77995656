"""Samples and searches on CUDA (Triton)."""
