"""Quantiles of pieces: within the error that is printed, and exact in two passes."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from graphpool import aggr
from graphpool.states import QuantileSketch, exact_quantile

pytestmark = pytest.mark.needs("datasketches")


def data(count: int = 30_000, bags: int = 3):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(count, 2, generator=g)
    return torch.stack([x[:, 0].exp(), x[:, 1].mul(3).round()], 1), torch.randint(
        bags, (count,), generator=g
    )


def pieces(x, bag, size: int = 977):
    return list(zip(x.split(size), bag.split(size), strict=True))


def test_a_sketch_keeps_the_error_that_it_prints_merged_and_pickled():
    x, bag = data()
    sketches = [QuantileSketch(3).add(*piece) for piece in pieces(x, bag)]
    merged = pickle.loads(pickle.dumps(sketches[0]))
    for sketch in sketches[1:]:
        merged.merge(sketch)
    assert f"rank_error={merged.rank_error:.2g}" in repr(merged)
    assert 0.003 < merged.rank_error < 0.004
    assert merged.size.tolist() == bag.bincount().tolist()
    for q in (0.0, 0.01, 0.5, 0.9, 1.0):
        y = merged.quantile(q)
        for s in range(3):
            part = x[bag == s]
            # Of equal elements any rank is right.
            low, high = ((op(part, y[s])).double().mean(0) for op in (torch.lt, torch.le))
            apart = torch.maximum(low - q, q - high).clamp(min=0)
            assert bool((apart < 2 * merged.rank_error).all())
    assert y.dtype == x.dtype


@pytest.mark.parametrize("q", [0.0, 0.25, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("k", [8, 800])
def test_two_passes_are_exact(q, k):
    x, bag = data()
    pool = aggr.Quantile(q=q, interpolation="lower")
    y = exact_quantile(pieces(x, bag), q, num_bags=4, k=k)
    assert torch.equal(y, pool(x.double(), bag, dim_size=4).float())


def test_it_is_the_median_and_keeps_little(monkeypatch):
    from graphpool.states import quantiles

    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1))
    kept, real = [], quantiles.np.concatenate
    monkeypatch.setattr(
        quantiles.np, "concatenate", lambda v: kept.append(sum(map(len, v))) or real(v)
    )
    assert torch.equal(exact_quantile(lambda: iter(x.split(5000))), aggr.Median()(x))
    assert 0 < kept[0] < 0.03 * len(x)


def test_a_sketch_that_was_wrong_is_noticed(monkeypatch):
    """Its error said to be much smaller than it is: the count shows it, and there are further passes."""
    monkeypatch.setattr(QuantileSketch, "rank_error", 1e-6)
    (x, bag), passes = data(), []

    def again():
        passes.append(1)
        return pieces(x, bag)

    y = exact_quantile(again, num_bags=3, k=8)
    assert torch.equal(y, aggr.Median()(x, bag, dim_size=3))
    assert len(passes) > 2


def test_infinities_are_values_and_nan_stays_in_its_bag_and_channel():
    x, bag = data(400)
    x[:150, 0] = math.inf
    x[:60, 1] = -math.inf
    x[7, 1] = math.nan
    y = exact_quantile(pieces(x, bag, 50), num_bags=4)
    torch.testing.assert_close(y, aggr.Median()(x, bag, dim_size=4), equal_nan=True)
    assert y.isnan().sum() == 1 and y[3].tolist() == [0, 0]


def test_what_does_not_fit_is_refused():
    x, bag = data(100)
    sketch = QuantileSketch(3).add(x, bag)
    for call, kind, message in (
        (lambda: QuantileSketch(k=7), ValueError, "`k` must be"),
        (lambda: QuantileSketch(k=70_000), ValueError, "`k` must be at most 65535"),
        (lambda: QuantileSketch().quantile(), ValueError, "Nothing was added"),
        (lambda: sketch.quantile(1.5), ValueError, r"`q` must lie in \[0, 1\]"),
        (lambda: sketch.quantile("half"), TypeError, "`q` must be one number"),
        (lambda: sketch.quantile([0.1, 0.9]), TypeError, "`q` must be one number"),
        # Before the first pass, which may take hours.
        (lambda: exact_quantile(None, 1.5), ValueError, r"`q` must lie in \[0, 1\]"),
        (lambda: sketch.add(x[:, :1], bag), ValueError, "`x` must have 2 channels"),
        (lambda: sketch.add(x[None], bag), ValueError, r"`x` must be elements \[E, C\]"),
        (lambda: sketch.add(x.long(), bag), TypeError, "floating point"),
        (lambda: sketch.merge(x), TypeError, "`other` must be a QuantileSketch"),
        (lambda: sketch.merge(QuantileSketch(2)), ValueError, "`other` must be as"),
        (lambda: exact_quantile(iter([x])), ValueError, "gone through once"),
        (lambda: exact_quantile([(x, None, x[:, 0])]), ValueError, "no weights"),
    ):
        with pytest.raises(kind, match=message):
            call()
    left = [[x], [x[:50]]]
    with pytest.raises(ValueError, match="others in the second pass"):
        exact_quantile(lambda: left.pop(0))


@pytest.mark.parametrize(
    "second",
    [
        lambda x, bag: (x + 100, bag),  # all above what the first pass has seen
        lambda x, bag: (x.nextafter(x + 1), bag),
        lambda x, bag: (x.flip(1), bag),
        lambda x, bag: (x[:, :1], bag),
        lambda x, bag: (x, bag.roll(1)),  # as many in each bag
    ],
)
@pytest.mark.parametrize("q", [0.5, 1.0])
def test_pieces_that_differ_in_the_second_pass_are_refused(second, q):
    x, bag = data(3000)
    left = [[(x, bag)], [second(x, bag)], [second(x, bag)]]
    with pytest.raises(ValueError, match="others in the second pass"):
        exact_quantile(lambda: left.pop(0), q, num_bags=3)


def test_pieces_may_come_in_another_order_in_the_second_pass():
    x, bag = data(3000)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(2))
    left = [pieces(x, bag, 700), pieces(x[order], bag[order], 450)]
    y = exact_quantile(lambda: left.pop(0), num_bags=3)
    assert torch.equal(y, aggr.Median()(x, bag, dim_size=3))


def test_pieces_of_several_precisions_give_elements_as_they_are():
    small, large = torch.tensor([[1.0]]).half(), torch.tensor([[1e6], [1e6 + 1 / 3]]).double()
    for parts in ([small, large], [large, small]):
        assert torch.equal(exact_quantile(parts, 1.0), large[1:])
        sketch = QuantileSketch().add(parts[0]).merge(QuantileSketch().add(parts[1]))
        assert torch.equal(sketch.quantile(1.0), large[1:])
