from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments, aggr
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


def test_ponet_pool_against_dense_blocks(against_oracle):
    pool = aggr.PoNet(6, num_layers=2, heads=2, readout="max")

    def oracle(bag):
        one = Segments(ptr=torch.tensor([0, len(bag)]))
        for block in pool.blocks:
            bag = bag + block.project(block.mixer(block.norm0(bag), one))
            bag = bag + block.mlp(block.norm1(bag))
        return bag.amax(0)

    against_oracle(pool, oracle, channels=6, atol=1e-8)


def test_poolformer_against_dense_blocks(against_oracle):
    pool = aggr.PoolFormer(6)

    def oracle(bag):
        for block in pool.blocks:
            h = block.norm0(bag)
            bag = bag + h.mean(0) - h
            bag = bag + block.mlp(block.norm1(bag))
        return bag.mean(0)

    against_oracle(pool, oracle, channels=6, atol=1e-8)


@pytest.mark.parametrize("name, extra", [("poolformer", {}), ("ponet", {"voxel": 0.5, "heads": 2})])
def test_with_positions(name, extra):
    pool = aggr.resolve(name, channels=7, pos_dim=3, k=3, readout="sum", **extra).double()
    index = torch.tensor([0] * 10 + [1] * 10)
    x = torch.randn(20, 7, dtype=torch.float64)
    y = pool(x, index, dim_size=2)
    assert y.shape == (2, pool.out_channels) == (2, 4)
    torch.testing.assert_close(pool(x[10:]), y[1:])
    order = torch.randperm(20)
    torch.testing.assert_close(pool(x[order], index[order], dim_size=2), y)
    far = x.clone()
    far[:10, 0] *= 50
    assert not torch.allclose(pool(far, index, dim_size=2)[0], y[0])


def test_bad_arguments():
    with pytest.raises(ValueError, match="`heads` must divide"):
        PoNetMixer(6, heads=4)
    with pytest.raises(ValueError, match="`voxel`, the edge of a cell, must be positive; got None"):
        aggr.PoNet(6, pos_dim=3)
    with pytest.raises(ValueError, match=r"`edge_index` must have shape \[2, M\]"):
        PoolMixer()(torch.randn(6, 3), SEGMENTS, edge_index=torch.zeros(3, 2).long())
    with pytest.raises(ValueError, match="`num_layers`"):
        aggr.PoolFormer(6, num_layers=0)
