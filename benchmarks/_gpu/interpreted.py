"""The Triton kernels in place of the CPU kernels, for tensors on the CPU, run by Triton's interpreter."""

from __future__ import annotations

from graphpool.ops import backends, dispatch
from graphpool.ops.fused import fused_op
from graphpool.ops.neighbors import paths, trees


def take_over() -> None:
    """For the rest of the process; ops that are composed on CUDA stay as they are."""
    from graphpool.ops.fused.cuda import ops as cuda_ops

    dispatch.load()
    fused_op.is_plain = lambda args: False  # which would call the CPU kernels without asking
    for op in dispatch.OPERATORS.values():
        for name, operator in op.operators.items():
            if hasattr(cuda_ops, name):
                operator._backend_fns["cpu"] = getattr(cuda_ops, name)
    trees.trees_serve = lambda points: False
    trees.sampling_serves = lambda points: False

    def on_triton(op, points, k=1):
        if not backends.fused_is_allowed() or k > paths.LARGEST_K:
            return dispatch.Path("torch", "the reference")
        return dispatch.Path("triton", "interpreted")

    paths.choose = on_triton
