from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments
from graphpool.ops import dispatch
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import working, working_weight

dispatch.load()


def calls() -> list:
    """Every fused op with each of its options, and with one head, several, and one per channel."""
    found = []
    for op in dispatch.OPERATORS.values():
        has_heads = any("H" in letters for letters in op.dimensions.values())
        for option in op.options or (None,):
            for heads in ("one", "half", "channel") if has_heads else ("channel",):
                words = [op.name, *([option] if option else []), *([heads] if has_heads else [])]
                found.append(pytest.param(Call(op, option, heads), id=" ".join(words)))
    return found


class Call:
    """A fused op, its option, and inputs made from its declaration."""

    def __init__(self, op, option, heads):
        self.op, self.heads = op, heads
        self.option = () if option is None else (option,)

    def inputs(self, x, elements):
        """The rows ``x`` ``[R, C]``, and random tensors for whatever else the op takes."""
        channels = x.shape[1]
        heads = {"one": 1, "half": channels // 2, "channel": channels}[self.heads]
        sizes = {"E": elements, "C": channels, "H": heads, "K": 2, "M": 3, "G": 1}
        made = []
        for letters in self.op.dimensions.values():
            if letters[0] == "R":
                made.append(x.detach().clone().requires_grad_())
                continue
            shape = [sizes[letter] for letter in letters]
            # Exponents, temperatures: either sign, away from 0 and different from 1.
            sign = torch.tensor([1.0, -1.0]).repeat(math.prod(shape))[: math.prod(shape)]
            value = (sign * (0.7 + torch.rand(math.prod(shape)))).view(shape)
            dtype = x.dtype if letters[0] == "E" else working(x).dtype
            made.append(value.to(dtype).requires_grad_())
        return tuple(made)

    def fused(self, inputs, segments, weight, gather):
        return self.op(inputs, segments, weight, gather, *self.option)

    def composed(self, inputs, segments, weight, gather):
        return self.op.composed(
            *inputs, *self.option, *self.layout(inputs, segments, weight, gather)
        )

    def layout(self, inputs, segments, weight, gather):
        (x,) = (v for v, d in zip(inputs, self.op.dimensions.values(), strict=True) if d[0] == "R")
        return Layout.of(segments, working_weight(weight, x), gather, x.shape[0], True)

    def operators(self, inputs, segments, weight, gather):
        """Both operators with arguments, as PyTorch calls them."""
        layout = self.layout(inputs, segments, weight, gather)
        forward, backward, *of_weight = self.op.operators
        yield forward, (*inputs, *self.option, *layout)
        constants = [v.detach() for v in inputs]
        results = getattr(torch.ops.graphpool, forward)(*constants, *self.option, *layout)
        results = (results,) if isinstance(results, torch.Tensor) else tuple(results)
        grad = torch.randn_like(results[0])
        yield backward, (grad, *constants, *results, *self.option, *layout)
        if of_weight and layout.weight is not None:
            yield of_weight[0], (grad, *constants, *results, *self.option, *layout)


def pytest_generate_tests(metafunc):
    if "call" in metafunc.fixturenames:
        metafunc.parametrize("call", calls())
    if "learner" in metafunc.fixturenames:
        learners = [p for p in calls() if p.values[0].op.learns_weight]
        metafunc.parametrize("learner", learners)
    if "shape" in metafunc.fixturenames:
        # One number per bag and channel, several tensors, a row per element.
        first = {p.values[0].op.name: p for p in reversed(calls())}
        names = ("segment_logsumexp", "segment_moments", "segment_softmax")
        metafunc.parametrize("shape", [first[name] for name in names])


@pytest.fixture
def problem():
    """Makes rows away from 0, bags of which one is empty, a weight and a gather."""

    def make(gathered=False, weighted=False, dtype=torch.float64):
        index = torch.tensor([0, 2, 0, 3, 3, 0, 2, 2, 0, 3, 3, 3, 0, 2])
        rows = 9 if gathered else len(index)
        x = torch.randn(rows, 4, dtype=torch.float64)
        x = x + 0.5 * torch.where(x < 0, -1, 1)
        gather = torch.randint(rows, (len(index),)) if gathered else None
        weight = torch.randint(0, 3, (len(index),)).double() if weighted else None
        return x.to(dtype), Segments(index=index, num_segments=4), weight, gather

    return make
