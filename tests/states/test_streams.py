"""Streams: two passes that see the same, or a refusal."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import graphpool
from graphpool import aggr
from graphpool.conv import SAGEConv


def encoder(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 4)).double()


def data(count: int = 50):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, generator=g, dtype=torch.float64)
    return x, torch.randint(3, (count,), generator=g), torch.rand(count, generator=g).double()


def slopes(loss, *modules):
    parameters = [p for m in modules for p in m.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize(
    "name", ["pma", "gnp", "softmax", "logsumexp", "std", "max", "deepsets", "bilinear"]
)
def test_values_and_gradients_are_those_of_all_at_once(name):
    net, (x, bag, weight) = encoder(), data()
    pool = aggr.resolve(name, channels=4).double()
    head = nn.Linear(pool.out_channels or 4, 1).double()
    whole = head(pool(net(x), bag, dim_size=3, weight=weight)).square().sum()
    pieces = [(x[r], bag[r], weight[r]) for r in torch.arange(50).split(7)]
    streamed = head(graphpool.stream(net, pool, pieces, num_bags=3)).square().sum()
    torch.testing.assert_close(streamed, whole, rtol=1e-11, atol=1e-12)
    for a, b in zip(slopes(streamed, net, pool, head), slopes(whole, net, pool, head), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_backward_fills_grad_and_adds_to_it():
    net, (x, _, _) = encoder(), data()
    for _ in range(2):
        graphpool.stream(net, aggr.Mean(), x.split(9)).sum().backward()
    twice = [p.grad for p in net.parameters()]
    for a, b in zip(twice, slopes(net(x).mean(0).sum(), net), strict=True):
        torch.testing.assert_close(a, 2 * b)


def test_dropout_is_drawn_again_and_the_generator_is_left_as_if_one_number_was_drawn():
    net, (x, _, _) = encoder(dropout=0.5), data()
    torch.manual_seed(7)
    y = graphpool.stream(net, aggr.Std(), x.split(9))
    after = torch.rand(1)
    torch.manual_seed(7)
    torch.randint(2**62, ())
    assert torch.equal(torch.rand(1), after)
    found = slopes(y.sum(), net)

    # Finite differences of the function that the masks of this seed make.
    def value():
        torch.manual_seed(7)
        with torch.no_grad():
            return graphpool.stream(net, aggr.Std(), x.split(9)).sum()

    weight, step = net[0].weight, 1e-6
    for place in ((0, 0), (5, 2)):
        with torch.no_grad():
            weight[place] += step
            up = value()
            weight[place] -= 2 * step
            down = value()
            weight[place] += step
        torch.testing.assert_close(found[0][place], (up - down) / (2 * step), rtol=1e-5, atol=1e-7)


def test_one_piece_is_in_memory_at_a_time():
    alive, most = 0, 0

    class Piece:
        def __init__(self, x):
            nonlocal alive, most
            self.x = x
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    class Encoder(nn.Linear):
        def forward(self, piece):
            return super().forward(piece.x)

    net = Encoder(3, 4).double()
    x, _, _ = data()
    y = graphpool.stream(net, aggr.Mean(), lambda: (Piece(v) for v in x.split(5)))
    y.sum().backward()
    # The one that was, while the next is made.
    assert most <= 2 and alive == 0


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(8), nn.BatchNorm1d(8, track_running_stats=False).eval()]
)
def test_statistics_of_a_piece_are_refused_by_name(norm):
    net = nn.Sequential(nn.Linear(3, 8), norm)
    with pytest.raises(ValueError, match="BatchNorm1d at '1'"):
        graphpool.stream(net, aggr.Mean(), [torch.randn(4, 3)])
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8)).eval()
    assert graphpool.stream(net, aggr.Mean(), [torch.randn(4, 3)]).shape == (1, 8)


def test_pieces_that_cannot_be_repeated_are_refused():
    net, (x, _, _) = encoder(), data()
    with pytest.raises(ValueError, match="gone through once"):
        graphpool.stream(net, aggr.Mean(), iter(x.split(9)))
    with torch.no_grad():
        assert graphpool.stream(net, aggr.Mean(), iter(x.split(9))).shape == (1, 4)
    augmented = lambda: (v + torch.rand_like(v) for v in x.split(9))  # noqa: E731
    with pytest.raises(ValueError, match="others in the second pass"):
        graphpool.stream(net, aggr.Mean(), augmented).sum().backward()
    gone = [x.split(9), []]
    with pytest.raises(ValueError, match="others in the second pass"):
        graphpool.stream(net, aggr.Mean(), lambda: gone.pop(0)).sum().backward()
    with pytest.raises(ValueError, match="require a gradient"):
        graphpool.stream(net, aggr.Mean(), [x.clone().requires_grad_()])
    with pytest.raises(TypeError, match="`encoder` must be a module"):
        graphpool.stream(lambda v: v, aggr.Mean(), [x])
    with pytest.raises(TypeError, match="Median cannot"):
        graphpool.stream(net, aggr.Median(), [x])
    with pytest.raises(ValueError, match="4 parts"):
        graphpool.stream(net, aggr.Mean(), [(x, None, None, None)])


def test_a_parameter_that_changes_between_the_passes_is_noticed():
    net, (x, _, _) = encoder(), data()
    y = graphpool.stream(net, aggr.Max(), x.split(9))
    with torch.no_grad():
        net[0].weight += 1e-3
    with pytest.raises(ValueError, match="the sums 'ties' differ"):
        y.sum().backward()


def test_a_loader_and_a_bar(capsys):
    net, (x, bag, _) = encoder(), data()
    loader = DataLoader(TensorDataset(x, bag), batch_size=8)
    y = graphpool.stream(net, aggr.Mean(), loader, num_bags=3, progress=True)
    y.sum().backward()
    bars = capsys.readouterr().err
    assert "first pass: 100%" in bars and "second pass: 100%" in bars
    torch.testing.assert_close(y, aggr.Mean()(net(x), bag, dim_size=3))


def test_graphs_by_parts_and_inputs_of_several_arguments():
    """A readout over parts of a graph, each with its own edges."""
    conv = SAGEConv(3, 4, aggr="gnp").double()
    parts = []
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(9, 3, generator=g, dtype=torch.float64)
        parts.append((x, torch.randint(9, (2, 20), generator=g)))
    pool = aggr.AttSets(4).double()
    whole = pool(torch.cat([conv(*part) for part in parts]))
    streamed = graphpool.stream(conv, pool, [(part,) for part in parts])
    torch.testing.assert_close(streamed, whole)
    for a, b in zip(
        slopes(streamed.sum(), conv, pool), slopes(whole.sum(), conv, pool), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_autocast_is_the_same_in_both_passes():
    net, (x, _, _) = encoder().float(), data()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = graphpool.stream(net, aggr.Max(), x.float().split(9))
    y.float().sum().backward()  # outside: refused, were it not entered again
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_a_second_derivative_is_refused():
    net, (x, _, _) = encoder(), data()
    y = graphpool.stream(net, aggr.Mean(), x.split(9))
    (slope,) = torch.autograd.grad(y.square().sum(), net[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("name", ["pma", "std", "deepsets"])
def test_backward_outside_of_autocast_sees_what_the_first_pass_saw(name):
    torch.manual_seed(0)
    net, x = nn.Linear(3, 8), torch.randn(60, 3)
    pool = aggr.resolve(name, channels=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = graphpool.stream(net, pool, x.split(7)).float().square().sum()
        whole = pool(net(x)).float().square().sum()
    wanted = torch.autograd.grad(whole, [net.weight])[0]
    loss.backward()
    torch.testing.assert_close(
        net.weight.grad, wanted, rtol=0.1, atol=0.05 * wanted.abs().max().item()
    )


def test_learned_weights_and_words_for_pools_are_refused():
    x, weight = torch.ones(4, 3), torch.ones(4, requires_grad=True)
    with pytest.raises(ValueError, match="weights of `pieces` require a gradient"):
        graphpool.stream(None, aggr.Mean(), [(x, None, weight)])
    for pool in ("mean", ["mean", "std"], torch_mean()):
        for make in (
            lambda pool: graphpool.stream(None, pool, [x]),
            lambda pool: graphpool.states.Window(pool),
        ):
            with pytest.raises(TypeError, match="`pool` must be a pool of graphpool, made once"):
                make(pool)


def torch_mean():
    from torch_geometric.nn import MeanAggregation

    return MeanAggregation()


def test_a_training_that_diverges_is_told_so():
    """Scores of 1e19 have no digit left that tells one element from another."""
    torch.manual_seed(0)
    net, x = nn.Linear(3, 8), torch.randn(400, 3)
    with torch.no_grad():
        net.weight.mul_(1e19)
    pool = aggr.LogSumExp()
    with pytest.raises(ValueError, match="has grown to .*has training diverged"):
        graphpool.stream(net, pool, x.split(100)).sum().backward()


@pytest.mark.parametrize("name", ["max", "mean", "softmax", "attsets", "gated_attention", "gnp"])
def test_an_infinite_element_spoils_its_own_channel_alone(name):
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x + self.by

    torch.manual_seed(0)
    x, net, pool = torch.randn(40, 3), Shift(), aggr.resolve(name, channels=3)
    x[7, 1] = torch.inf
    whole, streamed = pool(net(x)), graphpool.stream(net, pool, x.split(10))
    torch.testing.assert_close(streamed, whole, rtol=1e-4, atol=1e-5, equal_nan=True)
    there = whole.isfinite()
    wanted = slopes(whole[there].sum(), net)
    torch.testing.assert_close(slopes(streamed[there].sum(), net), wanted, rtol=1e-3, atol=1e-4)
