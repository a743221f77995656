"""Neural common neighbours, against loops over pairs in float64."""

import math

import networkx as nx
import pytest
import torch
from torch_geometric.utils import from_networkx

from graphpool.models import NCN

GRAPH = nx.barabasi_albert_graph(25, 3, seed=0)
EDGES = from_networkx(GRAPH).edge_index
PAIRS = torch.tensor([[0, 3, 7, 20, 24, 5], [1, 9, 7, 24, 20, 6]])


def model_of(**kwargs):
    torch.manual_seed(0)
    return NCN(4, 8, **kwargs).double().eval()


def features():
    return torch.randn(25, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def by_loop(model, h, v, i, j, depth):
    """The formula of the paper for one pair."""
    mine, yours = set(GRAPH[i]), set(GRAPH[j])
    total = sum((v[u] for u in sorted(mine & yours)), torch.zeros(8, dtype=torch.double))
    if depth:
        prior, alpha, scale, offset = model.completion_weights
        for alone, other in ((mine - yours, j), (yours - mine, i)):
            for u in sorted(alone):
                z = by_loop(model, h, v, other, u, depth - 1)
                p = torch.sigmoid(scale * (z - offset))
                total = total + (alpha * prior * p / (prior * p + 1 - p)).detach() * v[u]
    return model.head(model.beta * model.shared(total) + model.ends(h[i] * h[j])).squeeze(-1)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_pairs_and_gradients_are_those_of_the_formula(depth):
    model, x = model_of(completion=depth, head_layers=1 + depth % 2, chunk=7), features()
    found = model(x, EDGES, PAIRS)
    mine = torch.autograd.grad(found.square().sum(), [*model.parameters()])
    degree = torch.tensor([GRAPH.degree(i) + 1.0 for i in GRAPH]).double()
    adjacency = torch.from_numpy(nx.to_numpy_array(GRAPH)) + torch.eye(25)
    smooth = adjacency / (degree[:, None] * degree).sqrt()
    h = model.encoder.norms[0](smooth @ model.encoder.linear(x))
    v = h + model.node(h)
    expected = torch.stack([by_loop(model, h, v, *pair, depth) for pair in PAIRS.t().tolist()])
    torch.testing.assert_close(found, expected)
    theirs = torch.autograd.grad(expected.square().sum(), [*model.parameters()])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("pool", ["mean", "max", "softmax", "attsets", "gnp", ["sum", "std"]])
@pytest.mark.parametrize("completion", [0, 1])
def test_any_pool_in_the_place_of_the_sum(pool, completion):
    model, x = model_of(pool=pool, completion=completion), features()
    found = model(x, EDGES, PAIRS)
    torch.testing.assert_close(model(x, EDGES, PAIRS.flip(0)), found)
    alone = torch.cat([model(x, EDGES, PAIRS[:, i : i + 1]) for i in range(PAIRS.size(1))])
    torch.testing.assert_close(alone, found)
    order = torch.randperm(25)
    there = torch.empty_like(order).scatter_(0, order, torch.arange(25))
    torch.testing.assert_close(model(x[order], there[EDGES], there[PAIRS]), found)


def test_pairs_that_share_nothing_and_graphs_without_edges():
    model, nothing = model_of(), torch.zeros(2, 0, dtype=torch.long)
    out = model(features(), nothing, PAIRS)
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    # No bag, so that only biases of the shared half can learn.
    assert model.shared[0].weight.grad.abs().max() == 0
    assert model(features(), EDGES, nothing).shape == (0,)


def test_the_order_of_the_edges_and_repeated_edges_do_not_matter():
    model, x = model_of(completion=1, encoder=OnlyLinear()), features()
    twice = torch.cat([EDGES.flip(1), EDGES], 1)
    torch.testing.assert_close(model(x, twice, PAIRS), model(x, EDGES, PAIRS))


class OnlyLinear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 8)

    def forward(self, x, edge_index):
        return self.linear(x)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dropout": 1.0}, "`dropout` must lie in"),
        ({"head_layers": 3}, "`head_layers` must be 1 or 2"),
        ({"completion": -1}, "`completion` must be"),
        ({"completion_weights": (1.0, 1.0, 1.0)}, "`completion_weights` must be four finite"),
        ({"completion_weights": (0.0, 1.0, 1.0, 1.0)}, "`completion_weights` must be four finite"),
        ({"completion_weights": (1.0, 1.0, math.nan, 1.0)}, "`completion_weights` must be four"),
        ({"in_channels": 0}, "`in_channels` must be"),
    ],
)
def test_wrong_arguments_are_refused_by_name(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NCN(**{"in_channels": 4, "hidden_channels": 8, **kwargs})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_nodes_may_be_any_integers(dtype):
    model, x = model_of(completion=1), features()
    found = model(x, EDGES.to(dtype), PAIRS.to(dtype))
    torch.testing.assert_close(found, model(x, EDGES, PAIRS))


def test_wrong_inputs_are_refused_by_name():
    model = model_of()
    with pytest.raises(TypeError, match="`edge_index` must be an integer tensor"):
        model(features(), EDGES.double(), PAIRS)
    with pytest.raises(TypeError, match="`encoder` must be a module"):
        NCN(4, 8, encoder=3)
    with pytest.raises(ValueError, match=r"`encoder` must give \[25, 9\]"):
        NCN(4, 9, encoder=OnlyLinear()).double()(features(), EDGES, PAIRS)
    with pytest.raises(ValueError, match="`x` must have 4 channels"):
        model(torch.zeros(25, 5, dtype=torch.double), EDGES, PAIRS)
    with pytest.raises(ValueError, match="`pairs` must lie in"):
        model(features(), EDGES, torch.tensor([[0], [25]]))


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr"])
@pytest.mark.parametrize("known", [True, False])
def test_sparse_features_are_those_of_the_dense(layout, known):
    torch.manual_seed(0)
    x = features() * (torch.rand(25, 4) < 0.4)
    model = NCN(4 if known else -1, 8).double().eval()
    first = model(getattr(x, layout)(), EDGES, PAIRS)
    mine = torch.autograd.grad(first.square().sum(), [*model.parameters()])
    second = model(x, EDGES, PAIRS)
    torch.testing.assert_close(first, second)
    theirs = torch.autograd.grad(second.square().sum(), [*model.parameters()])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_dropout_of_sparse_features_scales_what_it_keeps():
    torch.manual_seed(0)
    model = NCN(4, 8, input_dropout=0.5).double()
    x = features()
    drawn = torch.stack([model.encoder._mapped(x.to_sparse_coo()) for _ in range(300)])
    expected = x @ model.encoder.linear[1].weight.t() + model.encoder.linear[1].bias
    away = (drawn.mean(0) - expected) / (drawn.std(0) / 300**0.5)
    assert away.abs().max() < 5
    assert (drawn.mean(0) / 2 - expected).abs().max() > 5 * drawn.std(0).max() / 300**0.5


def test_sparse_features_of_another_width_are_refused_by_name():
    with pytest.raises(ValueError, match="`x` must have 4 channels"):
        model_of()(torch.zeros(25, 5, dtype=torch.double).to_sparse_coo(), EDGES, PAIRS)
    with pytest.raises(ValueError, match=r"`x` must be sparse in both of its dimensions; got 1"):
        model_of()(features().to_sparse(1), EDGES, PAIRS)


def test_what_is_completed_and_no_number_is_said_of_the_features():
    x = features()
    x[3] = torch.nan
    with pytest.raises(ValueError, match="logits to be completed are NaN: `x` is"):
        NCN(4, 8, completion=1).double()(x, EDGES, PAIRS)
    assert NCN(4, 8).double()(x, EDGES, PAIRS).isnan().any()
