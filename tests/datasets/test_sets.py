from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool.datasets import SetStatistics

REFERENCE = {
    "mean": lambda x: x.mean(),
    "second_moment": lambda x: (x**2).mean(),
    "l3_norm": lambda x: (x.abs() ** 3).sum() ** (1 / 3),
    "max": lambda x: x.max(),
    "min": lambda x: x.min(),
    "size": lambda x: torch.tensor(float(len(x))),
}


@pytest.mark.parametrize("target", REFERENCE)
def test_labels(tmp_path, target):
    for data in SetStatistics(tmp_path, target=target, num_graphs=40):
        assert data.x.shape == (data.num_nodes, 1) and 20 <= data.num_nodes < 30
        expected = REFERENCE[target](data.x[:, 0].double())
        assert data.y.item() == pytest.approx(expected.item(), rel=1e-5)


def test_distribution_and_ranges(tmp_path):
    sets = SetStatistics(
        tmp_path, mean_range=(3.0, 3.0), std_range=(2.0, 2.0), sizes=(400, 401), num_graphs=50
    )
    x = sets._data.x
    assert abs(x.mean() - 3) < 0.1 and abs(x.std() - 2) < 0.1
    assert np.unique(sets.slices["x"].diff()).tolist() == [400]


def test_statistics_share_their_sets(tmp_path):
    first, second = (SetStatistics(tmp_path, target=t, num_graphs=5) for t in ("max", "min"))
    assert torch.equal(first._data.x, second._data.x)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"target": "mode"}, "`target` must be"),
        ({"sizes": (0, 3)}, "`sizes` must be"),
        ({"mean_range": (1, 0)}, "`mean_range` must be"),
        ({"std_range": (-1, 0)}, "`std_range` must be"),
        ({"num_graphs": 0}, "`num_graphs` must be"),
    ],
)
def test_errors(tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        SetStatistics(tmp_path, **arguments)
