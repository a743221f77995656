from __future__ import annotations

import copy
import math

import pytest
import torch

from graphpool import Segments, aggr
from graphpool.datasets import read_cloud
from graphpool.evaluate import flow_errors
from graphpool.nn import perceptron
from graphpool.points import chamfer_distance, scene_flow

DOUBLE = torch.float64
COUNTS, OTHERS = [9, 0, 4, 17, 5], [7, 6, 0, 12, 9]


def clouds(counts, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    pos = scale * torch.randn(sum(counts), 3, dtype=DOUBLE, generator=generator)
    return pos, Segments.from_counts(torch.tensor(counts))


def split(x, segments):
    return x.split(segments.counts.tolist())


def squared(x, y, limit):
    """Distance of each of ``x`` to the nearest of ``y``, by all pairs."""
    if not len(y):
        return 0 * x.sum(1)
    nearest = (x[:, None] - y).square().sum(-1).amin(1)
    return torch.where(nearest < limit, nearest, 0.0)


def two_sided(x, y, limit, pool=torch.mean):
    return sum(
        pool(d) if len(d) else x.new_zeros(()) for d in (squared(x, y, limit), squared(y, x, limit))
    )


POOLS = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.max,
    "softmax": lambda d: (d.softmax(0) * d).sum(),
    "median": torch.median,
}


class TestChamfer:
    @pytest.mark.parametrize("pool", POOLS)
    @pytest.mark.parametrize("limit", [math.inf, 0.8])
    def test_is_what_all_pairs_of_points_say(self, pool, limit):
        (x, a), (y, b) = clouds(COUNTS), clouds(OTHERS, seed=1)
        expected = [
            two_sided(p, q, limit, POOLS[pool])
            for p, q in zip(split(x, a), split(y, b), strict=True)
        ]
        found = chamfer_distance(x, y, a, b, pool=pool, limit=limit)
        torch.testing.assert_close(found, torch.stack(expected), atol=1e-12, rtol=1e-12)

    def test_points_may_come_in_any_order(self):
        (x, a), (y, b) = clouds(COUNTS), clouds(OTHERS, seed=1)
        i, j = torch.randperm(len(x)), torch.randperm(len(y))
        moved = [Segments(index=s.index[p], num_segments=5) for s, p in ((a, i), (b, j))]
        found = chamfer_distance(x[i], y[j], *moved, limit=2.0)
        torch.testing.assert_close(found, chamfer_distance(x, y, a, b, limit=2.0))

    def test_gradients(self):
        (x, a), (y, b) = clouds([5, 3]), clouds([4, 6], seed=1)
        points = (x.requires_grad_(), y.requires_grad_())
        assert torch.autograd.gradcheck(
            lambda x, y: chamfer_distance(x, y, a, b, limit=1.5), points
        )

    def test_what_is_too_far_has_no_gradient(self):
        x = torch.tensor([[0.0, 0.0], [5.0, 0.0]], requires_grad=True)
        y = torch.tensor([[1.0, 0.0]])
        chamfer_distance(x, y, limit=2.0).sum().backward()
        # The near point from both sides, once as half of the mean of two.
        assert x.grad.tolist() == [[-3.0, 0.0], [0.0, 0.0]]

    def test_a_distance_of_the_limit_does_not_count(self):
        x, y = torch.tensor([[0.0]]), torch.tensor([[2.0]])
        assert chamfer_distance(x, y, limit=4.0).tolist() == [0.0]
        assert chamfer_distance(x, y, limit=4.0001).tolist() == [8.0]

    def test_no_points_at_all(self):
        nothing, one = torch.zeros(0, 3), torch.zeros(1, 3)
        assert chamfer_distance(nothing, one).tolist() == [0.0]
        assert chamfer_distance(one, nothing).tolist() == [0.0]

    def test_refuses_what_makes_no_sense(self):
        x, two = torch.zeros(2, 3), Segments(ptr=torch.tensor([0, 1, 2]))
        with pytest.raises(ValueError, match="as many clouds; got 1 and 2"):
            chamfer_distance(x, x, None, two)
        with pytest.raises(ValueError, match="`limit` must be above 0; got 0"):
            chamfer_distance(x, x, limit=0)
        with pytest.raises(ValueError, match="one number for each cloud; got PMA, which gives 2"):
            chamfer_distance(x, x, pool=aggr.PMA(1, num_seeds=2))


def fitted_alone(x, y, network, steps, patience, min_delta, limit, both=True):
    """The published algorithm for one pair, with a copy of ``network``; and how many steps it took."""
    middle = (x.amin(0) + x.amax(0)) / 2
    x, y = x - middle, y - middle
    g = copy.deepcopy(network)
    h = copy.deepcopy(network)
    parameters = [*g.parameters(), *(h.parameters() if both else ())]
    optimizer = torch.optim.Adam(parameters, lr=0.01, weight_decay=1e-4)
    best, bar, idle, taken, flow = math.inf, math.inf, 0, 0, None
    for _ in range(steps):
        taken += 1
        moved = x + g(x)
        loss = two_sided(y, moved, limit)
        if both:
            loss = loss + two_sided(moved - h(moved), x, limit)
        loss_now = float(loss.detach())
        if loss_now < best:
            best, flow = loss_now, (moved - x).detach()
        if loss_now < bar - min_delta:
            bar, idle = loss_now, 0
        else:
            idle += 1
        if idle >= patience:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow, best, taken


SETTINGS = {"width": 8, "layers": 3, "lr": 0.01, "limit": 2.0}


class TestSceneFlow:
    @pytest.mark.parametrize("both", [True, False])
    def test_is_the_published_algorithm_for_each_pair(self, both):
        """Also which step a pair stops at, while others go on; sizes fall into several groups."""
        counts, steps, stop = [6, 30, 17, 5], 80, {"patience": 4, "min_delta": 2e-3}
        (x, a), (y, b) = clouds(counts), clouds([8, 21, 17, 9], seed=1)
        torch.manual_seed(3)
        found = scene_flow(x, y, a, b, max_steps=steps, backward=both, **stop, **SETTINGS)
        torch.manual_seed(3)
        network = perceptron(3, 8, 8, 8, 3).double()
        alone = [
            fitted_alone(p, q, network, steps, *stop.values(), 2.0, both)
            for p, q in zip(split(x, a), split(y, b), strict=True)
        ]
        assert found.steps.tolist() == [n for _, _, n in alone]
        assert len(set(found.steps.tolist())) > 1, "all stop at once: the test shows nothing"
        torch.testing.assert_close(
            found.flow, torch.cat([f for f, _, _ in alone]), atol=1e-9, rtol=1e-7
        )
        assert found.loss.tolist() == pytest.approx([loss for _, loss, _ in alone], abs=1e-9)

    def test_neither_order_nor_company_matter(self):
        (x, a), (y, b) = clouds(COUNTS), clouds(OTHERS, seed=1)
        torch.manual_seed(3)
        found = scene_flow(x, y, a, b, max_steps=30, **SETTINGS)
        i, j, turn = torch.randperm(len(x)), torch.randperm(len(y)), torch.tensor([3, 0, 4, 1, 2])
        moved = [Segments(index=turn[s.index[p]], num_segments=5) for s, p in ((a, i), (b, j))]
        torch.manual_seed(3)
        other = scene_flow(x[i], y[j], *moved, max_steps=30, **SETTINGS)
        torch.testing.assert_close(other.flow, found.flow[i], atol=1e-8, rtol=1e-6)
        torch.testing.assert_close(other.loss[turn], found.loss)
        torch.testing.assert_close(other.matched[turn], found.matched)
        torch.manual_seed(3)
        alone = scene_flow(split(x, a)[3], split(y, b)[3], max_steps=30, **SETTINGS)
        torch.testing.assert_close(alone.flow, split(found.flow, a)[3], atol=1e-8, rtol=1e-6)

    def test_a_pair_with_an_empty_cloud_stays_where_it_is(self):
        (x, a), (y, b) = clouds(COUNTS), clouds(OTHERS, seed=1)
        found = scene_flow(x, y, a, b, max_steps=3, **SETTINGS)
        assert found.steps.tolist() == [3, 0, 0, 3, 3]
        assert found.loss[[1, 2]].tolist() == found.matched[[1, 2]].tolist() == [0.0, 0.0]
        assert not split(found.flow, a)[2].any()
        nothing = scene_flow(x[:0], y[:0], max_steps=3)
        assert nothing.flow.shape == (0, 3) and nothing.steps.tolist() == [0]

    def test_matched_says_where_nothing_was_near(self):
        (x, a), (y, b) = clouds([6, 6]), clouds([6, 6], seed=1)
        y = torch.cat([y[:6], y[6:] + 100])
        with pytest.warns(
            UserWarning, match="pair 1 comes nearer .* `limit`, 3 \\(1 such pairs of 2"
        ):
            found = scene_flow(x, y, a, b, max_steps=20, **{**SETTINGS, "limit": 9.0})
        assert found.matched.tolist() == [1.0, 0.0]

    @pytest.mark.parametrize("offset", [100.0, 5_428_000.0])
    def test_where_the_origin_lies_does_not_matter(self, offset):
        """Networks that see coordinates of a survey begin with motions of kilometres."""
        (x, a), shift = clouds([20, 30], scale=0.5), torch.tensor([0.2, -0.1, 0.1], dtype=DOUBLE)
        far = torch.tensor([[offset, -offset, 3.0], [0.0, offset, 0.0]], dtype=DOUBLE)[a.index]
        flows = []
        for place in (torch.zeros_like(x), far):
            torch.manual_seed(3)
            found = scene_flow(x + place, x + shift + place, a, a, max_steps=200, **SETTINGS)
            flows.append(found.flow)
        # Chaotic: 200 steps make much of the last bits of the coordinates.
        torch.testing.assert_close(flows[0], flows[1], atol=0.02, rtol=0)
        assert float((flows[1] - shift).norm(dim=1).mean()) < 0.05

    @pytest.mark.parametrize("pool", ["sum", "max", "softmax", "median", "gnp", "attsets"])
    def test_any_pool_reduces_the_distances(self, pool):
        (x, a), (y, b) = clouds([9, 12]), clouds([8, 12], seed=1)
        module = aggr.resolve(pool, channels=1).double()
        before = copy.deepcopy(module.state_dict())
        torch.manual_seed(3)
        found = scene_flow(x, y, a, b, pool=module, max_steps=40, **SETTINGS)
        torch.manual_seed(3)
        first = scene_flow(x, y, a, b, pool=module, max_steps=1, **SETTINGS)
        assert bool((found.loss < first.loss).all())
        torch.manual_seed(3)
        mean = scene_flow(x, y, a, b, max_steps=40, **SETTINGS)
        assert not torch.allclose(found.flow, mean.flow)
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())

    def test_needs_no_gradients_around_it(self):
        (x, a), (y, b) = clouds([9, 12]), clouds([8, 12], seed=1)
        flows = []
        for mode in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
            torch.manual_seed(3)
            with mode:
                flows.append(scene_flow(x, y, a, b, max_steps=5, **SETTINGS).flow)
        assert torch.equal(flows[0], flows[1]) and torch.equal(flows[0], flows[2].clone())

    def test_refuses_what_makes_no_sense(self):
        (x, a), (y, b) = clouds([9, 12]), clouds([8, 12], seed=1)
        with pytest.raises(ValueError, match="must have as many clouds; got 2 and 1"):
            scene_flow(x, y, a)
        with pytest.raises(
            ValueError, match="`target` must have the columns and the dtype of `pos`, a float64"
        ):
            scene_flow(x, y.float(), a, b)
        with pytest.raises(ValueError, match="`lr` must be at least 0; got -1"):
            scene_flow(x, y, a, b, lr=-1)
        with pytest.raises(ValueError, match="`layers` must be an int of at least 1; got 0"):
            scene_flow(x, y, a, b, layers=0)
        with pytest.raises(ValueError, match="`pos`: cloud 0 has coordinates of"):
            scene_flow(x.float() + 1e6, y.float(), a, b)
        with pytest.raises(
            ValueError, match="loss of pair 0 is not finite after 1 steps: take a smaller `lr`"
        ):
            scene_flow(x, y, a, b, lr=1e200, width=4, layers=1)


@pytest.mark.slow
def test_a_real_sweep_that_turned_and_moved(shared_data):
    points = torch.from_numpy(read_cloud(shared_data / "lidar" / "kitti_000001.bin").points).float()
    near = points[(points[:, 2] > -1.4) & (points[:, :2].norm(dim=1) < 20)]
    turn, draws, n = 0.03, 4, 600
    rotation = torch.tensor(
        [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
    )
    shift = torch.tensor([0.8, -0.2, 0.0])
    picks = torch.stack([torch.randperm(len(near))[: 2 * n] for _ in range(draws)])
    pairs = Segments.from_counts(torch.full((draws,), n))
    first, second = near[picks[:, :n].flatten()], near[picks[:, n:].flatten()] @ rotation.T + shift
    truth = first @ rotation.T + shift - first
    errors = []
    for unit in (1.0, 5.0):
        small = unit**-2
        found = scene_flow(
            first / unit, second / unit, pairs, pairs, width=64, layers=4, max_steps=250,
            limit=2 * small, min_delta=1e-4 * small, weight_decay=1e-4 * small,
        )  # fmt: skip
        assert bool((found.matched > 0.95).all())
        errors.append(float(flow_errors(unit * found.flow, truth, pairs).epe.mean()))
    # Six other fours of draws have 0.195 to 0.237.
    assert errors[0] < 0.3 * float(truth.norm(dim=1).mean())
    # In a larger unit networks bend less; here nothing does.
    assert errors[1] < 0.9 * errors[0]
