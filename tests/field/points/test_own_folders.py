"""Folders and files of one's own: splits outside, colours in bytes, batches whose last clouds are empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import Segments
from graphpool.datasets import PointCloudFolder, read_cloud, write_cloud
from graphpool.points import PointNN


def save(*folders):
    for folder in folders:
        folder.mkdir(parents=True)
        np.save(folder / "1.npy", np.random.default_rng(0).normal(size=(9, 3)))


class TestSplits:
    def test_may_lie_around_the_classes(self, tmp_path):
        save(*(tmp_path / "train" / c for c in "abc"), *(tmp_path / "test" / c for c in "ac"))
        test = PointCloudFolder(tmp_path, 9, split="test")
        assert test.classes == ["a", "b", "c"]
        assert test.y.tolist() == [0, 2]
        assert [f.parent.parent.name for f in test.files] == ["test"] * 2
        assert PointCloudFolder(tmp_path, 9, split="train").y.tolist() == [0, 1, 2]
        given = PointCloudFolder(tmp_path, 9, split="test", classes=["c", "b", "a"])
        assert given.y.tolist() == [0, 2]
        with pytest.raises(ValueError, match="the class b, not in `classes`"):
            PointCloudFolder(tmp_path, 9, split="test", classes=["c", "a"])

    def test_without_one_it_is_asked_for(self, tmp_path):
        save(tmp_path / "train" / "a", tmp_path / "test" / "a")
        with pytest.raises(ValueError, match="the `split`, or test itself"):
            PointCloudFolder(tmp_path, 9)
        with pytest.raises(ValueError, match="no subfolders|no file"):
            PointCloudFolder(tmp_path, 9, split="val")

    def test_are_not_guessed_where_a_class_is_called_like_a_split(self, tmp_path):
        save(tmp_path / "test" / "test", tmp_path / "other" / "test")
        with pytest.raises(ValueError, match="which of them is the class cannot be told"):
            PointCloudFolder(tmp_path, 9, split="test")


class TestColours:
    def test_bytes_are_colours(self, tmp_path):
        color = np.array([[0, 1, 2], [128, 254, 255]], np.uint8)
        write_cloud(tmp_path / "a.ply", np.zeros((2, 3)), {"color": color})
        assert np.array_equal(read_cloud(tmp_path / "a.ply").fields["color"] * 255, color)

    @pytest.mark.parametrize("color", [np.array([[0, 128, 255]]), np.array([[0.0, np.nan, 1.0]])])
    def test_others_are_refused_with_what_came(self, tmp_path, color):
        with pytest.raises(ValueError, match=rf"uint8, or lie in \[0, 1\]; got {color.dtype} from"):
            write_cloud(tmp_path / "a.ply", np.zeros((1, 3)), {"color": color})

    @pytest.mark.parametrize(
        ("name", "values", "reason", "other"),
        [
            ("two words", np.zeros(1), "one word", "32 bits"),
            ("big", np.array([2**40]), "32 bits", "one word"),
            ("half", np.zeros(1, np.complex64), "32 bits", "one word"),
        ],
    )
    def test_one_reason_at_a_time(self, tmp_path, name, values, reason, other):
        with pytest.raises(ValueError, match=reason) as error:
            write_cloud(tmp_path / "a.ply", np.zeros((1, 3)), {name: values})
        assert other not in str(error.value)

    def test_points_are_numbers(self, tmp_path):
        with pytest.raises(ValueError, match="finite; got .* at point 1"):
            write_cloud(tmp_path / "a.ply", np.array([[0.0, 0, 0], [0, np.inf, 0]]))
        with pytest.raises(ValueError, match="must be numbers"):
            write_cloud(tmp_path / "a.ply", np.array([["a", "b", "c"]]))


class TestNumberOfClouds:
    def test_empty_clouds_at_the_end_are_there_where_they_are_said(self):
        encoder, pos = PointNN(12, 1, 3), torch.rand(6, 3)
        batch = torch.tensor([0, 0, 0, 1, 1, 1])
        assert len(encoder(pos, batch)) == 2
        with_empty = encoder(pos, batch, batch_size=4)
        assert len(with_empty) == 4
        assert not with_empty[2:].any()
        assert torch.equal(with_empty, encoder(pos, ptr=torch.tensor([0, 3, 6, 6, 6])))

    @pytest.mark.parametrize("how", [{"ptr": torch.tensor([0, 3, 6])},
                                     {"batch": Segments(ptr=torch.tensor([0, 3, 6]))}, {}])  # fmt: skip
    def test_numbers_that_contradict_are_refused(self, how):
        with pytest.raises(ValueError, match="`batch_size` is 5, but"):
            PointNN(12, 1, 3)(torch.rand(6, 3), batch_size=5, **how)
