"""What the examples on sets compute: labels, generators and losses against their definitions."""

from __future__ import annotations

import pytest
import torch

from graphpool import aggr


class TestStatistics:
    @pytest.fixture
    def module(self, example):
        return example("deepsets_statistics")

    def test_sets_have_the_covariance_they_are_labelled_by(self, module):
        for task, dim in module.TASKS.items():
            sigma, label = module.covariances(task, 3, torch.Generator().manual_seed(0))
            x, y = module.make_sets(task, 3, 40_000, 0)
            assert x.shape == (3, 40_000, dim) and torch.equal(y, label.float())
            for bag, expected in zip(x.double(), sigma, strict=True):
                torch.testing.assert_close(
                    bag.T @ bag / len(bag), expected, atol=0.03 * float(expected.max()), rtol=0.05
                )

    def test_mutual_information_of_the_blocks(self, module):
        sigma, label = module.covariances("correlation", 5, torch.Generator().manual_seed(0))
        a, b = sigma[:, :8, :8], sigma[:, 8:, 8:]
        exact = 0.5 * (torch.logdet(a) + torch.logdet(b) - torch.logdet(sigma))
        torch.testing.assert_close(label, exact)

    def test_total_correlation_of_independent_channels_is_zero(self, module):
        assert float(module.total_correlation(torch.diag(torch.tensor([1.0, 4.0, 0.5])))) == 0

    def test_entropy_of_the_first_coordinate(self, module):
        sigma, label = module.covariances("rotation", 4, torch.Generator().manual_seed(0))
        normal = torch.distributions.Normal(0.0, sigma[:, 0, 0].sqrt())
        torch.testing.assert_close(label, normal.entropy())


class TestSubsets:
    @pytest.fixture
    def module(self, example):
        return example("equivset")

    def test_ten_points_come_from_the_other_source(self, module):
        sets, masks = module.make_sets("normals", 20, 0)
        assert sets.shape == (20, 100, 2) and (masks.sum(1) == 10).all()
        side = (sets.sum(-1) > 0).float()
        # The points to be found lie, for the most part, on the other side.
        inside = (side * ~masks).sum(1) / 90
        found = (side * masks).sum(1) / 10
        assert ((inside - found).abs() > 0.5).float().mean() > 0.9

    @pytest.mark.parametrize("context", [False, True])
    def test_gains_against_one_subset_at_a_time(self, module, context):
        model = aggr.INSET(2, hidden=8, out_channels=1, context=context).double()
        sets = torch.randn(2, 6, 2, dtype=torch.float64)
        q = (torch.rand(2, 6) < 0.5).double()  # certain, so that there is one subset to draw
        actual = module.gains(model, sets, q, samples=3)
        for b in range(2):
            for i in range(6):
                up, down = q[b].clone(), q[b].clone()
                up[i], down[i] = 1, 0
                gain = model(sets[b], mask=up) - model(sets[b], mask=down)
                torch.testing.assert_close(actual[b, i], gain[0, 0])

    def test_loss_looks_at_as_many_wrong_as_right_elements(self, module):
        masks = torch.zeros(3, 100, dtype=torch.bool)
        masks[:, :10] = True
        logits = torch.where(masks, 50.0, -50.0)
        assert module.loss_of(logits, masks) < 1e-6
        assert module.loss_of(torch.zeros(3, 100), masks) == pytest.approx(0.6931, abs=1e-3)
        half = torch.where(masks, 0.0, -50.0)
        assert module.loss_of(half, masks) == pytest.approx(0.3466, abs=1e-3)


class TestMIDAM:
    @pytest.fixture
    def module(self, example):
        return example("midam")

    def test_auc_is_the_share_of_right_pairs(self, module):
        label = torch.tensor([1, 0, 1, 0])
        assert module.auc(torch.tensor([0.9, 0.1, 0.4, 0.5]), label) == 0.75
        assert module.auc(torch.zeros(4), label) == 0.5

    def test_batches_hold_both_classes(self, module):
        label = (torch.arange(20) % 2 == 0).long()
        parts = module.batches(label, 8, torch.Generator().manual_seed(0))
        assert sorted(torch.cat(parts).tolist()) == list(range(20))
        assert all(label[rows].float().mean() == 0.5 for rows in parts)

    def test_bytes_for_the_backward_pass(self, module):
        x = torch.randn(100, 10, requires_grad=True)
        with module.Saved() as saved:
            (x.exp() * 2).sum()
        assert saved.bytes == 4000


def test_textures_differ_in_nothing_but_correlations(example):
    module = example("set_bilinear")
    x, label = module.make_textures(2000, 64, 1.0, 0)
    for c in range(module.CLASSES):
        rows = x[label == c].reshape(-1, module.CHANNELS)
        assert rows.mean(0).abs().max() < 0.06
        assert (rows.var(0) / rows.var(0).mean() - 1).abs().max() < 0.12
    # Brightness has the second moment 13 / 12.
    assert float(x.var()) == pytest.approx(13 / 12, rel=0.05)


def test_views_are_the_same_for_the_same_generator(example):
    module = example("faset")
    world = module.World("cpu")
    a, b = (world.sample(3, 4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert a[0].shape == (12, world.width) and a[1].shape == (3, module.CELLS)
