"""``python -m graphpool``: a run, a prediction, the same number in another process, errors in one line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import graphpool
from graphpool.__main__ import main
from graphpool.datasets import read_cloud
from graphpool.files import Predictor, runs


def predicted(path):
    """Rows of a CSV file, with what stands behind the most probable class."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def items_of(data, files):
    """The files of a data set that hold something to predict."""
    beside = (*files.beside, "labels.csv")
    found = sorted(p for p in data.rglob("*") if p.suffix in files.suffixes)
    return [p for p in found if not p.name.endswith(beside)]


@pytest.mark.slow
def test_another_process_predicts_the_same_bits(home, tmp_path, monkeypatch, capfd):
    kind, data, options = home
    kept = []
    train = runs.train_files

    def train_and_keep(*args, **kwargs):
        kept.append(train(*args, **kwargs))
        return kept[0]

    monkeypatch.setattr("graphpool.__main__.train_files", train_and_keep)
    out = tmp_path / "run"
    more = ["--epochs", "2", "--out", str(out), *options]
    assert main(["train", kind, str(data), *more]) == 0
    files = items_of(data, kept[0].files)[::4]
    here = [p for file in files for p in kept[0].predict(file)]
    target = tmp_path / "there.csv"
    command = [
        sys.executable,
        "-m",
        "graphpool",
        "predict",
        str(out / "model.pt"),
        *map(str, files),
    ]
    subprocess.run([*command, "--out", str(target)], check=True)
    there = predicted(target)
    assert "test: " in capfd.readouterr().out
    left = {p.name for p in out.iterdir()}
    if here[0].value is not None:
        assert [float(row["value"]) for row in there] == [p.value for p in here]
        assert left >= {"model.pt", "report.md", "predictions.csv"}
        return
    probabilities = [row for p in here for row in p.probabilities.view(-1, len(p.classes)).tolist()]
    assert len(there) == len(probabilities) > 0
    for row, expected in zip(there, probabilities, strict=True):
        assert [float(row[name]) for name in here[0].classes] == expected
    names = np.concatenate([np.atleast_1d(p.word) for p in here])
    assert [row["class"] for row in there] == names.tolist()
    assert left >= {"model.pt", "report.md", "confusion.csv"}


def test_a_prediction_does_not_depend_on_what_is_beside_it(trained):
    data, run = trained
    model = graphpool.load(run / "model.pt")
    files = model.files
    paths = items_of(data, files)
    first = model.predict(paths[0])[0]
    alone = first.probabilities
    for path in paths[1:3]:
        model.predict(path)
    again = model.predict(paths[0])[0]
    assert torch.equal(again.probabilities, alone) and again.value == first.value
    if first.value is not None:
        return
    shape = (len(model.classes),) if files.labels is None else (alone.size(0), len(model.classes))
    assert alone.shape == shape
    assert torch.allclose(alone.sum(-1), torch.ones(shape[:-1]))


def test_a_run_that_was_interrupted_ends_like_one_that_was_not(made, tmp_path, monkeypatch, capsys):
    data = made("points")
    common = [
        "train",
        "points",
        str(data),
        "--epochs",
        "4",
        "--num-points",
        "32",
        "--features",
        "color",
    ]
    assert main([*common, "--out", str(tmp_path / "straight")]) == 0
    write = torch.save

    def stop(stored, path):
        write(stored, path)
        if stored.get("epoch") == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", stop)
        assert main([*common, "--out", str(tmp_path / "broken")]) == 130
    part = tmp_path / "broken" / "run.pt.part"
    part.replace(part.with_suffix(""))
    assert main([*common, "--out", str(tmp_path / "broken")]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*common, "--out", str(tmp_path / "broken"), "--resume"]) == 0
    one, other = (graphpool.load(tmp_path / n / "model.pt").model for n in ("straight", "broken"))
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    capsys.readouterr()
    assert main([*common, "--out", str(tmp_path / "broken"), "--resume", "--pool", "gnp"]) == 2
    error = capsys.readouterr().err
    assert (
        "was trained with pool=None, and asked for is pool=gnp" in error and error.count("\n") == 1
    )


def test_labelled_elements_become_coloured_files_and_pictures(made, tmp_path):
    data = made("labelled points")
    run = tmp_path / "run"
    options = ["--labels", "label", "--num-points", "64", "--epochs", "1", "--out", str(run)]
    assert main(["train", "points", str(data), *options]) == 0
    more = ["--ply", str(tmp_path / "ply"), "--out", str(tmp_path / "p.json")]
    assert main(["predict", str(run / "model.pt"), str(data / "1.ply"), *more]) == 0
    cloud = read_cloud(tmp_path / "ply" / "1.ply")
    assert np.array_equal(cloud.points, read_cloud(data / "1.ply").points)
    rows = json.loads((tmp_path / "p.json").read_text())
    assert [row["point"] for row in rows] == list(range(150))
    assert all(row["probabilities"][row["class"]] == row["probability"] for row in rows)
    colors = graphpool.plot.label_colors([("3", "7").index(row["class"]) for row in rows])
    assert np.abs(cloud.fields["color"] - colors).max() < 1 / 255


def test_whatever_is_drawn_a_file_is_read_once(made, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    data, run = made("labelled faces"), tmp_path / "run"
    train = ["train", "meshes", str(data), "--labels", "files", "--epochs", "1", "--out", str(run)]
    assert main(train) == 0
    read, opened = graphpool.mesh.read_mesh_file, []
    monkeypatch.setattr(
        graphpool.mesh,
        "read_mesh_file",
        lambda path, **how: opened.append(path) or read(path, **how),
    )
    files = [data / "0.obj", data / "1.obj"]
    more = ["--ply", str(tmp_path / "ply"), "--pictures", str(tmp_path / "p" / "a.png")]
    assert main(["predict", str(run / "model.pt"), *map(str, files), *more]) == 0
    assert opened == files and (tmp_path / "p" / "a.png").stat().st_size > 1000
    for file in files:
        drawn = graphpool.mesh.read_mesh(tmp_path / "ply" / f"{file.stem}.ply")
        assert np.allclose(drawn.vertices, graphpool.mesh.read_mesh(file).vertices, atol=1e-6)


def test_faces_that_cleaning_drops_are_labelled_too(made, tmp_path):
    data, run = made("labelled faces"), tmp_path / "run"
    options = ["--labels", "files", "--epochs", "1", "--out", str(run)]
    assert main(["train", "meshes", str(data), *options]) == 0
    whole = graphpool.load(run / "model.pt").predict(data / "0.obj")[0].probabilities
    text = (data / "0.obj").read_text()
    faces = [line for line in text.split("\n") if line.startswith("f ")]
    corner = faces[3].split()[1]
    doubled = text.replace(faces[3], f"{faces[3]}\n{faces[3]}\nf {corner} {corner} {corner}")
    (tmp_path / "doubled.obj").write_text(doubled)
    more = graphpool.load(run / "model.pt").predict(tmp_path / "doubled.obj")[0].probabilities
    assert len(more) == len(faces) + 2
    assert torch.equal(more[[i for i in range(len(more)) if i not in (4, 5)]], whole)
    assert torch.equal(more[4], whole[3])


def words_of(found):
    """The labels of a file as words: numbers as they are written."""
    names = found.values.tolist()
    return [str(v) if found.words is None else found.words[v] for v in names]


def test_evaluate_counts_what_predict_says_in_every_home(trained, tmp_path, capsys):
    data, run = trained
    model = graphpool.load(run / "model.pt")
    split = ["--split", "all", "--out", str(tmp_path / "e")]
    assert main(["evaluate", str(run / "model.pt"), str(data), *split]) == 0
    text = capsys.readouterr().out
    if not model.classes:  # numbers, see test_numbers.py
        assert "mean absolute error" in text
        return
    table = list(csv.reader((tmp_path / "e" / "confusion.csv").open()))[1:]
    counts = np.array([row[1 : 1 + len(model.classes)] for row in table], dtype=int)
    assert f"({counts.trace()} of {counts.sum()}" in text
    items = sum(runs.read_splits(data, model.files, runs.Settings(val=0, test=0)).values(), [])
    said, true = [], []
    for item in items:
        said += np.atleast_1d(model.of_item(item).word).tolist()
        true += words_of(item.whole or item.found)
    # What is ignored, or has no label, is predicted and not counted.
    pairs = [pair for pair in zip(true, said, strict=True) if pair[0] in model.classes]
    expected = [[pairs.count((t, s)) for s in model.classes] for t in model.classes]
    assert counts.tolist() == expected


def test_evaluate_counts_what_predict_says(made, tmp_path, capsys):
    data = made("bags")
    run = tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "2", "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run / "model.pt"), str(data), "--out", str(tmp_path / "e")]) == 0
    text = capsys.readouterr().out
    model = graphpool.load(run / "model.pt")
    truth = [("low", "high")[i % 2] for i in range(12)]
    right = [model.predict(data / f"{i}.npy")[0].word == truth[i] for i in range(12)]
    assert f"{sum(right)} of 12" in text
    table = list(csv.reader((tmp_path / "e" / "confusion.csv").open()))
    assert sum(int(table[i][i]) for i in (1, 2)) == sum(right)


def test_other_columns_and_empty_bags(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    np.save(tmp_path / "wide.npy", np.ones((3, 4)))
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    np.savetxt(tmp_path / "text.csv", np.load(data / "3.npy"), delimiter=",", fmt="%.17g")
    (tmp_path / "named.csv").write_text("a,b,c\n1,2,3\n")
    assert main(["predict", str(run / "model.pt"), str(tmp_path / "wide.npy")]) == 2
    assert (
        "wide.npy has 4 columns of features; the network was made for 3" in capsys.readouterr().err
    )
    assert main(["predict", str(run / "model.pt"), str(tmp_path / "named.csv")]) == 2
    assert "has no 'x' of the" in capsys.readouterr().err
    model = graphpool.load(run / "model.pt")
    (empty,) = model.predict(tmp_path / "none.npy")
    assert bool(empty.probabilities.isfinite().all())
    (text,), (array,) = model.predict(tmp_path / "text.csv"), model.predict(data / "3.npy")
    assert torch.equal(text.probabilities, array.probabilities)


CLOUDS = ["train", "points", "{data}"]
ERRORS = {
    "missing folder": (["train", "points", "{data}/none"], "There is no folder"),
    "no such kind": (["train", "pictures", "{data}"], "KIND"),
    "not a number": ([*CLOUDS, "--epochs", "x"], "--epochs"),
    "share": ([*CLOUDS, "--val", "1.5"], "--val must be"),
    "model": ([*CLOUDS, "--model", "vgg"], "--model must be one of point-pn"),
    "pool": ([*CLOUDS, "--pool", "maxx"], "'maxx'"),
    "argument": ([*CLOUDS, "--set", "magic=3"], "--set .*magic"),
    "no pair": ([*CLOUDS, "--set", "magic"], "--set"),
    "feature": ([*CLOUDS, "--features", "normal"], "no 'normal' of the --features; it has color"),
    "size": ([*CLOUDS, "--size", "big"], "--size must be"),
    "points": ([*CLOUDS, "--num-points", "0"], "--num-points must be"),
    "class": ([*CLOUDS, "--classes", "ball,dog"], "'stick' is none of the --classes"),
    "one class": ([*CLOUDS, "--ignore", "ball"], "--classes must be at least two"),
    "no files": (["train", "bags", "{data}/.."], "lacks|expected|no file|must be|table"),
    "checkpoint": (["predict", "{data}/ball/scan 0.csv", "{data}/ball"], "scan 0.csv"),
    "device": ([*CLOUDS, "--device", "cuda:77"], "--device 'cuda:77' cannot be used"),
    "class twice": ([*CLOUDS, "--classes", "ball,stick,ball"], "--classes must be at least two different"),
    "labels": ([*CLOUDS, "--labels", "kind"], "could give to --labels is color"),
    "module": ([*CLOUDS, "--import", "no_such_module"], "no_such_module"),
    "table": ([*CLOUDS, "--table", "{data}/none.csv"], "none.csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_line_that_names_the_option(name, made, tmp_path, capsys):
    data = made("points")
    arguments, expected = ERRORS[name]
    arguments = [a.format(data=data) for a in arguments]
    if arguments[0] == "train":
        arguments += ["--out", str(tmp_path / "out")]
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    error = capsys.readouterr().err
    lines = [line for line in error.replace("\r", "\n").split("\n") if line.startswith("python -m")]
    assert code == 2
    assert len(lines) == 1 and pytest.importorskip("re").search(expected, lines[0]), error
    assert "Traceback" not in error


def test_another_kind_of_file_is_refused(made, tmp_path, capsys):
    data = made("graphs")
    run = tmp_path / "run"
    assert main(["train", "graphs", str(data), "--epochs", "1", "--out", str(run)]) == 0
    strange = tmp_path / "strange.csv"
    strange.write_text("a,b\nb,c\n")
    capsys.readouterr()
    assert main(["predict", str(run / "model.pt"), str(strange)]) == 2
    assert "strange.csv has no 'element'" in capsys.readouterr().err
    (tmp_path / "strange.nodes.csv").write_text("id,element,charge\na,C,1\nb,Xe,0\nc,O,2\n")
    strange.write_text("source,target,length\na,b,1\nb,c,2\n")
    assert main(["predict", str(run / "model.pt"), str(strange)]) == 0
    assert "note: " in (said := capsys.readouterr().err) and "'Xe' is new" in said
    assert main(["predict", str(run / "model.pt"), str(tmp_path / "a.obj")]) == 2


def test_lists_of_nodes_are_read_with_their_graphs_only(made, tmp_path, capsys):
    data, run = made("graphs"), tmp_path / "run"
    assert main(["train", "graphs", str(data), "--epochs", "1", "--out", str(run)]) == 0
    capsys.readouterr()
    every = [str(path) for path in sorted((data / "path").glob("*.csv"))]
    assert main(["predict", str(run / "model.pt"), *every]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 6 == len(every) / 2
    assert "note: 0.nodes.csv, 1.nodes.csv, 2.nodes.csv, ... belong to" in said.err


def test_labels_of_points_may_differ_in_case_and_all_views_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.random((500, 3)) * 9, rng.integers(0, 2, (500, 1))], 1)
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", header="X,Y,Z,Klasse", comments="")
    for labels in ("Klasse", "klasse"):
        files = graphpool.files.PointFiles(labels=labels, block=4.0, num_points=64)
        (item,) = files.read(tmp_path / "a.csv")
        assert item.found is not None and np.array_equal(item.found.values, table[:, 3])
    assert files.num_views(item.raw) == len(list(files.views(item.raw))) > 9


def test_a_predictor_that_was_not_saved_predicts_too(made):
    data = made("bags")
    files = graphpool.files.BagFiles()
    settings = runs.Settings(epochs=1)
    found = runs.train_files(runs.read_splits(data, files, settings), files, settings)
    assert isinstance(found, Predictor)
    assert found.predict(data / "1.npy")[0].word in ("low", "high")


def test_info_tells_what_a_file_holds(made, capsys):
    data = made("labelled points")
    assert main(["info", str(data / "0.ply")]) == 0
    text = capsys.readouterr().out
    assert "points: 1" in text and "label (-1 to 7)" in text and "intensity" in text
    assert main(["info"]) == 0
    assert "graphpool" in capsys.readouterr().out
