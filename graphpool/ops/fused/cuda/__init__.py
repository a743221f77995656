"""The kernels of the fused ops on CUDA (Triton), and what launches them."""
