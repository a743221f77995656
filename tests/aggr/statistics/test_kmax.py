from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool import Segments, aggr


@pytest.mark.parametrize("k", [1, 2, 5])
def test_against_topk(against_oracle, k):
    def oracle(bag):
        top = bag.topk(min(k, len(bag)), dim=0).values
        return torch.cat([top, top.new_zeros(k - len(top), top.size(1))])

    against_oracle(aggr.KMax(8, k=k), oracle)


@settings(deadline=None)
@given(st.data())
def test_weights_are_places(data):
    sizes = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    segments = Segments.from_counts(torch.tensor(sizes))
    total = sum(sizes)
    values = st.lists(st.integers(-3, 3), min_size=total, max_size=total)
    x = torch.tensor(data.draw(values), dtype=torch.float32).view(total, 1)
    weight = torch.tensor(
        data.draw(st.lists(st.integers(0, 3), min_size=total, max_size=total)), dtype=torch.long
    )
    rows = torch.arange(total).repeat_interleave(weight)
    repeated = Segments(index=segments.index[rows], num_segments=len(sizes))
    for k in (1, 3):
        pool = aggr.KMax(k=k)
        assert torch.equal(pool(x, segments, weight=weight), pool(x[rows], repeated))


@pytest.mark.parametrize("order", ["value", "original"])
def test_dynamic_against_a_loop(order):
    index = torch.tensor([2, 0, 2, 4, 2, 4, 0, 2, 2, 4, 4, 3])
    x = torch.randn(12, 3)
    pool = aggr.DynamicKMax(ratio=0.5, k=2, order=order)
    values, kept = pool(x, index, dim_size=5)
    assert kept.counts.tolist() == [2, 0, 3, 1, 2]
    for s in range(5):
        rows = x[index == s]
        k = int(kept.counts[s])
        for c in range(3):
            place = rows[:, c].topk(k).indices if k else torch.zeros(0, dtype=torch.long)
            expected = rows[:, c][place if order == "value" else place.sort().values]
            assert torch.equal(values[kept.index == s, c], expected)


def test_dynamic_sends_gradients_only_to_what_it_kept():
    x = torch.tensor([[1.0], [4.0], [2.0], [3.0]], requires_grad=True)
    values, _ = aggr.DynamicKMax(ratio=0.5)(x)
    (grad,) = torch.autograd.grad(values.sum(), x)
    assert grad.flatten().tolist() == [0, 1, 0, 1]


def test_ratio_is_not_rounded_up_by_noise():
    kept = aggr.DynamicKMax(ratio=0.1).keep(torch.tensor([30, 31, 0, 3]))
    assert kept.tolist() == [3, 4, 0, 1]


def test_keeping_all_is_sorting():
    x = torch.randn(6, 2)
    values, kept = aggr.DynamicKMax(ratio=1.0)(x)
    assert torch.equal(values, x.sort(dim=0, descending=True).values)
    assert kept.counts.tolist() == [6]


def test_bad_arguments():
    with pytest.raises(ValueError, match="`k` must be an int of at least 1; got 0"):
        aggr.KMax(k=0)
    with pytest.raises(ValueError, match=r"`ratio` must lie in \(0, 1\]; got 1.5"):
        aggr.DynamicKMax(ratio=1.5)
    with pytest.raises(ValueError, match="`order` must be one of"):
        aggr.DynamicKMax(order="random")
    with pytest.raises(ValueError, match="whole numbers.*got 0.5 at position 1"):
        aggr.DynamicKMax()(torch.ones(2, 1), weight=torch.tensor([1.0, 0.5]))
