"""Generated tracks, linked cells and DBSCAN by pairs, against their definitions."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments


def test_hits_lie_on_circles_through_the_beam(example):
    tracks = example("_tracks")
    event = tracks.helical_tracks(6, noise=0.0, seed=3)
    for name in event.track_index.unique():
        hits = event.pos[event.track_index == name].double()
        assert int((event.track_index == name).nonzero()[0]) == int(name)
        r, order = hits[:, :2].norm(dim=1).sort()
        assert (r - torch.tensor(tracks.LAYERS)[: r.numel()]).abs().max() < 0.3
        # x^2 + y^2 = 2 (a x + b y) for a circle through the origin, whose radius is |(a, b)|.
        xy = hits[order, :2]
        centre = torch.linalg.lstsq(2 * xy, xy.square().sum(1, keepdim=True)).solution
        rho = centre.norm()
        assert (2 * xy @ centre - xy.square().sum(1, keepdim=True)).abs().max() / rho < 1.0
        momentum = rho * 0.3 * tracks.FIELD / 1000
        assert ((event.momentum - momentum) / momentum).abs().min() < 0.05
        # Along the beam it goes as far as along the circle.
        turn = torch.asin((r / (2 * rho)).clamp(max=1))
        line = torch.stack([turn, torch.ones_like(turn)], 1)
        z = hits[order, 2:]
        assert (line @ torch.linalg.lstsq(line, z).solution - z).abs().max() < 1.0


def test_hits_are_missed_and_noise_is_alone(example):
    tracks = example("_tracks")
    plain, event = (
        tracks.helical_tracks(200, seed=0, **shares)
        for shares in ({"noise": 0.0}, {"missing": 0.2, "noise": 0.1})
    )
    size = event.track_index.bincount(minlength=len(event.pos))
    noise = int((size == 1).sum())
    assert noise / len(event.pos) == pytest.approx(0.1, abs=0.03)
    assert (len(event.pos) - noise) / len(plain.pos) == pytest.approx(0.8, abs=0.03)
    assert tracks.helical_tracks(0, noise=0.0).pos.shape == (0, 3)


def test_pairs_are_those_of_the_dense_matrix_of_cells(example):
    tracks = example("_tracks")
    event = tracks.helical_tracks(12, noise=0.1, seed=1)
    cells = tracks.LinkedCells.fit(event.pos, event.track_index, 40)

    def nearest(pos):
        return torch.cdist(pos.double(), cells.centers.double()).argmin(1)

    cell, label = nearest(event.pos), event.track_index
    linked = torch.zeros(40, 40, dtype=torch.bool)
    size = label.bincount(minlength=len(label))
    for i in range(len(label)):
        for j in range(len(label)):
            if label[i] == label[j] and size[label[i]] > 1:
                linked[cell[i], cell[j]] = True
    rows = torch.arange(40).repeat_interleave(cells.ptr.diff())
    held = torch.zeros_like(linked)
    held[rows, cells.cells] = True
    assert torch.equal(held, linked)
    other = tracks.helical_tracks(9, seed=2)
    pos, cloud = torch.cat([other.pos, event.pos]), torch.rand(len(other.pos) + len(label)) < 0.5
    pairs = cells.pairs(pos, Segments(index=cloud.long(), num_segments=3))
    cell = nearest(pos)
    dense = linked[cell][:, cell] & (cloud[:, None] == cloud)
    expected = dense.triu(1).nonzero().t()
    assert pairs.size(1) == expected.size(1)
    assert torch.equal(dense[pairs[0], pairs[1]], torch.ones(pairs.size(1), dtype=torch.bool))
    assert pairs.unique(dim=1).size(1) == pairs.size(1) and bool((pairs[0] < pairs[1]).all())


def test_features_of_a_pair_do_not_depend_on_its_order_and_name_the_vertex(example):
    tracks = example("_tracks")
    event = tracks.helical_tracks(30, noise=0.0, seed=1)
    pairs = torch.combinations(torch.arange(len(event.pos))).t()
    found = tracks.pair_features(event.pos, pairs)
    torch.testing.assert_close(found, tracks.pair_features(event.pos, pairs.flip(0)))
    same = event.track_index[pairs[0]] == event.track_index[pairs[1]]
    assert (found[same, 3] == 0).all() and found[~same, 3].sum() > 0
    # A track comes from within a few 50 mm, pairs of others from anywhere.
    assert found[same, 2].abs().mean() < 0.8 < found[~same, 2].abs().mean()


@pytest.mark.needs("sklearn")
def test_noise_of_dbscan_is_a_bag_each(example):
    module = example("track_finding")
    pairs = torch.tensor([[0, 0, 1, 3], [1, 2, 2, 4]])
    p = torch.tensor([0.9, 0.8, 0.9, 0.95])
    events = module.Events(None, torch.zeros(6, 7), pairs, None, None, None)
    found = module.by_distance(events, p, 0.3).tolist()
    assert found[0] == found[1] == found[2] and len({*found}) == 4
