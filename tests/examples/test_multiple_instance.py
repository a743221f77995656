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


@pytest.fixture
def networks(example):
    return importlib.import_module("_bag_networks")


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


def test_each_bag_trains_or_chooses_or_tests(example):
    y = torch.tensor([1] * 47 + [0] * 45)
    fit, held, test = example.parts(y, 10, seed=3)
    assert (fit.long() + held + test == 1).all() and (test.sum(0) == 1).all()
    assert {int(y[own].sum()) for own in held} <= {4, 5} and held.sum(1).min() >= 8


def test_only_training_bags_say_how_features_are_scaled(networks):
    x = [torch.randn(n, 3) for n in (4, 2, 5, 3, 1, 6)]
    data = Bags(x, torch.tensor([0, 1] * 3), ["a", "b"])
    fit = torch.zeros(2, 6, dtype=torch.bool)
    fit[0, [0, 2, 3]], fit[1, [1, 5]] = True, True
    whole = networks.Scaled(data, fit, 6, "cpu")
    for own, bags in zip(fit, whole.scale(torch.cat(x)), strict=True):
        seen = torch.cat(
            [v for v, inside in zip(bags.split([4, 2, 5, 3, 1, 6]), own, strict=True) if inside]
        )
        torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
        torch.testing.assert_close(seen.std(0), torch.ones(3), atol=1e-4, rtol=0)
    parts = [part for part, _, _ in networks.Scaled(data, fit, 4, "cpu")]
    torch.testing.assert_close(torch.cat(parts, 1), next(iter(whole))[0])


@pytest.mark.parametrize("pool", ["max", "gated_attention", "dsmil", "mean first"])
def test_networks_side_by_side_are_as_each_alone(networks, pool):
    """Whatever the others and whatever their test bags are, and however many bags are in memory at a time."""
    x = [torch.randn(3, 4) for _ in range(8)]
    y = torch.tensor([0, 1] * 4)
    fit = torch.ones(2, 8, dtype=torch.bool)
    held, test = torch.zeros(2, 2, 8, dtype=torch.bool)
    held[0, [0, 1]], held[1, [2, 3]], test[0, [4, 5]], test[1, [6, 7]] = True, True, True, True
    fit &= ~held & ~test

    def run(x, rows, at_once):
        data = Bags(x, y, ["a", "b"])
        torch.manual_seed(0)
        made = networks.Networks(2, 4, 2, pool, 8)
        alone = networks.Networks(len(rows), 4, 2, pool, 8)
        state = {}
        for name, value in made.state_dict().items():
            _, _, after = name.partition("pools.")
            row, _, rest = after.partition(".")
            if not after:
                state[name] = value[rows]
            elif int(row) in rows:
                state[f"pools.{rows.index(int(row))}.{rest}"] = value
        alone.load_state_dict(state)
        bags = networks.Scaled(data, fit[rows], at_once, "cpu")
        return networks.train(
            alone, bags, fit[rows], held[rows], epochs=5, lr=0.01, weight_decay=0.01
        )

    score, value, _ = run(x, [0, 1], 8)
    other, other_value, _ = run([*x[:4], x[4] + 9, *x[5:]], [0], 3)
    left = torch.arange(8) != 4
    torch.testing.assert_close(other[0, left], score[0, left], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_value[0], value[0], rtol=1e-4, atol=1e-5)


def test_area_under_the_curve_counts_pairs(example):
    score, positive = torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([True, True, False, False])
    assert example.area(score, positive) == pytest.approx((2 + 0 + 0.5) / 4)


def test_an_instance_adds_what_is_missing_without_it(example, networks):
    model = networks.Networks(2, 3, 2, "sum", 8)
    x = torch.randn(2, 4, 3)
    one_bag = importlib.import_module("graphpool").Segments(ptr=torch.tensor([0, 4]))
    with torch.no_grad():
        y = model(x, one_bag)[0][0, 0].log_softmax(0)
    # Behind a sum the log-odds are linear: the parts and the bias of the head add up to them.
    bias = float((model.head.bias[0, 0, 1] - model.head.bias[0, 0, 0]).detach())
    total = sum(example.effects(model, x)) + bias
    assert total == pytest.approx(float(y[1] - y[0]), abs=1e-5)


def test_what_was_broken_off_goes_on(example, monkeypatch, tmp_path, capsys):
    command = [
        "multiple_instance",
        "--quick",
        "--pools",
        "mean",
        "max",
        "--shown",
        "--out",
        str(tmp_path),
    ]
    monkeypatch.setattr(sys, "argv", command)
    example.main()
    first = capsys.readouterr().out
    file = tmp_path / "multiple_instance.jsonl"
    lines = file.read_text().splitlines()
    assert len(lines) == 2
    file.write_text(lines[1] + "\n")
    example.main()
    assert len(file.read_text().splitlines()) == 2
    rows = [
        {line for line in out.splitlines() if line.startswith("| `")}
        for out in (first, capsys.readouterr().out)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 3


def test_a_line_that_was_broken_off_is_taken_out_and_a_damaged_one_named(example, tmp_path, capsys):
    file = tmp_path / "multiple_instance.jsonl"
    file.write_text('{"pool": "sum"}\n{"pool": "me')
    assert example.finished(file) == [{"pool": "sum"}] == example.finished(file)
    assert capsys.readouterr().out.count("broken off") == 1
    file.write_text('{"pool": "sum"}\n{"pool": "me\n')
    with pytest.raises(ValueError, match=r"line 2 of .*multiple_instance\.jsonl is damaged"):
        example.finished(file)
    assert example.finished(tmp_path / "none") == []
