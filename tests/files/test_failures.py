"""What goes wrong with files and folders is said before the work, by file, and costs the others nothing."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import graphpool
from graphpool.__main__ import main
from graphpool.files import BagFiles, GraphFiles, MeshFiles, PointFiles, Settings, runs
from graphpool.files.reader import targets


def one_line(capsys):
    error = capsys.readouterr().err
    lines = [line for line in error.replace("\r", "\n").split("\n") if line.startswith("python -m")]
    assert len(lines) == 1 and "Traceback" not in error, error
    return lines[0]


@pytest.mark.parametrize("change, said", [
    (lambda x: x[:, :2], r"3\.npy has 2 columns of features; .*\.npy has 3\."),
    (lambda x: x * [[1], [1], [np.nan], [1]], r"3\.npy holds a value that is not finite, in row 2 of x"),
])  # fmt: skip
def test_the_bag_that_does_not_fit_is_named(made, change, said):
    data = made("bags")
    np.save(data / "3.npy", change(np.ones((4, 3))))
    files, settings = BagFiles(), Settings(val=0, test=0, epochs=1)
    with pytest.raises(ValueError, match=said):
        runs.train_files(runs.read_splits(data, files, settings), files, settings)


def test_an_edge_list_of_one_column_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("source\n1\n")
    with pytest.raises(ValueError, match=r"a\.csv: An edge is two names of nodes"):
        GraphFiles().read(tmp_path / "a.csv")


def test_labels_of_faces_are_named_by_their_own_file(made):
    data = made("labelled faces")
    (data / "1.eseg").write_text("1\n0\n")
    with pytest.raises(ValueError, match=r"1\.eseg has 2 lines"):
        MeshFiles(labels="files").read(data / "1.obj")


def test_what_could_label_a_mesh_is_said(tmp_path, capsys):
    text = (
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\ng side\nf 1 3 2\nf 1 2 4\ng front\nf 2 3 4\nf 1 4 3\n"
    )
    (tmp_path / "a.obj").write_text(text)
    (item,) = MeshFiles(labels="files").read(tmp_path / "a.obj")
    with pytest.raises(ValueError, match=r"could give to `labels` is .*group"):
        targets(item, ["a"])
    assert main(["info", str(tmp_path / "a.obj")]) == 0
    assert "group (front to side)" in capsys.readouterr().out


def test_labels_with_decimals_are_refused_by_value(made):
    with pytest.raises(ValueError, match=r"0\.ply: labels must be integers; number \d+ is "):
        PointFiles(labels="intensity").read(made("labelled points") / "0.ply")


def test_a_bad_file_costs_no_other_its_prediction(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    new, out = tmp_path / "new", tmp_path / "p.csv"
    new.mkdir()
    np.save(new / "a.npy", np.ones((2, 3)))
    np.save(new / "b.npy", np.ones((2, 5)))
    (new / "c.npy").write_bytes(b"\x93NUMPY")
    np.save(new / "d.npy", np.zeros((2, 3)))
    capsys.readouterr()
    assert main(["predict", str(run / "model.pt"), str(new), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "no prediction: " in error and "b.npy has 5" in error and "c.npy" in error
    assert "2 of 4 files have no prediction" in error
    with out.open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [
            str(new / n) for n in ("a.npy", "d.npy")
        ]
    assert main(["predict", str(run / "model.pt"), str(new / "c.npy")]) == 2
    assert "c.npy" in one_line(capsys)


def test_where_nothing_can_be_written_nothing_is_computed(made, tmp_path, capsys, monkeypatch):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    taken = tmp_path / "taken"
    taken.write_text("")
    monkeypatch.setattr("graphpool.__main__.read_splits", None)
    monkeypatch.setattr(graphpool.files.checkpoint.Predictor, "of_item", None)
    model, bag = str(run / "model.pt"), str(data / "1.npy")
    for command, name in (
        (["train", "bags", str(data), "--out", str(taken)], "out"),
        (["evaluate", model, str(data), "--out", str(taken)], "out"),
        (["predict", model, bag, "--out", str(taken / "a.csv")], "out"),
    ):
        capsys.readouterr()
        assert main(command) == 2
        assert f"--{name}: {taken} cannot be a folder: " in one_line(capsys)
    assert main(["predict", model, bag, "--pictures", str(tmp_path / "a.png")]) == 2
    assert "--pictures are for points and meshes" in one_line(capsys)


def test_an_interruption_says_how_to_go_on(made, tmp_path, capsys, monkeypatch):
    data, run = made("bags"), tmp_path / "run"

    def stop(*args, **kwargs):
        (run / "run.pt").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("graphpool.__main__.train_files", stop)
    assert main(["train", "bags", str(data), "--out", str(run)]) == 130
    assert "the same command with --resume goes on" in one_line(capsys)


def test_a_state_of_training_is_no_checkpoint_and_says_which_is(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    assert main(["predict", str(run / "run.pt"), str(data / "1.npy")]) == 2
    assert "model.pt beside it may be one" in one_line(capsys)
    assert main(["info", str(data)]) == 2
    assert "one file; " in one_line(capsys)
