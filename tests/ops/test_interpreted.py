"""One case of each Triton kernel in Triton's interpreter; all of them are among the slow tests.

The interpreter takes a minute for the rest: see ``test_in_the_interpreter`` of the two files.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton", reason="not tried: triton is not installed: pip install triton")

HERE = Path(__file__).parent
FILES = (HERE / "fused" / "test_triton.py", HERE / "neighbors" / "test_triton_points.py")
CHOSEN = (
    "(every_op and plain and dtype0)",
    "nan_and_infinities",
    "(within_a_radius and random and dtype0)",
    "those_of_a_sort_of_all_distances",
    "samples_are_those_of_a_loop",
    "nothing_to_find",
)


def test_in_short(passes_interpreted):
    passes_interpreted(*FILES, timeout=600, chosen=" or ".join(CHOSEN))
