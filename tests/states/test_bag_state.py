"""What conformance does not ask of every pool: numbers, removal, exchange, refusals."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from graphpool import Segments, aggr
from graphpool.states import BagState, Window

MERGEABLE = [name for name in aggr.names() if aggr.lookup(name).mergeable]


def make(name: str, channels: int = 4) -> aggr.Aggregation:
    torch.manual_seed(0)
    arguments = aggr.lookup(name).example_arguments
    return aggr.resolve(name, channels=channels, **arguments).double().eval()


def data(count: int = 60, bags: int = 3, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=g, dtype=torch.float64)
    return x, torch.randint(bags, (count,), generator=g)


def test_the_catalogue_of_what_merges():
    refused = {
        "adapool",
        "dsvt",
        "dynamic_kmax",
        "fsw",
        "isab",
        "median",
        "ponet",
        "poolformer",
        "pyramid",
    }
    refused |= {"trimmed_mean", "soft_median", "geometric_median", "moments", "otke"}
    refused |= {"set2set", "dsmil"}
    refused |= {"quantile", "slot_mixture", "slots", "ward"}
    assert set(aggr.names()) - set(MERGEABLE) == refused


@pytest.mark.parametrize("name", ["median", "isab", "slots"])
def test_a_pool_without_a_state_refuses_by_name_and_says_why(name):
    cls = aggr.lookup(name)
    with pytest.raises(
        TypeError, match=rf"{cls.__name__} cannot pool a bag in pieces: {cls.whole_bag}"
    ):
        make(name).begin(1)


def test_a_list_refuses_by_the_name_of_the_member():
    with pytest.raises(TypeError, match="Median cannot"):
        aggr.resolve(["mean", "median"]).begin(1)
    with pytest.raises(TypeError, match="SumAggregation cannot"):
        aggr.Multi(members=[aggr.lookup("sum")(), torch_geometric_sum()]).begin(1)


def torch_geometric_sum():
    from torch_geometric.nn.aggr import SumAggregation

    return SumAggregation()


GNPS = {
    "both": {},
    "plus": {"sign": "plus", "p": 3.0, "q": 0.3},
    "minus": {"sign": "minus", "offset": 0.1},
    "split": {"negative": "split", "shared": False},
    "clamp, p = 1": {"negative": "clamp", "sign": "plus", "p": 1.0, "q": 0.0},
    "split with an offset": {"negative": "split", "offset": 0.5},
}


@pytest.mark.parametrize("arguments", GNPS.values(), ids=GNPS)
@pytest.mark.parametrize("zeros", [False, True])
def test_the_form_of_the_paper_in_every_variant(arguments, zeros):
    pool = aggr.GNP(4, form="paper", **arguments).double()
    x, bag = data()
    if zeros:
        x = torch.where(x.abs() < 0.3, 0, x)
    _agrees(pool, x, bag)


VARIANTS = [
    aggr.PowerMean(4, p=-2.5, groups=2, negative="split"),
    aggr.GeM(4, negative="abs"),
    aggr.SoftPool(4, per_channel=True, t=-3.0),
    aggr.SoftPool(t=2.0, learn=False, semi_grad=True),
    aggr.LogSumExp(tau=0.3, mean=True, learn=True),
    aggr.AttSets(4, num_outputs=3, activation="tanh"),
    aggr.PMA(4, num_seeds=5, heads=2, layer_norm=True, feed_forward=True),
    aggr.Bilinear(4, center=True),
    aggr.Bilinear(4, mean=False, l2=False),
    aggr.ISqrtCov(4, center=False),
    aggr.CompactBilinear(4, out_channels=3, method="fft"),
    aggr.DELF(4, normalize=True),
    aggr.DeepSets(4, pool="std"),
    aggr.DeepSets(4, pool=["max", "logsumexp"]),
    aggr.INSET(4, combine="cat"),
    aggr.LayerAttention(4, num_layers=2, pool="max"),
    aggr.Multi(4, members=["kmax", "gnp", "sum"], mode="proj", out_channels=3),
    aggr.Multi(4, members=["std", "max"], mode="mixture"),
    aggr.Multi(4, members=["std", "max", "sum"], mode="std"),
    aggr.KMax(k=7),
]


@pytest.mark.parametrize("pool", VARIANTS, ids=lambda pool: type(pool).__name__)
def test_every_argument_that_changes_the_state(pool):
    _agrees(pool.double(), *data())


def _agrees(pool, x, bag):
    """Three pieces against the whole, values and gradients."""
    rows = torch.arange(len(x)).tensor_split((7, 31))
    x = x.requires_grad_()
    learned = [p for p in pool.parameters() if p.requires_grad]
    expected = pool(x, bag, dim_size=3)
    direction = torch.linspace(-1, 2, expected.numel(), dtype=x.dtype).view_as(expected)
    wanted = torch.autograd.grad((expected * direction).sum(), [x, *learned], allow_unused=True)
    state = pool.begin(3)
    for r in rows:
        state.add(x[r], bag[r])
    torch.testing.assert_close(state.result(), expected, rtol=1e-11, atol=1e-12)
    for p in learned:
        p.grad = None
    (state.result() * direction).sum().backward()
    for r in rows:
        state.backprop(x[r], bag[r])
    for leaf, slope in zip([x, *learned], wanted, strict=True):
        slope = torch.zeros_like(leaf) if slope is None else slope
        found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        torch.testing.assert_close(found, slope, rtol=1e-9, atol=1e-10)


def test_ties_share_the_derivative_across_pieces():
    x = torch.tensor([[5.0], [1.0], [5.0], [5.0]], requires_grad=True)
    for pool, expected in (
        (aggr.Max(), [1 / 3, 0, 1 / 3, 1 / 3]),
        (aggr.KMax(k=2), [2 / 3, 0, 2 / 3, 2 / 3]),
    ):
        state = pool.begin(1).add(x[:1]).add(x[1:3]).add(x[3:])
        x.grad = None
        state.result().sum().backward()
        for piece in (x[:1], x[1:3], x[3:]):
            state.backprop(piece)
        np.testing.assert_allclose(x.grad[:, 0], expected, rtol=1e-6)


def test_integers_are_summed_exactly():
    big = 2**60
    state = aggr.Sum().begin(1, dtype=torch.int64)
    state.add(torch.tensor([[big]])).add(torch.tensor([[3]]))
    assert state.result().tolist() == [[big + 3]]
    assert state.remove(torch.tensor([[big]])).result().tolist() == [[3]]
    assert aggr.Max().begin(1, dtype=torch.int64).add(torch.tensor([[-5]])).result().tolist() == [
        [-5]
    ]
    with pytest.raises(ValueError, match="floating point for Mean"):
        aggr.Mean().begin(1, dtype=torch.int64)


@pytest.mark.parametrize(
    "name", ["logsumexp", "softmax", "std", "gnp", "bilinear", "pma", "max", "kmax"]
)
def test_fixed_point_gives_the_same_bits_for_any_order_and_cuts(name):
    pool = make(name)
    x, bag = data()
    scout = pool.begin(3).add(x, bag)
    fixed, found = scout.fixed_point(40), []
    for seed in range(4):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
        parts = [fixed.copy().add(x[r], bag[r]) for r in order.tensor_split((seed, 17, 18 + seed))]
        while len(parts) > 1:
            parts.append(parts.pop(0) | parts.pop(seed % len(parts)))
        found.append(parts[0])
    for other in found[1:]:
        assert all(torch.equal(v, other.sums[k]) for k, v in found[0].sums.items())
    torch.testing.assert_close(found[0].result(), scout.result(), rtol=1e-9, atol=1e-9)


def test_fixed_point_is_taken_out_again_to_the_last_bit():
    pool, (x, bag) = make("softmax"), data()
    empty = pool.begin(3).add(x, bag).fixed_point(40)
    rest, whole = empty.copy().add(x[:50], bag[:50]), empty.copy().add(x, bag)
    whole.remove(x[50:], bag[50:])
    assert all(torch.equal(v, whole.sums[k]) for k, v in rest.sums.items())


def test_what_cannot_be_exact_is_refused():
    pool, (x, bag) = make("softmax"), data()
    with pytest.raises(ValueError, match="its sums are rounded.*Window"):
        pool.begin(3).add(x, bag).remove(x, bag)
    with pytest.raises(ValueError, match="what lies below is not known"):
        aggr.Max().begin(1).add(x).fixed_point(40).add(x).remove(x)
    with pytest.raises(ValueError, match="needs a first pass"):
        pool.begin(3, fixed_point=40).add(x, bag)
    fixed = pool.begin(3).add(x, bag).fixed_point(40)
    with pytest.raises(ValueError, match="lies above the reference"):
        fixed.add(x + 9, bag)
    with pytest.raises(ValueError, match="60 digits is too much for the sum"):
        aggr.Sum().begin(1, fixed_point=60).add(torch.full((9, 1), 1.0))
    assert aggr.Sum().begin(1, fixed_point=40).add(torch.full((9, 1), 0.5)).result().item() == 4.5


@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp", "softmax"])
def test_compensated_float32_keeps_what_float32_loses(name):
    generator = torch.Generator().manual_seed(1)
    x = 100 + torch.randn(6_000, 4, generator=generator)
    if name in ("logsumexp", "softmax"):
        x = torch.randn(6_000, 4, generator=generator).sort(0).values
    pool = aggr.resolve(name, channels=4).eval()
    exact = make(name)(x.double())
    errors = []
    for kind in ({"dtype": torch.float32}, {"dtype": torch.float32, "compensated": True}):
        state = pool.begin(1, **kind)
        for piece in x.split(10):
            state.add(piece)
        total = {k: v.double() + state._lost.get(k, 0) for k, v in state.sums.items()}
        reference = {k: v.double() for k, v in state.reference.items()}
        y = make(name).merging().finish(total, reference)
        errors.append(float(((y - exact) / exact).abs().max()))
    assert errors[1] < 3e-7
    assert errors[1] < errors[0] / 2 or errors[0] < 1e-9


def test_float64_is_the_default_and_does_not_stop_at_2_to_the_24():
    state = aggr.Sum().begin(1)
    assert state.dtype == torch.float64
    state.add(torch.tensor([[2.0**24]])).add(torch.ones(3, 1))
    assert state.result(torch.float64).item() == 2**24 + 3


@pytest.mark.parametrize("name", ["mean", "std", "logsumexp", "gnp", "softmax", "max"])
def test_pieces_in_their_own_precision_are_as_good_as_the_pool(name):
    x = 3 + torch.randn(20_000, 4, generator=torch.Generator().manual_seed(2))
    pool = aggr.resolve(name, channels=4).eval()
    state = pool.begin(1, exact=False)
    for piece in x.split(977):
        state.add(piece)
    assert all(v.dtype == torch.float64 for v in state.sums.values())
    exact = make(name)(x.double())
    torch.testing.assert_close(state.result(torch.float64), exact, rtol=1e-6, atol=1e-6)


def test_stopped_pickled_and_finished_elsewhere_gives_the_same_bits():
    pool, (x, bag) = make("pma"), data()
    straight = pool.begin(3).add(x[:20], bag[:20]).add(x[20:], bag[20:])
    half = pool.begin(3).add(x[:20], bag[:20])
    stored = pickle.dumps(half)
    resumed = pickle.loads(stored).add(x[20:], bag[20:])
    loaded = pool.begin(3).load_state_dict(half.state_dict()).add(x[20:], bag[20:])
    for other in (resumed, loaded):
        assert torch.equal(other.result(), straight.result())
        assert all(torch.equal(v, other.sums[k]) for k, v in straight.sums.items())
    with pytest.raises(ValueError, match="3 bags; this one has num_bags=2"):
        pool.begin(2).load_state_dict(half.state_dict())


def test_what_does_not_fit_is_refused():
    x, bag = data()
    pool = make("mean")
    state = pool.begin(3).add(x, bag)
    with pytest.raises(ValueError, match="num_bags of this state, 3; got 2"):
        state.merge(pool.begin(2))
    with pytest.raises(ValueError, match="pool of this state, Mean; got Std"):
        state.merge(make("std").begin(3))
    with pytest.raises(TypeError, match="`other` must be a BagState"):
        state.merge(x)
    with pytest.raises(ValueError, match="`x` must have 4 channels, as before; got 2"):
        aggr.Mean().begin(3).add(x, bag).add(x[:, :2], bag)
    with pytest.raises(ValueError, match=r"`x` must be elements \[E, C\]"):
        state.add(x[None], bag)
    with pytest.raises(ValueError, match="`bag` must tell"):
        state.add(x)
    with pytest.raises(ValueError, match="`bag` must lie in"):
        state.add(x, bag + 1)
    with pytest.raises(ValueError, match="Nothing was added"):
        pool.begin(3).result()
    with pytest.raises(ValueError, match="no gradient to hand on"):
        state.backprop(x, bag)
    with pytest.raises(TypeError, match="floating point"):
        state.add(x.long(), bag)


def test_segments_and_widths_that_the_first_piece_tells():
    x, bag = data()
    pool = aggr.PMA(-1).double()
    state = pool.begin(3).add(x, Segments(index=bag, num_segments=3))
    torch.testing.assert_close(state.result(), pool(x, bag, dim_size=3))
    assert repr(state) == "BagState(PMA, num_bags=3, pieces=1)"
    assert isinstance(state | pool.begin(3), BagState)
    for waiting in (aggr.DeepSets(-1), aggr.CompactBilinear(-1, out_channels=3)):
        state = waiting.double().begin(3).add(x, bag)
        torch.testing.assert_close(state.result(), waiting(x, bag, dim_size=3))


def test_nan_stays_in_its_bag_and_channel():
    x, bag = data()
    x[5, 1] = math.nan
    for name in MERGEABLE:
        y, pool = None, make(name)
        y = pool.begin(3).add(x[:30], bag[:30]).add(x[30:], bag[30:]).result()
        expected = pool(x, bag, dim_size=3)
        assert torch.equal(y.isnan().any(1), expected.isnan().any(1)), name


@pytest.mark.parametrize("name", ["max", "std", "logsumexp", "kmax"])
def test_a_window_is_what_its_pieces_are(name):
    pool, (x, _) = make(name), data()
    window, pieces = Window(pool), []
    generator = torch.Generator().manual_seed(4)
    for piece in x.split(3):
        pieces.append(piece)
        window.push(piece)
        while len(pieces) > 1 and torch.rand((), generator=generator) < 0.45:
            pieces.pop(0)
            window.pop()
        assert len(window) == len(pieces)
        torch.testing.assert_close(window.result(), pool(torch.cat(pieces)), rtol=1e-12, atol=1e-12)
    while len(window):
        window.pop()
    with pytest.raises(ValueError, match="no piece in the window"):
        window.pop()


def test_states_of_other_pools_and_numbers_are_refused():
    x = torch.ones(3, 2)
    mean, pma = aggr.Mean().begin().add(x), aggr.PMA(2)
    for dtype in (torch.float16, torch.bfloat16, "float32"):
        with pytest.raises(ValueError, match="`dtype` must be torch.float64, torch.float32"):
            aggr.Mean().begin(dtype=dtype)
    with pytest.raises(ValueError, match="gave; got one of Mean"):
        aggr.Max().begin().load_state_dict(mean.state_dict())
    with pytest.raises(ValueError, match="gave; got no state"):
        aggr.Mean().begin().load_state_dict({"weight": x})
    for kind in ({"dtype": torch.float32}, {"compensated": True}):
        with pytest.raises(ValueError, match="`state` must hold sums as this one was begun"):
            aggr.Mean().begin().load_state_dict(aggr.Mean().begin(**kind).add(x).state_dict())
    loaded = aggr.Mean().begin().load_state_dict(mean.state_dict())
    for state in (loaded, aggr.Mean().begin().merge(mean)):
        with pytest.raises(ValueError, match="`x` must have 2 channels, as before; got 5"):
            state.add(torch.ones(3, 5))
    same = pickle.loads(pickle.dumps(pma.begin().add(x)))
    assert pma.begin().add(x).merge(same).pieces == 2
    for other in (aggr.PMA(2), aggr.PMA(2, heads=2)):
        with pytest.raises(ValueError, match="arguments and parameters"):
            pma.begin().add(x).merge(other.begin().add(x))


def test_a_zero_among_many_elements_costs_no_more_than_others(monkeypatch):
    """Norms with a negative exponent are 0 then, and do not tell how many zeros made them so."""
    from graphpool.states.families import Exponential

    def never(self, seen, at):
        raise AssertionError("the terms of all elements were written down")

    monkeypatch.setattr(Exponential, "terms", never)
    pool = aggr.resolve("gnp", channels=4).double()
    x, _ = data(500)
    x[7, 2] = 0
    x[13:15, 3] = 0
    state = pool.begin(1, exact=False)
    for piece in x.split(90):
        state.add(piece)
    expected = pool(x, torch.zeros(500, dtype=torch.long), dim_size=1)
    torch.testing.assert_close(state.result(), expected)


def test_pools_with_the_same_sums_keep_them_once():
    x, bag = data()
    pool = aggr.resolve(["mean", "max", "std", "var", "sum", "add"]).double()
    state = pool.begin(3).add(x, bag)
    assert sorted(state.sums) == ["0.d", "0.q", "1.rest", "1.ties", "4.x", "n"]
    _agrees(pool, x, bag)


@pytest.mark.parametrize("count", [5, 70_000])
def test_norms_and_sums_of_one_reading(count):
    from graphpool.ops import norms_and_sums

    x, bag = data(count)
    x[:3, 0] = 0
    p, order = torch.tensor([3.0, -2.0], dtype=x.dtype), bag.sort(stable=True).indices
    segments = Segments(index=bag, num_segments=4)
    logs, total, sizes = norms_and_sums(x, segments, p)
    tiny = 2 * torch.finfo(x.dtype).tiny
    for s in range(4):
        part = x[order][bag[order] == s]
        scores = p[:, None, None] * part.abs().clamp(min=tiny).log()
        expected = scores.logsumexp(1) / p[:, None] if len(part) else torch.zeros(2, 4)
        torch.testing.assert_close(logs[s], expected.to(x.dtype), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(total[s], part.sum(0), rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(sizes[s], part.abs().sum(0), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(
    "values, slopes",
    [
        ([2, -math.inf, -3, 4], [math.inf, -24, -math.inf, math.inf]),
        ([2, math.inf, -math.inf, 4], [-math.inf, -math.inf, math.inf, -math.inf]),
        ([math.inf, 0, 3, 4], [0, math.inf, math.nan, math.nan]),
        ([0, 0, 3, 4], [0, 0, 0, 0]),
    ],
)
def test_a_product_with_infinite_factors_is_moved_by_the_product_of_the_others(values, slopes):
    x = torch.tensor(values, dtype=torch.float64).unsqueeze(1).requires_grad_()
    state = aggr.Mul().begin(1).add(x[:1]).add(x[1:3]).add(x[3:])
    torch.testing.assert_close(state.result(), aggr.Mul()(x), equal_nan=True)
    state.result().sum().backward()
    for piece in (x[:1], x[1:3], x[3:]):
        state.backprop(piece)
    np.testing.assert_allclose(x.grad[:, 0], slopes, rtol=1e-12)
