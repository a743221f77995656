from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr


def oracle_for(pool):
    def oracle(bag):
        mean = bag.mean(0)
        if pool.similarity == "channel":
            likeness = 2 * (bag * mean).abs() / (bag**2 + mean**2)
        else:
            dot = (bag * mean).sum(1, keepdim=True)
            likeness = 2 * dot.abs() / ((bag**2).sum(1, keepdim=True) + (mean**2).sum())
        beta = pool.logit.sigmoid()
        a, b = (likeness.softmax(0) * bag).sum(0), (bag.softmax(0) * bag).sum(0)
        return beta * a + (1 - beta) * b

    return oracle


@pytest.mark.parametrize("similarity", ["channel", "vector"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_against_the_formula(against_oracle, similarity, per_channel):
    pool = aggr.AdaPool(8, similarity=similarity, per_channel=per_channel)
    torch.nn.init.normal_(pool.logit)
    against_oracle(pool, oracle_for(pool))


def test_beta_stays_in_the_unit_interval_under_large_steps():
    pool, x = aggr.AdaPool(3), torch.randn(9, 3)
    optimizer = torch.optim.SGD(pool.parameters(), lr=1e6)
    pool(x).sum().backward()
    optimizer.step()
    assert ((pool.beta >= 0) & (pool.beta <= 1)).all()


def test_zeros_count_as_alike():
    pool = aggr.AdaPool(2)
    x = torch.zeros(4, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(pool(x).sum(), x)
    torch.testing.assert_close(grad, torch.full((4, 2), 0.25))


def test_semi_gradient_is_the_weights():
    pool, x = aggr.AdaPool(3, semi_grad=True), torch.randn(6, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(pool(x).sum(), x)
    bags = Segments(ptr=torch.tensor([0, 6]))
    torch.testing.assert_close(grad, pool.attention(x, bags).detach())
    torch.testing.assert_close(grad.sum(0), torch.ones(3))


def test_semi_gradient_of_softpool_is_never_negative():
    x = torch.tensor([[-5.0], [5.0]], requires_grad=True)
    (full,) = torch.autograd.grad(aggr.SoftPool(learn=False)(x).sum(), x)
    (semi,) = torch.autograd.grad(aggr.SoftPool(learn=False, semi_grad=True)(x).sum(), x)
    share = x.detach().softmax(0)
    torch.testing.assert_close(full, share * (1 + x.detach() - (share * x.detach()).sum()))
    torch.testing.assert_close(semi, share)
    assert full.min() < 0 <= semi.min()


class TestUnpool:
    segments = Segments(index=torch.tensor([1, 0, 1, 1, 0]), num_segments=3)

    def test_elements_of_a_bag_add_up_to_what_was_pooled(self):
        pool, x = aggr.AdaPool(3), torch.randn(5, 3)
        y = pool(x, self.segments)
        back = pool.unpool(y, x, self.segments, keep_scale=False)
        torch.testing.assert_close(aggr.Sum()(back, self.segments), y)

    def test_equal_elements_come_back_as_they_were(self):
        pool = aggr.AdaPool(3)
        x = torch.randn(3, 3)[self.segments.index]
        y = pool(x, self.segments)
        torch.testing.assert_close(pool.unpool(y, x, self.segments), x)

    def test_weights_repeat(self):
        pool, x = aggr.AdaPool(3), torch.randn(5, 3)
        weight = torch.tensor([1, 2, 3, 1, 2])
        rows = torch.arange(5).repeat_interleave(weight)
        repeated = Segments(index=self.segments.index[rows], num_segments=3)
        y = pool(x, self.segments, weight=weight)
        once = pool.unpool(y, x, self.segments, weight)
        torch.testing.assert_close(once[rows], pool.unpool(y, x[rows], repeated))

    def test_is_differentiable(self):
        pool = aggr.AdaPool(2).double()
        x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

        def call(x):
            return pool.unpool(pool(x, self.segments), x, self.segments)

        torch.autograd.gradcheck(call, x)

    def test_wrong_shape(self):
        pool, x = aggr.AdaPool(3), torch.randn(5, 3)
        with pytest.raises(ValueError, match=r"`y` must have shape \(3, 3\)"):
            pool.unpool(x, x, self.segments)


def test_bad_similarity():
    with pytest.raises(ValueError, match="`similarity` must be one of"):
        aggr.AdaPool(3, similarity="cosine")
