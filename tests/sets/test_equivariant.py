"""The layers of Deep Sets from sets to sets."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments
from graphpool.sets import SetEquivariant

SEGMENTS = Segments(index=torch.tensor([1, 0, 1, 3, 1, 3]), num_segments=5)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("separate", [False, True])
class TestSetEquivariant:
    def layer(self, pool, separate):
        return SetEquivariant(3, 7, pool=pool, separate=separate).double()

    def test_against_the_formula(self, pool, separate):
        layer, x = self.layer(pool, separate), torch.randn(6, 3, dtype=torch.float64)
        expected = torch.empty(6, 7, dtype=torch.float64)
        for bag in range(5):
            rows = SEGMENTS.index == bag
            if not rows.any():
                continue
            pooled = x[rows].amax(0) if pool == "max" else x[rows].mean(0)
            if separate:
                expected[rows] = layer.gamma(x[rows]) - layer.lambda_(pooled)
            else:
                expected[rows] = layer.gamma(x[rows] - pooled)
        torch.testing.assert_close(layer(x, SEGMENTS), expected)

    def test_permuting_the_elements_permutes_the_result(self, pool, separate):
        layer, x = self.layer(pool, separate), torch.randn(6, 3, dtype=torch.float64)
        order = torch.randperm(6)
        moved = Segments(index=SEGMENTS.index[order], num_segments=5)
        torch.testing.assert_close(layer(x[order], moved), layer(x, SEGMENTS)[order])

    def test_weights_repeat(self, pool, separate):
        layer, x = self.layer(pool, separate), torch.randn(6, 3, dtype=torch.float64)
        weight = torch.tensor([2, 1, 3, 1, 1, 2])
        rows = torch.arange(6).repeat_interleave(weight)
        repeated = Segments(index=SEGMENTS.index[rows], num_segments=5)
        torch.testing.assert_close(layer(x, SEGMENTS, weight)[rows], layer(x[rows], repeated))

    def test_offset_drops_out_without_a_separate_map(self, pool, separate):
        layer, x = self.layer(pool, separate), torch.randn(6, 3, dtype=torch.float64)
        same = torch.allclose(layer(x, SEGMENTS), layer(x + 5, SEGMENTS))
        assert same is not separate

    def test_singletons_lose_everything_without_a_separate_map(self, pool, separate):
        layer, x = self.layer(pool, separate), torch.randn(6, 3, dtype=torch.float64)
        alone = Segments(ptr=torch.arange(7))
        constant = torch.allclose(layer(x, alone), layer.gamma.bias.expand(6, 7))
        assert constant is not separate


def test_bad_arguments():
    with pytest.raises(ValueError, match="`pool` must be one of"):
        SetEquivariant(3, 3, pool="median")
    with pytest.raises(ValueError, match="`out_channels` must be an int of at least 1; got 0"):
        SetEquivariant(3, 0)
