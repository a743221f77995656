from __future__ import annotations

import pytest
import torch

from graphpool import plot

pytestmark = pytest.mark.needs("matplotlib")


def axes():
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def cells(ax):
    return {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in ax.texts}


def recalls(ax):
    return [label.get_text() for label in ax.child_axes[0].get_yticklabels()]


def test_few_classes_are_counted(tmp_path):
    guess, truth = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2])
    classes = ["a", "b", "c", "d"]
    ax = axes()
    counts = plot.confusion_matrix(guess, truth, classes, "unused.png", ax=ax)
    assert counts.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert cells(ax) == {(0, 0): "1", (1, 1): "1", (2, 1): "1", (2, 2): "1"}
    assert recalls(ax) == ["100 % of 1", "100 % of 1", "50 % of 2", "none"]
    assert ax.get_title() == "75.0 % right, mean of the classes 83.3 %"
    plot.confusion_matrix(guess, truth, classes, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        plot.confusion_matrix(guess + 1, truth, ["a", "b", "c"], tmp_path / "c.png")


def test_forty_classes_have_shares_and_a_recall_each():
    truth = torch.arange(40).repeat_interleave(200)
    guess = truth.clone()
    guess[0] = 1  # 0.5 % of a row: too little to be written
    guess[200:250] = 39
    ax = axes()
    plot.confusion_matrix(guess, truth, [f"class {i}" for i in range(40)], "unused.png", ax=ax)
    found = cells(ax)
    assert found[1, 39] == "25" and found[1, 1] == "75" and (0, 1) not in found
    assert len(found) == 41 and recalls(ax)[1] == "75 % of 200"
    assert "cells in %" in ax.get_title()
