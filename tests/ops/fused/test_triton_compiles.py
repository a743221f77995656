"""The Triton kernels compile for a GPU, also where there is none to run them."""

from __future__ import annotations

import os

import pytest

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted in this process", allow_module_level=True)
pytest.importorskip("triton", reason="not tried: triton is not installed: pip install triton")

import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from graphpool.ops.fused.cuda import bags as cuda_bags  # noqa: E402
from graphpool.ops.fused.cuda import rows as cuda_rows  # noqa: E402
from graphpool.ops.fused.cuda import share as cuda_share  # noqa: E402

TARGET = GPUTarget("cuda", 90, 32)
LONGS = {"perm", "gather", "begin", "end", "bag_of", "row_ptr", "row_elements"}
SIZES = {"C", "H", "WIDTH", "R", "E", "PIECES"}
SUMS = {"total", "first", "second"}
INPUTS = {"x", "score", "value"}
LAYOUT = {"PERM": True, "GATHER": True, "WEIGHT": True}
BLOCKS = {"ACC": tl.float32, "BE": 16, "BC": 64}
LIMITS = {"TINY": 2.0**-125, "MOST": 3.4028234663852886e38}


def compiles(kernel, element: str, constants: dict) -> bool:
    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name in SIZES:
            return "i32"
        if name in LONGS:
            return "*i64"
        if name in SUMS:
            return "*fp64"
        return f"*{element}" if name in INPUTS else "*fp32"

    signature = {name: kind(name) for name in kernel.arg_names}
    found = triton.compile(ASTSource(kernel, signature, constants), target=TARGET)
    return len(found.asm["cubin"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("element", ["fp32", "bf16"])
def test_forward_kernels(element):
    both = LAYOUT | BLOCKS
    for own, sums in ((True, True), (False, True), (True, False)):
        flags = both | {"SELF": own, "OUT": sums}
        assert compiles(cuda_bags.softmax_forward, element, flags)
    assert compiles(cuda_bags.moments_forward, element, both | {"EXTREMA": True})
    assert compiles(cuda_bags.deviations, element, both)
    assert compiles(cuda_bags.power_forward, element, both | LIMITS)


@pytest.mark.slow
@pytest.mark.parametrize("element", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", range(7))
def test_backward_kernels(mode, element):
    for by_row in (True, False):
        flags = BLOCKS | {
            "MODE": mode,
            "PTR": by_row,
            "ELEMENTS": by_row,
            "WEIGHT": by_row,
            "PARAMETER": mode < 2,
            "ROWS": 16,
            "TINY": 2.0**-125,
            "CEILING": 88.72283,
        }
        assert compiles(cuda_rows.walk, element, flags)


@pytest.mark.slow
def test_score_kernel():
    flags = {"GATHER": True, "WEIGHT": True, "ACC": tl.float32, "BE": 16, "BH": 4, "BW": 16}
    assert compiles(cuda_rows.score_backward, "fp32", flags)


@pytest.mark.slow
def test_share_kernels():
    assert compiles(cuda_share.share_forward, "fp32", BLOCKS | {"GATHER": True, "WEIGHT": True})
    assert compiles(cuda_share.share_backward, "fp32", BLOCKS)
