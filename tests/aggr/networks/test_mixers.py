from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr


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
    with pytest.raises(ValueError, match="`voxel`, the edge of a cell, must be positive; got None"):
        aggr.PoNet(6, pos_dim=3)
    with pytest.raises(ValueError, match="`num_layers`"):
        aggr.PoolFormer(6, num_layers=0)
