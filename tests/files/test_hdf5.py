"""Files of many clouds, as ModelNet40 and ScanObjectNN are distributed, on the command line."""

from __future__ import annotations

import numpy as np
import pytest

import graphpool
from graphpool.__main__ import main
from graphpool.files import PointFiles, Settings, read_splits

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.needs("h5py")


def write(path, kinds, seed, names=True, **more):
    """Balls (0) and sticks (2): long ones; nothing is labelled 1."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = rng.normal(size=(len(kinds), 64, 3)) * np.where(
        np.array(kinds)[:, None, None], [1, 1, 9], 1
    )
    with h5py.File(path, "w") as file:
        file["data"] = data.astype(np.float32)
        file["label"] = np.array(kinds, np.uint8)[:, None]
        for name, value in more.items():
            file[name] = value
    if names:
        (path.parent / "shape_names.txt").write_text("ball\ncone\nstick\n")
    return data


def test_modelnet40_is_read_with_names_and_splits(tmp_path):
    write(tmp_path / "ply_data_train0.h5", [0, 2] * 6, 0)
    write(tmp_path / "ply_data_train1.h5", [2, 0] * 2, 1)
    data = write(tmp_path / "ply_data_test0.h5", [0, 2, 2], 2)
    for name in ("train", "test"):
        (tmp_path / f"{name}_files.txt").write_text(f"data/ply_data_{name}0.h5\n")
    files = PointFiles(num_points=32)
    parts = read_splits(tmp_path, files, Settings(val=0.25))
    assert [len(part) for part in parts.values()] == [12, 4, 3]
    test = parts["test"]
    assert [item.found.words[0] for item in test] == ["ball", "stick", "stick"]
    assert test[1].name == f"{tmp_path / 'ply_data_test0.h5'}#1"
    expected = data[1].astype(np.float32).astype(float)
    expected = expected - expected.mean(0)
    expected /= np.linalg.norm(expected, axis=1).max()
    assert np.allclose(test[1].raw.pos, expected - expected.mean(0), atol=1e-5)


def test_a_run_on_scanobjectnn_predicts_every_cloud(tmp_path, capsys):
    folder = tmp_path / "main_split"
    mask = np.zeros((16, 64), np.int32)
    write(folder / "training_objectdataset.h5", [0, 2] * 8, 0, names=False, mask=mask)
    write(folder / "test_objectdataset.h5", [0, 2, 0, 2], 1, names=False, mask=mask[:4])
    run = tmp_path / "run"
    options = ["--model", "point-nn", "--set", "k=8", "--out", str(run)]
    assert main(["train", "points", str(folder), *options]) == 0
    said = capsys.readouterr()
    assert "14 train, 2 val, 4 test" in said.out and "mask" in said.err
    model = graphpool.load(run / "model.pt")
    found = model.predict(folder / "test_objectdataset.h5")
    assert [p.word for p in found] == ["0", "2", "0", "2"] and model.classes == ["0", "2"]


def test_labels_of_points_and_clouds_without_a_label(tmp_path):
    part = np.arange(3 * 64).reshape(3, 64) % 5
    write(tmp_path / "a.h5", [0, 0, 2], 0, pid=part)
    (_, second, _) = PointFiles(labels="pid").read(tmp_path / "a.h5")
    assert np.array_equal(second.found.values, part[1])
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(2, 64, 3)).astype(np.float32)
    assert [item.found for item in PointFiles().read(tmp_path / "new.h5")] == [None, None]
    with pytest.raises(ValueError, match="must hold 'data' and 'label'; it has no 'label'"):
        graphpool.datasets.HDF5PointClouds(tmp_path / "new.h5")


def test_a_label_without_a_name_is_refused(tmp_path):
    write(tmp_path / "a.h5", [0, 7], 0)
    with pytest.raises(
        ValueError, match=r"a\.h5: label 7 of cloud 1 is none of the 3 lines of shape"
    ):
        PointFiles().read(tmp_path / "a.h5")


def test_a_file_of_one_cloud_stays_one_item_and_its_name_says_no_split(tmp_path):
    for name in ("a/train_station.h5", "b/c.h5"):
        (tmp_path / name).parent.mkdir()
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.random.default_rng(0).normal(size=(40, 3))
    parts = read_splits(tmp_path, PointFiles(), Settings(val=0, test=0))
    assert [item.name for item in parts["train"]] == [
        str(tmp_path / name) for name in ("a/train_station.h5", "b/c.h5")
    ]


def test_every_cloud_of_a_file_is_written_in_colour(tmp_path):
    part = (np.arange(8 * 64).reshape(8, 64) % 64 > 31).astype(np.int64)
    write(tmp_path / "data" / "a.h5", [0, 2] * 4, 0, pid=part)
    run, out = tmp_path / "run", tmp_path / "ply"
    more = ["--labels", "pid", "--num-points", "64", "--epochs", "1", "--out", str(run)]
    assert main(["train", "points", str(tmp_path / "data"), *more]) == 0
    assert main(["predict", str(run / "model.pt"), str(tmp_path / "data"), "--ply", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [f"a_{i}.ply" for i in range(8)]
