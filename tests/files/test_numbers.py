"""Labels that are numbers: what is predicted is one, in the units of the labels."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import graphpool
from graphpool.__main__ import main
from graphpool.files import NumberReport


def points(root):
    rng = np.random.default_rng(0)
    for i in range(16):
        height = 1 + i / 5
        np.savetxt(root / f"{i}.xyz", rng.random((80, 3)) * [1, 1, height])
        yield f"{i}.xyz", height * 1000.25


def bags(root):
    rng = np.random.default_rng(0)
    for i in range(16):
        bag = rng.normal(size=(int(rng.integers(1, 9)), 2))
        np.save(root / f"{i}.npy", bag)
        yield f"{i}.npy", 500.5 + 7 * bag[:, 0].max()


def graphs(root):
    for i in range(3, 19):
        edges = torch.tensor([[j for j in range(1, i)], [0] * (i - 1)])
        torch.save(
            Data(edge_index=edges, num_nodes=i, y=torch.tensor([[-i / 4]])), root / f"{i}.pt"
        )
        yield f"{i}.pt", None


def meshes(root):
    for i in range(8):
        vertices, faces = graphpool.mesh.icosphere(1)
        graphpool.mesh.write_mesh(root / f"{i}.off", vertices * [1, 1, 1 + i], faces)
        yield f"{i}.off", 1.5 * i


HOMES = {"points": points, "bags": bags, "graphs": graphs, "meshes": meshes}


def make(kind, root):
    root.mkdir()
    rows = [(name, value) for name, value in HOMES[kind](root) if value is not None]
    if rows:
        lines = ["file,label", *(f"{name},{float(value)!r}" for name, value in rows)]
        (root / "labels.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("kind", HOMES)
def test_labels_with_decimals_are_predicted_as_numbers(kind, tmp_path, capsys):
    make(kind, data := tmp_path / "data")
    more = ["--num-points", "64"] if kind == "points" else []
    run = tmp_path / "run"
    assert main(["train", kind, str(data), "--epochs", "3", "--out", str(run), *more]) == 0
    said = capsys.readouterr()
    assert "Labels have decimals" in said.err and "validation error " in said.out
    assert "test: mean absolute error" in (run / "report.md").read_text()
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    model = graphpool.load(run / "model.pt")
    # As documented, with the classes of a run that has none.
    again = tmp_path / "again.pt"
    graphpool.save(model.model, again, classes=[], preprocess=model.files)
    assert graphpool.load(again).predict(rows[0]["file"])[0].value == float(rows[0]["predicted"])
    assert model.files.target == "regression" and rows
    for row in rows:
        assert float(row["predicted"]) == model.predict(row["file"])[0].value
    true, guess = (np.array([float(row[k]) for row in rows]) for k in ("true", "predicted"))
    assert f"{np.abs(true - guess).mean():.4g}" in said.out
    # The network gives a number in units of the training set: mean 0, deviation 1.
    assert np.abs(guess - model.files.unit[0]).max() < 20 * model.files.unit[1]
    paths = [row["file"] for row in rows[:2]]
    assert main(["predict", str(run / "model.pt"), *paths, "--out", str(tmp_path / "p.json")]) == 0
    assert json.loads((tmp_path / "p.json").read_text()) == [
        {"file": row["file"], "value": float(row["predicted"])} for row in rows[:2]
    ]
    assert main(["evaluate", str(run / "model.pt"), str(data)]) == 0
    assert "mean absolute error" in capsys.readouterr().out


def test_a_number_that_can_be_learnt_is(tmp_path):
    make("bags", data := tmp_path / "data")
    run = tmp_path / "run"
    options = ["--pool", "max", "--epochs", "150", "--test", "0.2", "--out", str(run)]
    assert main(["train", "bags", str(data), *options]) == 0
    model = graphpool.load(run / "model.pt")
    with (data / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    guess = torch.tensor([model.predict(data / row["file"])[0].value for row in rows])
    true = torch.tensor([float(row["label"]) for row in rows])
    assert NumberReport(guess, true, [row["file"] for row in rows]).r2 > 0.8


def test_what_does_not_go_with_numbers_is_refused(tmp_path, capsys):
    make("bags", data := tmp_path / "data")
    train = ["train", "bags", str(data), "--epochs", "1", "--out", str(tmp_path / "run")]
    for more, message in (
        (["--class-weights"], "need classes, and the labels are numbers"),
        (["--classes", "a,b"], "need classes, and the labels are numbers"),
        (["--target", "rank"], "--target must be 'class' or 'regression'; got 'rank'"),
        (["--target", "regression", "--labels", "y"], "is one number per file"),
        (["--target", "class", "--classes", "a,b"], "is none of the --classes"),
    ):
        assert main([*train, *more]) == 2
        assert message in capsys.readouterr().err
    text = (data / "labels.csv").read_text().split("\n")
    text[3] = text[3].split(",")[0] + ",tall"
    (data / "labels.csv").write_text("\n".join(text))
    assert main([*train, "--target", "regression"]) == 2
    assert (
        "the label must be a number for --target 'regression'; got 'tall'"
        in capsys.readouterr().err
    )


def test_whole_numbers_are_classes_unless_asked(tmp_path):
    for i in range(12):
        np.save(tmp_path / f"{i}.npy", np.full((2, 1), i))
    (tmp_path / "labels.csv").write_text(
        "file,label\n" + "".join(f"{i}.npy,{i // 4}\n" for i in range(12))
    )
    train = ["train", "bags", str(tmp_path), "--epochs", "1", "--out"]
    assert main([*train, str(tmp_path / "a")]) == 0
    assert graphpool.load(tmp_path / "a" / "model.pt").classes == ["0", "1", "2"]
    assert main([*train, str(tmp_path / "b"), "--target", "regression"]) == 0
    numbers = graphpool.load(tmp_path / "b" / "model.pt")
    assert numbers.classes is None and numbers.files.unit[1] > 0


def test_the_report_of_numbers():
    report = NumberReport(
        torch.tensor([1.0, 4.0, 2.0]), torch.tensor([1.0, 2.0, 6.0]), ["a", "b", "c"]
    )
    assert report.mae == 2.0 and report.score == -2.0
    assert report.r2 == pytest.approx(1 - (0 + 4 + 16) / (4 + 1 + 9))
    assert report.table().split("\n")[2].startswith("| c ")
    assert np.isnan(NumberReport(torch.ones(2), torch.ones(2), ["a", "b"]).r2)


def test_words_among_numbers_are_classes(tmp_path):
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", np.full((2, 1), i))
    words = ["1.5", "cat"] * 4
    (tmp_path / "labels.csv").write_text(
        "file,label\n" + "".join(f"{i}.npy,{w}\n" for i, w in enumerate(words))
    )
    assert (
        main(["train", "bags", str(tmp_path), "--epochs", "1", "--out", str(tmp_path / "a")]) == 0
    )
    assert graphpool.load(tmp_path / "a" / "model.pt").classes == ["1.5", "cat"]
