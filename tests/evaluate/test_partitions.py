"""Matched bags, against a loop over pairs of bags."""

import math

import pytest
import torch

from graphpool.evaluate import double_majority


@pytest.mark.parametrize("seed", range(8))
def test_against_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(-3, 4, (60,), generator=generator)
    other = torch.randint(0, 90, (60,), generator=generator)
    found = torch.where(torch.rand(60, generator=generator) < 0.6, true * 7, other)
    counts = double_majority(found, true)

    def bags(label):
        sets = [{*(label == v).nonzero().flatten().tolist()} for v in label.unique()]
        return [s for s in sets if len(s) >= 4]

    mine, theirs = bags(found), bags(true)
    pairs = [(a, b) for a in mine for b in theirs if 2 * len(a & b) > max(len(a), len(b))]
    assert counts == (len(pairs), len(mine), len(theirs))
    assert counts.efficiency == len(pairs) / len(theirs)
    assert math.isnan(counts.purity) if not mine else counts.purity == len(pairs) / len(mine)


def test_half_is_no_majority_and_small_bags_count_for_nothing():
    four = torch.zeros(8, dtype=torch.long)
    halves = torch.arange(8) // 4
    assert double_majority(halves, four) == (0, 2, 1)
    assert double_majority(torch.arange(8), four) == (0, 0, 1)
    assert double_majority(torch.arange(8), four, least=1) == (0, 8, 1)
    assert double_majority(halves, halves + 5) == (2, 2, 2)
    assert double_majority(four[:0], four[:0]) == (0, 0, 0)


def test_wrong_inputs_are_refused_by_name():
    with pytest.raises(ValueError, match="`true` must have one entry per element"):
        double_majority(torch.arange(3), torch.arange(4))
    with pytest.raises(ValueError, match="`found` must have one entry per element"):
        double_majority(torch.zeros(1, 3, dtype=torch.long), torch.arange(3))
    with pytest.raises(TypeError, match="`found` must be an integer tensor"):
        double_majority(torch.rand(3), torch.arange(3))
