"""Products for bags instead of elements: the same numbers, and no layer is passed over."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr
from graphpool.nn import may_be_folded
from graphpool.sets import ISAB, PoNetMixer

CASES = {
    "pma": (lambda: aggr.PMA(8), "attend.key attend.value"),
    "pma heads": (lambda: aggr.PMA(8, num_seeds=2, heads=2), "attend.key attend.value"),
    "isab": (lambda: ISAB(8, num_inducing=2), "gather.key gather.value"),
    "deepsets": (lambda: aggr.DeepSets(8), "phi phi.2"),
    "deepsets mean": (lambda: aggr.DeepSets(8, pool="mean"), "phi phi.2"),
    "slots": (lambda: aggr.SlotAttention(8, num_slots=2), "key value query"),
    "latent_attention": (
        lambda: aggr.LatentAttention(8, num_latents=3, heads=2),
        "block.query block.out block.contract",
    ),
    "ponet": (lambda: PoNetMixer(8, heads=2), "query key"),
}
LAYERS = [(case, layer) for case, (_, layers) in CASES.items() for layer in layers.split()]


def problem(case):
    torch.manual_seed(0)
    module = CASES[case][0]().double()
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    index = torch.arange(4).repeat_interleave(9)[torch.randperm(36)]
    x = torch.randn(36, 8, dtype=torch.float64)
    weight = torch.randint(1, 4, (36,)).double()
    return module, (x, Segments(index=index, num_segments=4)), {"weight": weight}


def results(module, args, kwargs):
    x = args[0].clone().requires_grad_()
    y = module(x, args[1], **kwargs)
    direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    inputs = [x, *(p for p in module.parameters() if p.requires_grad)]
    return [y, *torch.autograd.grad(y, inputs, direction, allow_unused=True)]


@pytest.mark.parametrize("case, layer", LAYERS)
def test_a_hooked_layer_sees_the_elements_and_the_numbers_stay(case, layer):
    module, args, kwargs = problem(case)
    folded = results(module, args, kwargs)
    seen = []
    handle = module.get_submodule(layer).register_forward_hook(lambda *_: seen.append(_))
    plain = results(module, args, kwargs)
    handle.remove()
    assert seen
    for a, b in zip(folded, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case, layer", LAYERS)
def test_a_parametrised_layer_and_one_of_another_class_are_called(case, layer):
    module, args, kwargs = problem(case)
    part = module.get_submodule(layer)
    expected = results(module, args, kwargs)[0]

    class Other(type(part)):
        def forward(self, x):
            return 2 * super().forward(x)

    part.__class__ = Other
    assert not torch.allclose(results(module, args, kwargs)[0], expected)
    part.__class__ = Other.__base__
    part.forward = lambda x: 2 * Other.__base__.forward(part, x)
    assert not torch.allclose(results(module, args, kwargs)[0], expected)


def test_what_may_be_folded():
    linear = torch.nn.Linear(2, 2)
    assert may_be_folded(linear, torch.nn.Sequential(linear))
    assert not may_be_folded(linear, torch.nn.ReLU())
    assert not may_be_folded(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)))
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not may_be_folded(linear)
    finally:
        handle.remove()


def calls_of(pool, name):
    """How many times ``pool`` calls its formula, with the elements of each."""
    formula, seen = getattr(pool, name), []

    def counted(x, *args):
        seen.append(len(x))
        return formula(x, *args)

    setattr(pool, name, counted)
    return seen


@pytest.mark.parametrize(
    "name", ["attsets", "deepsets", "isab", "latent_attention", "slot_mixture", "slots"]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_few_bags_at_a_time_give_the_same_numbers(monkeypatch, name, weighted):
    monkeypatch.setattr("graphpool.aggr.matrix._PART", 8 * 20)
    torch.manual_seed(0)
    pool = aggr.resolve(name, channels=8).double().eval()
    # Empty ones in front, in between and at the end, and one larger than a part.
    sizes = torch.tensor([0, 3, 0, 55, 5, 5, 1, 0, 9, 30, 0])
    segments, x = Segments(ptr=torch.tensor([0, *sizes.cumsum(0)])), torch.randn(108, 8).double()
    weight = torch.randint(3, (108,)).double() if weighted else None
    whole = pool(x, segments, weight=weight)
    seen = calls_of(pool, "_pooled" if name == "attsets" else "pool_matrix")
    with torch.no_grad():
        few = pool(x, segments, weight=weight)
        assert len(seen) > 2 and sum(seen) == 108 and max(seen) < 80
        torch.testing.assert_close(few, whole.detach(), rtol=1e-10, atol=1e-12)
        del seen[:]
        # Where somebody looks, or is trained, or bags do not lie one after the other, it is all of them.
        handle = pool.register_forward_hook(lambda *_: None)
        pool(x, segments, weight=weight)
        handle.remove()
        pool.train()(x, segments, weight=weight)
        pool.eval()(x, Segments(index=segments.index.flip(0), num_segments=11))
        assert seen == [108] * 3
    pool(x, segments, weight=weight)
    assert seen == [108] * 4


def test_noise_that_is_drawn_is_that_of_the_whole_call(monkeypatch):
    monkeypatch.setattr("graphpool.aggr.matrix._PART", 8 * 20)
    pool = aggr.SlotAttention(8, sample=True).eval()
    x, segments = torch.randn(100, 8), Segments(ptr=torch.arange(0, 101, 10))
    torch.manual_seed(1)
    expected = pool(x, segments).detach()
    with torch.no_grad():
        torch.manual_seed(1)
        assert torch.equal(pool(x, segments), expected)
