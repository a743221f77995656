from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import plot
from graphpool.plot.colors import upright
from graphpool.plot.legends import shown_labels

pytestmark = pytest.mark.needs("matplotlib")


def figure():
    from matplotlib.figure import Figure

    return Figure(figsize=(6, 4), layout="constrained")


class TestLegend:
    def test_each_name_has_the_colour_of_its_label(self):
        drawn = plot.legend(figure(), ["leg", "seat", "back"], shown=[2, 0, -1, 2])
        assert [text.get_text() for text in drawn.get_texts()] == ["no label", "leg", "back"]
        colors = [patch.get_facecolor()[:3] for patch in drawn.get_patches()]
        np.testing.assert_allclose(colors, plot.label_colors([-1, 0, 2]))

    def test_axes_have_it_beside_them(self):
        ax = figure().subplots()
        assert plot.legend(ax, ["a", "b"]) is ax.get_legend()

    def test_a_label_without_a_name_is_refused(self):
        with pytest.raises(ValueError, match="2 names and label 2"):
            plot.legend(figure(), ["a", "b"], shown=[0, 2])

    def test_only_labels_count_as_shown(self):
        pictures = [[3, 1], [-5, 1], None, [0.5, 2.0], [True, False], np.ones((2, 3), int)]
        assert shown_labels(pictures).tolist() == [-1, 1, 3]
        assert shown_labels([[0.5]]).tolist() == []


class TestScaleBar:
    @pytest.mark.parametrize(("width", "length"), [(10, 2), (7.9, 1), (0.05, 0.01), (2100, 500)])
    def test_it_is_round_and_at_most_a_quarter(self, width, length):
        ax = figure().subplots()
        ax.set_xlim(-width / 2, width / 2)
        assert plot.scale_bar(ax, "m") == pytest.approx(length)
        assert [text.get_text() for text in ax.texts] == [f"{length:g} m"]
        (bar,) = ax.lines
        assert np.ptp(bar.get_xdata()) == pytest.approx(length)
        assert ax.get_xlim() == (-width / 2, width / 2)

    def test_it_measures_what_lies_across(self):
        ax = figure().subplots()
        ends = torch.tensor([[0.0, 0, 0], [0, 4, 0]])  # seen along x, y runs to the right
        dots = plot.cloud(ax, ends, view=(0, 0))
        assert np.ptp(np.asarray(dots.get_offsets())[:, 0]) == pytest.approx(4)


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_what_is_up_is_drawn_up_and_nothing_is_mirrored(up):
    axis = "xyz".index(up)
    turned = upright(np.eye(3), up)
    assert np.linalg.det(turned) == pytest.approx(1) and turned[axis].tolist() == [0, 0, 1]
    tip = np.zeros((2, 3))
    tip[1, axis] = 1.0
    for view in ((0, 0), (20, -60)):
        ax = figure().subplots()
        below, above = np.asarray(plot.cloud(ax, tip, view=view, up=up).get_offsets())[
            (tip @ np.ones(3)).argsort()
        ]
        assert above[1] > below[1] and above[0] == pytest.approx(below[0])
    with pytest.raises(ValueError, match="`up` must be 'x', 'y' or 'z'"):
        upright(tip, "w")
