from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool.datasets import NBody
from graphpool.datasets.graphs.nbody import GRAVITY, TIME_STEP, initial_orbits, simulate


def test_simulation_equals_a_plain_loop():
    mass, position, velocity = initial_orbits(3, 1.0, np.random.default_rng(0))
    positions, velocities = simulate(mass, position, velocity, num_steps=6)
    for video in range(3):
        m, x, v = mass[video], position[video].copy(), velocity[video].copy()
        for step in range(1, 6):
            force = np.zeros((3, 2))
            for i in range(3):
                for j in range(3):
                    if i != j:
                        d = max(np.hypot(*(x[j] - x[i])), 1.0)
                        force[i] += GRAVITY * m[i] * m[j] * (x[j] - x[i]) / d**3
            v = v + force / m[:, None] * TIME_STEP
            x = x + v * TIME_STEP
            np.testing.assert_allclose(positions[step, video], x, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(velocities[step, video], v, rtol=1e-10, atol=1e-10)


def test_simulation_keeps_the_momentum():
    mass, position, velocity = initial_orbits(20, 1.0, np.random.default_rng(1))
    _, velocities = simulate(mass, position, velocity, num_steps=200)
    momentum = (mass[None, :, :, None] * velocities).sum(axis=2)
    scale = np.abs(mass[None, :, :, None] * velocities).sum(axis=2).max()
    np.testing.assert_allclose(
        momentum, np.broadcast_to(momentum[0], momentum.shape), atol=1e-9 * scale
    )


def test_orbits_start_as_documented():
    mass, position, velocity = initial_orbits(500, 2.0, np.random.default_rng(2))
    assert (mass[:, 0] == 200).all() and (mass[:, 1:] >= 0.04).all() and (mass[:, 1:] <= 18).all()
    radius = np.linalg.norm(position[:, 1:], axis=-1)
    assert radius.min() >= 10 and radius.max() <= 100
    assert (position[:, 0] == 0).all() and (velocity[:, 0] == 0).all()
    speed = np.linalg.norm(velocity[:, 1:], axis=-1)
    np.testing.assert_allclose(speed, GRAVITY * 200 / radius / 1000)
    np.testing.assert_allclose((velocity * position).sum(axis=-1), 0, atol=1e-9)


def pair_distances(data):
    source, target = data.edge_index
    return (data.x[source, 1:3] - data.x[target, 1:3]).norm(dim=1)


@pytest.mark.parametrize("mode", ["interpolate", "distance", "mass"])
def test_frames_pass_the_filter_and_follow_the_force(tmp_path, mode):
    frames = NBody(tmp_path, split="test", mode=mode, edge_features=True, num_graphs=60)
    assert len(frames) == 60
    for data in frames:
        assert data.x.shape == (3, 5) and data.y.shape == (3, 2) and data.edge_attr.shape == (6, 2)
        assert {tuple(e) for e in data.edge_index.T.tolist()} == {
            (i, j) for i in range(3) for j in range(3) if i != j
        }
        distance = pair_distances(data)
        if mode == "distance":
            assert 1 < distance.max() < 20
        else:
            assert distance.min() > 30 - 1e-3
        assert (data.x[0, 0] == (200 if mode == "mass" else 100)) and data.x[1:, 0].max() <= 18
        # The edge features are accelerations: the next velocity follows from their sum.
        pull = torch.zeros(3, 2).index_add(0, data.edge_index[1], data.edge_attr)
        expected = data.x[:, 3:] + TIME_STEP * pull
        torch.testing.assert_close(data.y, expected, rtol=1e-4, atol=1e-3)


def test_without_edge_features(tmp_path):
    frames = NBody(tmp_path, num_graphs=10)
    assert (frames._data.edge_attr == 0).all()


def test_splits_come_from_different_systems(tmp_path):
    train, val = NBody(tmp_path, num_graphs=50), NBody(tmp_path, split="val", num_graphs=50)
    assert not set(train._data.x[1::3, 0].tolist()) & set(val._data.x[1::3, 0].tolist())


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="`mode` must be"):
        NBody(tmp_path, mode="far")
    with pytest.raises(ValueError, match="test of extrapolation"):
        NBody(tmp_path, mode="mass")
    with pytest.raises(ValueError, match="`num_graphs` must be"):
        NBody(tmp_path, num_graphs=0)
