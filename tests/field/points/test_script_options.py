"""Scripts say what was given wrongly in one line, by the name of the option."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(
    f for folder in ("examples", "benchmarks") for f in (ROOT / folder).glob("[a-z]*.py")
)
POINTS = ROOT / "examples" / "point_cloud_classification.py"
SHARED = ("_common", "_scripts", "_points", "equivset")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs a script as a person would, and returns the exit code and what it wrote to stderr."""

    def call(script: Path, *options: str) -> tuple[object, str]:
        for name in SHARED:
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
        monkeypatch.setattr(sys, "argv", [str(script), *options])
        monkeypatch.chdir(tmp_path)
        code: object = None
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            code = end.code
        for name in SHARED:
            sys.modules.pop(name, None)
        return code, capsys.readouterr().err.rpartition("\r")[2]

    return call


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda f: f.name)
def test_every_script_names_the_option(run, script):
    for option, value in (("--seed", "-1"), ("--device", "nowhere")):
        code, said = run(script, "--quick", option, value)
        assert code == 2, said
        assert said.count("\n") == 1
        assert said.startswith(f"{script.name}: error: ")
        assert option in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", "0"), "--limit must be at least 1; got 0"),
        (("--num-points", "-5"), "--num-points must be at least 1; got -5"),
        (("--lr", "nan"), "--lr must be finite; got nan"),
        (("--lr", "0"), "--lr must be above 0; got 0.0"),
        (("--few-shot", "0", "1"), "--few-shot must be at least 1; got 0"),
        (("--few-shot", "99", "1"), "--few-shot 99 1: there are 17 classes"),
        (("--data", "nowhere"), "--data: There is no folder nowhere"),
        (("--data", "nowhere.npz"), "--data: There is no file nowhere.npz"),
        (("--model", "pointnet2", "--pool", "nonsense"), "--pool: Unknown aggregation 'nonsense'"),
        (("--model", "pointnet2", "--limit", "1"), "--limit"),
    ],
)
def test_errors_of_the_library_reach_the_person_as_options(run, options, message):
    code, said = run(POINTS, "--quick", *options)
    assert code == 2
    assert message in said.splitlines()[-1]
    assert "`" not in said


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("scene_flow", ("--seeds", "0"), "--seeds must be at least 1; got 0"),
        ("scene_flow", ("--noise", "-1"), "--noise must not be negative; got -1.0"),
        ("scene_flow", ("--pools", "meen"), "--pools: Unknown aggregation 'meen'"),
        ("voxel_transformer", ("--models", "foo"), "--models must be mlp, window, dsvt:attention"),
        ("voxel_transformer", ("--models", "dsvt:meen"), "--models: Unknown aggregation 'meen'"),
        ("reweighting", ("--shares", "2"), "--shares must lie in [0, 1]; got 2.0"),
        ("reweighting", ("--clusters", "99"), "--clusters must be at most --hidden, 32; got 99"),
        ("link_prediction", ("--graph", "no.npz"), "--graph must be blocks, preferential, or an"),
        ("track_finding", ("--noise", "1.5"), "--noise must lie in [0, 1); got 1.5"),
        ("expressiveness", ("--tables", "pairs", "--sets", "foo"), "--sets must be out of CSL, "),
    ],
)
def test_what_a_script_cannot_do_is_said_by_its_option(run, script, options, message):
    code, said = run(ROOT / "examples" / f"{script}.py", "--quick", *options)
    assert code == 2
    assert message in said.splitlines()[-1]


def test_arguments_of_the_library_become_options(run, tmp_path):
    folder = tmp_path / "own"
    for split in ("train", "test"):
        (folder / split / "a").mkdir(parents=True)
        (folder / split / "a" / "1.xyz").write_text("0 0 0\n1 1 1\n")
    code, said = run(POINTS, "--data", str(folder))
    assert code == 2
    assert "has 2 points, fewer than --num-points" in said


def test_a_traceback_is_there_on_demand(run):
    with pytest.raises(FileNotFoundError):
        run(POINTS, "--quick", "--data", "nowhere", "--traceback")
