"""Losses of sets, by formulas of the papers."""

from __future__ import annotations

import pytest
import torch

from graphpool.sets import MinMaxAUCLoss


class TestMinMaxAUCLoss:
    score = torch.tensor([0.9, 0.2, 0.6, 0.4], dtype=torch.float64)
    label = torch.tensor([1, 0, 1, 0])

    def test_against_the_formula(self):
        loss = MinMaxAUCLoss(margin=0.5).double()
        with torch.no_grad():
            loss.a.fill_(0.7)
            loss.b.fill_(0.1)
        loss.alpha.fill_(0.3)
        expected = (0.2**2 + 0.1**2) / 2 + (0.1**2 + 0.3**2) / 2 + 0.6 * (0.5 + 0.3 - 0.75) - 0.09
        assert loss(self.score, self.label).item() == pytest.approx(expected)

    def test_at_the_saddle_it_is_the_squared_margin(self):
        """With a, b and alpha at their optimum: variances + (c + E_- h - E_+ h)^2."""
        loss = MinMaxAUCLoss(margin=1.0).double()
        with torch.no_grad():
            loss.a.fill_(0.75)
            loss.b.fill_(0.3)
        for _ in range(200):
            loss.ascend(0.1)
        assert float(loss.alpha) == pytest.approx(0.55)
        variances = 0.15**2 + 0.1**2
        assert loss(self.score, self.label).item() == pytest.approx(variances + 0.55**2)

    def test_alpha_stays_non_negative_and_takes_the_batch_if_asked(self):
        loss = MinMaxAUCLoss(margin=0.0).double()
        loss(self.score, self.label)
        loss.ascend(1.0, from_batch=True)
        assert float(loss.alpha) == 0
        loss.margin = 1.0
        loss.ascend(1.0, from_batch=True)
        assert float(loss.alpha) == pytest.approx(0.55)

    def test_released_weights_halve_the_pull(self):
        grads = []
        for released in (False, True):
            loss = MinMaxAUCLoss(released=released).double()
            loss.alpha.fill_(1.0)
            with torch.no_grad():
                loss.a.fill_(0.75)
                loss.b.fill_(0.3)
            score = self.score.clone().requires_grad_()
            flat = (score * 0 + torch.tensor([0.75, 0.3, 0.75, 0.3])).requires_grad_()
            (grad,) = torch.autograd.grad(loss(flat, self.label), flat)
            grads.append(grad)
        torch.testing.assert_close(grads[0], 2 * grads[1])

    def test_both_classes_are_needed(self):
        with pytest.raises(ValueError, match="both classes"):
            MinMaxAUCLoss()(torch.rand(3), torch.ones(3))
        with pytest.raises(ValueError, match="`score` has 3 entries, `label` 2"):
            MinMaxAUCLoss()(torch.rand(3), torch.ones(2))
