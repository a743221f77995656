"""The protocol of the example: folds, scaling, and what leaving an instance out says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from graphpool.datasets import Bags

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    sys.modules.pop("multiple_instance", None)
    return importlib.import_module("multiple_instance")


def test_folds_part_the_bags_and_keep_the_classes(example):
    y = torch.tensor([1] * 47 + [0] * 45)
    parts = example.folds(y, 10, seed=3)
    assert torch.cat(parts).sort().values.tolist() == list(range(92))
    assert {int(y[part].sum()) for part in parts} <= {4, 5}
    assert {len(part) for part in parts} <= {9, 10}
    other = example.folds(y, 10, seed=4)
    assert any(
        not torch.equal(a.sort().values, b.sort().values) for a, b in zip(parts, other, strict=True)
    )


def test_only_training_bags_say_how_features_are_scaled(example):
    x = [torch.randn(4, 3) for _ in range(6)]
    data = Bags(x, torch.tensor([0, 1] * 3), ["a", "b"])
    train = torch.tensor([0, 2, 3])
    seen = torch.cat([example.scaled(data, train)[i].x for i in train.tolist()])
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(seen.std(0), torch.ones(3), atol=1e-4, rtol=0)
    far = Bags([*x[:5], x[5] + 1e3], data.y, data.classes)
    torch.testing.assert_close(example.scaled(far, train)[1].x, example.scaled(data, train)[1].x)


def test_area_under_the_curve_counts_pairs(example):
    score, positive = torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([True, True, False, False])
    assert example.area(score, positive) == pytest.approx((2 + 0 + 0.5) / 4)


def test_an_instance_adds_what_is_missing_without_it(example):
    model = example.Model(3, 2, "sum", 8, 0.0).eval()
    x = torch.randn(4, 3)
    one_bag = importlib.import_module("graphpool").Segments(ptr=torch.tensor([0, 4]))
    with torch.no_grad():
        y = model(x, one_bag).log_softmax(1)[0]
    # Behind a sum the log-odds are linear: the parts and the bias of the head add up to them.
    bias = float(model.head.bias[1] - model.head.bias[0])
    total = float(example.effects(model, x).sum().detach()) + bias
    assert total == pytest.approx(float(y[1] - y[0]), abs=1e-5)
