"""Pools of multiple-instance learning, and attention that is asked several times."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import aggr as pyg

from graphpool import Segments, aggr


@pytest.mark.parametrize("gated", [True, False])
def test_gated_attention_is_its_formula(against_oracle, gated):
    torch.manual_seed(0)
    pool = aggr.GatedAttention(8, hidden=5, gated=gated, num_outputs=2)

    def oracle(x):
        hidden = torch.tanh(x @ pool.v.weight.T + pool.v.bias)
        if gated:
            hidden = hidden * torch.sigmoid(x @ pool.gate.weight.T + pool.gate.bias)
        return (hidden @ pool.u.weight.T).softmax(0).T @ x

    against_oracle(pool, oracle)


def test_gated_attention_without_scores_is_the_mean():
    pool, x = aggr.GatedAttention(4), torch.randn(6, 4)
    with torch.no_grad():
        pool.u.weight.zero_()
    torch.testing.assert_close(pool(x)[0], x.mean(0))
    shares = aggr.attention(pool, x)
    assert shares.shape == (6, 1) and float(shares.sum()) == pytest.approx(1)
    torch.testing.assert_close(aggr.contributions(pool, x), x / 6)


def test_dsmil_is_its_formula(against_oracle):
    torch.manual_seed(0)
    pool = aggr.DSMIL(8, num_outputs=3, hidden=5)

    def oracle(x):
        q, best = pool.query(x), pool.score(x).argmax(0)
        return torch.cat([(q @ q[i] / 5**0.5).softmax(0) @ x for i in best])

    against_oracle(pool, oracle)


def test_dsmil_scores_are_trained_by_the_second_stream():
    pool, x = aggr.DSMIL(4, num_outputs=2), torch.randn(5, 4)
    bags = Segments(ptr=torch.tensor([0, 3, 5]))
    pool(x, bags).sum().backward()
    assert pool.score.weight.grad is None
    scores = pool.bag_scores(x, bags)
    torch.testing.assert_close(scores[0], pool.score(x[:3]).amax(0))
    scores.sum().backward()
    assert pool.score.weight.grad.abs().min() > 0


def test_dsmil_of_copies_of_the_best():
    """The query is the mean of those that share the highest score, so copies of it change it not at all."""
    torch.manual_seed(1)
    pool, x = aggr.DSMIL(4).double(), torch.randn(5, 4, dtype=torch.float64)
    best = int(pool.score(x).argmax())
    weight = torch.ones(5)
    weight[best] = 3
    q = pool.query(x)
    shares = (q @ q[best] / pool.hidden**0.5).exp() * weight
    torch.testing.assert_close(pool(x, weight=weight)[0], shares @ x / shares.sum())


def test_conjunctive_is_its_formula(against_oracle):
    torch.manual_seed(0)
    pool = aggr.Conjunctive(8, out_channels=3, hidden=4)

    def oracle(x):
        return (pool.score(x) * pool.judge(x)).mean(0)

    against_oracle(pool, oracle)


@pytest.mark.parametrize("steps", [1, 3])
def test_set2set_is_pygs(steps):
    torch.manual_seed(0)
    ours = aggr.Set2Set(6, processing_steps=steps).double()
    theirs = pyg.Set2Set(6, processing_steps=steps).double()
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(theirs.lstm, f"{name}_l0").copy_(getattr(ours.cell, name))
    x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    y, expected = ours(x, index, dim_size=3), theirs(x, index, dim_size=3)
    torch.testing.assert_close(y, expected)
    direction = torch.randn_like(y)
    for a, b in zip(
        *(torch.autograd.grad((v * direction).sum(), x) for v in (y, expected)), strict=True
    ):
        torch.testing.assert_close(a, b)
