"""What people need who follow the guide to relational pooling: its recipe learns what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "relational.md"


@pytest.mark.slow
def test_the_recipe_of_the_guide_learns_circulant_graphs():
    """Colour refinement, and so the network without labels, is right for one graph in ten."""
    section = GUIDE.read_text(encoding="utf-8").split("### A recipe that trains")[1]
    program = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert program is not None
    names: dict[str, object] = {"__name__": "recipe"}
    exec(compile(program.group(1), str(GUIDE), "exec"), names)
    assert names["found"] >= 0.95
