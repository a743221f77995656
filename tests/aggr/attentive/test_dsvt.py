from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr


def attention(pool, query, keys, values):
    """Multi-head attention of one query vector, by torch's own module."""
    width = query.numel()
    mha = torch.nn.MultiheadAttention(width, pool.heads, batch_first=True, dtype=torch.float64)
    linears = (pool.query, pool.key, pool.value)
    mha.in_proj_weight = torch.nn.Parameter(torch.cat([m.weight for m in linears]))
    biases = [pool.query.bias, torch.zeros(width).double(), pool.value.bias]
    mha.in_proj_bias = torch.nn.Parameter(torch.cat(biases))
    mha.out_proj = pool.out
    out, _ = mha(query[None, None], keys[None], values[None])
    return out[0, 0]


def test_against_multihead_attention():
    pool = aggr.DSVTPool(8, heads=4).double()
    index = torch.tensor([2, 0, 2, 0, 2, 3])
    x = torch.randn(6, 8, dtype=torch.float64)
    y = pool(x, index, dim_size=4)
    for s in (0, 2, 3):
        bag = x[index == s]
        q = bag.amax(0)
        torch.testing.assert_close(y[s], pool.norm(attention(pool, q, bag, bag) + q))
    assert (y[1] == 0).all()


def test_gradients_against_a_dense_block(against_oracle):
    pool = aggr.DSVTPool(6, heads=2, pos_dim=2)

    def oracle(bag):
        position, bag = bag[:, :2], bag[:, 2:]
        q = bag.amax(0)
        keys = pool.key(bag + pool.position(position - position.mean(0))).view(-1, 2, 2)
        score = (keys * pool.query(q).view(2, 2)).sum(-1) / 2**0.5
        values = pool.value(bag).view(-1, 2, 2)
        attended = (score.softmax(0).unsqueeze(-1) * values).sum(0).flatten()
        return pool.norm(pool.out(attended) + q)

    against_oracle(pool, oracle, channels=6, atol=1e-8)


@pytest.mark.parametrize("unmasked", [False, True])
def test_slots_against_padded_windows(unmasked):
    pool = aggr.DSVTPool(4, heads=2, window_size=5, unmasked=unmasked).double()
    segments = Segments(index=torch.tensor([1, 0, 1, 1]), num_segments=2)
    slot = torch.tensor([4, 2, 0, 3])
    x = torch.randn(4, 4, dtype=torch.float64)
    y = pool(x, segments, window_index=slot)
    for s in range(2):
        rows = segments.index == s
        if unmasked:
            window = torch.zeros(5, 4, dtype=torch.float64)
            window[slot[rows]] = x[rows]
            keys, places = window + pool.places, window
        else:
            keys, places = x[rows] + pool.places[slot[rows]], x[rows]
        q = places.amax(0)
        torch.testing.assert_close(y[s], pool.norm(attention(pool, q, keys, places) + q))


def test_empty_places_do_not_matter():
    """Negative features: the released code's zeros would win the maximum."""
    pool = aggr.DSVTPool(4, window_size=8)
    x, slot = -torch.rand(3, 4), torch.tensor([0, 5, 2])
    wide = aggr.DSVTPool(4, window_size=16)
    state = pool.state_dict()
    state["places"] = torch.cat([state["places"], torch.randn(8, 4)])
    wide.load_state_dict(state)
    torch.testing.assert_close(pool(x, window_index=slot), wide(x, window_index=slot))
    unmasked = aggr.DSVTPool(4, window_size=8, unmasked=True)
    unmasked.load_state_dict(pool.state_dict())
    assert not torch.allclose(pool(x, window_index=slot), unmasked(x, window_index=slot))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`heads` must divide"):
        aggr.DSVTPool(8, heads=3)
    with pytest.raises(ValueError, match="`unmasked` needs `window_size`"):
        aggr.DSVTPool(8, unmasked=True)
    with pytest.raises(ValueError, match="3 columns of positions and at least one feature; got 3"):
        aggr.DSVTPool(3, pos_dim=3)
    pool = aggr.DSVTPool(4, window_size=3)
    with pytest.raises(TypeError, match=r"`window_index` .* integers \(2,\); got NoneType"):
        pool(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"`window_index` must lie in \[0, 3\)"):
        pool(torch.randn(2, 4), window_index=torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="without `window_size`"):
        aggr.DSVTPool(4)(torch.randn(2, 4), window_index=torch.tensor([0, 1]))
