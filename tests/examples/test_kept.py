"""What scripts keep of a run that was stopped."""

import argparse
import json
import sys
from pathlib import Path

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


def test_what_was_found_with_other_options_is_set_aside(kept_of, tmp_path, capsys):
    kept, _ = kept_of(steps=1500)
    kept.keep(0, {"seed": 0})
    quick, seeds = kept_of(steps=5)
    assert "steps 1500, here 5" in capsys.readouterr().out
    # Nothing is touched before there is something to keep.
    again, _ = kept_of(steps=1500)
    assert list(again.missing(seeds)) == [1, 2]
    quick.keep(1, {"seed": 1})
    quick.keep(2, {"seed": 2})
    (tmp_path / "runs.json.old").replace(tmp_path / "runs.json")
    again, _ = kept_of(steps=1500)
    assert list(again.missing(seeds)) == [1, 2]


@pytest.mark.parametrize("text", ['{"settings": {', "", "[]", "\udcff"])
def test_a_damaged_file_is_named(kept_of, tmp_path, text):
    (tmp_path / "runs.json").write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(ValueError, match=r"runs\.json is (damaged|not of this script)"):
        kept_of()


def test_a_script_that_is_stopped_while_it_writes_leaves_the_old_file(kept_of, monkeypatch):
    kept, seeds = kept_of()
    kept.keep(0, {"seed": 0})
    written = Path.write_text

    def stopped(path, text, *how):
        written(path, text[: len(text) // 2], *how)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        kept.keep(1, {"seed": 1})
    monkeypatch.undo()
    again, _ = kept_of()
    assert list(again.missing(seeds)) == [1, 2]


def test_a_picture_that_is_gone_or_damaged_is_named(kept_of, tmp_path):
    kept, _ = kept_of()
    kept.keep(0, {"seed": 0}, torch.ones(2))
    (tmp_path / "runs_0.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"runs_0\.pt is gone or damaged"):
        kept.picture(0)
    (tmp_path / "runs_0.pt").unlink()
    with pytest.raises(ValueError, match=r"runs_0\.pt is gone or damaged"):
        kept.picture(0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("swap_readouts", ["--quick", "--root"]),
        ("graph_classification", ["--name", "families", "--readout", "sum", "--cache"]),
    ],
)
def test_runs_with_other_options_are_not_taken_over(example, monkeypatch, tmp_path, name, options):
    """A run of one epoch must not stand in for one of three."""
    module, log = example(name), {"swap_readouts": "maxdegree_quick"}.get(name, "families")
    stored = {"settings": {"epochs": 1}, "epochs": 1, "runs": [], "rows": []}
    (tmp_path / f"{name}_{log}.json").write_text(json.dumps(stored))
    here = [str(tmp_path), "--out", str(tmp_path), "--epochs", "3", "--resume"]
    monkeypatch.setattr(sys, "argv", [name, *options, *here])
    with pytest.raises(ValueError, match=r"other options: .*epochs 1, here 3"):
        module.main()


def test_links_of_another_generated_graph_are_not_mixed_in(example, monkeypatch, tmp_path):
    module, asked = example("link_prediction"), []
    found = {"hits": 0.5, "rank correlation": {"degree": 0.1}, "seconds": 1.0}
    monkeypatch.setattr(module, "one_run", lambda *a: asked.append(a[1]) or dict(found))
    monkeypatch.setattr(module, "draw", lambda *a: None)
    for first in ("0", "1"):
        monkeypatch.setattr(sys, "argv", ["links", "--methods", "cn", "--seed", first])
        sys.argv += ["--splits", "2", "--out", str(tmp_path)]
        module.main()
    assert asked == [0, 1, 1, 2]


def test_what_was_set_aside_stays(kept_of, tmp_path):
    for steps in (1, 2, 3):
        kept, _ = kept_of(steps=steps)
        kept.keep(0, {"steps": steps})
    found = {path.name: json.loads(path.read_text())["found"]["0"] for path in tmp_path.iterdir()}
    assert found == {
        "runs.json": {"steps": 3},
        "runs.json.old": {"steps": 1},
        "runs.json.old2": {"steps": 2},
    }


def test_quick_results_are_not_those_of_a_whole_run(kept_of):
    kept, _ = kept_of(quick=True)
    kept.keep(0, {"of": "a part"})
    whole, seeds = kept_of(quick=False)
    assert list(whole.missing(seeds)) == seeds


def test_data_have_digits_of_their_own(example):
    digits = example("_kept").fingerprint
    x = torch.arange(6.0)
    assert digits([x, "a"]) == digits([x.clone(), "a"])
    assert len({digits([x, "a"]), digits([x + 1, "a"]), digits([x, "b"]), digits(["a", x])}) == 4


@pytest.fixture
def classified(fresh, tmp_path):
    script = Path(__file__).resolve().parents[2] / "examples" / "graph_classification.py"

    def write(root, labels):
        raw = tmp_path / root / "T" / "raw"
        raw.mkdir(parents=True)
        count = len(labels)
        (raw / "T_A.txt").write_text("".join(f"{2 * i + 1}, {2 * i + 2}\n" for i in range(count)))
        lines = "".join(f"{i + 1}\n{i + 1}\n" for i in range(count))
        (raw / "T_graph_indicator.txt").write_text(lines)
        (raw / "T_graph_labels.txt").write_text("".join(f"{label}\n" for label in labels))

    def run(root, *options):
        command = [script, "--root", tmp_path / root, "--name", "T", "--cache", tmp_path / "cache"]
        command += ["--out", tmp_path / "out", "--epochs", "1", "--readout", "sum", *options]
        (done,) = fresh(command)
        return done.returncode, done.stdout + done.stderr

    return write, run


@pytest.mark.slow
def test_folds_are_of_the_data_that_are_there(classified, tmp_path):
    write, run = classified
    write("first", [0, 1] * 4)
    write("second", [0, 1, 2, 2] * 2)
    assert "majority class 50.0 %" in run("first", "--folds", "2")[1]
    code, said = run("second", "--folds", "2", "--resume")
    assert code == 2 and "made with other options: data" in said
    code, said = run("second", "--folds", "2")
    assert code == 0 and "set aside as graph_classification_T.json.old" in said
    assert "majority class 50.0 %" in said and len(list((tmp_path / "out").glob("*.old"))) == 1
    log = tmp_path / "out" / "graph_classification_T.json"
    stored = json.loads(log.read_text())
    del stored["rows"][0]["folds"][0]
    log.write_text(json.dumps(stored))
    code, said = run("second", "--folds", "2", "--resume")
    assert code == 2 and "is damaged" in said
    for options, message in (
        (("--folds", "1"), "--folds must be at least 2"),
        (("--folds", "2", "--nested"), "--folds must be at least 3"),
        (("--folds", "9"), "--folds must be at most the number of graphs, 8"),
        (("--readout", "sum,nonsense"), "--readout 'nonsense'"),
    ):
        code, said = run("first", *options)
        assert code == 2 and message in said
