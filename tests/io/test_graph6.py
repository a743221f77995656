from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool.datasets import graphs_from_graph6, read_graph6, to_graph6
from graphpool.io import format_graph6, parse_graph6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70), st.floats(0, 1), st.integers(0, 10**6))
def test_both_directions_agree_with_networkx(n, p, seed):
    graph = nx.gnp_random_graph(n, p, seed=seed)
    line = nx.to_graph6_bytes(graph, header=False).decode().strip()
    size, edges = parse_graph6(line)
    assert size == n
    assert {tuple(e) for e in edges.tolist()} == {tuple(sorted(e)) for e in graph.edges}
    assert format_graph6(n, edges) == line


@pytest.mark.parametrize("n", [0, 1, 62, 63, 64, 300])
def test_sizes_around_the_limits(n):
    edges = np.stack([np.arange(max(n - 1, 0)), np.arange(max(n - 1, 0)) + 1], 1)
    line = format_graph6(n, edges)
    size, back = parse_graph6(line)
    assert size == n and np.array_equal(back, edges)


def test_eight_byte_size_is_read():
    # 63 63 and six digits: the long form may hold a small number, too.
    line = "~~" + "".join(chr(63 + c) for c in (0, 0, 0, 0, 0, 3)) + "w"
    assert parse_graph6(line)[0] == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "empty"),
        (":An", "sparse6"),
        ("&AG", "digraph6"),
        ("B w", "' ' at 1"),
        ("Bww", "has 2 characters; got 3"),
        ("C", "has 2 characters; got 1"),
        ("B~", "padding bits"),
        ("~?", "ends inside the number"),
    ],
)
def test_malformed_lines_say_what_is_wrong(line, message):
    with pytest.raises(ValueError, match=message):
        parse_graph6(line)


def test_header_and_bytes():
    assert parse_graph6(b">>graph6<<Bw\n")[1].tolist() == [[0, 1], [0, 2], [1, 2]]


def test_file_errors_name_the_line(tmp_path):
    file = tmp_path / "graphs.g6"
    file.write_text("Bw\nBww\n")
    with pytest.raises(ValueError, match=r"graphs\.g6, line 2"):
        read_graph6(file)
    file.write_text("Bw\nC~\n")
    graphs = read_graph6(file)
    assert [g.num_nodes for g in graphs] == [3, 4] and [g.num_edges for g in graphs] == [6, 12]
    assert [to_graph6(g) for g in graphs] == ["Bw", "C~"]


def test_writing_refuses_what_the_format_cannot_hold():
    with pytest.raises(ValueError, match="loops"):
        format_graph6(3, np.array([[1, 1]]))
    with pytest.raises(ValueError, match="nodes in 0..2"):
        format_graph6(3, np.array([[1, 3]]))
    graph = graphs_from_graph6(["Bw"])[0]
    graph.edge_index = graph.edge_index[:, 1:]
    with pytest.raises(ValueError, match="without"):
        to_graph6(graph)
