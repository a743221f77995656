"""Weights of graphs, against the published sums as loops in float64."""

import itertools
import math

import pytest
import torch

from graphpool import Segments
from graphpool.train import GraphReweighter, decorrelation, random_cosines, stable_clusters


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def by_loop(u, v, weight, clusters):
    count, d, q = u.shape
    total = 0.0
    for i, j in itertools.combinations(range(d), 2):
        if clusters[i] == clusters[j]:
            continue
        mean_u = sum(weight[m] * u[m, i] for m in range(count)) / count
        mean_v = sum(weight[m] * v[m, j] for m in range(count)) / count
        sigma = torch.zeros(q, q, dtype=torch.double)
        for n in range(count):
            left, right = weight[n] * u[n, i] - mean_u, weight[n] * v[n, j] - mean_v
            sigma += torch.outer(left, right) / (count - 1)
        total = total + (sigma**2).sum()
    return total


@pytest.mark.parametrize("clusters", [None, [0, 1, 0, 2], [1, 1, 1, 1]])
def test_the_sum_over_pairs_is_that_of_the_paper(clusters):
    z, weight = numbers(6, 4), numbers(6, seed=1).exp()
    u, v = (random_cosines(z, numbers(4, 3, seed=s), numbers(4, 3, seed=s + 1)) for s in (2, 4))
    assert float(u[1, 2, 0]) == pytest.approx(
        math.sqrt(2) * math.cos(z[1, 2] * numbers(4, 3, seed=2)[2, 0] + numbers(4, 3, seed=3)[2, 0])
    )
    given = None if clusters is None else torch.tensor(clusters)
    found = decorrelation(u, v, weight, given)
    expected = by_loop(u, v, weight, clusters or range(4))
    assert float(found) == pytest.approx(float(expected), rel=1e-12, abs=1e-15)
    order = torch.randperm(6)
    torch.testing.assert_close(decorrelation(u[order], v[order], weight[order], given), found)
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: decorrelation(u, v, w, given), weight)


def test_fewer_than_two_graphs_depend_on_nothing():
    for count in (0, 1):
        weight = torch.ones(count, requires_grad=True)
        loss = decorrelation(torch.ones(count, 2, 3), torch.ones(count, 2, 3), weight)
        assert float(loss.detach()) == 0.0 and loss.requires_grad


def test_clusters_hold_what_is_correlated_alike_everywhere():
    pair, other, batches = (
        numbers(400),
        numbers(400, seed=1),
        Segments.from_counts(torch.tensor([100] * 4)),
    )
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0]).double()[batches.index]
    noise = 0.1 * numbers(400, 6, seed=2)
    # 0 and 1 go together, 2 and 3 too; 0 and 2 in every other batch only.
    z = torch.stack([pair, pair, sign * pair, sign * pair, other, other], 1) + noise
    found = stable_clusters(z, batches, 2)
    assert found[0] == found[1] and found[2] == found[3] and found[0] != found[2]
    order = torch.randperm(400)
    shuffled = Segments(index=batches.index[order], num_segments=4)
    assert torch.equal(stable_clusters(z[order], shuffled, 2), found)
    distances = by_environment(z, batches)
    medoid_of = {c: [i for i in range(6) if found[i] == c] for c in (0, 1)}
    inside = max(distances[i, j] for c in medoid_of.values() for i in c for j in c)
    assert inside < distances[0, 2]


def by_environment(z, batches):
    """The dissimilarity of the paper, by correlations of torch."""
    each = torch.stack(
        [torch.corrcoef(z[batches.index == s].T) for s in range(batches.num_segments)]
    )
    return (each - each.mean(0)).square().mean(0).sqrt()


def test_every_coordinate_its_own_cluster_and_all_in_one():
    z, batches = numbers(30, 5), Segments.from_counts(torch.tensor([10, 0, 20]))
    assert stable_clusters(z, batches, 5).unique().numel() == 5
    assert stable_clusters(z, batches, 1).unique().numel() == 1
    constant = torch.ones(30, 5, dtype=torch.double)
    assert stable_clusters(constant, batches, 3).unique().numel() == 3


def test_weights_undo_a_spurious_companion():
    """Two coordinates that agree in nine of ten graphs: weights make those count that do not."""
    agree = torch.arange(200) % 10 > 0
    first = torch.where(torch.arange(200) % 4 < 2, 1.0, -1.0).double()
    z = torch.stack([first, torch.where(agree, first, -first)], 1) + 0.01 * numbers(200, 2)
    weight = GraphReweighter(None, steps=100, generator=torch.Generator().manual_seed(0))(z)
    assert float(weight.mean()) == pytest.approx(1.0) and bool((weight > 0).all())
    assert weight[~agree].mean() > 2 * weight[agree].mean()
    before = torch.corrcoef(z.T)[0, 1]
    after = torch.cov(z.T, aweights=weight)
    assert after[0, 1] / (after[0, 0] * after[1, 1]).sqrt() < before - 0.2


def test_weights_are_alike_where_nothing_is_to_be_undone():
    z = numbers(20, 3).requires_grad_()
    for reweighter in (GraphReweighter(1), GraphReweighter(3, steps=0)):
        weight = reweighter(z)
        torch.testing.assert_close(weight, torch.ones(20).double())
        assert not weight.requires_grad


def test_past_batches_count_and_are_forgotten():
    reweighter = GraphReweighter(2, memory=2, steps=3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sizes = [len(reweighter(numbers(n, 4, seed=n))) for n in (8, 5, 6, 1)]
    assert sizes == [8, 5, 6, 1] and reweighter.clusters.shape == (4,)
    assert [len(z) for z, _ in reweighter._past] == [6, 1]
    alone = GraphReweighter(2, memory=0, steps=3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(alone(numbers(1, 4)), torch.ones(1).double())


def test_an_environment_of_one_graph_says_nothing():
    z, one = numbers(30, 5), numbers(1, 5, seed=1)
    found = stable_clusters(z, Segments.from_counts(torch.tensor([10, 20])), 3)
    more = Segments.from_counts(torch.tensor([10, 0, 20, 1]))
    assert torch.equal(stable_clusters(torch.cat([z, one]), more, 3), found)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_weights_of_half_precision_are_found_in_float32(dtype):
    """As readouts give them under autocast; Adam's steps in half precision divide 0 by 0."""
    for z in (torch.ones(32, 6).to(dtype), numbers(32, 6).to(dtype)):
        made = [
            GraphReweighter(3, steps=9, generator=torch.Generator().manual_seed(0)) for _ in "ab"
        ]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = made[0](z)
        assert found.dtype == dtype
        torch.testing.assert_close(found, made[1](z.float()).to(dtype))


def test_weights_are_found_in_inference_mode_too():
    made = [GraphReweighter(2, steps=5, generator=torch.Generator().manual_seed(0)) for _ in "ab"]
    with torch.inference_mode():
        found = made[0](numbers(20, 4))
    torch.testing.assert_close(found.clone(), made[1](numbers(20, 4)))


def test_what_is_no_number_does_not_reach_later_batches():
    reweighter, bad = GraphReweighter(2), numbers(8, 4)
    bad[3, 1] = math.nan
    with pytest.raises(ValueError, match="`z` must be finite; got a value that is not in row 3"):
        reweighter(bad)
    assert bool(reweighter(numbers(8, 4)).isfinite().all())
    with pytest.raises(TypeError, match="`z` must be a floating point tensor"):
        reweighter(bad.long())
    with pytest.raises(TypeError, match="`generator` must be a torch.Generator"):
        GraphReweighter(2, generator=3)


def test_what_does_not_fit_is_refused_by_name():
    u = torch.ones(4, 2, 3)
    for call, message in [
        (lambda: decorrelation(u, u[:, :1], torch.ones(4)), "`u` and `v` must have one shape"),
        (lambda: decorrelation(u, u, torch.ones(3)), "`weight` must have one entry per graph"),
        (lambda: decorrelation(u, u, torch.ones(4), torch.zeros(3).long()), "`clusters` must have one"),
        (lambda: random_cosines(torch.ones(4, 2), torch.ones(3, 3), torch.ones(3, 3)), "`frequencies`"),
        (lambda: random_cosines(torch.ones(4, 2), torch.ones(2, 3), torch.ones(2, 1)), "`phases`"),
        (lambda: stable_clusters(torch.ones(4, 2), Segments(ptr=torch.tensor([0, 4])), 3), "`num_clusters`"),
        (lambda: GraphReweighter(3)(torch.ones(4)), "`z` must have shape"),
        (lambda: GraphReweighter(features=0), "`features` must be"),
        (lambda: GraphReweighter(penalty=-1.0), "`penalty` must be at least"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
