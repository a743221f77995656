from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr


@pytest.mark.parametrize("normalize", [False, True])
def test_delf_against_the_formula(against_oracle, normalize):
    pool = aggr.DELF(5, hidden=7, normalize=normalize)

    def oracle(bag):
        first, _, last = pool.network
        score = torch.log1p(last(first(bag).clamp_min(0)).exp())
        total = (score * bag / bag.norm(dim=1, keepdim=True)).sum(0)
        return total / (score.sum() if normalize else len(bag))

    against_oracle(pool, oracle, channels=5)


def test_delf_sees_directions_only():
    pool = aggr.DELF(4)
    with torch.no_grad():
        pool.network[-1].weight.zero_()
    x = torch.randn(5, 4)
    torch.testing.assert_close(pool(3 * x), pool(x))


@pytest.mark.parametrize("combine", ["add", "cat"])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("phi", [None, torch.nn.Linear(5, 6)])
def test_inset_against_the_formula(combine, context, phi):
    pool = aggr.INSET(
        5, hidden=6, out_channels=2, context=context, combine=combine, phi=phi
    ).double()
    assert phi is None or pool.phi is phi
    index = torch.tensor([1, 0, 1, 1, 0, 3])
    mask = torch.tensor([1.0, 0.0, 0.5, 0.0, 1.0, 0.0], dtype=torch.float64)
    x = torch.randn(6, 5, dtype=torch.float64)
    y = pool(x, index, dim_size=4, mask=mask)
    for s in (0, 1, 3):
        phi = pool.phi(x[index == s])
        inner = pool.subset((mask[index == s][:, None] * phi).sum(0))
        if context and combine == "add":
            inner = inner + pool.whole(phi.sum(0))
        elif context:
            inner = torch.cat([inner, pool.whole(phi.sum(0))])
        torch.testing.assert_close(y[s], pool.rho(inner.clamp_min(0)))
    assert (y[2] == 0).all()


def test_inset_sees_what_is_not_in_the_subset():
    x, other = torch.randn(2, 6, 4)
    mask = torch.tensor([True, True, True, False, False, False])
    changed = torch.where(mask[:, None], x, other)
    for context in (False, True):
        pool = aggr.INSET(4, context=context)
        same = torch.allclose(pool(x, mask=mask), pool(changed, mask=mask))
        assert same is not context


def test_inset_for_many_subsets_of_one_bag():
    pool, x = aggr.INSET(4, hidden=8, out_channels=1), torch.randn(5, 4)
    masks = torch.rand(7, 5) < 0.5
    phi, bag = pool.phi(x), Segments(ptr=torch.tensor([0, 5]))
    at_once = pool.value_of_sums(masks.float() @ phi, phi.sum(0))
    one_by_one = torch.cat([pool.value(phi, bag, mask=m) for m in masks])
    torch.testing.assert_close(at_once, one_by_one)
    torch.testing.assert_close(at_once, torch.cat([pool(x, mask=m) for m in masks]))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`combine` must be one of"):
        aggr.INSET(4, combine="times")
    with pytest.raises(ValueError, match=r"`mask` must have one entry per element, 3; got"):
        aggr.INSET(4)(torch.randn(3, 4), mask=torch.ones(2))
    with pytest.raises(ValueError, match="can only be given with elements"):
        aggr.INSET(4)(torch.randn(2, 3, 4), mask=torch.ones(3))
    with pytest.raises(ValueError, match="`hidden`"):
        aggr.DELF(4, hidden=0)
