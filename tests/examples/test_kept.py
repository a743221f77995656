"""What scripts keep of a run that was stopped."""

import argparse

import pytest
import torch


@pytest.fixture
def kept_of(example, tmp_path):
    module = example("_kept")

    def make(**options):
        args = argparse.Namespace(seed=0, seeds=3, out=tmp_path, lr=0.1, **options)
        return module.Kept("runs", args, apart=("pools",)), list(module.seeds_of(args))

    return make


def test_a_stopped_run_goes_on_with_what_is_missing(kept_of, capsys):
    kept, seeds = kept_of()
    for seed in kept.missing(seeds):
        if seed == 2:
            break
        kept.keep(seed, [{"seed": seed}, {"seed": -seed}], {"x": torch.full((2,), float(seed))})
    again, _ = kept_of(pools=["max"])
    assert "already: 2" in capsys.readouterr().out
    assert list(again.missing(seeds)) == [2]
    again.keep(2, {"seed": 2})
    assert [r["seed"] for r in again.of(seeds)] == [0, 0, 1, -1, 2]
    assert again.picture(1)["x"].tolist() == [1.0, 1.0]


def test_cases_that_are_not_numbers(kept_of):
    kept, _ = kept_of()
    cases = [(0.8, "mean", s) for s in range(2)]
    for case in kept.missing(cases):
        kept.keep(case, {"case": list(case)})
    again, _ = kept_of()
    assert list(again.missing([*cases, (0.8, "mean", 2)])) == [(0.8, "mean", 2)]
    assert again.of(cases[1:]) == [{"case": [0.8, "mean", 1]}]


def test_results_of_other_options_are_not_mixed_in(kept_of, capsys):
    kept, seeds = kept_of()
    kept.keep(0, {"seed": 0})
    other, _ = kept_of(epochs=3)
    assert "of other options" in capsys.readouterr().out
    assert list(other.missing(seeds)) == seeds
