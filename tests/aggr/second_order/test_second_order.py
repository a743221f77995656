from __future__ import annotations

import pytest
import torch

from graphpool import aggr
from graphpool.aggr.second_order.bilinear import newton_schulz_sqrt, upper_triangle
from graphpool.nn import l2_normalize, signed_sqrt


def dense_moment(bag, center):
    rows = bag - bag.mean(0) if center else bag
    return torch.stack([torch.outer(r, r) for r in rows]).mean(0)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_bilinear_against_outer_products(against_oracle, center, normalised):
    pool = aggr.Bilinear(5, center=center, sqrt=normalised, l2=normalised)

    def oracle(bag):
        g = dense_moment(bag, center)
        y = torch.cat([g[i, i:] * torch.tensor([1.0] + [2**0.5] * (4 - i)) for i in range(5)])
        if not normalised:
            return y
        y = y.sign() * ((y.abs() + 1e-6).sqrt() - 1e-6 / (y.abs() + 1e-6).sqrt())
        return y / y.norm().clamp_min(1e-6)

    against_oracle(pool, oracle, channels=5, atol=1e-5 if normalised and center else 1e-9)


def test_upper_triangle_keeps_inner_products():
    a, b = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    a, b = a + a.mT, b + b.mT
    inner = (upper_triangle(a) * upper_triangle(b)).sum(1)
    torch.testing.assert_close(inner, (a * b).sum((1, 2)))


def test_isqrt_cov_is_the_square_root(against_oracle):
    pool = aggr.ISqrtCov(3, iterations=30)

    def oracle(bag):
        # Bags here have at most five elements; a little noise keeps the covariance regular.
        values, vectors = torch.linalg.eigh(dense_moment(bag, True))
        root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
        return upper_triangle(root[None])[0]

    x = torch.randn(12, 3, dtype=torch.float64)
    index = torch.tensor([0] * 6 + [1] * 6)
    y = pool.double()(x, index, dim_size=2)
    for s in range(2):
        torch.testing.assert_close(y[s], oracle(x[index == s]), atol=1e-8, rtol=1e-6)


def test_isqrt_cov_iterations_against_a_loop(against_oracle):
    pool = aggr.ISqrtCov(4, iterations=5)

    def oracle(bag):
        g = dense_moment(bag, True)
        if len(bag) == 1:
            return 0 * upper_triangle(g[None])
        y, z, eye = g / g.trace(), torch.eye(4).double(), torch.eye(4).double()
        for _ in range(5):
            t = 0.5 * (3 * eye - z @ y)
            y, z = y @ t, t @ z
        return upper_triangle((g.trace().sqrt() * y)[None])

    against_oracle(pool, oracle, channels=4)


def test_a_zero_matrix_has_a_zero_root():
    matrix = torch.zeros(1, 3, 3, requires_grad=True)
    root = newton_schulz_sqrt(matrix, 5)
    (grad,) = torch.autograd.grad(root.sum(), matrix)
    assert (root == 0).all() and (grad == 0).all()


def test_lowrank_against_quadratic_forms(against_oracle):
    pool = aggr.LowRankBilinear(5, rank=3, out_channels=2)

    def oracle(bag):
        forms = torch.einsum("or,ri,rj->oij", pool.p.weight, pool.u.weight, pool.v.weight)
        return torch.einsum("oij,ei,ej->o", forms, bag, bag)

    against_oracle(pool, oracle, channels=5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_mfb_against_a_loop(against_oracle, blocks):
    pool = aggr.MFB(5, out_channels=3, factors=2, blocks=blocks)

    def oracle(bag):
        outputs, previous = [], [torch.ones(6).double()] * len(bag)
        for f, g in zip(pool.first, pool.second, strict=True):
            previous = [p * f(row) * g(row) for p, row in zip(previous, bag, strict=True)]
            z = torch.stack(previous).mean(0)
            z = torch.stack([z[2 * o] + z[2 * o + 1] for o in range(3)])
            outputs.append(l2_normalize(signed_sqrt(z)))
        return torch.cat(outputs)

    against_oracle(pool, oracle, channels=5)


def tensor_sketch(pool, row):
    """Circular convolution of two count sketches, by the definition."""
    d = pool.width
    sketches = row.new_zeros(2, d)
    for k in range(2):
        for i, v in enumerate(row):
            sketches[k, pool.hashes[k, i]] += pool.signs[k, i] * v
    first, second = sketches
    return torch.stack([sum(first[i] * second[(t - i) % d] for i in range(d)) for t in range(d)])


@pytest.mark.parametrize("method", ["moment", "fft"])
def test_compact_bilinear_against_convolutions(against_oracle, method):
    pool = aggr.CompactBilinear(3, out_channels=5, sqrt=False, l2=False, method=method)
    against_oracle(
        pool, lambda bag: torch.stack([tensor_sketch(pool, r) for r in bag]).mean(0), channels=3
    )


def test_sketch_keeps_inner_products_on_average():
    """The mean over hashes is unbiased, the spread of one is about 1 / sqrt(d)."""
    x, y = torch.rand(2, 1, 20, dtype=torch.float64)
    exact = (x * y).sum() ** 2
    errors = []
    for seed in range(200):
        pool = aggr.CompactBilinear(20, out_channels=512, sqrt=False, l2=False, seed=seed)
        errors.append((pool(x) * pool(y)).sum() / exact - 1)
    errors = torch.stack(errors)
    assert errors.mean().abs() < 4 * errors.std() / 200**0.5
    assert errors.std() < 5 / 512**0.5


def test_hashes_are_part_of_the_state():
    a, b = (aggr.CompactBilinear(6, out_channels=16, seed=seed) for seed in (1, 2))
    x = torch.randn(4, 6)
    assert not torch.allclose(a(x), b(x))
    b.load_state_dict(a.state_dict())
    torch.testing.assert_close(a(x), b(x))


@pytest.mark.parametrize("name", ["bilinear", "isqrt_cov", "lowrank_bilinear", "mfb"])
def test_zero_bags_have_finite_gradients(name):
    pool = aggr.resolve(name, channels=4)
    x = torch.zeros(3, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(pool(x).sum(), x)
    assert grad.isfinite().all()


def test_signed_sqrt_has_the_right_limits():
    x = torch.tensor([-4.0, 0.0, 9.0], requires_grad=True)
    torch.testing.assert_close(signed_sqrt(x), torch.tensor([-2.0, 0.0, 3.0]))
    (grad,) = torch.autograd.grad(signed_sqrt(x).sum(), x)
    torch.testing.assert_close(grad, torch.tensor([0.25, 1e3, 1 / 6]))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`method` must be one of"):
        aggr.CompactBilinear(4, method="dct")
    with pytest.raises(ValueError, match="`iterations` must be an int of at least 1"):
        aggr.ISqrtCov(4, iterations=0)
    with pytest.raises(ValueError, match="`factors`"):
        aggr.MFB(4, factors=0)
    with pytest.raises(ValueError, match=r"`dropout` must lie in \[0, 1\)"):
        aggr.MFB(4, dropout=1.0)
    with pytest.raises(ValueError, match="`rank`"):
        aggr.LowRankBilinear(4, rank=0)
