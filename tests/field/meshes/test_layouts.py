"""Folders of classes with their splits inside or around them; both kinds of data sets alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphpool.datasets import (
    MeshClassificationFolder,
    MeshSegmentationFolder,
    PointCloudFolder,
)
from graphpool.mesh import icosphere, write_mesh

LACKING = {("test", "b")}


def write(kind, path):
    if kind == "meshes":
        write_mesh(path / "one.ply", *icosphere(0))
        write_mesh(path / "two.ply", *icosphere(0))
    else:
        path.mkdir(parents=True, exist_ok=True)
        for name in ("one", "two"):
            np.savetxt(path / f"{name}.xyz", np.random.default_rng(0).random((8, 3)))


def read(kind, root, split, **options):
    if kind == "meshes":
        return MeshClassificationFolder(root, split, **options)
    return PointCloudFolder(root, 8, split=split, **options)


def tree(kind, root, layout):
    for split, name in itertools.product(("train", "test"), "abc"):
        if (split, name) not in LACKING:
            write(kind, root / layout.format(split=split, name=name))
    for hidden in (".git", "__MACOSX"):
        write(kind, root / hidden / "test")
        write(kind, root / "test" / hidden)


BOTH = pytest.mark.parametrize("kind", ["meshes", "points"])


@BOTH
@pytest.mark.parametrize("layout", ["{name}/{split}", "{split}/{name}"])
def test_splits_inside_and_around_the_classes_are_found(tmp_path, kind, layout):
    tree(kind, tmp_path, layout)
    for split, labels in (("train", [0, 0, 1, 1, 2, 2]), ("test", [0, 0, 2, 2])):
        data = read(kind, tmp_path, split)
        assert data.classes == ["a", "b", "c"], "those of all splits"
        assert [int(item.y) for item in data] == labels
        expected = [
            tmp_path / layout.format(split=split, name=data.classes[label]) / f"{file}.{suffix}"
            for label, file in zip(labels, ["one", "two"] * 3, strict=False)
            for suffix in ["ply" if kind == "meshes" else "xyz"]
        ]
        assert data.files == expected
    given = read(kind, tmp_path, "test", classes=["c", "b", "a", "d"])
    assert sorted(int(item.y) for item in given) == [0, 0, 2, 2]
    with pytest.raises(ValueError, match="has the class b, not in `classes`"):
        read(kind, tmp_path, "test", classes=["a", "c"])


@BOTH
@pytest.mark.parametrize("layout", ["{name}/{split}", "{split}/{name}"])
def test_a_split_that_is_not_there_says_what_is(tmp_path, kind, layout):
    tree(kind, tmp_path, layout)
    expected = FileNotFoundError if kind == "meshes" else ValueError
    with pytest.raises(
        expected, match=r"<class>/val has no file .*/val/<class>; .* folders \w+,.*\.$"
    ):
        read(kind, tmp_path, "val")


@BOTH
def test_files_in_both_ways_are_refused(tmp_path, kind):
    write(kind, tmp_path / "a" / "test")
    write(kind, tmp_path / "test" / "b")
    with pytest.raises(ValueError, match=r"has both a/test and test/b: which of them is the class"):
        read(kind, tmp_path, "test")


@BOTH
def test_a_folder_without_classes_says_so(tmp_path, kind):
    write(kind, tmp_path / "test")
    with pytest.raises(ValueError, match="has no subfolders; there must be one for each class"):
        read(kind, tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
        read(kind, tmp_path / "nowhere", "test")


def test_a_folder_of_splits_read_as_classes_is_told(tmp_path):
    tree("points", tmp_path, "{split}/{name}")
    with pytest.raises(
        ValueError, match=r"has the folders a, c: is one of them the `split`, or test itself\?"
    ):
        PointCloudFolder(tmp_path, 8)


def test_segmented_meshes_in_several_sets_say_where_the_splits_are(tmp_path):
    vertices, faces = icosphere(0)
    for name in ("chairs", "vases"):
        write_mesh(tmp_path / name / "test" / "one.ply", vertices, faces)
        np.savetxt(tmp_path / name / "test" / "one.eseg", np.arange(len(faces)) % 2, fmt="%d")
    with pytest.raises(
        FileNotFoundError, match=r"test; chairs, vases there have one: each is a `root`"
    ):
        MeshSegmentationFolder(tmp_path, "test")
    assert len(MeshSegmentationFolder(tmp_path / "vases", "test")) == 1
    (tmp_path / "flat").mkdir()
    with pytest.raises(FileNotFoundError, match=r"No mesh lies in .*test\.$"):
        MeshSegmentationFolder(tmp_path / "flat", "test")
