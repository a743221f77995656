"""The Triton kernels of samples and searches compile for a GPU, also where there is none, and round as the
CPU does."""

from __future__ import annotations

import os
import re

import pytest

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted in this process", allow_module_level=True)
pytest.importorskip("triton", reason="not tried: triton is not installed: pip install triton")

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from graphpool.ops.neighbors.cuda import sampling as cuda_sampling  # noqa: E402
from graphpool.ops.neighbors.cuda import search as cuda_search  # noqa: E402
from graphpool.ops.neighbors.cuda.blocks import EXACT  # noqa: E402

TARGET = GPUTarget("cuda", 90, 32)
SIZES = {"N", "M", "D", "BOXES", "ASKED", "k"}
INTS = {"position", "query_position"}
VALUES = {"axes", "query_axes", "box", "query_box", "points", "distance", "limit", "out_d"}
# A product and a sum in one step, or numbers flushed to zero, have other bits than those of the CPU.
REFUSED = re.compile(r"\bfma\.|\.ftz")
KERNELS = [
    (cuda_search.boxes, {"BLOCK": 32}, 4),
    (cuda_search.nearest, {"EXCLUDE": True, "K": 16, "BLOCK": 32}, 4),
    (cuda_search.nearest, {"EXCLUDE": False, "K": 128, "BLOCK": 32}, 4),
    (cuda_search.within, {"EXCLUDE": True, "INCLUSIVE": True, "FILL": True, "BLOCK": 32}, 4),
    (cuda_search.within, {"EXCLUDE": False, "INCLUSIVE": False, "FILL": False, "BLOCK": 32}, 4),
    (cuda_sampling.sample_on_chip, {"KEPT": True, "BLOCK": 1024}, 4),
    (cuda_sampling.sample_on_chip, {"KEPT": True, "BLOCK": 8192}, 32),
    (cuda_sampling.sample_on_chip, {"KEPT": False, "BLOCK": 8192}, 32),
    (cuda_sampling.sample_blocks, {"NB": 512, "GROUP": 4, "BLOCK": 256}, 8),
    (cuda_sampling.sample_blocks, {"NB": 1024, "GROUP": 1, "BLOCK": 4096}, 8),
]


@pytest.mark.slow
@pytest.mark.parametrize("element", ["fp32", "fp64"])
@pytest.mark.parametrize("kernel, constants, warps", KERNELS, ids=str)
def test_compiles_and_rounds_as_the_cpu(kernel, constants, warps, element):
    options = {"num_warps": warps, **EXACT}
    assert not REFUSED.search(compiled(kernel, constants, element, options))


@pytest.mark.slow
def test_what_is_refused_would_be_seen():
    options = {"enable_fp_fusion": True}
    assert REFUSED.search(compiled(*KERNELS[1][:2], "fp32", options))


def compiled(kernel, constants: dict, element: str, options: dict) -> str:
    """The PTX of a kernel; the program for the GPU is made of it, too."""

    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name in SIZES:
            return "i32"
        if name in VALUES:
            return f"*{element}"
        return "*i32" if name in INTS else "*i64"

    signature = {name: kind(name) for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    found = triton.compile(source, target=TARGET, options=options)
    assert len(found.asm["cubin"]) > 0
    return found.asm["ptx"]
