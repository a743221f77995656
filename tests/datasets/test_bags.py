"""Bags out of tables and folders, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import aggr
from graphpool.datasets import BagFolder, MultipleInstances
from graphpool.train import GraphBatches

TABLE = "1,1,0.5,2\n1,1,-1,3\n0,2,4,5\n"


def write(folder, text):
    (folder / "musk1.csv").write_text(text)
    return MultipleInstances("musk1", folder)


def test_table(tmp_path):
    data = write(tmp_path, TABLE)
    assert len(data) == 2 and data.y.tolist() == [1, 0] and data.classes == ["negative", "positive"]
    assert data[0].x.tolist() == [[0.5, 2.0], [-1.0, 3.0]] and data[1].x.tolist() == [[4.0, 5.0]]
    (batch,) = GraphBatches(data, batch_size=2)
    assert aggr.Sum()(batch.x, batch.nodes).tolist() == [[-0.5, 5.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,2\n0,2,3\n1,1,4\n", "the rows of bag 1 lie apart"),
        ("1,1,2\n0,1,3\n", "bag 1 has rows with different labels"),
        ("1,1,2\n0,2,nan\n", "row 2, column 3 is not finite"),
        ("1,1,2\n0,2,x\n", "line 2 has 'x' in column 3"),
        ("1,1\n0,2\n", "must have columns label, bag, features; got 2"),
        ("", "must have columns label, bag, features; got 0"),
    ],
)
def test_damaged_table(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, text)


def test_names_and_files(tmp_path):
    with pytest.raises(ValueError, match="`name` must be one of musk1, .* got 'fox'"):
        MultipleInstances("fox")
    with pytest.raises(FileNotFoundError, match="There is no file .*elephant.csv"):
        MultipleInstances("elephant", tmp_path)


@pytest.mark.needs("mil")
@pytest.mark.parametrize(
    ("name", "bags", "positive", "rows", "width"),
    [("musk1", 92, 47, 476, 166), ("musk2", 102, 39, 6598, 166), ("elephant", 200, 100, 1391, 230)],
)
def test_those_of_the_package(name, bags, positive, rows, width):
    data = MultipleInstances(name)
    assert (len(data), int(data.y.sum())) == (bags, positive)
    assert data._data.x.shape == (rows, width)


def test_folder(tmp_path):
    np.save(tmp_path / "b.npy", np.ones((3, 2), np.float16))
    torch.save(torch.arange(4.0).view(2, 2), tmp_path / "a.pt")
    (tmp_path / "labels.csv").write_text("slide_id,label\nb,tumor\na,normal\n")
    data = BagFolder(tmp_path, bag="slide_id")
    assert data.names == ["b", "a"] and data.classes == ["normal", "tumor"]
    assert data.y.tolist() == [1, 0] and data[1].x.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert data[0].x.dtype == torch.float32
    with pytest.raises(ValueError, match="no column bag; there are slide_id, label"):
        BagFolder(tmp_path)
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"has both a.npy and a.pt"):
        BagFolder(tmp_path, bag="slide_id")


@pytest.mark.parametrize(
    ("table", "array", "error", "message"),
    [
        ("bag,label\na,x\na,y\n", np.ones((1, 2)), ValueError, "names the bag 'a' twice"),
        ("bag,label\na,\n", np.ones((1, 2)), ValueError, "line 2: nothing in label"),
        # A comma in a name would make the rest of the name the label.
        ("bag,label\na,b,1\n", np.ones((1, 2)), ValueError, "line 2: 3 fields, but 2 names"),
        ("bag,label\nc,x\n", np.ones((1, 2)), FileNotFoundError, "neither c.npy nor c.pt"),
        ("bag,label\na,x\n", np.ones(3), ValueError, r"a.npy: A bag must be numbers \[n, F\]"),
        ("bag,label\na,x\n", np.full((1, 2), np.inf), ValueError, "a.npy: Row 0 is not finite"),
        ("bag,label\n", np.ones((1, 2)), ValueError, "one entry per bag; got 0"),
    ],
)
def test_damaged_folder(tmp_path, table, array, error, message):
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(error, match=message):
        BagFolder(tmp_path)


def test_folder_of_bags_of_two_widths(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((1, 2)))
    np.save(tmp_path / "b.npy", np.ones((1, 3)))
    (tmp_path / "labels.csv").write_text("bag,label\na,x\nb,y\n")
    with pytest.raises(ValueError, match=r"bags of one width; got \[2, 3\]"):
        BagFolder(tmp_path)
