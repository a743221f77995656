"""What two neighbourhoods share, against Python's sets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphpool.overlap import joined, neighborhood_overlap, without_links

edges_of = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=12),
    )
)


def as_pairs(pairs):
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()


@given(edges_of)
def test_bags_are_those_of_sets(case):
    """Repeated edges, self-loops, pairs of one node, pairs that are edges, no edges, no pairs."""
    n, edges, pairs = case
    around = {i: {s for s, r in edges if r == i} for i in range(n)}
    overlap = neighborhood_overlap(as_pairs(edges), as_pairs(pairs), n)
    for bags, meant in zip(
        overlap, (set.intersection, set.difference, lambda a, b: b - a), strict=True
    ):
        assert bags.segments.num_segments == len(pairs)
        ends = bags.segments.ptr.tolist()
        for k, (i, j) in enumerate(pairs):
            got = bags.nodes[ends[k] : ends[k + 1]].tolist()
            assert got == sorted(meant(around[i], around[j]))


@given(edges_of)
def test_links_go_in_both_directions_and_nothing_else_does(case):
    n, edges, pairs = case
    gone = {frozenset(p) for p in pairs}
    kept = without_links(as_pairs(edges), as_pairs(pairs), n).t().tolist()
    assert kept == [list(e) for e in edges if frozenset(e) not in gone]
    assert int(joined(as_pairs(edges), as_pairs(pairs), n).sum()) == len(edges) - len(kept)


def test_node_numbers_whose_products_exceed_32_bits():
    n = 3_000_000_000
    edges = torch.tensor([[n - 1, n - 1, 5], [n - 2, n - 3, n - 3]])
    assert joined(edges, torch.tensor([[n - 3], [n - 1]]), n).tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["edge_index", "pairs"])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.zeros(2, 3), TypeError, "must be an integer tensor"),
        (torch.zeros(3, 2, dtype=torch.long), ValueError, "must have shape"),
        (torch.tensor([[0], [4]]), ValueError, r"must lie in \[0, 4\).*got 4"),
        (torch.tensor([[0], [-1]]), ValueError, r"must lie in \[0, 4\).*got -1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, given, error, message):
    arguments = {n: torch.zeros(2, 0, dtype=torch.long) for n in ("edge_index", "pairs")}
    arguments[name] = given
    for function in (neighborhood_overlap, without_links):
        with pytest.raises(error, match=f"`{name}` {message}"):
            function(**arguments, num_nodes=4)
