"""Layers that mix the elements of a set, against loops over the elements."""

from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments
from graphpool.sets import PoNetMixer, PoolMixer

SEGMENTS = Segments(index=torch.tensor([0, 0, 2, 0, 2, 3]), num_segments=4)
CLUSTERS = Segments(index=torch.tensor([1, 0, 2, 1, 3, 4]), num_segments=5)
EDGES = torch.tensor([[0, 1, 3, 2], [1, 3, 0, 4]])
NEIGHBOURS = {0: [0, 3], 1: [1, 0], 2: [2], 3: [3, 1], 4: [4, 2], 5: [5]}


def test_pool_mixer_against_a_loop():
    x = torch.randn(6, 3)
    y, local = PoolMixer()(x, SEGMENTS), PoolMixer()(x, SEGMENTS, edge_index=EDGES)
    for e in range(6):
        torch.testing.assert_close(y[e], x[SEGMENTS.index == SEGMENTS.index[e]].mean(0) - x[e])
        torch.testing.assert_close(local[e], x[NEIGHBOURS[e]].mean(0) - x[e])


@pytest.mark.parametrize("clusters", [None, CLUSTERS])
@pytest.mark.parametrize("edges", [None, EDGES])
def test_ponet_against_a_loop(clusters, edges):
    mixer = PoNetMixer(4, heads=2).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    y = mixer(x, SEGMENTS, clusters=clusters, edge_index=edges)
    q, k, o = mixer.query(x), mixer.key(x), mixer.output(x)
    parts = SEGMENTS if clusters is None else clusters
    for e in range(6):
        bag = SEGMENTS.index == SEGMENTS.index[e]
        mean = q[bag].mean(0).view(2, 2)
        keys = k[bag].view(-1, 2, 2)
        share = ((keys * mean).sum(-1) / math.sqrt(2)).softmax(0)
        summary = (share[..., None] * keys).sum(0).flatten()
        cluster = mixer.segment(x)[parts.index == parts.index[e]].amax(0)
        local = mixer.local(x)[[e] if edges is None else NEIGHBOURS[e]].amax(0)
        torch.testing.assert_close(y[e], (summary + cluster) * o[e] + local)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`heads` must divide"):
        PoNetMixer(6, heads=4)
    with pytest.raises(ValueError, match=r"`edge_index` must have shape \[2, M\]"):
        PoolMixer()(torch.randn(6, 3), SEGMENTS, edge_index=torch.zeros(3, 2).long())
