"""What graph networks say at the door: the argument, what came, what was expected."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn
from torch_geometric.data import Batch, Data

from graphpool import Segments, aggr
from graphpool.coarsen import Selection, connect, contract
from graphpool.conv import EdgeConv, GATv2Conv, GINConv, Neighborhoods, PairMLPConv, SAGEConv
from graphpool.models import GraphModel
from graphpool.relational import (
    LabelledCopies,
    LabelPolicy,
    LabelPooling,
    RelationalPooling,
    copies_of,
)

CONVS = [GINConv, SAGEConv, EdgeConv, PairMLPConv, GATv2Conv]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
X = torch.arange(18.0).view(6, 3) / 10
ENDS = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
EDGES = torch.cat([ENDS, ENDS.flip(0)], dim=1)
BATCH = torch.tensor([0, 0, 0, 1, 1, 1])
ATTR = torch.rand(EDGES.size(1), 2, generator=torch.Generator().manual_seed(0))


def made(encoder, conv):
    if conv == "own":
        conv = lambda i, o, aggr, edge_dim: pyg.GINEConv(nn.Linear(i, o), edge_dim=edge_dim)  # noqa: E731
    return GraphModel(3, 4, 2, num_layers=2, conv=conv, encoder=encoder, edge_dim=2)


NETWORKS = {
    f"{conv}-{encoder}": (lambda e=encoder, c=conv: made(e, c))
    for encoder, conv in itertools.product(
        ["linear", "mlp", None], ["gin", "sage", "edge", "pair_mlp", "gatv2", "own"]
    )
} | {cls.__name__: (lambda cls=cls: cls(3, 4, edge_dim=2)) for cls in CONVS}


@pytest.mark.parametrize("name", NETWORKS)
def test_features_that_do_not_fit_are_named(name):
    network = NETWORKS[name]()
    network(X, EDGES, edge_attr=ATTR)
    for x, error, match in [
        (X[:, :2], ValueError, r"`x` must have 3 channels.*float32 tensor of shape \(6, 2\)"),
        (X[:, 0], ValueError, r"`x` must have shape"),
        (X.double(), TypeError, r"`x` must be torch.float32.*float64.*`x.to\(torch.float32\)`"),
        (X.half(), TypeError, "`x` must be torch.float32.*float16"),
        (X.long(), TypeError, "`x` must be torch.float32.*int64"),
        (X > 0, TypeError, "`x` must be torch.float32.*bool"),
    ]:
        with pytest.raises(error, match=match):
            network(x, EDGES, edge_attr=ATTR)
    for attr, error, match in [
        (None, ValueError, r"`edge_attr` must be \[num_edges, 2\].*got NoneType"),
        (ATTR[:, :1], ValueError, r"`edge_attr` must be \[num_edges, 2\].*\(\d+, 1\)"),
        (ATTR[:3], ValueError, r"`edge_attr` must be \[num_edges, 2\].*\(3, 2\)"),
        (ATTR.double(), TypeError, "`edge_attr` must be torch.float32.*float64"),
        (ATTR.long(), TypeError, "`edge_attr` must be torch.float32.*int64"),
    ]:
        with pytest.raises(error, match=match):
            network(X, EDGES, edge_attr=attr)


def test_other_precisions_pass_where_they_can_be_multiplied():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made("linear", "gin")(X.bfloat16(), EDGES, edge_attr=ATTR)
    made("linear", "sage").double()(X.double(), EDGES, edge_attr=ATTR.double())
    # An encoder of one's own takes what it takes.
    model = GraphModel(1, 4, 2, encoder=nn.Sequential(nn.Embedding(7, 4), nn.Flatten(-2)))
    assert model(torch.arange(6).unsqueeze(1), EDGES).shape == (1, 2)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_indices_of_every_integer_type(dtype):
    edges, batch = EDGES.to(dtype), BATCH.to(dtype)
    for cls in CONVS:
        conv = cls(3, 4)
        torch.testing.assert_close(conv(X, edges), conv(X, EDGES), rtol=0, atol=0)
    model = GraphModel(3, 4, 2)
    torch.testing.assert_close(model(X, edges, batch, 2), model(X, EDGES, BATCH, 2))
    for pooling in (
        LabelPooling(pyg.GIN(4, 4, 2), 1),
        RelationalPooling(pyg.GIN(5, 4, 2), "all", 2),
    ):
        torch.testing.assert_close(pooling(X, edges, batch, 2), pooling(X, EDGES, BATCH, 2))
    ours, theirs = contract(X, edges, batch), contract(X, EDGES, BATCH)
    torch.testing.assert_close(ours.x, theirs.x)
    assert torch.equal(ours.edge_index, theirs.edge_index)
    assert torch.equal(aggr.resolve("sum")(X, batch), aggr.resolve("sum")(X, BATCH))
    assert torch.equal(
        aggr.resolve("sum")(X, BATCH, gather=batch), aggr.resolve("sum")(X, BATCH, gather=BATCH)
    )


REFUSED = [EDGES.float(), EDGES > 0, EDGES.tolist(), None]


@pytest.mark.parametrize("edges", REFUSED, ids=["float", "bool", "list", "none"])
def test_edges_that_are_no_integers(edges):
    takers = [cls(3, 4) for cls in CONVS]
    takers += [
        GraphModel(3, 4, 2),
        GraphModel(3, 4, 2, conv="gatv2"),
        LabelPooling(pyg.GIN(4, 4, 2)),
    ]
    takers.append(lambda x, e: contract(x, e, BATCH))
    takers.append(lambda x, e: Neighborhoods(e, 6))
    takers.append(lambda x, e: connect(e, Selection.from_cluster(BATCH)))
    for taker in takers:
        with pytest.raises(TypeError, match="`edge_index` must be an integer tensor"):
            taker(X, edges)


def test_a_node_that_is_not_there():
    for cls in CONVS:
        with pytest.raises(ValueError, match=r"`edge_index\[[01]\]` must lie in \[0, 6\); got 6"):
            cls(3, 4)(X, EDGES + 1)
    with pytest.raises(ValueError, match=r"`edge_index\[[01]\]` must lie in \[0, 6\); got -1"):
        GraphModel(3, 4, 2)(X, EDGES - 1)
    with pytest.raises(ValueError, match=r"`edge_index` must lie in \[0, 6\).*from 1 to 6"):
        LabelPooling(pyg.GIN(4, 4, 2), 1)(X, EDGES + 1)


TAKERS = {
    "model": lambda b, n: GraphModel(3, 4, 2)(X, EDGES, b, n),
    "labels": lambda b, n: LabelPooling(pyg.GIN(4, 4, 2), 1)(X, EDGES, b, n),
    "orders": lambda b, n: RelationalPooling(pyg.GIN(5, 4, 2), 2, 2)(X, EDGES, b, n),
    "contract": lambda b, n: contract(X, EDGES, BATCH, batch=b, batch_size=n).x,
}


@pytest.mark.parametrize("taker", TAKERS)
def test_one_rule_for_the_number_of_graphs(taker):
    take = TAKERS[taker]
    with pytest.raises(ValueError, match="`batch_size`.* must be given with `batch`.*num_graphs"):
        take(BATCH, None)
    with pytest.raises(ValueError, match=r"`batch` must lie in \[0, 1\); got 1 at position 3"):
        take(BATCH, 1)
    with pytest.raises(ValueError, match=r"`batch` must lie in \[0, 2\); got -1 at position 0"):
        take(BATCH - 1, 2)
    with pytest.raises(ValueError, match="`batch` must have one entry per node, 6; got 3"):
        take(BATCH[:3], 1)
    with pytest.raises(ValueError, match="`batch_size` is 3, but without `batch`"):
        take(None, 3)
    with pytest.raises(ValueError, match="`batch_size` is 3, but `batch` has 2 graphs"):
        take(Segments(index=BATCH, num_segments=2), 3)
    for wrong in (BATCH.float(), BATCH > 0, BATCH.tolist()):
        with pytest.raises(TypeError, match="`batch` must be an integer tensor"):
            take(wrong, 2)
    take(Segments(index=BATCH, num_segments=2), None)


def test_weights_are_named():
    model, bad = GraphModel(3, 4, 2), torch.ones(EDGES.size(1))
    bad[2] = -1
    with pytest.raises(
        ValueError, match="`edge_weight` must be finite and >= 0; got -1.* position 2"
    ):
        model(X, EDGES, edge_weight=bad)
    with pytest.raises(ValueError, match="`node_weight` must be finite and >= 0; got nan"):
        model(X, EDGES, node_weight=torch.full((6,), torch.nan))
    with pytest.raises(ValueError, match="`edge_attr` must have one row per edge"):
        LabelPooling(pyg.GraphConv(4, 4), 1, form="ragged")(
            X, EDGES, edge_weight=torch.ones(99)[: EDGES.size(1)], edge_attr=torch.ones(99, 1)
        )


# Relational pooling: nodes in any order, and networks that do not say how wide they are.


@pytest.mark.parametrize("output", ["graph", "node", "root"])
@pytest.mark.parametrize("policy", [{}, {"policy": "clusters", "group": "cluster"}, {"hops": 1}])
def test_nodes_in_any_order(output, policy):
    if output != "graph" and "group" in policy:
        policy = {"policy": "clusters"}
    torch.manual_seed(0)
    order, cluster = torch.randperm(6), torch.tensor([0, 1, 1, 0, 0, 1])
    place = order.argsort()
    for form in ("ragged", "auto"):
        pooling = LabelPooling(
            pyg.GIN(4, 4, 2), 1, policy.get("policy", "all"), hops=policy.get("hops"),
            group=policy.get("group"), output=output, form=form, max_copies=2,
        )  # fmt: skip
        asked = {"cluster": cluster} if "policy" in policy else {}
        expected = pooling(X, EDGES, BATCH, 2, **asked)
        mixed = {name: value[order] for name, value in asked.items()}
        got = pooling(X[order], place[EDGES], BATCH[order], 2, **mixed)
        if output != "graph":
            expected = expected[order]
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", ["random", "canonical"])
@pytest.mark.parametrize("output", ["graph", "node"])
def test_all_orders_of_nodes_in_any_order(kind, output):
    torch.manual_seed(0)
    order = torch.tensor([3, 0, 4, 5, 1, 2])
    pooling = RelationalPooling(pyg.GIN(5, 4, 2), "all", 2, output=output)
    if kind == "canonical":
        # Colours tell all nodes apart, so that there is one order.
        pooling = RelationalPooling(pyg.GIN(5, 4, 2), 1, 2, output=output, order=kind)
    expected = pooling(X, EDGES, BATCH, 2)
    got = pooling(X[order], order.argsort()[EDGES], BATCH[order], 2)
    torch.testing.assert_close(got, expected if output == "graph" else expected[order])


def test_copies_that_are_stored_number_the_nodes():
    policy = LabelPolicy("ego", 1, hops=1)
    ring = torch.tensor([[0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]])
    data = LabelledCopies(policy)(Data(x=torch.rand(3, 2), edge_index=ring))
    batch = Batch.from_data_list([data, data])
    pooling = LabelPooling(pyg.GIN(3, 4, 2), policy=policy)
    with pytest.raises(ValueError, match="`batch` must be sorted where `copies` are given"):
        pooling(batch.x, batch.edge_index, batch.batch.flip(0), 2, copies=copies_of(batch))


class Silent(nn.Module):
    """A network that does not say how wide its output is."""

    def __init__(self):
        super().__init__()
        self.conv = pyg.GraphConv(4, 5)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index).relu()


@pytest.mark.parametrize("word", ["lstm", "gru", ["lstm", "max"], pyg.aggr.LSTMAggregation, "gnp"])
@pytest.mark.parametrize("site", ["inner", "outer", "group_pool"])
def test_the_width_is_found_at_the_first_batch(word, site):
    settings = {site: word, **({"group": "root"} if site == "group_pool" else {})}
    pooling = LabelPooling(Silent(), 1, form="ragged", **settings)
    with pytest.raises(ValueError, match="run one batch before"):
        torch.optim.Adam(pooling.parameters())
    y = pooling(X, EDGES, BATCH, 2)
    assert y.shape == (2, 10 if isinstance(word, list) else 5)
    y.sum().backward()
    torch.optim.Adam(pooling.parameters()).step()
    other = LabelPooling(Silent(), 1, form="ragged", **settings)
    other.load_state_dict(pooling.state_dict())
    torch.testing.assert_close(other(X, EDGES, BATCH, 2), pooling(X, EDGES, BATCH, 2))


def test_all_orders_with_a_pool_that_takes_no_weights():
    class Wide(Silent):
        def __init__(self):
            super().__init__()
            self.conv = pyg.GraphConv(5, 5)

    assert RelationalPooling(Wide(), "all", 2, outer="lstm")(X, EDGES, BATCH, 2).shape == (2, 5)
