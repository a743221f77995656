"""What somebody needs who comes with files of their own: no silent shift of labels, numbers to trust."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from graphpool.datasets import MeshClassificationFolder
from graphpool.train import accuracy, class_weights, cross_entropy, recalibrate


class TestStatistics:
    def network(self):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2),
            nn.BatchNorm1d(2),
        )  # fmt: skip

    def test_statistics_are_those_of_all_rows_however_they_are_batched(self):
        model = self.network()
        data = torch.randn(60, 3) * 3 + 5
        batches = data.split([30, 7, 20, 3])
        assert recalibrate(model, batches) == 2
        # By hand: the first layer, each batch normalised by itself, the second layer.
        first, second = [], []
        for batch in batches:
            z = model[0](batch).double()
            first.append(z)
            z = (z - z.mean(0)) / (z.var(0, unbiased=False) + model[1].eps).sqrt()
            second.append(model[4](z.relu().float()).double())
        for layer, rows in ((model[1], torch.cat(first)), (model[5], torch.cat(second))):
            torch.testing.assert_close(
                layer.running_mean.double(), rows.mean(0), rtol=1e-5, atol=1e-6
            )
            torch.testing.assert_close(
                layer.running_var.double(), rows.var(0), rtol=1e-5, atol=1e-6
            )

    def test_images_have_channels_in_the_second_place(self):
        norm, x = nn.BatchNorm2d(3), torch.randn(5, 3, 4, 6) * 2 + 1
        recalibrate(norm, x.split(2))
        torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, x.transpose(0, 1).flatten(1).var(1))

    def test_modes_stay_and_a_failure_changes_nothing(self):
        model = self.network()
        model[3].eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match="at least one batch"):
            recalibrate(model, [])
        with pytest.raises(RuntimeError):
            recalibrate(model, [torch.randn(8, 3), torch.randn(8, 99)])
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name]), name
        recalibrate(model, [torch.randn(8, 3)])
        assert [module.training for module in model] == [True, True, True, False, True, True]
        assert all(norm.track_running_stats for norm in (model[1], model[5]))
        assert recalibrate(nn.Linear(3, 3), iter([])) == 0

    def test_a_channel_that_was_never_active_does_not_magnify_new_data(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.BatchNorm1d(3))
        with torch.no_grad():
            model[0].weight[:], model[0].bias[:] = (
                torch.tensor([[1.0], [1.0], [0.0]]),
                torch.tensor([0.0, -2, 7]),
            )
        x = torch.rand(20, 1)
        trained = model(x)
        recalibrate(model, x.split(5))
        assert model[2].running_var[1:].tolist() == [1, 1] and model[2].running_var[0] < 0.2
        model.eval()
        torch.testing.assert_close(model(x)[:, 1:], trained[:, 1:], rtol=0, atol=1e-4)
        new = model(torch.full((1, 1), 2.5))[0, 1:]
        torch.testing.assert_close(new, torch.tensor([0.5, 0.0]), rtol=1e-4, atol=1e-5)

    def test_a_short_training_is_as_good_in_evaluation(self):
        torch.manual_seed(0)
        x = torch.randn(40, 3) + 100 * torch.tensor([1.0, -2.0, 3.0])
        y = (x[:, 0] > 100).long()
        model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(10):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        trained = accuracy(model(x), y)
        model.eval()
        lagging = accuracy(model(x), y)
        recalibrate(model, [x])
        assert trained > 0.9 and lagging < 0.7
        assert accuracy(model(x), y) == trained


class TestLabels:
    def test_elements_without_a_label_count_nowhere(self):
        logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([0, 2, -1, 1, -1, 2])
        weight = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
        value = cross_entropy(logits, labels, weight=weight, smoothing=0.3)
        total = norm = 0.0
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            if label >= 0:
                logs = [v - math.log(sum(math.exp(u) for u in row)) for v in row]
                total -= 0.7 * float(weight[label]) * logs[label]
                total -= 0.1 * sum(float(w) * v for w, v in zip(weight, logs, strict=True))
                norm += float(weight[label])
        assert float(value.detach()) == pytest.approx(total / norm)
        value.backward()
        assert torch.equal(logits.grad.abs().sum(1) > 0, labels >= 0)
        assert accuracy(torch.tensor([0, 0, 0, 1, 0, 2]), labels) == 0.75

    def test_a_batch_without_any_label_teaches_nothing(self):
        logits = torch.randn(4, 3, requires_grad=True)
        value = cross_entropy(logits, torch.full((4,), 255), ignore_index=255)
        value.backward()
        assert float(value.detach()) == 0 and not logits.grad.any()
        with pytest.raises(ValueError, match="all 4 are 255"):
            accuracy(logits.detach(), torch.full((4,), 255), ignore_index=255)

    def test_labels_out_of_range_are_named(self):
        logits = torch.randn(2, 3)
        with pytest.raises(ValueError, match="below 3, or -1 for no label; got 3 at 1"):
            cross_entropy(logits, torch.tensor([0, 3]))
        with pytest.raises(ValueError, match="got -1 at 0"):
            cross_entropy(logits, torch.tensor([-1, 0]), ignore_index=255)
        with pytest.raises(ValueError, match=r"shape \[2\]; got \[3\]"):
            accuracy(logits, torch.tensor([0, 1, 2]))

    def test_weights_make_classes_count_alike(self):
        labels = torch.tensor([0] * 7 + [2] * 3 + [-1] * 5)
        weight = class_weights(labels, 4)
        count = torch.tensor([7.0, 0.0, 3.0, 0.0])
        assert torch.allclose(weight * count, torch.tensor([5.0, 0.0, 5.0, 0.0]))


def mesh_file(folder) -> None:
    folder.mkdir(parents=True)
    (folder / "0.off").write_text(
        "OFF\n5 6 0\n0 0 0\n1 0 0\n0 1 0\n1 1 0\n0.5 0.5 1\n"
        "3 0 2 1\n3 1 2 3\n3 0 1 4\n3 1 3 4\n3 3 2 4\n3 2 0 4\n"
    )


def test_meshes_of_a_split_without_a_class_keep_their_labels(tmp_path):
    for name, split in (("a", "train"), ("b", "train"), ("b", "test"), ("c", "test")):
        mesh_file(tmp_path / name / split)
    mesh_file(tmp_path / ".trash" / "test")
    mesh_file(tmp_path / "a" / ".thumbs")
    train, test = (MeshClassificationFolder(tmp_path, split) for split in ("train", "test"))
    assert train.classes == test.classes == ["a", "b", "c"]
    assert [int(graph.y) for graph in test] == [1, 2]
    assert [int(graph.y) for graph in train] == [0, 1]
    names = ["z", "c", "b", "a"]
    other = MeshClassificationFolder(tmp_path, "test", classes=names)
    assert [names[int(graph.y)] for graph in other] == [file.parts[-3] for file in other.files]
    with pytest.raises(ValueError, match="has the class c, not in"):
        MeshClassificationFolder(tmp_path, "test", classes=["a", "b"])
