"""Bags found in a heap, against loops over pairs, pivots and components in float64."""

import networkx as nx
import pytest
import torch

from graphpool.models import HyperTrack


def model_of(**kwargs):
    torch.manual_seed(0)
    return HyperTrack(3, 8, heads=2, **kwargs).double().eval()


def heap(seed=0, size=14, count=50):
    """Elements and some of their pairs."""
    generator = torch.Generator().manual_seed(seed)
    every = torch.combinations(torch.arange(size)).t()
    pairs = every[:, torch.randperm(every.size(1), generator=generator)[:count]]
    flip = torch.rand(count, generator=generator) < 0.5
    pairs = torch.where(flip, pairs.flip(0), pairs)
    x = torch.randn(size, 3, generator=generator, dtype=torch.double)
    return x, pairs, torch.randn(count, 2, generator=generator, dtype=torch.double)


def dense_attention(mab, query, keys):
    """A MAB of one bag, element by element."""
    q, k, v = mab.query(query), mab.key(keys), mab.value(keys)
    heads = [
        torch.stack([(a @ b.t() * mab.scale).softmax(-1) @ c for a in s])
        for s, b, c in zip(*(t.split(q.size(-1) // mab.heads, -1) for t in (q, k, v)), strict=True)
    ]
    return mab.residual(q, torch.cat(heads, -1))


def by_loop(model, x, pairs, attr):
    """Logits of the formula, pair by pair."""
    size, x0, states = x.size(0), x, []
    directed = [(int(i), int(j), e) for (i, j), e in zip(pairs.t(), attr, strict=True)]
    directed += [(j, i, e) for i, j, e in directed]
    degree = [sum(j == i for _, j, _ in directed) for i in range(size)]
    for step in model.steps:
        pooled = []
        for i in range(size):
            messages = []
            for j, k, e in directed:
                if k == i:
                    far = x[j] - x[i]
                    a = x.new_tensor((degree[i] - degree[j]) / (degree[i] + degree[j]))
                    scalars = torch.stack([far.norm(), x[i] @ x[j], a])
                    seen = torch.cat([x[i], far, x[i] * x[j], scalars, e])
                    messages.append(step.message(seen))
            empty = x.new_zeros(8)
            pooled.append(torch.stack(messages).mean(0) if messages else empty)
        new = step.update(torch.cat([x, torch.stack(pooled)], 1))
        x = x + new if step.residual else new
        states.append(x)
    z = model.join(torch.cat(states, 1))
    logits = [model.pair(torch.cat([z[i] * z[j], e])) for i, j, e in directed[: attr.size(0)]]
    return x0, z, torch.cat(logits)


def found_by_loop(model, x, pairs, attr):
    """The whole of it, component by component."""
    x, z, logit = by_loop(model, x, pairs, attr)
    graph = nx.Graph()
    for (i, j), p in zip(pairs.t().tolist(), logit.sigmoid().tolist(), strict=True):
        if p > model.cut:
            graph.add_edge(i, j, p=p)
    bag = list(range(x.size(0)))
    while True:
        parts = [graph.subgraph(c) for c in nx.connected_components(graph)]
        parts = [c for c in parts if len(c) >= model.min_size]
        if not parts:
            return bag
        gone = set()
        for part in parts:
            seed = max(part, key=lambda i: sum(d["p"] for d in part[i].values()))
            pivots = [seed, max(part[seed], key=lambda j: part[seed][j]["p"])]
            more = [(d["p"], j) for i in pivots for j, d in part[i].items() if j not in pivots]
            pivots.append(max(more)[1] if more else seed)
            nodes = sorted({*pivots, *(j for i in pivots for j in part[i])})
            given = model.embed(torch.cat([z, x], 1))
            h = dense_attention(model.look, given[nodes], given[pivots])
            for mixer in model.mixers:
                inducing = dense_attention(mixer.gather, mixer.inducing, h)
                h = dense_attention(mixer.scatter, h, inducing)
            mask = model.member(h).squeeze(1) > 0
            chosen = [n for n, m in zip(nodes, mask.tolist(), strict=True) if m]
            if len(chosen) >= model.min_size:
                gone |= {*chosen}
                for n in chosen:
                    bag[n] = chosen[0]
            else:
                gone.add(seed)
        graph.remove_nodes_from(gone)


def test_logits_and_gradients_are_those_of_the_formula():
    model, (x, pairs, attr) = model_of(pair_dim=2), heap(count=30)
    _, z, expected = by_loop(model, x, pairs, attr)
    mine = model(x, pairs, attr)
    torch.testing.assert_close(mine[0], z)
    torch.testing.assert_close(mine[1], expected)
    parts = [*model.steps.parameters(), *model.join.parameters(), *model.pair.parameters()]
    theirs = torch.autograd.grad(expected.square().sum(), parts)
    for a, b in zip(torch.autograd.grad(mine[1].square().sum(), parts), theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("seed", range(6))
def test_bags_are_those_of_a_loop_over_components(seed):
    torch.manual_seed(seed)
    model = HyperTrack(3, 8, heads=2, pair_dim=2, cut=0.45, min_size=2 + seed % 3).double().eval()
    # At random about half of the candidates belong.
    heaps = [heap(seed + 10 * k, 20, 60) for k in range(3)]
    for x, pairs, attr in heaps:
        with torch.no_grad():
            expected = found_by_loop(model, x, pairs, attr)
        assert model.find(x, pairs, attr).tolist() == expected
    # All events at once.
    x, pairs, attr = (
        torch.cat(part, d) for part, d in zip(zip(*heaps, strict=True), (0, 1, 0), strict=True)
    )
    shift = 20 * torch.arange(3).repeat_interleave(60)
    alone = torch.cat([model.find(*h) + 20 * k for k, h in enumerate(heaps)])
    assert torch.equal(model.find(x, pairs + shift, attr), alone)


def test_the_loops_found_something():
    model, (x, pairs, attr) = model_of(pair_dim=2, cut=0.45), heap(0, 20, 60)
    sizes = {}
    for seed in range(10):
        torch.manual_seed(seed)
        model.reset_parameters()
        for n in model.find(x, pairs, attr).bincount().tolist():
            sizes[n] = sizes.get(n, 0) + 1
    assert sizes.get(1) and sum(sizes.get(n, 0) for n in range(4, 21)) > 3


@pytest.mark.parametrize(
    ("aggr", "mixer"),
    [("max", "attention"), ("softmax", "max"), (["sum", "std"], "gnp"), ("gnp", "attsets")],
)
def test_any_pool_at_both_places_and_the_order_does_not_matter(aggr, mixer):
    model, (x, pairs, _) = model_of(aggr=aggr, mixer=mixer, cut=0.45), heap(1)
    order, columns = torch.randperm(14), torch.randperm(pairs.size(1))
    there = order.argsort()
    _, logit = model(x, pairs)
    moved = there[pairs[:, columns]].flip(0)
    torch.testing.assert_close(model(x[order], moved)[1], logit[columns])
    a, b = model.find(x, pairs), model.find(x[order], moved)[there]
    # Names differ, who is with whom does not.
    assert torch.equal(a[:, None] == a, b[:, None] == b)


def test_a_heap_is_what_it_is_alone():
    model, (x, pairs, _), (y, others, _) = model_of(cut=0.45), heap(1), heap(2)
    both, columns = torch.cat([x, y]), torch.cat([pairs, others + len(x)], 1)
    _, alone = zip(*(model(*h) for h in ((x, pairs), (y, others))), strict=True)
    torch.testing.assert_close(model(both, columns)[1], torch.cat(alone))
    found = torch.cat([model.find(x, pairs), model.find(y, others) + len(x)])
    assert torch.equal(model.find(both, columns), found)


def test_pairs_and_candidates_are_learned():
    torch.manual_seed(0)
    every = torch.combinations(torch.arange(12)).t()
    x = torch.randn(12, 3) + 3.0 * (torch.arange(12) > 5)[:, None]
    model = HyperTrack(3, 16, heads=2)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        loss = model.loss(x, every, torch.arange(12) // 6, share=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.eval().find(x, every).tolist() == [0] * 6 + [6] * 6


def test_the_loss_of_pairs_against_a_loop():
    model, (x, pairs, attr) = model_of(pair_dim=2), heap()
    track = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 4, 5])
    logit = model(x, pairs, attr)[1]
    a, b = track[pairs]
    s, total = logit.tanh() / 0.3, []
    for t in range(6):
        inside = ((a == t) & (b == t)).nonzero().flatten()
        leaving = [s[e].exp() for e in range(pairs.size(1)) if (a[e] == t) != (b[e] == t)]
        terms = [-(s[e].exp() / (s[e].exp() + sum(leaving))).log() for e in inside]
        if terms:
            total.append(torch.stack(terms).mean())
    found = model.loss(x, pairs, track, attr, share=0.0, weights=(0.0, 1.0, 0.0))
    torch.testing.assert_close(found, torch.stack(total).mean())
    q = torch.where(a == b, logit.sigmoid(), 1 - logit.sigmoid())
    each = -(1 - q) * q.log()
    focal = (each[a == b].mean() + each[a != b].mean()) / 2
    found = model.loss(x, pairs, track, attr, share=0.0, weights=(1.0, 0.0, 0.0))
    torch.testing.assert_close(found, focal)


def test_heaps_without_pairs_without_elements_and_of_strangers():
    model, none = model_of(), torch.zeros(2, 0, dtype=torch.long)
    x = torch.randn(5, 3, dtype=torch.double)
    assert model.find(x, none).tolist() == [0, 1, 2, 3, 4]
    assert model.find(x[:0], none).shape == (0,)
    assert model.find(x[:1], none).tolist() == [0]
    for rows in (5, 0):
        model.loss(x[:rows], none, torch.arange(rows)).backward()
    pairs = torch.combinations(torch.arange(5)).t()
    model.loss(x, pairs, torch.arange(5), share=1.0).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"cut": 1.0}, "`cut` must lie in"),
        ({"heads": 3}, "`heads` must divide"),
        ({"min_size": 1}, "`min_size` must be"),
        ({"pair_dim": -1}, "`pair_dim` must be"),
    ],
)
def test_wrong_arguments_are_refused_by_name(kwargs, message):
    with pytest.raises(ValueError, match=message):
        HyperTrack(3, 8, **kwargs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_elements_may_be_any_integers(dtype):
    model, (x, pairs, attr) = model_of(pair_dim=2, cut=0.3, min_size=2), heap()
    assert torch.equal(model.find(x, pairs.to(dtype), attr), model.find(x, pairs, attr))
    track = torch.arange(14) // 5
    losses = [model.loss(x, p, track, attr, share=0.0) for p in (pairs.to(dtype), pairs)]
    torch.testing.assert_close(*losses)


def test_wrong_inputs_are_refused_by_name():
    model, (x, pairs, attr) = model_of(pair_dim=2), heap()
    with pytest.raises(ValueError, match="made with pair_dim=2; got none"):
        model(x, pairs)
    for weights in ((1.0, 1.0), (1.0, 1.0, -1.0), (1.0, 1.0, float("nan"))):
        with pytest.raises(ValueError, match="`weights` must be three finite numbers"):
            model.loss(x, pairs, torch.zeros(14, dtype=torch.long), attr, weights=weights)
    nothing = x.clone()
    nothing[pairs[0, 0]] = float("nan")
    with pytest.raises(
        ValueError, match="`pair_attr` must give each pair a logit; got NaN for elem"
    ):
        model.find(nothing, pairs, attr)
    with pytest.raises(ValueError, match="`x` must have 3 channels"):
        model(x[:, :2], pairs, attr)
    with pytest.raises(ValueError, match="`pairs` must lie in"):
        model(x[:5], pairs, attr)
    with pytest.raises(ValueError, match="`pair_attr` must have shape"):
        model(x, pairs)
    with pytest.raises(ValueError, match="one that repeats, or a loop"):
        model(x, torch.cat([pairs, pairs[:, :1].flip(0)], 1), torch.cat([attr, attr[:1]]))
    with pytest.raises(ValueError, match="`track` must have one entry per element"):
        model.loss(x, pairs, torch.zeros(3, dtype=torch.long), attr)
    with pytest.raises(ValueError, match="`share` must lie in"):
        model.loss(x, pairs, torch.zeros(14, dtype=torch.long), attr, share=2.0)
