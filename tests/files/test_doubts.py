"""What makes a number less than it seems is said: files seen before, other units, files left out."""

from __future__ import annotations

import numpy as np
import pytest

import graphpool
from graphpool.__main__ import main
from graphpool.files import BagFiles, PointFiles, Settings, read_splits, train_files
from graphpool.files.runs import doubts


def lay_bags(root, count=24, scale=1.0):
    rng = np.random.default_rng(0)
    for i in range(count):
        path = root / ("low", "high")[i % 2] / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, (rng.normal(size=(6, 3)) + 4 * (i % 2)) * scale)
    return root


def test_evaluate_says_what_the_network_has_seen(tmp_path, capsys):
    data, run = lay_bags(tmp_path / "data"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    capsys.readouterr()
    (tmp_path / "moved").mkdir()
    data.rename(tmp_path / "moved" / "elsewhere")
    model = str(run / "model.pt")
    assert main(["evaluate", model, str(tmp_path / "moved" / "elsewhere")]) == 0
    assert (
        "note: 20 of these 24 items trained the network or chose its epoch"
        in capsys.readouterr().out
    )
    assert main(["evaluate", model, str(lay_bags(tmp_path / "other", scale=1.01))]) == 0
    assert "note:" not in capsys.readouterr().out
    assert main(["info", model]) == 0
    assert "seen" not in capsys.readouterr().out


def test_other_units_than_those_of_training_are_said(tmp_path, recwarn):
    files, settings = BagFiles(), Settings(epochs=1)
    found = train_files(
        read_splits(str(lay_bags(tmp_path / "a")), files, settings), files, settings
    )
    recwarn.clear()
    bag = np.load(tmp_path / "a" / "low" / "0.npy")
    np.save(tmp_path / "same.npy", bag * 1.5)
    found.predict(tmp_path / "same.npy")
    assert not recwarn.list
    bag[:, 1] *= 1000
    np.save(tmp_path / "milli.npy", bag)
    with pytest.warns(
        UserWarning, match=r"milli\.npy: 'x', column 1, goes from .* are the units the"
    ):
        found.predict(tmp_path / "milli.npy")


def test_a_constant_column_that_is_no_longer_constant_is_said():
    from graphpool.files.reader import Table

    table = Table.fit([{"t": np.full(5, 7.0)}], None, ["a"])
    table.encode({"t": np.full(3, 7.0)}, 3, "b")
    with pytest.warns(
        UserWarning, match="b: 't', column 0, goes from 9 to 9, in training from 7 to 7"
    ):
        table.encode({"t": np.full(3, 9.0)}, 3, "b")


def lay_clouds(root, scales):
    rng = np.random.default_rng(0)
    for i, scale in enumerate(scales):
        path = root / ("ball", "stick")[i % 2] / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.normal(size=(40, 3)) * [1, 1, 1 + 3 * (i % 2)] * scale)
    return root


def test_where_sizes_count_other_sizes_are_said(tmp_path):
    files, settings = PointFiles(size="keep"), Settings(model="point-nn", arguments={"k": 8})
    parts = read_splits(lay_clouds(tmp_path / "a", [1] * 12), files, settings)
    found = train_files(parts, files, settings)
    graphpool.save(found.model, tmp_path / "m.pt", classes=found.classes, preprocess=found.files)
    strange = lay_clouds(tmp_path / "b", [1000]) / "ball" / "0.npy"
    with pytest.warns(UserWarning, match=r"0\.npy has the radius .* are the units the same"):
        graphpool.load(tmp_path / "m.pt").predict(strange)
    parts = read_splits(lay_clouds(tmp_path / "c", [1, 1, 1000, 1000] * 3), files, settings)
    with pytest.warns(UserWarning, match="all units must be the same"):
        train_files(parts, files, settings)


def test_a_cloud_of_few_points_is_said(tmp_path, recwarn):
    files, settings = PointFiles(num_points=32), Settings(model="point-nn", arguments={"k": 8})
    found = train_files(
        read_splits(lay_clouds(tmp_path / "a", [1] * 8), files, settings), files, settings
    )
    for count, said in ((8, False), (7, True)):
        np.save(tmp_path / f"{count}.npy", np.random.default_rng(0).normal(size=(count, 3)))
        recwarn.clear()
        found.predict(tmp_path / f"{count}.npy")
        assert (
            any(
                f"{count} points, no cloud of training less than 40" in str(w.message)
                for w in recwarn
            )
            == said
        )


def test_many_files_in_two_splits_are_counted(tmp_path):
    root = lay_bags(tmp_path / "train")
    for file in root.rglob("*.npy"):
        copy = tmp_path / "test" / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        np.save(copy.with_suffix(".npy"), np.load(file))
    files = BagFiles()
    said = doubts(read_splits(tmp_path, files, Settings(val=0)), ["high", "low"], files)
    assert sum("is the same as" in text for text in said) == 8
    assert sum("so are 16 more" in text for text in said) == 1


@pytest.mark.parametrize("kinds, said", [(10, True), (2, False)])
def test_quantities_that_are_taken_for_classes(tmp_path, kinds, said):
    files, lines = BagFiles(), ["file,label"]
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.ones((2, 2)) * i)
        lines.append(f"{i},{i % kinds}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    parts = read_splits(tmp_path, files, Settings())
    found = doubts(parts, [str(i) for i in range(kinds)], files)
    assert any("--target regression" in text for text in found) == said
