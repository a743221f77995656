"""What options of training do to a network, and what its report says, against closed forms."""

from __future__ import annotations

import copy
import csv

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

import graphpool
from graphpool.__main__ import main
from graphpool.datasets import write_cloud
from graphpool.files import BagFiles, Report, runs
from graphpool.files.fitting import train_network
from graphpool.io import load_tensors


def bags_that_are_alike(root, counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            np.save(root / name / f"{i}.npy", np.array([[1.0, 2.0], [3.0, 5.0]]))
    return root


@pytest.mark.parametrize("weights, expected", [([], [0.8, 0.2]), (["--class-weights"], [0.5, 0.5])])
def test_with_class_weights_all_classes_count_alike(weights, expected, tmp_path):
    """Nothing tells the classes apart, so that the best guess is how much each of them counts."""
    data, run = bags_that_are_alike(tmp_path / "data", {"often": 16, "rare": 4}), tmp_path / "run"
    options = [
        "--smoothing",
        "0",
        "--val",
        "0",
        "--test",
        "0",
        "--epochs",
        "150",
        "--batch-size",
        "20",
    ]
    assert main(["train", "bags", str(data), *options, *weights, "--out", str(run)]) == 0
    (said,) = graphpool.load(run / "model.pt").predict(data / "rare" / "0.npy")
    assert said.classes == ["often", "rare"]
    assert said.probabilities.tolist() == pytest.approx(expected, abs=0.02)


def test_the_order_of_classes_is_the_one_that_was_asked_for(tmp_path):
    data, run = bags_that_are_alike(tmp_path / "data", {"a": 9, "b": 3}), tmp_path / "run"
    options = [
        "--classes",
        "b,a",
        "--smoothing",
        "0",
        "--val",
        "0",
        "--epochs",
        "60",
        "--out",
        str(run),
    ]
    assert main(["train", "bags", str(data), *options]) == 0
    (said,) = graphpool.load(run / "model.pt").predict(data / "b" / "0.npy")
    assert said.classes == ["b", "a"] and said.word == "a"
    with (run / "confusion.csv").open() as file:
        assert next(csv.reader(file)) == ["true / predicted", "b", "a"]


def test_what_is_ignored_is_not_labelled(tmp_path, capsys):
    """Ends like a run on files that have no label there, and is not counted either."""
    models, said = [], []
    for name, none, more in (("a", 255, ["--ignore", "9,255"]), ("b", -1, [])):
        rng = np.random.default_rng(0)
        for i in range(4):
            points = rng.random((60, 3))
            label = np.where(points[:, 2] > 0.5, 1, 0)
            label[:20] = none
            split = ("train", "test")[i % 2]
            write_cloud(tmp_path / name / split / f"{i}.ply", points, {"label": label})
        options = ["--labels", "label", "--num-points", "30", "--val", "0", "--epochs", "2"]
        options += ["--set", "width=4", "--set", "k=4", "--out", str(tmp_path / f"run {name}")]
        assert main(["train", "points", str(tmp_path / name), *options, *more]) == 0
        models.append(graphpool.load(tmp_path / f"run {name}" / "model.pt"))
        said.append(next(line for line in capsys.readouterr().out.split("\n") if "test: " in line))
    assert models[0].classes == models[1].classes == ["0", "1"]
    assert said[0] == said[1] and "of 80)" in said[0]
    for value, other in zip(*(m.model.state_dict().values() for m in models), strict=True):
        assert torch.equal(value, other)


def test_the_network_is_that_of_the_epoch_with_the_best_score():
    torch.manual_seed(0)
    items = [Data(x=torch.randn(1, 3), y=torch.tensor([i % 2])) for i in range(8)]
    model, seen, scores = (
        nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)),
        [],
        [0.2, 0.7, 0.7, 0.1],
    )

    def score(network):
        seen.append(copy.deepcopy(network.state_dict()))
        return scores[len(seen) - 1]

    train_network(model, DataLoader(items, 4), lambda m, batch: m(batch.x), 4, 0.1, score=score)
    assert len(seen) == 4 and not torch.equal(seen[2]["1.weight"], seen[3]["1.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[2][name]), name
    # It was judged with the statistics of the whole training set.
    rows = torch.cat([item.x for item in items])
    torch.testing.assert_close(seen[0]["0.running_var"], rows.var(0))


@pytest.mark.parametrize("count, steps", [(5, 2), (6, 2), (7, 2), (8, 3), (9, 3)])
def test_only_a_rest_of_one_item_sits_out(count, steps, tmp_path):
    for i in range(count):
        (tmp_path / f"{i % 2}").mkdir(exist_ok=True)
        np.save(tmp_path / f"{i % 2}" / f"{i}.npy", np.random.default_rng(i).random((4, 2)))
    files, settings = BagFiles(), runs.Settings(epochs=1, batch_size=3, val=0, test=0)
    run = tmp_path / "run.pt"
    runs.train_files(runs.read_splits(tmp_path, files, settings), files, settings, None, run)
    kept = [state["step"] for state in load_tensors(run)["optimizer"]["state"].values()]
    assert int(kept[0]) == steps


def test_a_report_counts(tmp_path):
    torch.manual_seed(0)
    labels, guesses = torch.randint(-1, 3, (200,)), torch.randint(0, 4, (200,))
    classes = ["ant", "bee", "cow", "dog"]
    report = Report(guesses, labels, classes)
    pairs = [(t, g) for t, g in zip(labels.tolist(), guesses.tolist(), strict=True) if t >= 0]
    recall = [sum(t == g == c for t, g in pairs) / sum(t == c for t, _ in pairs) for c in range(3)]
    assert report.recall[:3].tolist() == pytest.approx(recall) and report.recall[3].isnan()
    assert report.macro == pytest.approx(sum(recall) / 3)
    right = sum(t == g for t, g in pairs)
    assert report.accuracy == pytest.approx(right / len(pairs))
    interval = binomtest(right, len(pairs)).proportion_ci(method="wilson")
    assert report.interval(1.959963984540054) == pytest.approx((interval.low, interval.high))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.table().split("\n")]
    for c in range(3):
        others = {g: sum(p == (c, g) for p in pairs) for g in range(4) if g != c}
        most = max(others.values())
        assert rows[2 + c][:3] == [
            classes[c], f"{100 * recall[c]:.1f}", str(sum(t == c for t, _ in pairs)),
        ]  # fmt: skip
        assert rows[2 + c][3] in {f"{classes[g]} ({n})" for g, n in others.items() if n == most}
    assert rows[5][:3] == ["dog", "absent", "0"]
    report.write(tmp_path)
    with (tmp_path / "confusion.csv").open() as file:
        table = list(csv.reader(file))
    counted = [[str(pairs.count((t, g))) for g in range(4)] for t in range(4)]
    assert [row[1:] for row in table[1:]] == counted


@pytest.mark.needs("matplotlib")
def test_a_run_leaves_its_confusion_as_a_picture(tmp_path):
    data, run = bags_that_are_alike(tmp_path / "data", {"a": 4, "b": 4}), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    assert (run / "confusion.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
