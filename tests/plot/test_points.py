from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import plot

pytestmark = pytest.mark.needs("matplotlib")


def pixels(path):
    from matplotlib.image import imread

    return imread(path)


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


def test_colour_scales_leave_out_what_is_far_beyond():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    values = torch.cat([torch.linspace(0, 1, 101), torch.tensor([1000.0])])
    points = torch.randn(102, 3)
    whole = plot.cloud(ax, points, values)
    assert whole.get_clim() == (0, 1000) and whole.cmap.colorbar_extend == "neither"
    most = plot.cloud(ax, points, values, percentiles=(0, 98))
    assert most.get_clim() == pytest.approx((0, np.percentile(values, 98)))
    assert most.cmap.colorbar_extend == "max"
    with pytest.raises(ValueError, match="`percentiles` must rise"):
        plot.cloud(ax, points, values, percentiles=(98, 2))


def test_a_gallery_names_its_labels_and_its_scale(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: drawn.append((self, dpi)))
    clouds = [torch.rand(20, 3) * 10, torch.rand(20, 3)]
    labels = [torch.zeros(20, dtype=torch.long), torch.full((20,), 2)]
    plot.cloud_gallery(
        clouds, ["a", "b"], tmp_path / "g.png", labels, classes=["x", "y", "z"], unit="m", dpi=50, cell=3
    )  # fmt: skip
    (figure, dpi), = drawn  # fmt: skip
    assert dpi == 50 and figure.get_size_inches().tolist() == [6, 3.2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "z"]
    bars = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert all(text.endswith(" m") for (text,) in bars) and bars[0] != bars[1]
    # Titles of a row stand at one height, however tall what is below them.
    assert len({round(ax.get_position().y1, 6) for ax in figure.axes}) == 1
