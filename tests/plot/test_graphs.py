from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import plot

pytestmark = pytest.mark.needs("matplotlib")
RING = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])


def axes():
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def test_every_node_has_its_value_and_every_bond_one_line():
    ax = axes()
    values = torch.arange(6.0)
    nodes = plot.graph(ax, torch.cat([RING, RING.flip(0)], 1), values, list("abcdef"))
    np.testing.assert_array_equal(np.asarray(nodes.get_array()), values.numpy())
    assert nodes.get_clim() == (0.0, 5.0)
    assert len(ax.lines) == 6
    assert [text.get_text() for text in ax.texts] == list("abcdef")
    # A ring is drawn round: all nodes equally far from the middle.
    radius = np.linalg.norm(nodes.get_offsets() - nodes.get_offsets().mean(0), axis=1)
    np.testing.assert_allclose(radius, radius.mean(), rtol=0.05)


def test_lines_end_at_their_nodes():
    ax = axes()
    place = plot.graph(ax, torch.tensor([[0, 1], [1, 2]]), torch.ones(4)).get_offsets()
    ends = {tuple(np.round(line.get_xydata(), 6).ravel()) for line in ax.lines}
    assert ends == {tuple(np.round(place[[a, a + 1]], 6).ravel()) for a in (0, 1)}


def test_shades_run_both_ways_where_values_have_signs():
    assert plot.graph(axes(), RING, torch.tensor([-2.0, 1, 0, 0, 0, 0])).get_clim() == (-2.0, 2.0)
    assert plot.graph(axes(), RING, torch.zeros(6), limit=3.0).get_clim() == (0.0, 3.0)


def test_graphs_of_one_node_and_of_none():
    none = torch.empty(2, 0, dtype=torch.long)
    assert len(plot.graph(axes(), none, torch.ones(1)).get_offsets()) == 1
    assert len(plot.graph(axes(), none, torch.ones(0)).get_offsets()) == 0


@pytest.mark.parametrize(
    ("edge_index", "values", "labels", "message"),
    [
        (RING, torch.ones(5), None, "must name nodes 0 to 4; got 0 to 5"),
        (RING, torch.ones(6, 1), None, r"`values` must have shape \[N\]"),
        (RING.t(), torch.ones(6), None, r"`edge_index` must have shape \[2, E\]"),
        (RING, torch.ones(6), ["a"], "`labels` must name 6 nodes; got 1"),
        (RING - 1, torch.ones(6), None, "must name nodes 0 to 5; got -1 to 4"),
    ],
)
def test_wrong_arguments_are_named(edge_index, values, labels, message):
    with pytest.raises(ValueError, match=message):
        plot.graph(axes(), edge_index, values, labels)


def test_clouds_take_colours():
    ax = axes()
    colors = torch.rand(5, 3)
    points = torch.randn(5, 3)
    plot.cloud(ax, points, colors)
    drawn = {tuple(np.round(c[:3], 5)) for c in ax.collections[0].get_facecolors()}
    assert drawn == {tuple(np.round(c, 5)) for c in colors.double().numpy()}
    with pytest.raises(ValueError, match=r"\(5,\) or \(5, 3\)"):
        plot.cloud(ax, points, torch.rand(5, 2))
