from __future__ import annotations

import pytest
import torch

from graphpool import aggr


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("layer_norm, scale", [(False, "full"), (True, "head")])
def test_pma_against_a_dense_block(against_oracle, attention_block, seeds, layer_norm, scale):
    pool = aggr.PMA(
        8, num_seeds=seeds, heads=4, layer_norm=layer_norm, scale=scale, feed_forward=True
    )
    against_oracle(
        pool,
        lambda bag: attention_block(pool.attend, pool.seeds, pool.first(bag), 4, scale),
        atol=1e-8,
    )


def test_set_transformer_against_dense_blocks(against_oracle, attention_block):
    pool = aggr.SetTransformer(6, num_layers=2, num_inducing=3, num_seeds=2, heads=2)

    def oracle(bag):
        for layer in pool.layers:
            inner = attention_block(layer.gather, layer.inducing, bag, 2, "head")
            bag = attention_block(layer.scatter, bag, inner, 2, "head")
        return attention_block(pool.seeds.attend, pool.seeds.seeds, bag, 2, "head")

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
    lazy = aggr.PMA(-1, heads=3)
    with pytest.raises(ValueError, match="`heads` must divide"):
        lazy(torch.randn(2, 8))
