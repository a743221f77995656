"""What the conformance suite does not see: values, limits, parameters and errors of each pool."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch
from torch_geometric.nn import aggr as pyg

from graphpool import Segments, aggr, attention, contributions, ops
from graphpool.ops import dispatch

COUNTS = torch.tensor([3, 0, 1, 5])


def bags(channels=4, positive=False, dtype=torch.float64):
    x = torch.randn(int(COUNTS.sum()), channels, dtype=dtype)
    return (x.abs() + 0.1 if positive else x), Segments.from_counts(COUNTS)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (aggr.Sum(), pyg.SumAggregation()),
        (aggr.Mean(), pyg.MeanAggregation()),
        (aggr.Max(), pyg.MaxAggregation()),
        (aggr.Min(), pyg.MinAggregation()),
        (aggr.Var(), pyg.VarAggregation()),
        (aggr.Std(), pyg.StdAggregation()),
        (aggr.Median(), pyg.MedianAggregation()),
        (aggr.Quantile(q=0.3), pyg.QuantileAggregation(0.3)),
        (aggr.SoftPool(t=0.7), pyg.SoftmaxAggregation(t=0.7)),
    ],
)
def test_agrees_with_pyg(ours, theirs):
    x, segments = bags()
    expected = theirs.double()(x, segments.index, dim_size=4)
    torch.testing.assert_close(ours.double()(x, segments), expected, rtol=1e-6, atol=1e-8)


class TestGNP:
    """The form that is one word: see TestPaperGNP for the other."""

    @staticmethod
    def made(channels=4, **values):
        """A pool with some growth and scale, and parameters, as given."""
        pool = aggr.GNP(channels).double()
        if "growth" in values:
            # Logs of what is made of bags of one and of 1024 elements, relative to the start, over 6.
            one = math.log(values.pop("scale", 1.0)) / 6
            values["size"] = [one, one + (values.pop("growth") - 0.25) * math.log(1024) / 6]
        with torch.no_grad():
            for name, value in values.items():
                getattr(pool, name).copy_(torch.as_tensor(value))
        return pool

    @pytest.mark.parametrize(("growth", "op"), [(1.0, ops.segment_sum), (0.0, ops.segment_mean)])
    def test_is_the_sum_and_the_mean_of_signed_elements(self, growth, op):
        x, segments = bags()
        torch.testing.assert_close(self.made(s=1.0, growth=growth)(x, segments), op(x, segments))

    @pytest.mark.parametrize("positive", [True, False])
    def test_is_what_the_formula_says(self, positive):
        x, segments = bags(positive=positive)
        torch.manual_seed(0)
        weights = {"s": torch.rand(4), "t": torch.randn(4)}
        pool = self.made(exponents=[-0.4, 0.1], growth=0.4, scale=3.0, **weights)
        shares, found = pool.shares.detach(), pool(x, segments)
        for bag in range(segments.num_segments):
            v = x[segments.index == bag]
            total = torch.zeros(4, dtype=torch.float64)
            if len(v):
                norms = [(v.abs() ** p).mean(0) ** (1 / p) for p in pool.p.detach().flatten()[:2]]
                sign = v.sum(0) / v.abs().sum(0)
                total = shares[0] * sign * norms[0] + shares[1] * sign * norms[1]
                total = 3 * len(v) ** 0.4 * (total + shares[2] * v.mean(0))
            torch.testing.assert_close(found[bag].detach(), total)

    def test_keeps_signs(self):
        x, segments = bags()
        pool = aggr.GNP(4).double()
        assert torch.equal(pool(-x, segments), -pool(x, segments))
        assert pool(x, segments).abs().max() > 0

    @pytest.mark.parametrize(("t", "op"), [(0.0, ops.segment_max), (1.0, ops.segment_min)])
    def test_tends_to_the_extrema_of_what_is_not_negative(self, t, op):
        x, segments = bags(positive=True)
        far = self.made(exponents=[50.0, 50.0], growth=0.0, s=0.0, t=t)
        torch.testing.assert_close(far(x, segments), op(x, segments), rtol=1e-2, atol=0.0)

    def test_is_a_norm_of_the_paper_times_a_share(self):
        x, segments = bags(positive=True)
        pool = self.made(s=0.0, t=0.0, growth=0.25)
        paper = aggr.GNP(form="paper", sign="plus").double()
        torch.testing.assert_close(pool(x, segments), paper(x, segments))

    @pytest.mark.parametrize("growth", [0.0, 0.5, 1.0])
    def test_growth_says_how_the_result_grows_with_the_bag(self, growth):
        pool, x = self.made(2, growth=growth), torch.tensor([[1.0, -1.0], [5.0, 2.0]]).double()
        torch.testing.assert_close(pool(x.repeat(4, 1)), 4**growth * pool(x))
        torch.testing.assert_close(pool.q, 1 / pool.p - pool.g)

    def test_a_wrong_scale_does_not_move_the_growth(self):
        pool, segments = aggr.GNP(4), Segments.from_counts(torch.randint(2, 900, (32,)))
        x, optimizer = (
            torch.rand(segments.num_elements, 4),
            torch.optim.Adam(pool.parameters(), 0.01),
        )
        for _ in range(5):
            optimizer.zero_grad()
            (pool(x, segments) - 1000).square().mean().backward()
            optimizer.step()
        assert pool.c.item() > 1.3 and abs(pool.g.item() - 0.25) < 0.01

    @pytest.mark.parametrize("channels", [1, 3, 16, 256])
    def test_has_few_parameters_and_starts_alike_everywhere(self, channels):
        pool = aggr.GNP(channels)
        assert sum(weight.numel() for weight in pool.parameters()) == 2 * channels + 4
        assert pool.s.min() >= 0 and pool.s.max() < 1 and pool.t.abs().max() <= 0.5
        before = copy.deepcopy(pool.state_dict())
        with torch.no_grad():
            for weight in pool.parameters():
                weight.add_(1)
        pool.reset_parameters()
        torch.testing.assert_close(dict(pool.state_dict()), dict(before))
        if channels == 256:
            assert (
                abs(float(pool.s.detach().mean()) - 0.5) < 0.02
                and abs(float(pool.t.detach().mean())) < 0.02
            )

    @pytest.mark.parametrize("step", [-1e6, 0.0, 1e6])
    def test_exponents_keep_their_sign_and_their_bound(self, step):
        pool = self.made(exponents=[step, step])
        assert pool.p.flatten().tolist()[:2] == pytest.approx(
            [8.0, -8.0] if step == 0 else [1000.0, -1000.0]
        )
        assert pool(torch.rand(6, 4).double()).isfinite().all()

    @pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4, 1e30])
    @pytest.mark.parametrize("exponent", [-0.65, -0.4, 0.0, 3.0])
    def test_no_derivative_to_an_element_is_large(self, exponent, scale):
        x, segments = bags()
        x = (x * scale * 10 ** (8 * torch.rand(x.shape) - 4)).requires_grad_()
        for s, t in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)):
            pool = self.made(exponents=[exponent] * 2, growth=0.0, s=s, t=t)
            (slope,) = torch.autograd.grad(pool(x, segments).sum(), x)
            n = segments.counts.max().double()
            p2 = -pool.p[1].detach()
            bound = 1.0 if s else 3 * float(n ** (1 / p2) if t else 1)
            assert float(slope.abs().max()) <= bound

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_sign_of_what_is_not_negative_is_one_exactly(self, dtype):
        torch.manual_seed(0)
        segments = Segments.from_counts(torch.randint(0, 900, (40,)))
        x = torch.rand(segments.num_elements, 4, dtype=dtype)
        pool = self.made(s=0.0, t=0.0, growth=0.0).to(dtype)
        mix, p = torch.ones(3, 4, dtype=dtype), torch.tensor([1.0, -1.0], dtype=dtype)
        inputs = (x, p, mix, x.new_zeros(1))
        dispatch.load()
        op = dispatch.OPERATORS["segment_mixed_means"]
        _, kept, _ = op.results(inputs, segments, None, None)
        # The sum of the elements, and that of their sizes.
        assert torch.equal(kept[:, 2], kept[:, 3])
        p = pool.p[0].detach()
        norm = ops.segment_power(x, segments, p, 1 / p)
        growth = segments.counts.clamp(min=1)[:, None].to(dtype) ** pool.g
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(pool(x, segments), norm * growth, rtol=16 * eps, atol=0)

    def test_a_bag_of_zeros_and_one_that_cancels(self):
        x = torch.tensor([[0.0], [0.0], [2.0], [-2.0]], requires_grad=True)
        pool = aggr.GNP(1)
        y = pool(x, Segments(ptr=torch.tensor([0, 2, 4])))
        y.sum().backward()
        assert y.tolist() == [[0.0], [0.0]] and x.grad.isfinite().all()

    @pytest.mark.parametrize("op", [ops.segment_sum, ops.segment_mean, ops.segment_max])
    def test_learns_by_plain_adam(self, op):
        torch.manual_seed(0)
        pool, head = aggr.GNP(8), torch.nn.Linear(8, 1)
        optimizer = torch.optim.Adam([*pool.parameters(), *head.parameters()], lr=0.02)
        losses = []
        for _ in range(300):
            segments = Segments.from_counts(torch.randint(2, 12, (48,)))
            x = torch.randn(segments.num_elements, 1)
            x = x.abs() if op is ops.segment_max else x
            loss = (head(pool(x.expand(-1, 8), segments)) - op(x, segments)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-20:]) < 0.05 * sum(losses[:20])

    @pytest.mark.parametrize("old", [{}, {"sign": "plus"}])
    @pytest.mark.parametrize("strict", [True, False])
    def test_a_state_of_the_paper_says_where_it_belongs(self, old, strict):
        state = aggr.GNP(4, form="paper", **old).state_dict()
        for pool in (aggr.GNP(4), aggr.GNP(-1)):
            with pytest.raises(ValueError, match="form='paper'"):
                pool.load_state_dict(state, strict=strict)
        network = torch.nn.Sequential(torch.nn.Linear(4, 4), aggr.GNP(4))
        with pytest.raises(ValueError, match=r"The state of 1 .*form='paper'"):
            network.load_state_dict({f"1.{key}": value for key, value in state.items()}, strict)
        aggr.GNP(4, form="paper", **old).load_state_dict(state)

    @pytest.mark.parametrize("channels", [4, -1])
    def test_a_state_without_a_scale_is_taken_over(self, channels):
        old = self.made(growth=0.25).state_dict() | {"size": torch.tensor([-0.2]).double()}
        pool = aggr.GNP(channels).double()
        pool.load_state_dict(old | {"num_channels": torch.tensor(4)} if channels < 0 else old)
        assert pool.g.item() == pytest.approx(0.25 - 0.3 * 0.2 - 2 * 0.2**2) and pool.c.item() == 1
        assert old["size"].numel() == 1

    def test_forms_and_their_arguments(self):
        assert type(aggr.GNP(4)) is aggr.GNP
        for paper in (aggr.GNP(4, form="paper"), aggr.resolve("gnp", channels=4, form="paper")):
            assert type(paper) is type(copy.deepcopy(paper)) is aggr.PaperGNP
        for make in (aggr.GNP, functools.partial(aggr.resolve, "gnp")):
            with pytest.raises(TypeError, match="`negative`, `sign` .*form='paper'"):
                make(channels=4, sign="plus", negative="split")
            with pytest.raises(ValueError, match="'old'"):
                make(channels=4, form="old")
            with pytest.raises(ValueError, match="`channels`"):
                make()
        with pytest.raises(ValueError, match="'mixed'"):
            aggr.PaperGNP(4, form="mixed")


class TestPaperGNP:
    @pytest.mark.parametrize(
        ("p", "q", "op"), [(1.0, 0.0, ops.segment_sum), (1.0, 1.0, ops.segment_mean)]
    )
    @pytest.mark.parametrize("negative", ["split", "abs"])
    def test_is_the_sum_and_the_mean(self, p, q, op, negative):
        x, segments = bags(positive=negative == "abs")
        pool = aggr.GNP(form="paper", sign="plus", p=p, q=q, negative=negative).double()
        torch.testing.assert_close(pool(x, segments), op(x, segments))

    @pytest.mark.parametrize(
        ("sign", "op"), [("plus", ops.segment_max), ("minus", ops.segment_min)]
    )
    def test_tends_to_the_extrema(self, sign, op):
        x, segments = bags(positive=True)
        far = aggr.GNP(form="paper", sign=sign, p=1000.0, q=0.0).double()(x, segments)
        torch.testing.assert_close(far, op(x, segments), rtol=2e-3, atol=0.0)

    def test_both_is_a_linear_map_of_the_two(self):
        x, segments = bags(positive=True)
        pool = aggr.GNP(4, form="paper", p=2.0, q=0.3).double()
        norms = [ops.segment_power(x, segments, p, 0.3) for p in (2.0, -2.0)]
        torch.testing.assert_close(
            pool(x, segments), torch.cat(norms, 1) @ pool.combine.weight.T, rtol=1e-6, atol=1e-8
        )

    def test_exponents_per_channel(self):
        x, segments = bags(positive=True)
        pool = aggr.GNP(4, form="paper", sign="plus", shared=False).double()
        with torch.no_grad():
            pool.a.copy_(torch.tensor([[-1.0, 0.0, 1.0, 2.0]]))
        expected = torch.stack(
            [
                ops.segment_power(
                    x[:, c], segments, float(pool.p[0, c].detach()), float(pool.q[0, c].detach())
                )
                for c in range(4)
            ],
            1,
        )
        torch.testing.assert_close(pool(x, segments), expected)

    def test_exponents_keep_their_sign_whatever_the_step(self):
        pool = aggr.GNP(4, form="paper")
        with torch.no_grad():
            pool.a.fill_(-1e6)
        assert pool.p.flatten().tolist() == [1.0, -1.0]

    @pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 40.0, 500.0])
    def test_starts_where_it_is_told(self, p):
        pool = aggr.GNP(4, form="paper", p=p, q=0.25)
        torch.testing.assert_close(pool.p.flatten(), torch.tensor([p, -p]))
        torch.testing.assert_close(pool.q, torch.full((2, 1), 0.25))
        before = copy.deepcopy(pool.state_dict())
        with torch.no_grad():
            pool.a.add_(1)
            pool.growth.add_(1)
        pool.reset_parameters()
        torch.testing.assert_close(pool.a, before["a"])
        torch.testing.assert_close(pool.growth, before["growth"])

    @pytest.mark.parametrize("growth", [0.0, 0.5, 1.0])
    def test_growth_says_how_the_result_grows_with_the_bag(self, growth):
        pool = aggr.GNP(form="paper", sign="plus", growth=growth).double()
        x = torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64)
        ratio = pool(x.repeat(4, 1)) / pool(x)
        torch.testing.assert_close(ratio, torch.tensor([[4.0**growth]], dtype=torch.float64))
        torch.testing.assert_close(pool.q, 1 / pool.p - growth)

    def test_exponents_stay_below_their_bound(self):
        pool = aggr.GNP(4, form="paper", p_max=50.0)
        with torch.no_grad():
            pool.a.fill_(1e6)
        assert pool.p.flatten().tolist() == pytest.approx([50.0, -50.0])
        assert pool(torch.rand(6, 4)).isfinite().all()

    def test_offset_keeps_gnp_minus_alive(self):
        x = torch.tensor([[0.0], [2.0]], requires_grad=True)
        assert aggr.GNP(form="paper", sign="minus", p=2.0, q=0.0)(x).item() == 0
        assert aggr.GNP(form="paper", sign="minus", p=2.0, q=0.0, offset=0.1)(x).item() > 0.09

    @pytest.mark.parametrize("policy", ["abs", "split", "clamp", "raise"])
    def test_negative_elements(self, policy):
        x = torch.tensor([[3.0], [-4.0]])
        pool = aggr.GNP(form="paper", sign="plus", p=2.0, q=0.0, negative=policy)
        if policy == "raise":
            with pytest.raises(ValueError, match=r"got -4.0 at \[1, 0\]"):
                pool(x)
            return
        assert pool(x).item() == pytest.approx({"abs": 5, "split": -1, "clamp": 3}[policy])

    def test_learns_the_maximum(self):
        """From an interior start, gradient steps lead to max: p grows, q falls to 1 / p or below."""
        torch.manual_seed(0)
        pool = aggr.GNP(form="paper", sign="plus", p=1.5, q=0.5)
        optimizer = torch.optim.Adam(pool.parameters(), lr=0.1)
        counts = torch.randint(2, 30, (64,))
        segments = Segments.from_counts(counts)
        losses = []
        for _ in range(400):
            x = torch.rand(int(counts.sum()), 1)
            loss = (pool(x, segments) - ops.segment_max(x, segments)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert float(pool.p.detach()) > 3 and float(pool.q.detach()) < 0.2
        assert losses[-1] < 0.5 * losses[0]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"sign": "plus", "p": 0.5}, "p_min=1.0; got 0.5"),
            ({"sign": "plus", "p": math.inf}, "finite"),
            ({"sign": "plus", "p": 2e3}, "p_max=1000.0 and .* got 2000.0"),
            ({"sign": "plus", "p_max": 0.5}, "p_min=1.0; got 0.5"),
            ({"sign": "up"}, "'up'"),
            ({}, "sign='both'"),
            ({"sign": "plus", "shared": False}, "shared=False"),
            ({"sign": "plus", "negative": "ignore"}, "'ignore'"),
            ({"sign": "plus", "offset": -1.0}, "-1.0"),
            ({"sign": "plus", "p_min": 0.0}, "0.0"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            aggr.GNP(form="paper", **arguments)


class TestPowerMean:
    @pytest.mark.parametrize("p", [1.0, 2.0, 3.0, -1.0, -2.0])
    def test_value(self, p):
        x, segments = bags(positive=True)
        y = aggr.PowerMean(p=p).double()(x, segments)
        mean = ops.segment_mean(x**p, segments)
        expected = torch.where(mean > 0, mean, 1) ** (1 / p) * (COUNTS > 0)[:, None]
        torch.testing.assert_close(y, expected)

    def test_large_inputs_are_not_clamped(self):
        assert aggr.PowerMean(p=2.0)(torch.tensor([[2e3], [2e3]])).item() == pytest.approx(2e3)

    def test_groups(self):
        x, segments = bags(positive=True)
        pool = aggr.PowerMean(4, groups=2).double()
        with torch.no_grad():
            pool.p.copy_(torch.tensor([2.0, 3.0]))
        expected = torch.cat(
            [
                aggr.PowerMean(p=p).double()(x[:, c], segments)
                for p, c in ((2.0, [0, 1]), (3.0, [2, 3]))
            ],
            1,
        )
        torch.testing.assert_close(pool(x, segments), expected)
        with pytest.raises(ValueError, match="divisor of 4"):
            aggr.PowerMean(4, groups=3)
        with pytest.raises(ValueError, match="must not be 0"):
            aggr.PowerMean(p=0.0)

    def test_gem_drops_negative_elements(self):
        assert aggr.GeM(p=1.0)(torch.tensor([[4.0], [-3.0]])).item() == pytest.approx(2.0)


class TestSoftPool:
    def test_limits(self):
        x, segments = bags()
        for t, op in ((0.0, ops.segment_mean), (1e4, ops.segment_max), (-1e4, ops.segment_min)):
            y = aggr.SoftPool(t=t).double()(x, segments)
            torch.testing.assert_close(y, op(x, segments), rtol=1e-4, atol=1e-6)

    def test_full_and_semi_gradient(self):
        x, segments = bags()
        x.requires_grad_()
        weights = ops.segment_softmax(x, segments).detach()
        y = ops.segment_softmax_sum(x, x, segments).detach()[segments.index]
        for semi, expected in ((True, weights), (False, weights * (1 + x - y))):
            pool = aggr.SoftPool(learn=not semi, semi_grad=semi).double()
            (grad,) = torch.autograd.grad(pool(x, segments).sum(), x)
            torch.testing.assert_close(grad, expected.detach())

    def test_gradient_of_the_temperature_is_the_weighted_variance(self):
        x, segments = bags(1)
        pool = aggr.SoftPool().double()
        pool(x, segments).sum().backward()
        w = ops.segment_softmax(x, segments)
        first = ops.segment_sum(w * x, segments)
        expected = (ops.segment_sum(w * x * x, segments) - first**2).sum()
        torch.testing.assert_close(pool.t.grad.squeeze(), expected)

    def test_temperature_per_channel(self):
        x, segments = bags()
        pool = aggr.SoftPool(4, per_channel=True).double()
        assert pool.t.shape == (4,)
        with pytest.raises(ValueError, match="channels"):
            aggr.SoftPool(per_channel=True)
        with pytest.raises(ValueError, match="semi_grad"):
            aggr.SoftPool(semi_grad=True)


def test_logsumexp_bounds():
    x, segments = bags()
    top = ops.segment_max(x, segments)
    slack = 0.5 * COUNTS.clamp(min=1).double().log()[:, None]
    soft, mean = (aggr.LogSumExp(tau=0.5, mean=m).double()(x, segments) for m in (False, True))
    assert ((top <= soft + 1e-12) & (soft <= top + slack + 1e-12)).all()
    assert ((top - slack <= mean + 1e-12) & (mean <= top + 1e-12)).all()


class TestAttSets:
    def test_no_scores_is_the_mean_and_one_element_is_itself(self):
        x, segments = bags()
        pool = aggr.AttSets(4).double()
        torch.testing.assert_close(pool(x, segments)[2], x[3])
        torch.nn.init.zeros_(pool.score.weight)
        torch.testing.assert_close(pool(x, segments), ops.segment_mean(x, segments))

    def test_against_the_dense_form(self):
        x, segments = bags()
        pool = aggr.AttSets(4, num_outputs=3, activation="tanh", return_weights=True).double()
        y, weights = pool(x, segments)
        assert y.shape == (4, 12) and pool.out_channels == 12 and weights.shape == (9, 3, 4)
        score = (x @ pool.score.weight.T + pool.score.bias).tanh().view(-1, 3, 4)
        for s, rows in ((0, slice(0, 3)), (2, slice(3, 4)), (3, slice(4, 9))):
            a = score[rows].softmax(0)
            torch.testing.assert_close(weights[rows], a)
            torch.testing.assert_close(y[s], (a * x[rows, None]).sum(0).flatten())

    def test_maps_get_scores_at_every_position(self):
        x = torch.randn(9, 5, 4, dtype=torch.float64)
        segments = Segments.from_counts(COUNTS)
        pool = aggr.AttSets(4).double()
        y = pool(x, segments, dim=0)
        for position in range(5):
            torch.testing.assert_close(y[:, position], pool(x[:, position], segments))


class TestMulti:
    def test_repeated_members(self):
        x, segments = bags()
        y = aggr.Multi(members=["mean", "mean", "sum", "std", "std"])(x, segments)
        singles = [aggr.resolve(n)(x, segments) for n in ("mean", "mean", "sum", "std", "std")]
        torch.testing.assert_close(y, torch.cat(singles, 1))

    def test_mixture(self):
        x, segments = bags()
        pool = aggr.Multi(members=["sum", "max", "sum"], mode="mixture").double()
        with torch.no_grad():
            pool.logits.copy_(torch.tensor([0.0, math.log(2), 0.0]))
        assert pool.mixture == pytest.approx({"sum": 0.5, "max": 0.5})
        expected = 0.5 * ops.segment_sum(x, segments) + 0.5 * ops.segment_max(x, segments)
        torch.testing.assert_close(pool(x, segments), expected)

    def test_takes_pyg_pools_even_those_that_want_sorted_elements(self):
        x, segments = bags()
        order = torch.randperm(9)
        shuffled = Segments(index=segments.index[order], num_segments=4)
        pool = aggr.Multi(members=["sum", pyg.SortAggregation(k=2)]).double()
        torch.testing.assert_close(pool(x[order], shuffled), pool(x, segments))

    def test_errors(self):
        with pytest.raises(ValueError, match="at least one"):
            aggr.Multi(members=[])
        with pytest.raises(ValueError, match="'stack'"):
            aggr.Multi(members=["sum"], mode="stack")
        with pytest.raises(ValueError, match="equal width"):
            aggr.Multi(members=["sum", aggr.AttSets(4, num_outputs=2)], mode="mixture", channels=4)(
                torch.ones(2, 4)
            )
        with pytest.raises(AttributeError, match="mixture"):
            _ = aggr.Multi(members=["sum"]).mixture
        with pytest.raises(ValueError, match="takes no `weight`"):
            aggr.Multi(members=[pyg.SumAggregation()])(torch.ones(2, 4), weight=torch.ones(2))


class TestContributions:
    @pytest.mark.parametrize(
        "pool",
        [
            aggr.Sum(), aggr.Mean(), aggr.Max(), aggr.Min(), aggr.Std(), aggr.Median(),
            aggr.GNP(form="paper", sign="plus", p=2.5, q=0.3), aggr.GNP(form="paper", sign="minus", p=2.0),
            aggr.PowerMean(p=3.0), aggr.GNP(4),
            aggr.GNP(4, form="paper", sign="plus", shared=False), aggr.GeM(),
        ],
        ids=repr,
    )  # fmt: skip
    def test_add_up_to_the_output(self, pool):
        x, segments = bags(positive=True)
        pool = pool.double()
        share = contributions(pool, x, segments)
        torch.testing.assert_close(ops.segment_sum(share, segments), pool(x, segments).detach())

    @pytest.mark.parametrize("pool", [aggr.SoftPool(), aggr.AttSets(4), aggr.LogSumExp()], ids=repr)
    def test_are_the_weights_of_softmax_like_pools(self, pool):
        x, segments = bags()
        share = attention(pool.double(), x, segments.index, dim_size=4)
        total = ops.segment_sum(share, segments)
        torch.testing.assert_close(total, (COUNTS > 0).double()[:, None].expand(4, 4))

    def test_of_integers_is_an_error(self):
        with pytest.raises(TypeError, match="floating point"):
            contributions(aggr.Sum(), torch.ones(2, 2).long())


@pytest.mark.parametrize("name", [n for n in aggr.names() if aggr.lookup(n).supports_gather])
def test_gather_is_the_same_as_making_the_elements(name):
    _, segments = bags()
    rows = torch.randn(5, 4, dtype=torch.float64)
    weight = torch.rand(9, dtype=torch.float64)
    gather = torch.randint(0, 5, (9,))
    pool = aggr.resolve(name, channels=4, **aggr.lookup(name).example_arguments).double().eval()
    expected = pool.pool(rows[gather], segments, weight)
    torch.testing.assert_close(pool.pool(rows, segments, weight, gather=gather), expected)
    by_rows = Segments(index=gather, num_segments=5)
    torch.testing.assert_close(pool.pool(rows, segments, weight, gather=by_rows), expected)
