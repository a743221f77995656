from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments, aggr


def mab(attention, query, bag, heads, scale):
    """The block of the paper, for one bag, head by head."""
    q, k, v = attention.query(query), attention.key(bag), attention.value(bag)
    width = q.size(1) // heads
    parts = []
    for h in range(heads):
        c = slice(h * width, (h + 1) * width)
        score = q[:, c] @ k[:, c].T / math.sqrt(q.size(1) if scale == "full" else width)
        parts.append(q[:, c] + score.softmax(1) @ v[:, c])
    residual = attention.residual
    o = residual.norm0(torch.cat(parts, 1))
    return residual.norm1(o + residual.out(o).relu())


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("layer_norm, scale", [(False, "full"), (True, "head")])
def test_pma_against_a_dense_block(against_oracle, seeds, layer_norm, scale):
    pool = aggr.PMA(
        8, num_seeds=seeds, heads=4, layer_norm=layer_norm, scale=scale, feed_forward=True
    )
    against_oracle(
        pool, lambda bag: mab(pool.attend, pool.seeds, pool.first(bag), 4, scale), atol=1e-8
    )


@pytest.mark.parametrize("heads", [1, 2])
def test_isab_against_dense_blocks(heads):
    layer = aggr.ISAB(6, num_inducing=5, heads=heads).double()
    segments = Segments(index=torch.tensor([1, 0, 1, 3, 1, 3]), num_segments=5)
    x = torch.randn(6, 6, dtype=torch.float64)
    y = layer(x, segments)
    for bag in (0, 1, 3):
        rows = segments.index == bag
        inner = mab(layer.gather, layer.inducing, x[rows], heads, "head")
        torch.testing.assert_close(y[rows], mab(layer.scatter, x[rows], inner, heads, "head"))
    order = torch.randperm(6)
    moved = Segments(index=segments.index[order], num_segments=5)
    torch.testing.assert_close(layer(x[order], moved), y[order])


def test_set_transformer_against_dense_blocks(against_oracle):
    pool = aggr.SetTransformer(6, num_layers=2, num_inducing=3, num_seeds=2, heads=2)

    def oracle(bag):
        for layer in pool.layers:
            inner = mab(layer.gather, layer.inducing, bag, 2, "head")
            bag = mab(layer.scatter, bag, inner, 2, "head")
        return mab(pool.seeds.attend, pool.seeds.seeds, bag, 2, "head")

    against_oracle(pool, oracle, channels=6, atol=1e-8)


def test_repeating_the_bag_changes_nothing():
    pool, x = aggr.SetTransformer(8, heads=2), torch.randn(5, 8)
    torch.testing.assert_close(pool(torch.cat([x, x])), pool(x))


def test_memory_is_linear_in_the_bag():
    """One bag of 20,000 elements: a dense score matrix would take 1.6 GB."""
    pool, x = aggr.SetTransformer(8, num_layers=1, num_inducing=4), torch.randn(20_000, 8)
    assert pool(x).isfinite().all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="`heads` must divide.*8; got 3. These do: 1, 2, 4, 8"):
        aggr.PMA(8, heads=3)
    with pytest.raises(ValueError, match="`num_seeds` must be an int of at least 1"):
        aggr.PMA(8, num_seeds=0)
    with pytest.raises(ValueError, match="`scale` must be one of"):
        aggr.ISAB(8, scale="none")
    lazy = aggr.PMA(-1, heads=3)
    with pytest.raises(ValueError, match="`heads` must divide"):
        lazy(torch.randn(2, 8))
