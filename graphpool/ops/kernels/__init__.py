"""How an op is computed: fused kernels, and the composed form they are tested against."""
