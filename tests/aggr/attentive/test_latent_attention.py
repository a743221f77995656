from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu

from graphpool import aggr


def block(module, x, context):
    """The published block for a matrix of queries, head by head."""
    context = module.context_norm(context)
    q, k = module.query(module.query_norm(x)), module.key(context)
    v, width = module.value(context), x.size(1) // module.heads
    heads = []
    for h in range(module.heads):
        c = slice(h * width, (h + 1) * width)
        heads.append((q[:, c] @ k[:, c].T / width**0.5).softmax(1) @ v[:, c])
    o = module.out(torch.cat(heads, 1)) + x
    value, gate = module.expand(module.norm(o)).chunk(2, dim=1)
    return module.contract(value * gelu(gate)) + o


@pytest.mark.parametrize("l2", [False, True])
def test_latent_attention_against_a_dense_block(against_oracle, l2):
    pool = aggr.LatentAttention(8, num_latents=5, heads=2, l2=l2)

    def oracle(bag):
        y = block(pool.block, bag, pool.latents).mean(0)
        return y / y.norm() if l2 else y

    against_oracle(pool, oracle, atol=1e-8)


def test_elements_do_not_see_one_another():
    """A Deep Set: the result is the mean of what the elements give alone."""
    pool, x = aggr.LatentAttention(8, heads=4).double(), torch.randn(6, 8, dtype=torch.float64)
    alone = pool(x, torch.arange(6), dim_size=6)
    torch.testing.assert_close(pool(x)[0], alone.mean(0))


@pytest.mark.parametrize("inner", ["mean", "max"])
def test_layer_attention_against_a_dense_block(against_oracle, inner):
    pool = aggr.LayerAttention(12, num_layers=3, num_latents=4, heads=2, pool=inner)

    def oracle(bag):
        reduced = bag.mean(0) if inner == "mean" else bag.amax(0)
        layers = reduced.view(3, 4) + pool.layer
        return block(pool.block, pool.latents, layers).mean(0)

    against_oracle(pool, oracle, channels=12, atol=1e-8)


def test_layers_are_told_apart():
    pool, x = aggr.LayerAttention(8, num_layers=2), torch.randn(5, 8)
    swapped = torch.cat([x[:, 4:], x[:, :4]], dim=1)
    assert not torch.allclose(pool(x), pool(swapped), atol=1e-4)


def test_as_jumping_knowledge():
    models = pytest.importorskip("graphpool.models.graph", reason="models are not in this build")
    readout = aggr.LayerAttention(3 * 8, num_layers=3, num_latents=4)
    model = models.GraphModel(4, 8, 2, num_layers=3, jumping="cat", readout=readout)
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    batch = torch.tensor([0, 0, 1, 1])
    y = model(torch.randn(4, 4), edge_index, batch, batch_size=2)
    assert y.shape == (2, 2)
    y.sum().backward()
    assert all(p.grad is not None for p in model.readout.parameters())


def test_bad_arguments():
    with pytest.raises(ValueError, match="`num_layers` must divide.*10; got 3"):
        aggr.LayerAttention(10, num_layers=3)
    with pytest.raises(ValueError, match="`heads` must divide.*4; got 3"):
        aggr.LayerAttention(12, num_layers=3, heads=3)
    with pytest.raises(ValueError, match="`pool` must keep the width"):
        aggr.LayerAttention(12, num_layers=3, pool=["mean", "max"])
    with pytest.raises(ValueError, match="`num_latents`"):
        aggr.LatentAttention(8, num_latents=0)
