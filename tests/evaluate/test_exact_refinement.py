"""One marked node on all pairs of EXP and CEXP against exact colour refinement of whole sets at once.

A colour is the number of a tuple among all tuples that occur, found by sorting: no hashes, no collisions.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch_geometric.nn import GIN

from graphpool.datasets import CEXP, EXP, connected_graphs
from graphpool.evaluate import separate_pairs
from graphpool.relational import LabelPooling


def number(columns):
    """Numbers of the rows of a table, equal for equal rows only."""
    key = torch.zeros_like(columns[0])
    for column in columns:
        key = torch.unique(key * (int(column.max()) + 2) + column + 1, return_inverse=True)[1]
    return key


def bags(values, owner, count):
    """Numbers of the multisets of the values of each owner."""
    order = torch.argsort(owner * (int(values.max()) + 1) + values)
    values, owner = values[order], owner[order]
    sizes = torch.bincount(owner, minlength=count)
    start = sizes.cumsum(0) - sizes
    table = values.new_full((count, int(sizes.max())), -1)
    table[owner, torch.arange(len(owner)) - start[owner]] = values
    return number(table.unbind(1))


def marked_copies(graphs):
    """Every graph once for each of its nodes, which is marked: start colours, edges, copy of every node,
    graph of every copy."""
    start, edges, copy, graph_of_copy = [], [], [], []
    nodes = copies = 0
    for graph, data in enumerate(graphs):
        n = data.num_nodes
        feature = number(data.x.long().unbind(1)).repeat(n, 1)
        start.append((torch.eye(n, dtype=torch.long) + 2 * feature).flatten())
        shift = nodes + n * torch.arange(n).view(-1, 1)
        edges.append((data.edge_index.unsqueeze(1) + shift).flatten(1))
        copy.append(copies + torch.arange(n).repeat_interleave(n))
        graph_of_copy.append(torch.full((n,), graph))
        nodes, copies = nodes + n * n, copies + n
    return torch.cat(start), torch.cat(edges, 1), torch.cat(copy), torch.cat(graph_of_copy)


def refined(graphs, rounds):
    """Colour of every graph with one marked node after each round, ``[rounds, G]``."""
    colour, (source, target), copy, graph = marked_copies(graphs)
    found = []
    for _ in range(rounds):
        colour = number([colour, bags(colour[source], target, len(colour))])
        found.append(bags(bags(colour, copy, len(graph)), graph, len(graphs)))
    return torch.stack(found)


def by_definition(graphs, rounds):
    """The same with nested tuples and counters, node after node."""
    classes = []
    for data in graphs:
        around = {v: [] for v in range(data.num_nodes)}
        for a, b in data.edge_index.t().tolist():
            around[b].append(a)
        copies = Counter()
        for mark in around:
            colour = {v: (tuple(data.x[v].tolist()), v == mark) for v in around}
            for _ in range(rounds):
                colour = {
                    v: (colour[v], frozenset(Counter(colour[u] for u in around[v]).items()))
                    for v in around
                }
            copies[frozenset(Counter(colour.values()).items())] += 1
        classes.append(frozenset(copies.items()))
    return classes


def test_whole_sets_at_once_equal_the_definition():
    graphs = connected_graphs(5)
    for data in graphs[::2]:
        data.x = (torch.arange(data.num_nodes) % 2).double().view(-1, 1)
    table = refined(graphs, 4)
    for rounds in (1, 2, 4):
        wanted = by_definition(graphs, rounds)
        for i, first in enumerate(wanted):
            equal = [first == other for other in wanted]
            assert (table[rounds - 1] == table[rounds - 1, i]).tolist() == equal


@pytest.mark.slow
@pytest.mark.parametrize("cls", [EXP, CEXP])
def test_one_label_on_all_pairs(shared_data, cls):
    """Colours never merge again, so that what three rounds separate, a stable colouring separates."""
    data = cls(shared_data / "expressive")
    graphs, pairs = [data[i] for i in range(len(data))], data.pairs()
    exact = refined(graphs, 3)[-1]
    granted = exact[pairs[:, 0]] != exact[pairs[:, 1]]
    found = separate_pairs(
        lambda: LabelPooling(GIN(3, 16, 4, act="tanh", eps=0.37)), graphs, pairs, calibration=100
    )
    assert torch.equal(found.separated, granted) and int(granted.sum()) == 600
    assert found.undecided == 0
