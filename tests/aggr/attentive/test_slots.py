from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr


def start(pool):
    return pool.mean + pool.log_std.exp() * pool.noise


def slot_attention(pool, bag):
    """Algorithm 1 of the paper, for one bag."""
    x = pool.input_norm(bag)
    k, v, slots = pool.key(x), pool.value(x), start(pool)
    for _ in range(pool.iterations):
        q = pool.query(pool.slot_norm(slots)) / slots.size(1) ** 0.5
        share = (k @ q.T).softmax(1) + 1e-8
        updates = (share / share.sum(0)).T @ v
        slots = pool.gru(updates, slots)
        slots = slots + pool.mlp(pool.mlp_norm(slots))
    return slots


@pytest.mark.parametrize("width", [None, 6])
def test_slot_attention_against_a_dense_loop(against_oracle, width):
    pool = aggr.SlotAttention(8, num_slots=3, slot_channels=width)
    against_oracle(pool, lambda bag: slot_attention(pool, bag), atol=1e-8)


def slot_mixture(pool, bag):
    """Expectation and maximisation with loops over slots, densities in the plain domain."""
    x = pool.input_norm(bag)
    k, v, slots = pool.key(x), pool.value(x), start(pool)
    count, width = pool.num_slots, v.size(1)
    prior = torch.full((count,), 1 / count).double()
    for _ in range(pool.iterations):
        mean, log_std = pool.slot_norm(slots).chunk(2, dim=1)
        qm, ql = pool.query(mean), pool.query(log_std).clamp(-5, 5)
        columns = []
        for i in range(count):
            distance = ((k - qm[i]) ** 2 / (2 * ql[i]).exp()).sum(1)
            if not pool.released:
                distance = distance + 2 * ql[i].sum()
            likelihood = (-distance / width**0.5).exp()
            columns.append((likelihood + 1e-8 if pool.released else likelihood) * prior[i])
        gamma = torch.stack(columns, 1)
        gamma = gamma / gamma.sum(1, keepdim=True)
        share = gamma / gamma.sum(0)
        new = pool.gru(share.T @ v, mean)
        new = new + pool.mlp(pool.mlp_norm(new))
        spread = torch.stack([(share[:, i, None] * (v - new[i]) ** 2).sum(0) for i in range(count)])
        slots = torch.cat([new, 0.5 * (spread + 1e-8).log()], dim=1)
        if not pool.released:
            prior = gamma.mean(0)
    return pool.out(slots)


@pytest.mark.parametrize("released", [False, True])
def test_slot_mixture_against_a_loop(against_oracle, released):
    pool = aggr.SlotMixture(8, num_slots=3, slot_channels=5, released=released)
    against_oracle(pool, lambda bag: slot_mixture(pool, bag), atol=1e-6)


@pytest.mark.parametrize("cls", [aggr.SlotAttention, aggr.SlotMixture])
class TestBoth:
    def test_permuting_the_noise_permutes_the_slots(self, cls):
        pool, x = cls(6, num_slots=4).double(), torch.randn(9, 6, dtype=torch.float64)
        before = pool(x).view(4, 6)
        order = torch.tensor([2, 0, 3, 1])
        pool.noise = pool.noise[order]
        torch.testing.assert_close(pool(x).view(4, 6), before[order])

    def test_noise_is_part_of_the_state(self, cls):
        a, b, x = cls(6, seed=1), cls(6, seed=2), torch.randn(5, 6)
        assert not torch.allclose(a(x), b(x))
        b.load_state_dict(a.state_dict())
        torch.testing.assert_close(a(x), b(x))

    def test_sampling_differs_from_call_to_call(self, cls):
        pool, x = cls(6, sample=True), torch.randn(5, 6)
        assert not torch.allclose(pool(x), pool(x))

    def test_implicit_gradients_come_from_the_last_iteration(self, cls):
        x = torch.randn(5, 6)
        full, cut = cls(6, seed=1), cls(6, seed=1, implicit=True)
        cut.load_state_dict(full.state_dict())
        torch.testing.assert_close(full(x), cut(x))
        full(x).sum().backward()
        cut(x).sum().backward()
        assert full.mean.grad.abs().max() > 0
        assert cut.mean.grad is None

    def test_a_slot_that_collapses_does_no_harm(self, cls):
        pool = cls(4, num_slots=3, iterations=30)
        x = torch.tensor([[1.0, 0, 0, 0]] * 5 + [[0, 1e4, 0, 0]]).requires_grad_()
        y = pool(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert y.isfinite().all() and grad.isfinite().all()


def test_assignment_sums_to_one():
    pool, x = aggr.SlotAttention(6, num_slots=4), torch.randn(7, 6)
    share = pool.assignment(x, Segments(ptr=torch.tensor([0, 3, 7])))
    torch.testing.assert_close(share.sum(1), torch.ones(7))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`num_slots` must be an int of at least 1; got 0"):
        aggr.SlotAttention(6, num_slots=0)
    with pytest.raises(ValueError, match="`iterations`"):
        aggr.SlotMixture(6, iterations=0)
