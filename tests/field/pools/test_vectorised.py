"""torch.func over what decides by values: it works, or a sentence says which argument cannot."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg
from torch.func import grad, jacfwd, vmap

from graphpool import Segments, aggr, ops
from graphpool.coarsen import Selection, contract, lift, reduce
from graphpool.models import GraphModel
from graphpool.relational import LabelPooling, RelationalPooling
from graphpool.sets import MinMaxAUCLoss

torch.manual_seed(0)
X = torch.randn(6, 3, dtype=torch.double)
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 3]])
HARD = torch.tensor([0, 0, 1, 1, 2, 2])
SOFT = torch.softmax(torch.randn(6, 2, dtype=torch.double), dim=1)
INDEX = torch.tensor([[0, 1, 0, 1, 2, 2], [2, 2, 2, 0, 0, 0]])


def looped(function, batch):
    return torch.stack([function(each) for each in batch])


@pytest.mark.parametrize("cluster", [HARD, SOFT, SOFT.to_sparse()], ids=["hard", "soft", "sparse"])
@pytest.mark.parametrize("edge_pool", ["sum", "mean", "max"])
@pytest.mark.parametrize("width", [(), (2,)])
def test_edges_of_a_contraction(cluster, edge_pool, width):
    attr = torch.randn(4, 7, *width, dtype=torch.double)

    def pooled(a):
        return contract(X, EDGES, cluster, edge_attr=a, edge_pool=edge_pool).edge_attr

    torch.testing.assert_close(vmap(pooled)(attr), looped(pooled, attr))
    slopes = vmap(grad(lambda a: pooled(a).square().sum()))(attr)
    torch.testing.assert_close(slopes, looped(grad(lambda a: pooled(a).square().sum()), attr))


def test_an_infinite_edge_stays_where_it_is():
    weight = torch.ones(2, 7, dtype=torch.double)
    weight[1, 0] = torch.inf

    def pooled(w):
        return contract(
            X, EDGES, torch.eye(6, dtype=torch.double)[:, :3] + 0.0, edge_attr=w
        ).edge_attr

    torch.testing.assert_close(vmap(pooled)(weight), looped(pooled, weight))


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_soft_assignments(pool):
    many = torch.softmax(torch.randn(4, 6, 2, dtype=torch.double), dim=2)

    def pooled(s):
        return reduce(X, Selection.from_assignment(s), pool)

    torch.testing.assert_close(vmap(pooled)(many), looped(pooled, many))
    with pytest.raises(ValueError, match="`cluster` is vectorised by torch.vmap.*in a loop"):
        vmap(lambda s: contract(X, EDGES, s).x)(many)
    # One at a time, all derivatives.
    slope = grad(lambda s: contract(X, EDGES, s).edge_attr.square().sum())(SOFT)
    forward = jacfwd(lambda s: contract(X, EDGES, s).edge_attr.square().sum())(SOFT)
    torch.testing.assert_close(slope, forward)


def test_clusters():
    many = torch.stack([HARD, HARD.flip(0)])
    torch.testing.assert_close(
        vmap(lambda c: reduce(X, Selection.from_cluster(c, 3)))(many),
        looped(lambda c: reduce(X, Selection.from_cluster(c, 3)), many),
    )
    for call in (lambda c: Selection.from_cluster(c).rows, lambda c: contract(X, EDGES, c).x):
        with pytest.raises(ValueError, match="`cluster` is vectorised"):
            vmap(call)(many)
    with pytest.raises(ValueError, match="`edge_index` is vectorised"):
        vmap(lambda e: contract(X, e, HARD).x)(torch.stack([EDGES, EDGES]))
    selection = Selection.from_cluster(HARD)
    values = torch.randn(2, 3, 4)
    torch.testing.assert_close(
        vmap(lambda v: lift(v, selection))(values), looped(lambda v: lift(v, selection), values)
    )


@pytest.mark.parametrize("name", ["sum", "median", "quantile", "kmax", "mul", "max", "std", "gnp"])
def test_bags_that_differ(name):
    pool = aggr.resolve(name, channels=3).double()
    torch.testing.assert_close(
        vmap(lambda i: pool(X, i, dim_size=3, max_num_elements=3))(INDEX),
        looped(lambda i: pool(X, i, dim_size=3), INDEX),
    )
    with pytest.raises(ValueError, match="`dim_size` must be given where `index` is vectorised"):
        vmap(lambda i: pool(X, i))(INDEX)


def test_what_runs_elsewhere_is_refused_by_name():
    with pytest.raises(ValueError, match="`segments` is vectorised"):
        vmap(lambda i: aggr.WardPool()(X, i, dim_size=3)[0])(INDEX)
    mixer = aggr.PoolFormer(4, pos_dim=2, k=2)
    with pytest.raises(ValueError, match="`position` is vectorised"):
        vmap(mixer)(torch.rand(2, 6, 4))
    memory = aggr.MIDAMLogSumExp(3, num_segments=4).double()
    ids = torch.tensor([0, 2, 3])
    with pytest.raises(ValueError, match="is vectorised"):
        vmap(lambda x: memory(x, HARD, dim_size=3, segment_index=ids))(torch.stack([X, X]))
    assert not memory.visited.any()
    slope = grad(lambda x: memory(x, HARD, dim_size=3, segment_index=ids).sum())(X)
    other, x = aggr.MIDAMLogSumExp(3, num_segments=4).double(), X.clone().requires_grad_()
    other(x, HARD, dim_size=3, segment_index=ids).sum().backward()
    torch.testing.assert_close(slope, x.grad)
    torch.testing.assert_close(memory.log_mean, other.log_mean)
    places = torch.tensor([[0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 2, 2]])
    pool = aggr.DSVTPool(3, window_size=3).double()
    torch.testing.assert_close(
        vmap(lambda p: pool(X, HARD, dim_size=3, window_index=p))(places),
        looped(lambda p: pool(X, HARD, dim_size=3, window_index=p), places),
    )


def test_a_loss_of_bags():
    loss = MinMaxAUCLoss()
    score, label = torch.rand(3, 4), torch.tensor([[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0]])
    many = torch.stack([loss(s, t) for s, t in zip(score, label, strict=True)])
    gap = loss.gap.clone()
    torch.testing.assert_close(vmap(loss)(score, label), many)
    with pytest.raises(ValueError, match="vectorised several"):
        loss.ascend(0.1, from_batch=True)
    x = score[2].clone().requires_grad_()
    loss(x, label[2]).backward()
    torch.testing.assert_close(grad(loss)(score[2], label[2]), x.grad)
    torch.testing.assert_close(loss.gap, gap)
    loss.ascend(0.1, from_batch=True)


RING = torch.cat([EDGES[:, :6], EDGES[:, :6].flip(0)], dim=1)


@pytest.mark.parametrize("form", ["ragged", "rectangular"])
@pytest.mark.parametrize("settings", [{}, {"max_copies": 2}, {"sample": 3}])
def test_labelled_copies(form, settings):
    pooling = LabelPooling(pyg.GIN(4, 4, 2), 1, form=form, **settings).double()
    many = torch.randn(2, 6, 3, dtype=torch.double)

    def run(x):
        return pooling(x, RING, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(vmap(run, randomness="same")(many), looped(run, many))
    x = X.clone().requires_grad_()
    run(x).square().sum().backward()
    torch.testing.assert_close(grad(lambda x: run(x).square().sum())(X), x.grad)
    torch.testing.assert_close(
        jacfwd(lambda x: run(x).square().sum(), randomness="same")(X), x.grad
    )
    if "sample" in settings:
        with pytest.raises(ValueError, match="randomness='same'"):
            vmap(run, randomness="different")(many)


@pytest.mark.parametrize("order", ["random", "bfs", "dfs", "canonical"])
@pytest.mark.parametrize("form", ["ragged", "rectangular"])
def test_orders(order, form):
    pooling = RelationalPooling(pyg.GIN(5, 4, 2), 3, 2, order=order, form=form).double().eval()

    def run(x):
        return pooling(x, RING, generator=torch.Generator().manual_seed(1)).square().sum()

    x = X.clone().requires_grad_()
    run(x).backward()
    torch.testing.assert_close(grad(run)(X), x.grad)
    many = torch.stack([X, -X])
    if order == "canonical":
        with pytest.raises(ValueError, match="`x` is vectorised"):
            vmap(run, randomness="same")(many)
    else:
        torch.testing.assert_close(vmap(run, randomness="same")(many), looped(run, many))


def test_graphs_that_differ():
    model = GraphModel(3, 4, 2).double()
    many = torch.stack([RING, RING.flip(1)])
    torch.testing.assert_close(
        vmap(lambda e: model(X, e))(many), looped(lambda e: model(X, e), many)
    )
    batches = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]])
    torch.testing.assert_close(
        vmap(lambda b: model(X, RING, b, 2))(batches),
        looped(lambda b: model(X, RING, b, 2), batches),
    )


# Compiled programs and inference mode.


#: Every op and every form; the other six take seconds.
SEEN = [("mean", "index"), ("median", "unsorted"), ("softmax", "padded")]


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        pytest.param(op, kind, marks=[pytest.mark.slow] * ((op, kind) not in SEEN))
        for op in ("mean", "median", "softmax")
        for kind in ("index", "unsorted", "padded")
    ],
)
def test_bags_first_seen_by_a_compiled_program_in_inference_mode(op, kind):
    segments = {
        "index": lambda: Segments(index=torch.tensor([0, 0, 1, 2, 2]), num_segments=4),
        "unsorted": lambda: Segments(index=torch.tensor([2, 0, 1, 0, 2]), num_segments=4),
        "padded": lambda: Segments.from_counts(torch.tensor([2, 1, 2, 0])),
    }[kind]()

    def function(x, w):
        y = x * w
        if op == "softmax":
            return (ops.segment_softmax_sum(y, x, segments) * segments.counts[:, None]).sum()
        return (ops.segment_mean if op == "mean" else ops.segment_median)(y, segments).sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="aot_eager")
    x, w = torch.randn(5, 2), torch.randn(2, requires_grad=True)
    with torch.inference_mode():
        compiled(x, w.detach())
    held = [v for v in vars(segments).values() if isinstance(v, torch.Tensor)]
    assert not any(v.is_inference() for v in held)
    (slope,) = torch.autograd.grad(compiled(x, w), w)
    (expected,) = torch.autograd.grad(function(x, w), w)
    torch.testing.assert_close(slope, expected)
