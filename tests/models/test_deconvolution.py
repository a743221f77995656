"""Graph deconvolution over wedges, against the dense formula in float64."""

import pytest
import torch

from graphpool.models import GraphDeconvolution
from graphpool.overlap import wedges


def model_of(**kwargs):
    torch.manual_seed(0)
    return GraphDeconvolution(3, num_layers=3, **kwargs).double()


def every_pair(size):
    return torch.combinations(torch.arange(size)).t()


def observed(size=7, seed=0):
    """A symmetric matrix with a diagonal, and a prior."""
    generator = torch.Generator().manual_seed(seed)
    a, s = torch.randn(2, size, size, generator=generator, dtype=torch.double)
    return (a + a.t()) / 4, (s + s.t()).triu(1).abs() + (s + s.t()).triu(1).abs().t()


def dense(model, a, prior):
    """The published formula on whole matrices, channel by channel."""
    eye = torch.eye(len(a), dtype=a.dtype)
    powers = [eye, a]
    while len(powers) <= model.order:
        powers.append(2 * a @ powers[-1] - powers[-2])
    slices = [prior]
    for step in model.steps:
        new = []
        for o in range(step.alpha.size(0)):
            parts = []
            for i, s in enumerate(slices):
                part = step.alpha[o, i] * s + step.beta[o, i] * (s @ a + a @ s)
                parts.append(
                    part + sum(step.c[o, p - 1] * powers[p] for p in range(1, model.order + 1))
                )
            total = sum(parts) / len(parts) * (1 - eye)
            if step is not model.steps[-1]:
                total = (total / total.abs().max() - step.tau[o].clamp(0, 0.99)).relu() * (1 - eye)
            else:
                total = total - step.tau[o].clamp(0, 0.99)
            new.append(total)
        slices = new
    return sum(slices) / len(slices)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_scores_and_gradients_are_those_of_the_dense_formula(order):
    model, (a, prior), pairs = model_of(order=order), observed(), every_pair(7)
    given = a[pairs[0], pairs[1]], a.diagonal(), prior[pairs[0], pairs[1]]
    mine = model(given[0], pairs, num_nodes=7, diagonal=given[1], prior=given[2])
    theirs = dense(model, a, prior)[pairs[0], pairs[1]]
    torch.testing.assert_close(mine, theirs)
    parts = [*model.parameters()]
    for x, y in zip(
        torch.autograd.grad(mine.square().sum(), parts),
        torch.autograd.grad(theirs.square().sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(x, y)
    torch.testing.assert_close(
        model(given[0], pairs, num_nodes=7),
        dense(model, a - a.diagonal().diag(), 0 * prior)[pairs[0], pairs[1]],
    )


def test_with_fewer_pairs_the_sums_are_cut_to_them():
    a, s = observed(8)
    pairs = every_pair(8)[:, torch.randperm(28)[:13]]
    pairs = torch.where(torch.rand(13) < 0.5, pairs, pairs.flip(0))
    there = torch.eye(8).bool()
    there[pairs[0], pairs[1]] = there[pairs[1], pairs[0]] = True
    a, s = a * there, s * there
    found = wedges(pairs, 8)
    i, j = torch.cat([pairs, torch.arange(8).expand(2, 8)], 1)
    values = [m[i, j] for m in (a, s)]
    product = values[1][found.first] * values[0][found.second]
    total = torch.zeros(21, dtype=torch.double).index_add(0, found.segments.index, product)
    torch.testing.assert_close(total, (s @ a)[i, j])


@pytest.mark.parametrize("pool", ["sum", "mean", "max", "softmax", "gnp", ["sum", "std"]])
def test_any_pool_in_the_place_of_the_sum_and_no_order_matters(pool):
    model, (a, _), pairs = model_of(pool=pool).eval(), observed(), every_pair(7)
    value = a[pairs[0], pairs[1]]
    first = model(value, pairs, num_nodes=7, diagonal=a.diagonal())
    assert first.isfinite().all()
    columns, order = torch.randperm(21), torch.randperm(7)
    there = order.argsort()
    moved = there[pairs[:, columns]].flip(0)
    again = model(value[columns], moved, num_nodes=7, diagonal=a.diagonal()[order])
    torch.testing.assert_close(again, first[columns])
    # Two graphs at once, with an empty one between them.
    b, few = observed(5, 1)[0], every_pair(5)
    other = model(b[few[0], few[1]], few, num_nodes=5, diagonal=b.diagonal())
    both = model(
        torch.cat([value, b[few[0], few[1]]]), torch.cat([pairs, few + 7], 1),
        torch.tensor([0] * 7 + [2] * 5), num_nodes=12, batch_size=3,
        diagonal=torch.cat([a.diagonal(), b.diagonal()]),
    )  # fmt: skip
    torch.testing.assert_close(both, torch.cat([first, other]))


def test_pairs_without_wedges_graphs_without_pairs_and_observations_of_zeros():
    model = model_of()
    alone = model(torch.rand(1).double(), torch.tensor([[0], [1]]), num_nodes=4)
    assert alone.shape == (1,) and alone.isfinite().all()
    none = torch.zeros(2, 0, dtype=torch.long)
    for size in (0, 3):
        assert model(torch.zeros(0).double(), none, num_nodes=size).shape == (0,)
    zeros = torch.zeros(6, dtype=torch.double, requires_grad=True)
    model(zeros, every_pair(4), num_nodes=4).sum().backward()
    assert zeros.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_threshold_out_of_bounds_comes_back():
    model = model_of()
    with torch.no_grad():
        model.steps[0].tau.fill_(2.0)
    assert (model.steps[0].threshold() == 0.99).all()
    model.steps[0].threshold().sum().backward()
    assert (model.steps[0].tau.grad == 1).all()


def test_wrong_inputs_are_refused_by_name():
    model, pairs = model_of(), every_pair(4)
    value = torch.zeros(6, dtype=torch.double)
    with pytest.raises(ValueError, match="`observed` must have one entry per pair"):
        model(value[:3], pairs, num_nodes=4)
    with pytest.raises(TypeError, match="`prior` must be torch.float64, as the parameters are"):
        model(value, pairs, num_nodes=4, prior=value.float())
    with pytest.raises(ValueError, match="`ways` must be .* of the same 6 pairs"):
        model(value, pairs, num_nodes=4, ways=wedges(pairs[:, :3], 4))
    with pytest.raises(
        ValueError, match=r"`pairs` must join nodes of one graph; got nodes \[0, 2\]"
    ):
        model(value, pairs, torch.tensor([0, 0, 1, 1]), num_nodes=4, batch_size=2)
    with pytest.raises(ValueError, match="`diagonal` must have one entry per node"):
        model(value, pairs, num_nodes=4, diagonal=value)
    with pytest.raises(ValueError, match="one that repeats, or a loop"):
        wedges(torch.tensor([[0, 1], [1, 0]]), 2)
    with pytest.raises(ValueError, match="one that repeats, or a loop"):
        wedges(torch.tensor([[1], [1]]), 2)
    with pytest.raises(ValueError, match="`pairs` must lie in"):
        wedges(pairs, 3)
    with pytest.raises(ValueError, match="`order` must be"):
        GraphDeconvolution(order=0)
