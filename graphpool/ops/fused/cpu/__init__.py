"""The loops of the fused ops on the CPU (Numba)."""
