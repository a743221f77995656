"""Scores over information, against matrices made by hand and a mean that is known."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from graphpool import aggr


def test_is_its_formula(against_oracle):
    torch.manual_seed(0)
    pool = aggr.Fishnets(8, parameters=3, out_channels=4)

    def oracle(x):
        score, known = torch.zeros(3, dtype=x.dtype), torch.eye(3, dtype=x.dtype)
        for row in x:
            r = row @ pool.root.weight.T + pool.root.bias
            zero = r.new_zeros(())
            d = softplus(r[:3])
            low = torch.stack(
                [torch.stack([d[0], zero, zero]), torch.stack([r[3], d[1], zero]),
                 torch.stack([r[4], r[5], d[2]])]
            )  # fmt: skip
            known = known + low @ low.T
            score = score + row @ pool.score.weight.T + pool.score.bias
        return torch.linalg.inv(known) @ score @ pool.p.weight.T

    against_oracle(pool, oracle)


def test_one_parameter_is_the_mean_by_inverse_variances():
    """Elements (y, 1 / deviation): score y / variance, information 1 / variance."""
    pool = aggr.Fishnets(2, parameters=1, out_channels=1).double()
    values, precision = torch.randn(5000, dtype=torch.float64) + 3, torch.rand(5000) + 0.5

    def scores(x):
        return x[:, :1] * x[:, 1:] ** 2, (x[:, 1:] ** 2)[:, :, None]

    pool.scores = scores
    torch.nn.init.ones_(pool.p.weight)
    x = torch.stack([values, precision.double()], 1)
    w = precision.double() ** 2
    y = float(pool(x))
    assert abs(y - float((w * values).sum() / (1 + w.sum()))) < 1e-12
    assert abs(y - float((w * values).sum() / w.sum())) < 2e-3


def test_ever_more_copies_tend_to_the_quotient():
    torch.manual_seed(0)
    pool = aggr.Fishnets(4, parameters=3).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    score, fisher = pool.scores(x)
    limit = torch.linalg.solve(fisher.sum(0), score.sum(0)) @ pool.p.weight.T
    far = [
        float((pool(x, weight=torch.full((6,), k)) - limit).norm().detach())
        for k in (1.0, 1e3, 1e6)
    ]
    assert far[0] > 1e-2 > far[1] > 1e-5 > far[2]
