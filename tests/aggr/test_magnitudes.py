"""float32 keeps to float64 for elements of any size, where a square on the way may be no number."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr

QUADRATIC = "what comes out is a product of elements, and no number any more"
PRODUCTS = "scores are products of elements, whose differences are no numbers any more"
NORMALISED = "a normalisation of layers squares what it is given"
CANNOT = {
    "adapool": PRODUCTS, "bilinear": QUADRATIC, "compact_bilinear": QUADRATIC, "dsvt": NORMALISED,
    "isab": PRODUCTS, "isqrt_cov": QUADRATIC, "latent_attention": NORMALISED,
    "layer_attention": PRODUCTS, "lowrank_bilinear": QUADRATIC, "mfb": QUADRATIC,
    "midam_lse": "a logarithm of a mean of exponentials near 1 has the rounding of 1", "mul": QUADRATIC,
    "ponet": PRODUCTS, "poolformer": NORMALISED, "set2set": PRODUCTS, "slot_mixture": PRODUCTS,
    "slots": NORMALISED, "var": QUADRATIC,
}  # fmt: skip
RAGGED = [name for name in aggr.names() if aggr.lookup(name).ragged]
NAMES = [name for name in aggr.names() if name not in {*CANNOT, *RAGGED}]
# Odd, so that the median is an element: at such sizes rounding decides which of two equally far ones is near.
BAGS = Segments.from_counts(torch.tensor([3, 1, 5]))


@pytest.mark.parametrize("scale", [1e-10, 1e15, 1e20, 1e30])
@pytest.mark.parametrize("name", NAMES)
def test_large_and_small_elements(name, scale):
    torch.manual_seed(0)
    pool = aggr.resolve(name, channels=4, **aggr.lookup(name).example_arguments).eval()
    x = torch.randn(9, 4) * scale
    found = []
    for dtype in (torch.float64, torch.float32):
        elements = x.to(dtype).requires_grad_()
        y = pool.to(dtype)(elements, BAGS)
        found.append((y, torch.autograd.grad(y.sum(), elements)[0]))
    for expected, actual in zip(*found, strict=True):
        size = float(expected.detach().abs().max())
        assert size < torch.finfo(torch.float32).max
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=max(5e-2 * size, 1e-30))


def test_the_exceptions_are_pools():
    assert set(CANNOT) < set(aggr.names())
