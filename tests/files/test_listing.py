"""Which files a data set has, their classes and their splits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from graphpool.files import BagFiles, GraphFiles, MeshFiles, Settings, read_splits
from graphpool.files.listing import draw_splits, list_files
from graphpool.files.reader import Table, classes_among, targets
from graphpool.files.runs import doubts

FILES = BagFiles()


def lay(root, *names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((2, 1), float(i)))


def found(root, **more):
    return {
        (str(f.relative_to(root)), label, split)
        for f, label, split in list_files(root, FILES, **more)
    }


def test_every_layout(tmp_path):
    lay(tmp_path / "a", "cat/1.npy", "dog/2.npy", ".hidden/3.npy", "cat/.x.npy")
    assert found(tmp_path / "a") == {("cat/1.npy", "cat", None), ("dog/2.npy", "dog", None)}
    lay(tmp_path / "b", "train/cat/1.npy", "validation/dog/2.npy", "Test/dog/3.npy")
    assert found(tmp_path / "b") == {
        ("train/cat/1.npy", "cat", "train"), ("validation/dog/2.npy", "dog", "val"),
        ("Test/dog/3.npy", "dog", "test"),
    }  # fmt: skip
    lay(tmp_path / "c", "cat/train/1.npy", "dog/test/2.npy")
    assert found(tmp_path / "c") == {
        ("cat/train/1.npy", "cat", "train"),
        ("dog/test/2.npy", "dog", "test"),
    }
    lay(tmp_path / "d", "1.npy", "test/2.npy")
    assert found(tmp_path / "d") == {("1.npy", None, None), ("test/2.npy", None, "test")}


def test_tables(tmp_path):
    lay(tmp_path, "x/1.npy", "2.npy", "unlisted.npy")
    text = "File;label;split\nx/1.npy;cat;train\n2.npy;dog;testing\n"
    (tmp_path / "labels.csv").write_text(text.replace("File", "file"))
    expected = {("x/1.npy", "cat", "train"), ("2.npy", "dog", "test")}
    with pytest.warns(
        UserWarning, match=r"1 files of bags are not in .*labels\.csv .*: unlisted\.npy"
    ):
        assert found(tmp_path) == expected
    (tmp_path / "unlisted.npy").unlink()
    (tmp_path / "labels.csv").write_text(text.replace("File", "file").replace(".npy", ""))
    assert found(tmp_path) == expected
    other = tmp_path / "other.txt"
    for text, message in (
        ("name,label\n2.npy,dog\n", "columns `file`"), ("file,split\n2.npy,later\n", "later"),
        ("file,label\n2.npy,dog\n2.npy,cat\n", "twice"), ("file,label\n2.npy\n", "Row 2 has 1 columns"),
    ):  # fmt: skip
        other.write_text(text)
        with pytest.raises(ValueError, match=message):
            found(tmp_path, table=other)
    other.write_text("file,label\nnone.npy,dog\n")
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        found(tmp_path, table=other)


def test_what_is_left_alone_is_said(tmp_path):
    lay(tmp_path, "cat/1.npy")
    (tmp_path / "cat" / "photo.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"\.jpg"):
        found(tmp_path)
    with pytest.raises(ValueError, match="no file of graphs"):
        list_files(tmp_path, GraphFiles())


def items(root):
    return [FILES.read(e.file)[0] for e in list_files(root, FILES)]


def test_drawn_splits_hold_the_same_share_of_every_class(tmp_path):
    lay(tmp_path, *(f"cat/{i}.npy" for i in range(40)), *(f"dog/{i}.npy" for i in range(10)),
        *(f"eel/{i}.npy" for i in range(3)), "fox/0.npy")  # fmt: skip
    parts = read_splits(tmp_path, FILES, Settings(val=0.2, test=0.1, seed=3))
    count = {s: Counter(i.found.words[0] for i in part) for s, part in parts.items()}
    assert count["test"] == {"cat": 4, "dog": 1, "eel": 1}
    assert count["val"] == {"cat": 8, "dog": 2, "eel": 1}
    assert count["train"] == {"cat": 28, "dog": 7, "eel": 1, "fox": 1}
    again = read_splits(tmp_path, FILES, Settings(val=0.2, test=0.1, seed=3))
    other = read_splits(tmp_path, FILES, Settings(val=0.2, test=0.1, seed=4))
    names = [[i.name for i in p["test"]] for p in (parts, again, other)]
    assert names[0] == names[1] != names[2]
    assert sum(doubt.startswith("the val set has nothing of class fox") for doubt in
               doubts(parts, ["cat", "dog", "eel", "fox"], FILES)) == 1  # fmt: skip


def test_given_splits_are_kept_and_no_test_is_taken_from_training(tmp_path):
    lay(
        tmp_path,
        *(f"train/cat/{i}.npy" for i in range(10)),
        *(f"train/dog/{i}.npy" for i in range(10)),
    )
    listed = list_files(tmp_path, FILES)
    drawn = draw_splits(items(tmp_path), [e.split for e in listed], 0.2, 0.5, 0)
    assert Counter(drawn) == {"train": 16, "val": 4}
    lay(tmp_path, "test/cat/0.npy", "val/dog/0.npy")
    listed = list_files(tmp_path, FILES)
    drawn = draw_splits(items(tmp_path), [e.split for e in listed], 0.2, 0.5, 0)
    assert drawn == [e.split for e in listed]
    with pytest.raises(ValueError, match="`test` must be a share"):
        draw_splits([], [], 0.1, -1, 0)


def test_a_class_that_a_split_lacks_shifts_nothing(tmp_path):
    lay(tmp_path, "train/ant/0.npy", "train/bee/1.npy", "test/bee/2.npy", "test/cow/3.npy")
    parts = read_splits(tmp_path, FILES, Settings())
    known = sum(parts.values(), [])
    classes = classes_among(known)
    assert classes == ["ant", "bee", "cow"]
    assert [int(targets(i, classes)) for i in parts["test"]] == [1, 2]


def test_numbers_are_classes_in_their_order(tmp_path):
    lay(tmp_path, *(f"{i}/a.npy" for i in (10, 9, 2)))
    known = sum(read_splits(tmp_path, FILES, Settings()).values(), [])
    assert classes_among(known) == ["2", "9", "10"] and classes_among(known, ("9",)) == ["2", "10"]


def test_a_file_in_two_splits_is_named(tmp_path):
    lay(tmp_path, "train/cat/0.npy", "train/dog/1.npy", "test/cat/2.npy")
    (tmp_path / "test/cat/2.npy").write_bytes((tmp_path / "train/cat/0.npy").read_bytes())
    parts = read_splits(tmp_path, FILES, Settings())
    assert any("is the same as" in doubt for doubt in doubts(parts, ["cat", "dog"], FILES))


def test_features_have_mean_0_and_deviation_1_over_the_training_set():
    rng = np.random.default_rng(0)
    tables = [{"a": rng.normal(9, 4, (n, 2)), "b": np.array(["u", "v", "w"])[rng.integers(0, 3, n)],
               "c": np.full(n, 7.0)} for n in (5, 40, 30)]  # fmt: skip
    table = Table.fit(tables, None, "xyz")
    x = torch.cat([table.encode(t, len(t["c"]), "x") for t in tables]).double()
    assert x.shape == (75, 6)
    assert torch.allclose(x.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(x[:, :5].std(0, correction=0), torch.ones(5, dtype=torch.float64))
    assert bool((x[:, 5] == 0).all())
    with pytest.warns(UserWarning, match="'z' is new"):
        table.encode({**tables[0], "b": np.array(["z"] * 5)}, 5, "x")
    for change, message in (
        ({"a": np.array(["p"] * 5)}, "must be numbers"), ({"a": np.full((5, 2), np.nan)}, "finite"),
        ({"a": np.zeros((5, 3))}, "7 columns of features; the network was made for 6"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            table.encode({**tables[0], **change}, 5, "x")
    with pytest.warns(UserWarning, match="d left out"):
        Table.fit([tables[0], {**tables[1], "d": tables[1]["c"]}], None, "xy")


def test_lists_of_graphs_are_splits_by_their_names_and_a_lone_one_is_divided(tmp_path):
    for name, count in (("train_graphs", 8), ("graphs-test", 3)):
        edges = torch.tensor([[0, 1], [1, 2]])
        graphs = [{"edge_index": edges, "y": torch.tensor([i % 2])} for i in range(count)]
        torch.save(graphs, tmp_path / f"{name}.pt")
    files = GraphFiles()
    both = read_splits(tmp_path, files, Settings(val=0))
    assert [len(part) for part in both.values()] == [8, 0, 3]
    lone = read_splits(tmp_path / "train_graphs.pt", files, Settings(val=0, test=0.25))
    assert [len(part) for part in lone.values()] == [6, 0, 2]


def test_a_table_of_meshes_beside_them_is_not_said_to_be_left_out(tmp_path, recwarn):
    for name in ("a.obj", "b.obj"):
        (tmp_path / name).write_text("")
    (tmp_path / "a.mtl").write_text("")
    (tmp_path / "labels.csv").write_text("file,label\na,x\nb.obj,y\n")
    assert len(list_files(tmp_path, MeshFiles())) == 2 and not recwarn.list
