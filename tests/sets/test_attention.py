"""Attention from sets to sets."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments
from graphpool.sets import ISAB


@pytest.mark.parametrize("heads", [1, 2])
def test_isab_against_dense_blocks(attention_block, heads):
    layer = ISAB(6, num_inducing=5, heads=heads).double()
    segments = Segments(index=torch.tensor([1, 0, 1, 3, 1, 3]), num_segments=5)
    x = torch.randn(6, 6, dtype=torch.float64)
    y = layer(x, segments)
    for bag in (0, 1, 3):
        rows = segments.index == bag
        inner = attention_block(layer.gather, layer.inducing, x[rows], heads, "head")
        torch.testing.assert_close(
            y[rows], attention_block(layer.scatter, x[rows], inner, heads, "head")
        )
    order = torch.randperm(6)
    moved = Segments(index=segments.index[order], num_segments=5)
    torch.testing.assert_close(layer(x[order], moved), y[order])


def test_bad_arguments():
    with pytest.raises(ValueError, match="`scale` must be one of"):
        ISAB(8, scale="none")
