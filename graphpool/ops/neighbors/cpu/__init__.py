"""Trees and searches on the CPU (Numba)."""
