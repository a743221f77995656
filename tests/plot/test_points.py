from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import plot

pytestmark = pytest.mark.needs("matplotlib")


def pixels(path):
    from matplotlib.image import imread

    return imread(path)


def test_confusion_matrix_counts_and_draws(tmp_path):
    guess, truth = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2])
    counts = plot.confusion_matrix(guess, truth, ["a", "b", "c"], tmp_path / "c.png")
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    picture = pixels(tmp_path / "c.png")
    assert np.ptp(picture[..., :3]) > 0.5
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        plot.confusion_matrix(guess + 1, truth, ["a", "b", "c"], tmp_path / "c.png")


def test_gallery_draws_every_cloud(tmp_path):
    clouds = [torch.randn(50, 3) for _ in range(5)]
    plot.cloud_gallery(clouds, list("abcde"), tmp_path / "g.png", columns=3)
    picture = pixels(tmp_path / "g.png")[..., :3]
    height, width = picture.shape[0] // 2, picture.shape[1] // 3
    dark = [
        float((picture[r * height : (r + 1) * height, c * width : (c + 1) * width] < 0.9).mean())
        for r in range(2)
        for c in range(3)
    ]
    assert min(dark[:5]) > 0.005
    assert dark[5] < 0.001
    with pytest.raises(ValueError, match="same length"):
        plot.cloud_gallery(clouds, ["a"], tmp_path / "g.png")


def test_labels_have_their_colours_whatever_else_is_there(tmp_path):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    plot.cloud(ax, torch.randn(4, 3), torch.tensor([0, 1, 1, 2]))
    plot.cloud(ax, torch.randn(2, 3), torch.tensor([1, 1]))
    first, second = (c.cmap(c.norm(c.get_array())) for c in ax.collections)
    assert len(np.unique(first, axis=0)) == 3
    assert any(np.allclose(second[0], row) for row in first)
    with pytest.raises(ValueError, match="values"):
        plot.cloud(ax, torch.randn(4, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="pos"):
        plot.cloud(ax, torch.randn(4, 2))
