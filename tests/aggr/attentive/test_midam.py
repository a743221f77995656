from __future__ import annotations

import pytest
import torch

from graphpool import aggr

INDEX = torch.tensor([1, 0, 1, 1, 0])
IDS = torch.tensor([4, 2])


def sample(seed, channels=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, channels, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def test_exact_smoothed_maximum(against_oracle):
    pool = aggr.MIDAMLogSumExp(8, tau=0.3)
    against_oracle(pool, lambda bag: 0.3 * (bag / 0.3).exp().mean(0).log())


def test_bounds_and_limits():
    x = torch.rand(9, 2, dtype=torch.float64)
    for tau in (0.01, 0.5):
        y = aggr.MIDAMLogSumExp(2, tau=tau)(x)[0]
        top = x.amax(0)
        assert (y <= top + 1e-9).all()
        assert (y >= top - tau * torch.tensor(9.0).log() - 1e-9).all()
    torch.testing.assert_close(aggr.MIDAMLogSumExp(2, tau=1e4)(x)[0], x.mean(0), atol=1e-4, rtol=0)


def test_exact_attention(against_oracle):
    pool = aggr.MIDAMAttention(8, num_outputs=2, hidden=5)

    def oracle(bag):
        weight = pool.gate[2](pool.gate[0](bag).tanh()).exp()
        return ((weight * pool.delta(bag)).sum(0) / weight.sum()).sigmoid()

    against_oracle(pool, oracle)


def test_running_mean_of_the_smoothed_maximum():
    """Value and gradient of the published estimator, in the plain domain."""
    pool = aggr.MIDAMLogSumExp(3, tau=0.7, num_segments=5, gamma=0.6).double().train()
    state = torch.zeros(5, 3, dtype=torch.float64)
    seen = torch.zeros(5, dtype=torch.bool)
    for seed in range(4):
        x = sample(seed)
        y = pool(x, INDEX, dim_size=2, segment_index=IDS)
        inner = torch.stack([(x[s == INDEX] / 0.7).exp().mean(0) for s in range(2)])
        new = torch.where(seen[IDS, None], 0.4 * state[IDS] + 0.6 * inner, inner).detach()
        state[IDS], seen[IDS] = new, True
        torch.testing.assert_close(y, 0.7 * new.log())
        (actual,) = torch.autograd.grad(y.square().sum(), x)
        (expected,) = torch.autograd.grad((2 * y.detach() * 0.7 * inner / new).sum(), x)
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(pool.estimate(IDS), 0.7 * state[IDS].log())


def test_running_quotient_of_the_attention():
    pool = aggr.MIDAMAttention(3, num_segments=5, gamma=0.3).double().train()
    numerator, denominator = torch.zeros(2, 5, 1, dtype=torch.float64)
    for seed in range(4):
        x = sample(seed)
        y = pool(x, INDEX, dim_size=2, segment_index=IDS)
        weight, delta = pool.gate(x).exp(), pool.delta(x)
        top = torch.stack([(weight * delta)[s == INDEX].mean(0) for s in range(2)])
        bottom = torch.stack([weight[s == INDEX].mean(0) for s in range(2)])
        gamma = 1.0 if seed == 0 else 0.3
        n = (1 - gamma) * numerator[IDS] + gamma * top.detach()
        d = (1 - gamma) * denominator[IDS] + gamma * bottom.detach()
        numerator[IDS], denominator[IDS] = n, d
        h = (n / d).sigmoid()
        torch.testing.assert_close(y, h)
        surrogate = h * (1 - h) * (top / d - n * bottom / d**2)
        (actual,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
        (expected,) = torch.autograd.grad((2 * h * surrogate).sum(), x)
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(pool.estimate(IDS), h)


@pytest.mark.parametrize("cls", [aggr.MIDAMLogSumExp, aggr.MIDAMAttention])
class TestMemory:
    def test_scores_of_any_size(self, cls):
        pool = cls(1, num_segments=2).train()
        if cls is aggr.MIDAMAttention:
            pool.gate = torch.nn.Identity()
        for value in (0.0, 500.0, -500.0):
            x = torch.full((3, 1), value, requires_grad=True)
            y = pool(x, torch.zeros(3).long(), dim_size=1, segment_index=torch.tensor([0]))
            (grad,) = torch.autograd.grad(y.sum(), x)
            assert y.isfinite().all() and grad.isfinite().all()

    def test_survives_the_state_dict(self, cls):
        pool, other = cls(3, num_segments=5).double(), cls(3, num_segments=5).double()
        pool(sample(0), INDEX, dim_size=2, segment_index=IDS)
        other.load_state_dict(pool.state_dict())
        torch.testing.assert_close(other.estimate(IDS), pool.estimate(IDS))
        a = pool(sample(1), INDEX, dim_size=2, segment_index=IDS)
        torch.testing.assert_close(other(sample(1), INDEX, dim_size=2, segment_index=IDS), a)

    def test_evaluation_is_exact_and_writes_nothing(self, cls):
        pool = cls(3, num_segments=5).double().eval()
        exact = pool(sample(0), INDEX, dim_size=2)
        torch.testing.assert_close(pool(sample(0), INDEX, dim_size=2, segment_index=IDS), exact)
        assert not pool.visited.any()

    def test_the_estimate_comes_nearer_than_samples(self, cls):
        """The error of the running estimate of a fixed bag is below that of single samples."""
        torch.manual_seed(0)
        pool, x = cls(1, num_segments=1, gamma=0.1).double(), torch.randn(1000, 1).double()
        exact = pool(x).detach()
        single, running = [], []
        for _ in range(300):
            rows = x[torch.randint(1000, (20,))]
            running.append(pool(rows, segment_index=torch.tensor([0])).detach() - exact)
            single.append(pool(rows).detach() - exact)
        running, single = torch.cat(running[50:]), torch.cat(single[50:])
        assert running.square().mean() < 0.5 * single.square().mean()

    def test_unseen_and_wrong_ids_are_errors(self, cls):
        pool = cls(3, num_segments=5).double()
        with pytest.raises(ValueError, match="Bag 1 has never been pooled"):
            pool.estimate(torch.tensor([1]))
        with pytest.raises(ValueError, match=r"\[0, 5\); got 5 at position 1"):
            pool(sample(0), INDEX, dim_size=2, segment_index=torch.tensor([0, 5]))
        with pytest.raises(ValueError, match="each bag once"):
            pool(sample(0), INDEX, dim_size=2, segment_index=torch.tensor([3, 3]))
        with pytest.raises(ValueError, match="one entry per bag, 2; got"):
            pool(sample(0), INDEX, dim_size=2, segment_index=torch.tensor([3]))
        with pytest.raises(TypeError, match="integer tensor"):
            pool(sample(0), INDEX, dim_size=2, segment_index=torch.tensor([1.0, 2.0]))
        with pytest.raises(ValueError, match="at least one sampled element"):
            pool(sample(0), INDEX, dim_size=3, segment_index=torch.tensor([0, 1, 2]))
        pool(sample(0), INDEX, dim_size=2, segment_index=IDS)
        pool.forget()
        with pytest.raises(ValueError, match="never been pooled"):
            pool.estimate(IDS)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`tau` must be positive"):
        aggr.MIDAMLogSumExp(1, tau=0.0)
    with pytest.raises(ValueError, match=r"`gamma` must lie in \(0, 1\]"):
        aggr.MIDAMLogSumExp(1, gamma=0.0)
