"""Each point of the suite notices at least two pools that were broken for it, and passes a sound one."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn.aggr import Aggregation as PyGAggregation

from graphpool import Segments, aggr, ops, states, testing
from graphpool.aggr.base import as_segments

CHANNELS = 4


class Sound(aggr.Aggregation):
    """A mean with a learned factor, in which there is nothing to find fault with."""

    learnable = True

    def build(self, channels):
        self.factor = torch.nn.Parameter(torch.empty(channels))

    def reset_parameters(self):
        torch.nn.init.constant_(self.factor, 1.5)

    def pool(self, x, segments, weight=None):
        y = ops.segment_mean(x, segments, weight)
        return y * self.factor.to(y.dtype)


BROKEN: dict[str, list[type]] = {point: [] for point in testing.POINTS}


def breaks(*points):
    def decorate(cls):
        for point in points:
            BROKEN[point].append(cls)
        return cls

    return decorate


def after(*points):
    """Makes a pool of a function that spoils the sound result."""

    def decorate(function):
        class Spoilt(Sound):
            def pool(self, x, segments, weight=None):
                return function(super().pool(x, segments, weight), x, segments, weight)

        Spoilt.__name__ = function.__name__
        breaks(*points)(Spoilt)
        return function

    return decorate


def full(y, segments):
    return (segments.counts > 0).to(y.dtype).view(-1, *[1] * (y.dim() - 1))


# --- invariance ------------------------------------------------------------------------------------


@after("permutation")
def sees_the_first_element(y, x, s, w):
    return y + x[:1] * full(y, s) if len(x) else y


@after("permutation")
def counts_places(y, x, s, w):
    place = torch.arange(len(x), dtype=y.dtype).view(-1, *[1] * (x.dim() - 1))
    return y + ops.segment_mean(place * x, s, w)


@after("independence")
def centres_over_the_batch(y, x, s, w):
    return y - y.mean(0, keepdim=True) * full(y, s)


@after("independence")
def counts_the_batch(y, x, s, w):
    return y * len(x)


@after("forms")
def takes_offsets_for_twice_as_much(y, x, s, w):
    return y * (2 if s._index is None else 1)


@after("forms")
def drops_nan_with_an_index(y, x, s, w):
    return y if s._index is None else y.nan_to_num(0.0)


@after("unsorted")
def takes_elements_for_sorted(y, x, s, w):
    return y + ops.segment_mean(x, Segments(ptr=s.ptr), w)


@after("unsorted")
def looks_where_the_bag_would_begin(y, x, s, w):
    return y + x[s.ptr[:-1].clamp(max=len(x) - 1)] * full(y, s) if len(x) else y


@after("deterministic")
def adds_noise(y, x, s, w):
    return y + 1e-3 * torch.rand(()).to(y.dtype)


@after("deterministic")
def counts_threads(y, x, s, w):
    return y * torch.get_num_threads()


@after("weights")
def forgets_the_weights(y, x, s, w):
    return y + ops.segment_sum(x, s)


@after("weights")
def takes_weights_for_shares(y, x, s, w):
    return y + ops.segment_sum(x, s, None if w is None else w / w.max().clamp_min(1))


@breaks("duplicates")
class Remembers(Sound):
    calls = 0

    def pool(self, x, segments, weight=None):
        self.calls += 1
        return self.calls * super().pool(x, segments, weight)


@breaks("duplicates")
class WritesToItsInput(Sound):
    def pool(self, x, segments, weight=None):
        return super().pool(x.mul_(2), segments, weight)


@after("ties")
def favours_the_second_element(y, x, s, w):
    return y + (x[1:2] - x[1:2].detach()) if len(x) > 1 else y


@after("ties")
def has_an_infinite_slope(y, x, s, w):
    mean = ops.segment_mean(x, s)
    return y + (x - mean[s.index]).abs().sqrt().sum(0)


@after("neighbors")
def lets_enormous_values_through(y, x, s, w):
    return y + 1e-30 * x.abs().amax() * full(y, s) if len(x) else y


@after("neighbors")
def sums_over_the_batch_and_subtracts(y, x, s, w):
    weighed = x if w is None else x * w.to(x.dtype)[:, None]
    total = torch.cat([0 * y[:1], weighed.cumsum(0)])
    return y + total[s.ptr[1:]] - total[s.ptr[:-1]]


@after("absent")
def divides_by_all_there_are(y, x, s, w):
    return y + ops.segment_sum(x, s, w) / s.counts.clamp_min(1).to(y.dtype).view(-1, 1)


@after("absent")
def adds_what_is_absent_and_subtracts_it(y, x, s, w):
    absent = 0 * y if w is None else ops.segment_sum(torch.where(w[:, None] == 0, x, 0), s)
    return y + absent - absent


class Raw(Sound):
    """Elements come as they are, without what the base class does to them."""

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2, weight=None):
        return self.pool(x, as_segments(x, index, ptr, dim_size), weight)

    def pool(self, x, segments, weight=None):
        w = x.new_ones(len(x)) if weight is None else weight.to(x.dtype)
        n = ops.segment_sum(w, segments).clamp_min(1).unsqueeze(1)
        return self.factor * ops.segment_sum(self.weighed(x, w.unsqueeze(1)), segments) / n


@breaks("absent")
class MultipliesByZero(Raw):
    def weighed(self, x, w):
        return w * x


@breaks("absent")
class MultipliesTheDerivativeByZero(Raw):
    def weighed(self, x, w):
        return torch.where(w == 0, 0, w * x * x)


# --- values ----------------------------------------------------------------------------------------


@after("empty")
def adds_one(y, x, s, w):
    return y + 1


@after("empty")
def is_nan_where_empty(y, x, s, w):
    return torch.where(full(y, s) > 0, y, torch.nan)


@after("empty")
def empty_bags_have_a_gradient(y, x, s, w):
    return y + (1 - full(y, s)) * (x.sum() - x.sum().detach())


@after("half")
def comes_out_as_float(y, x, s, w):
    return y.float()


@after("half")
def rounds_on_the_way(y, x, s, w):
    return y + ops.segment_mean((x + 100) - 100, s, w)


@breaks("half")
class MagnifiesRounding(Sound):
    def pool(self, x, segments, weight=None):
        y = super().pool(x, segments, weight)
        return y + (50 * (x + 1 + self.factor.to(x.dtype)).sum(-1) % 1).mean() * full(y, segments)


@after("compile")
def branches_on_values(y, x, s, w):
    return y * (1.0 if float(y.sum().detach()) > -1e30 else 0.0)


@after("compile")
def is_another_when_compiled(y, x, s, w):
    return y * (2 if torch.compiler.is_compiling() else 1)


@after("offset")
def subtracts_squares(y, x, s, w):
    return ops.segment_mean(x * x, s, w) - ops.segment_mean(x, s, w) ** 2


@after("offset")
def subtracts_cubes(y, x, s, w):
    first, second, third = (ops.segment_mean(x**k, s, w) for k in (1, 2, 3))
    return third - 3 * first * second + 2 * first**3


@after("ndim")
def mixes_the_slices(y, x, s, w):
    return y.mean(1, keepdim=True).expand_as(y) if y.dim() == 3 else y


@after("ndim")
def turns_the_slices_round(y, x, s, w):
    return y.flip(1) if y.dim() == 3 else y


class Integers(aggr.Aggregation):
    accepts_integers = True


@breaks("integers")
class IntegersBecomeFloats(Integers):
    def pool(self, x, segments, weight=None):
        return ops.segment_sum(x, segments, weight).double()


@breaks("integers")
class IntegersAreRounded(Integers):
    def pool(self, x, segments, weight=None):
        return ops.segment_mean(x.double(), segments, weight).to(x.dtype)


@breaks("integers")
class LargeIntegersAreRounded(Integers):
    moment = "sum"

    def pool(self, x, segments, weight=None):
        return ops.segment_sum(x.double(), segments, weight).to(x.dtype)


@breaks("mismatch")
class Swallows(Sound):
    def forward(self, x, *args, **kwargs):
        try:
            return super().forward(x, *args, **kwargs)
        except ValueError:
            return x


@breaks("mismatch")
class BelievesTheIndex(Sound):
    def forward(self, x, index=None, ptr=None, **kwargs):
        return super().forward(x, index, None if index is not None else ptr, **kwargs)


# --- derivatives -----------------------------------------------------------------------------------


@after("gradients")
def doubles_the_gradient(y, x, s, w):
    return y + (y - y.detach())


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return grad * 2 * ctx.saved_tensors[0].detach()


@after("gradients")
def has_no_second_derivative(y, x, s, w):
    return y + _Square.apply(ops.segment_mean(x, s, w))


class ByOffsets(Sound):
    """Spoils what comes of offsets. Their index is there once it has been asked for."""

    def pool(self, x, segments, weight=None):
        by_offsets = segments._index is None
        y = super().pool(x, segments, weight)
        return self.spoilt(y) if by_offsets else self.sound(y)

    def sound(self, y):
        return y


@breaks("gradients")
class DoublesTheGradientByOffsets(ByOffsets):
    def spoilt(self, y):
        return y + (y - y.detach())


@breaks("gradients")
class HasNoSecondDerivativeByOffsets(ByOffsets):
    def sound(self, y):
        return y * y

    def spoilt(self, y):
        return _Square.apply(y)


class _ByMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * (2 if torch.is_grad_enabled() else 1)


@after("regradients")
def another_gradient_for_elements(y, x, s, w):
    return y + _ByMode.apply(ops.segment_mean(x, s, w))


@breaks("regradients")
class AnotherGradientForParameters(Sound):
    def pool(self, x, segments, weight=None):
        return ops.segment_mean(x, segments, weight) * _ByMode.apply(self.factor)


@after("transforms")
def legacy_function(y, x, s, w):
    return _Square.apply(y)


class _NoTangent(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad

    @staticmethod
    def jvp(ctx, tangent):
        return 0 * tangent


@after("transforms")
def has_no_tangent(y, x, s, w):
    return _NoTangent.apply(y)


@after("transforms")
def is_another_when_vectorised(y, x, s, w):
    return y * (2 if torch._C._functorch.is_batchedtensor(y) else 1)


@breaks("inference")
class KeepsWhatInferenceMade(Sound):
    kept = None

    def pool(self, x, segments, weight=None):
        if self.kept is None:
            self.kept = 1 / segments.counts.clamp_min(1).to(x.dtype)[:, None]
        return self.factor * ops.segment_sum(x, segments, weight) * self.kept


@breaks("inference")
class StaysInInference(Sound):
    seen = False

    def pool(self, x, segments, weight=None):
        self.seen = self.seen or torch.is_inference_mode_enabled()
        y = super().pool(x, segments, weight)
        return y.detach() if self.seen else y


# --- modules ---------------------------------------------------------------------------------------


@breaks("channels")
class AnotherArgumentFirst(Sound):
    def __init__(self, k=1, channels=None):
        super().__init__(channels)


@breaks("channels")
class SecondArgumentByPlace(Sound):
    def __init__(self, channels=None, k=1):
        super().__init__(channels)


@breaks("lazy")
class HidesThatItWaits(Sound):
    needs_channels = False


@breaks("lazy")
class BuildsInOnePrecision(Sound):
    def _build_now(self, channels):
        super()._build_now(channels)
        self.float()


@breaks("lazy")
class CannotBeCopied(Sound):
    def __init__(self, channels=None):
        super().__init__(channels)
        self.function = lambda x: x


@breaks("lazy")
class BuildsInTrainingMode(Sound):
    def _build_now(self, channels):
        super()._build_now(channels)
        self.drop = torch.nn.Dropout()


@breaks("lazy")
class HasNoStateYet(Sound):
    def state_dict(self, *args, **kwargs):
        return {"factor": self.factor}


@breaks("arguments")
class TakesAnything(Sound):
    def pool(self, x, segments, weight=None, **kwargs):
        return super().pool(x, segments, weight)


@breaks("arguments")
class DropsWhatItDoesNotKnow(Sound):
    def forward(self, x, index=None, weight=None, **kwargs):
        return super().forward(x, index, weight=weight)


@breaks("hooks")
class CallsForwardItself(Sound):
    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


@breaks("hooks")
class CallsTwice(Sound):
    def __call__(self, *args, **kwargs):
        super().__call__(*args, **kwargs)
        return super().__call__(*args, **kwargs)


@breaks("sizes")
class WantsPythonsInteger(Sound):
    def forward(self, x, index=None, dim_size=None, **kwargs):
        if not (dim_size is None or type(dim_size) is int):
            raise TypeError("an int, please")
        return super().forward(x, index, dim_size=dim_size, **kwargs)


@breaks("sizes")
class RoundsSizes(Sound):
    def forward(self, x, index=None, dim_size=None, **kwargs):
        return super().forward(
            x, index, dim_size=None if dim_size is None else int(dim_size), **kwargs
        )


# --- pieces ----------------------------------------------------------------------------------------


def merges(*points, **changes):
    """A pool whose pieces are sums of its elements, with a method of the sums replaced."""

    def decorate(finish):
        class Merging(Sound):
            def merging(self):
                form = states.Sums(lambda sums: finish(self, sums))
                for name, change in changes.items():
                    setattr(form, name, change)
                return form

        Merging.__name__ = finish.__name__
        breaks(*points)(Merging)
        return finish

    return decorate


def mean_of(sums):
    return sums["x"] / states.size_of(sums, sums["x"])


@merges("pieces")
def forgets_the_factor(pool, sums):
    return mean_of(sums)


@merges("pieces", encode=lambda x: {"x": x - x.mean(0)})
def centres_each_piece(pool, sums):
    return mean_of(sums) * pool.factor


@merges("passes")
def cuts_the_factor_off(pool, sums):
    return mean_of(sums) * pool.factor.detach()


@merges("passes", encode=lambda x: {"x": x.detach()})
def cuts_the_elements_off(pool, sums):
    return mean_of(sums) * pool.factor


class Merges(Sound):
    def merging(self):
        return states.Sums(lambda sums: mean_of(sums) * self.factor)


@pytest.mark.parametrize("point", ["pieces", "passes"])
def test_a_pool_whose_pieces_merge_passes(point):
    assert Merges.mergeable and not Sound.mergeable
    assert testing.check(point, Merges(CHANNELS), CHANNELS) is None


@pytest.mark.parametrize("point", testing.POINTS)
def test_a_sound_pool_passes(point):
    assert testing.check(point, Sound(CHANNELS), CHANNELS) is None


def test_each_point_has_two_broken_pools():
    assert {point: len(broken) for point, broken in BROKEN.items() if len(broken) < 2} == {}


@pytest.mark.parametrize(
    ("point", "broken"),
    [
        pytest.param(point, cls, id=f"{point}-{cls.__name__}")
        for point, classes in BROKEN.items()
        for cls in classes
    ],
)
def test_a_broken_pool_is_noticed(point, broken):
    # Most fail a comparison; what cannot be compiled, saved or differentiated raises an error of its own.
    with pytest.raises((AssertionError, RuntimeError, TypeError, AttributeError)):
        testing.check(point, broken(channels=CHANNELS), CHANNELS)


class SumOfSquares(Integers):
    """An integer pool that the suite has never heard of."""

    multiplicity_aware = True

    def pool(self, x, segments, weight=None):
        return ops.segment_sum(x * x, segments, weight)


@pytest.mark.parametrize("point", testing.POINTS)
def test_an_integer_pool_of_ones_own(point):
    exempt = "offset"  # squares of 10,000 lose the decimals in float32
    if point != exempt:
        testing.check(point, SumOfSquares(), CHANNELS)


def test_pools_of_pyg_can_be_asked_too():
    class Foreign(PyGAggregation):
        def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
            return x

    with pytest.raises(AssertionError):
        testing.check("channels", Foreign(), CHANNELS)
