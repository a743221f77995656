from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments
from graphpool.ops.neighbors import fps, knn
from graphpool.points import build_levels, frequencies, position_encoding


def test_the_layout_of_point_nn():
    e = position_encoding(torch.tensor([0.01, 0.0, 0.0], dtype=torch.float64), 12)
    slow = 0.01 * 100 / math.sqrt(1000)
    expected = [math.sin(1), math.cos(1), math.sin(slow), math.cos(slow), *[0, 1, 0, 1] * 2]
    assert torch.allclose(e, torch.tensor(expected, dtype=torch.float64))


def test_the_layout_of_point_pn():
    u = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    e = position_encoding(u, 18, layout="blocked").view(3, 2, 3)
    omega = frequencies(18)
    for axis in range(3):
        assert torch.allclose(e[axis, 0], (omega * u[axis]).sin())
        assert torch.allclose(e[axis, 1], (omega * u[axis]).cos())


def test_the_ladder_of_frequencies():
    assert frequencies(72)[0] == 100
    assert torch.isclose(frequencies(72)[-1], torch.tensor(0.1778, dtype=torch.float64), atol=1e-4)
    assert torch.isclose(
        frequencies(1152)[-1], torch.tensor(0.1037, dtype=torch.float64), atol=1e-4
    )


def test_single_precision_is_enough():
    u = torch.randn(2000, 3, dtype=torch.float64) * 1.5
    exact, single = position_encoding(u, 72), position_encoding(u.float(), 72)
    assert (single.double() - exact).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": 10}, "multiple of 6"),
        ({"channels": 12, "alpha": 0.0}, "`alpha` and `beta`"),
        ({"channels": 12, "layout": "mixed"}, "`layout`"),
    ],
)
def test_wrong_encodings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        position_encoding(torch.zeros(1, 3), **kwargs)
    with pytest.raises(ValueError, match=r"\[\.\.\., 3\]"):
        position_encoding(torch.zeros(1, 2), 12)


def test_levels_equal_a_sampling_and_a_search_of_each_level():
    pos, segments = torch.randn(150, 3), Segments(ptr=torch.tensor([0, 61, 61, 150]))
    levels = build_levels(pos, segments, steps=3, k=12)
    for level in levels:
        counts = torch.where(segments.counts > 0, (segments.counts // 2).clamp_min(1), 0)
        assert torch.equal(level.pos, pos)
        assert torch.equal(level.centre, fps(pos, segments, num_samples=counts))
        clouds = Segments.from_counts(counts)
        index, _ = knn(pos, 12, pos[level.centre], segments, clouds)
        assert torch.equal(level.neighbor.sort(1).values, index.sort(1).values)
        pos, segments = level.centre_pos, clouds


def test_clouds_of_one_point_stay_one_point():
    levels = build_levels(torch.randn(4, 3), Segments(ptr=torch.tensor([0, 1, 4])), steps=3, k=2)
    assert [level.centre_segments.counts.tolist() for level in levels] == [[1, 1]] * 3
    assert levels[-1].neighbor.tolist() == [[0], [1]]
