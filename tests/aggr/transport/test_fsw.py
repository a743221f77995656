"""The embedding against its integral, its authors' code, and what is proved about it."""

from __future__ import annotations

import importlib
import itertools
import math

import pytest
import torch

from graphpool import Segments, aggr

DOUBLE = torch.float64


def make(channels=3, total=None, **arguments):
    torch.manual_seed(0)
    return aggr.FSW(channels, total=total, **arguments).double()


def integral(pool, x, weight):
    """The formula, with the cosine integrated over each step of each quantile function."""
    out = []
    for v, f in zip(pool.slices.tolist(), pool.frequencies.tolist(), strict=True):
        rows = sorted(
            (sum(a * b for a, b in zip(v, row, strict=True)), w)
            for row, w in zip(x.tolist(), weight.tolist(), strict=True)
        )
        at, total = 0.0, 0.0
        for t, w in rows:
            upto = at + w / float(weight.sum())
            if f == 0:
                total += t * (upto - at)
            else:
                k = 2 * math.pi * f
                total += t * (math.sin(k * upto) - math.sin(k * at)) / k
            at = upto
        out.append(2 * (1 + f) * total)
    return torch.tensor(out, dtype=DOUBLE)


@pytest.mark.parametrize("weighted", [False, True])
def test_is_its_integral(weighted):
    pool, x = make(out_channels=7), torch.randn(9, 3, dtype=DOUBLE)
    pool.frequencies[2] = 0
    weight = torch.rand(9, dtype=DOUBLE) + 0.1 if weighted else torch.ones(9, dtype=DOUBLE)
    bags = Segments(index=torch.tensor([1, 0, 3, 1, 0, 1, 1, 3, 1]), num_segments=5)
    y = pool(x, bags, weight=weight if weighted else None)
    for s in (0, 1, 3):
        own = bags.index == s
        torch.testing.assert_close(y[s], integral(pool, x[own], weight[own]), rtol=0, atol=1e-13)
    assert not y[[2, 4]].any()


@pytest.mark.needs("fswlib")
@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("weighted", [False, True])
def test_authors_code(n, weighted):
    module = importlib.import_module("fswlib")
    theirs = module.FSWEmbedding(
        d_in=4,
        d_out=11,
        enable_bias=False,
        learnable_slices=True,
        learnable_frequencies=True,
        frequency_init="even",
        total_mass_padding_thresh=1e-12,
        dtype=DOUBLE,
    )
    ours = make(4, out_channels=11, learn=True)
    with torch.no_grad():
        ours.slices.copy_(theirs.slice_vectors)
        ours.frequencies.copy_(theirs.frequencies)
    x = torch.randn(n, 4, dtype=DOUBLE, requires_grad=True)
    weight = (torch.rand(n, dtype=DOUBLE) + 0.1).requires_grad_()
    inputs = [x, weight] if weighted else [x]
    y = ours(x, weight=weight if weighted else None)[0]
    expected = theirs(x, weight if weighted else torch.ones_like(weight))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    direction = torch.randn(11, dtype=DOUBLE)
    found = torch.autograd.grad((y * direction).sum(), [*inputs, ours.slices, ours.frequencies])
    wanted = torch.autograd.grad(
        (expected * direction).sum(), [*inputs, theirs.slice_vectors, theirs.frequencies]
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("learned", [False, True])
def test_an_integer_weight_is_so_many_copies(learned):
    pool = make(4, out_channels=30, total="linear")
    x, weight = torch.randn(50, 4, dtype=DOUBLE), torch.randint(0, 9, (50,)).double()
    copies = torch.arange(50).repeat_interleave(weight.long())
    index = torch.arange(50) % 3
    y = pool(x, index, dim_size=3, weight=weight.requires_grad_(learned))
    expected = pool(x[copies], index[copies], dim_size=3)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


def test_weights_have_derivatives_of_both_orders():
    pool, index = make(2, out_channels=4, total="log"), torch.tensor([0, 0, 1, 0])
    x = torch.randn(4, 2, dtype=DOUBLE, requires_grad=True)
    weight = torch.tensor([1.0, 2.0, 0.5, 0.3], dtype=DOUBLE, requires_grad=True)

    def call(x, weight):
        return pool(x, index, dim_size=2, weight=weight)

    assert torch.autograd.gradcheck(call, (x, weight))
    assert torch.autograd.gradgradcheck(call, (x, weight))


def test_what_moves_all_elements_alike():
    pool, x = make(3, out_channels=9), torch.randn(6, 3, dtype=DOUBLE)
    f, a = pool.frequencies, torch.tensor([5.0, -2.0, 7.0], dtype=DOUBLE)
    moved = pool(x + a) - pool(x)
    torch.testing.assert_close(moved[0], pool.slices @ a * 2 * (1 + f) * torch.sinc(2 * f))
    torch.testing.assert_close(pool(3 * x), 3 * pool(x))


def test_squared_distance_is_that_of_sliced_wasserstein():
    """Against a mean over 50,000 directions, in which two bags of one size are matched in order."""
    x, y = torch.randn(5, 2, dtype=DOUBLE), torch.randn(5, 2, dtype=DOUBLE) + 1
    pool = make(2, out_channels=50_000, frequencies="random")
    found = (pool(x) - pool(y)).square().mean()
    v = torch.nn.functional.normalize(torch.randn(50_000, 2, dtype=DOUBLE), dim=1)
    expected = ((x @ v.T).sort(0).values - (y @ v.T).sort(0).values).square().mean()
    assert found / expected == pytest.approx(1, abs=0.04)


def test_two_that_part_are_seen_however_close():
    """The ratio to the Wasserstein distance does not vanish; that of a maximum does."""
    pool, base = make(2, out_channels=33), torch.randn(4, 2, dtype=DOUBLE)
    base[1] = base[0]
    shift = torch.zeros(4, 2, dtype=DOUBLE)
    shift[0, 0], shift[1, 0] = 1, -1
    for d in (1e-1, 1e-2, 1e-4, 1e-6):
        distance = (2 * d * d / 4) ** 0.5  # W2 of bags of 4
        found = (pool(base) - pool(base + d * shift)).norm() / 33**0.5 / distance
        assert 0.3 < found < 1.1


ORDERS = torch.tensor(list(itertools.permutations(range(4))))


def ratio(pool, x, y):
    """Distance of the outputs over the 2-Wasserstein distance of bags of 4, ``[B, 4, 2]``."""
    bags = Segments.from_counts(torch.full((len(x),), 4))
    moved = (pool(x.flatten(0, 1), bags) - pool(y.flatten(0, 1), bags)).norm(dim=1)
    apart = (x[:, :, None] - y[:, None]).square().sum(-1)[:, torch.arange(4), ORDERS]
    return moved / apart.mean(2).amin(1).sqrt()


def adversarial(pairs, seed):
    """Random pairs, and as many in which two equal elements part, by 1 down to 1e-4."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, pairs, 4, 2, generator=generator, dtype=DOUBLE)
    length = 10 ** (-4 * torch.rand(pairs // 2, 1, generator=generator, dtype=DOUBLE))
    step = length * torch.nn.functional.normalize(y[: pairs // 2, 3], dim=1)
    x[: pairs // 2, 1] = x[: pairs // 2, 0]
    y[: pairs // 2] = x[: pairs // 2]
    y[: pairs // 2, 0] += step
    y[: pairs // 2, 1] -= step
    return x, y, length


@pytest.mark.slow
def test_no_pair_of_many_is_told_apart_half_as_well_as_random_ones():
    pool = make(2, out_channels=257)
    x, y, length = adversarial(10_000, seed=1)
    typical = ratio(pool, x[5000:], y[5000:]).median()
    assert ratio(pool, x, y).min() > 0.5 * typical
    sums = torch.nn.Sequential(torch.nn.Linear(2, 257), torch.nn.Tanh()).double()
    usual = ratio(lambda x, bags: aggr.Sum()(sums(x), bags), x, y)
    assert usual.min() < 1e-3 * usual[5000:].median()

    # Down the gradient from 500 of them. A sliced distance is not the distance: there is something to find.
    x, y = x[4750:5250].clone(), y[4750:5250].clone()
    rate = torch.full((500, 1), 0.03, dtype=DOUBLE)
    rate[:250] *= length[4750:]
    least = torch.inf
    for step in range(40):
        x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
        found = ratio(pool, x, y)
        least = min(least, float(found.min()))
        for bag, grad in zip((x, y), torch.autograd.grad(found.log().sum(), (x, y)), strict=True):
            way = torch.nn.functional.normalize(grad.flatten(1), dim=1)
            bag.data -= (rate * (1 - step / 40) * way).view_as(bag)
    assert 0.4 < least / typical < 0.64


def test_enormous_neighbours_in_float32():
    pool, x = make(4, out_channels=8).float(), torch.randn(20, 4)
    index, weight = torch.arange(20) % 2, torch.rand(20) + 0.1
    alone = pool(x[index == 0], weight=weight[index == 0])
    loud = torch.where(index == 0, weight, 1e20)
    together = pool(x, index, dim_size=2, weight=loud)[:1]
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


def test_no_element_at_all():
    bags, none = Segments(ptr=torch.tensor([0, 0, 0])), torch.empty(0, 3, dtype=DOUBLE)
    for weight in (None, torch.empty(0), torch.empty(0, requires_grad=True)):
        assert make()(none, bags, weight=weight).tolist() == [[0.0] * 3] * 2


def test_parameters_are_learned_where_asked():
    assert not list(make().parameters())
    pool = make(learn=True)
    assert {name for name, _ in pool.named_parameters()} == {"slices", "frequencies"}
    torch.testing.assert_close(pool.float().slices @ pool.slices.T, torch.eye(3))
    with pytest.raises(ValueError, match="run one batch before"):
        torch.optim.Adam(aggr.FSW(-1, learn=True).parameters())
    assert not list(aggr.FSW(-1).parameters())
    with pytest.raises(ValueError, match="`out_channels` must be an int of at least 2; got 1"):
        aggr.FSW(3, out_channels=1)
