"""The plan keeps both of its marginals, and is that of a linear program where it is not blurred."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import torch

from graphpool import Segments, aggr


def test_marginals():
    torch.manual_seed(0)
    pool = aggr.OTKE(4, num_references=3, eps=0.5, iterations=200).double()
    x, weight = torch.randn(12, 4, dtype=torch.float64), torch.rand(12, dtype=torch.float64)
    bags = Segments(index=torch.arange(12) % 2, num_segments=3)
    plan = aggr.attention(pool, x, bags, weight=weight)
    for s in range(2):
        own = bags.index == s
        torch.testing.assert_close(plan[own].sum(0), torch.ones(3, dtype=torch.float64))
        share = weight[own] / weight[own].sum()
        torch.testing.assert_close(plan[own].sum(1), 3 * share, rtol=1e-6, atol=1e-8)
        y = pool(x, bags, weight=weight)[s].view(3, 4)
        torch.testing.assert_close(y, plan[own].T @ x[own])


def test_little_blur_is_the_best_assignment():
    torch.manual_seed(0)
    pool = aggr.OTKE(5, num_references=4, eps=2e-3, iterations=3000).double()
    x = torch.randn(4, 5, dtype=torch.float64)
    cosine = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(pool.references).T
    rows, columns = scipy.optimize.linear_sum_assignment(-cosine.detach().numpy())
    expected = np.zeros((4, 4))
    expected[rows, columns] = 1
    plan = aggr.attention(pool, x)
    torch.testing.assert_close(plan, torch.from_numpy(expected), atol=1e-3, rtol=0)
    # Some references are nearest to no element, and get one all the same.
    assert len(set(cosine.argmax(1).tolist())) < 4


def test_one_iteration_is_its_formula(against_oracle):
    torch.manual_seed(0)
    pool = aggr.OTKE(8, num_references=2, eps=0.3, iterations=2)

    def oracle(x):
        z = torch.nn.functional.normalize(pool.references, dim=1)
        kernel = (torch.nn.functional.normalize(x, dim=1) @ z.T / 0.3).exp()
        u = (2 / len(x)) / kernel.sum(1)
        v = 1 / (kernel * u[:, None]).sum(0)
        u = (2 / len(x)) / (kernel * v).sum(1)
        plan = kernel * u[:, None]
        return (plan / plan.sum(0)).T @ x

    against_oracle(pool, oracle)
