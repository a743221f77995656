"""What someone who means to break the numbers tries: long bags, large values, neighbours in the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import graphpool
from graphpool import Segments, aggr, ops
from graphpool.ops.components import connected_components, contract

BACKENDS = ["auto", "torch", "torch_scatter"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "torch_scatter":
        pytest.importorskip("torch_scatter", reason="the compiled extra is not installed")
    with graphpool.use_backend(request.param):
        yield request.param


# ------------------------------------------------------------------------- neighbours in the batch


def _quantile_by_hand(values, weights, q):
    """Position ``q (n - 1)`` among the elements laid end to end, each as long as its weight; linear."""
    pairs = sorted(zip(values, weights, strict=True))
    position = q * max(math.fsum(weights) - 1, 0)

    def at(place):
        return next(
            (
                v
                for k, (v, _) in enumerate(pairs)
                if math.fsum(w for _, w in pairs[: k + 1]) > place
            ),
            pairs[-1][0],
        )

    low = math.floor(position)
    return at(low) + (position - low) * (at(low + 1) - at(low))


def test_a_median_does_not_see_the_weight_of_another_bag():
    segments = Segments(ptr=torch.tensor([0, 1, 4]))
    x = torch.tensor([7.0, 1.0, 2.0, 3.0])
    weight = torch.tensor([1e20, 1.0, 1.0, 1.0])
    assert ops.segment_median(x, segments, weight).tolist() == [7.0, 2.0]
    picked = aggr.resolve("kmax", channels=1, k=2)(x[:, None], ptr=segments.ptr, weight=weight)
    assert picked.tolist() == [[7.0, 7.0], [3.0, 2.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weighted_quantiles_are_the_same_alone_and_in_a_batch(dtype):
    rng = torch.Generator().manual_seed(1)
    counts = torch.randint(1, 9, (300,), generator=rng)
    segments = Segments.from_counts(counts)
    x = torch.randn(int(counts.sum()), 2, generator=rng, dtype=dtype)
    weight = torch.randint(1, 6, (len(x),), generator=rng).to(torch.float64) / 10
    weight[::97] = 1e20
    for q in (0.25, 0.5, 1.0):
        together = ops.segment_quantile(x, segments, q, weight=weight)
        for s, (a, b) in enumerate(zip(segments.ptr[:-1], segments.ptr[1:], strict=True)):
            one = Segments(ptr=torch.tensor([0, int(b - a)]))
            alone = ops.segment_quantile(x[a:b], one, q, weight=weight[a:b])
            assert torch.equal(alone[0], together[s])


def test_weighted_quantiles_by_hand():
    rng = torch.Generator().manual_seed(2)
    for n in (1, 2, 5, 9):
        x = torch.randn(n, generator=rng, dtype=torch.float64)
        weight = torch.randint(1, 5, (n,), generator=rng).double()
        for q in (0.0, 0.3, 0.5, 1.0):
            y = ops.segment_quantile(x, Segments(ptr=torch.tensor([0, n])), q, weight=weight)
            expected = _quantile_by_hand(x.tolist(), weight.tolist(), q)
            assert y.item() == pytest.approx(expected, abs=1e-12)


def test_weighted_quantiles_compile_in_one_graph():
    x, index = torch.randn(12, 2), torch.arange(12) % 3
    weight = torch.arange(1.0, 13.0)

    def median(x, index, weight):
        return ops.segment_median(x, Segments(index=index, num_segments=4), weight)

    compiled = torch.compile(median, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, index, weight), median(x, index, weight))


def test_clusters_of_int32_that_are_many():
    """The square of 50,000 does not fit into int32."""
    cluster = torch.arange(50_000, dtype=torch.int32)
    edges = torch.tensor([[0, 49_999], [49_999, 49_998]])
    assert contract(edges, cluster).edges.tolist() == [[0, 49_998], [49_999, 49_999]]
    with pytest.raises(ValueError, match="`cluster` must be >= 0; got -1 at position 1"):
        contract(torch.tensor([[0], [1]]), torch.tensor([0, -1]))


# --------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("two", [np.int64(2), np.uint8(2), torch.tensor(2), torch.tensor([2])])
def test_sizes_are_integers_of_any_type(two):
    x = torch.tensor([1.0, 3.0, 2.0])
    values, index = ops.segment_topk(x, Segments(ptr=torch.tensor([0, 3])), two)
    assert values.tolist() == [[3.0, 2.0]] and index.tolist() == [[1, 2]]
    assert connected_components(torch.tensor([[0], [1]]), two).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [2.0, True, torch.tensor(True), np.bool_(True), None, "2"])
def test_sizes_that_are_no_integers_are_refused(bad):
    segments = Segments(ptr=torch.tensor([0, 3]))
    with pytest.raises(TypeError, match="`k` must be an int of at least [01]; got"):
        ops.segment_topk(torch.ones(3), segments, bad)
    with pytest.raises(TypeError, match="`num_nodes` must be an int of at least [01]; got"):
        connected_components(torch.tensor([[0], [1]]), bad)
