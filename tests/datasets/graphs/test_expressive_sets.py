"""CSL, CFI, EXP / CEXP, SR25, graph8c and BREC: parameters, protocols, malformed files."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.utils import to_networkx

from graphpool.datasets import (
    BREC,
    CEXP,
    CSL,
    EXP,
    SR25,
    BRECCopies,
    Graph8c,
    brec_ranges,
    cfi_graph,
    cfi_pair,
    circulant_graph,
    connected_graphs,
    relabel,
    strongly_regular_parameters,
    to_graph6,
)
from graphpool.datasets.graphs.brec import BREC_BLOCKS
from graphpool.datasets.graphs.circulant import CSL_SKIPS


def as_nx(data):
    return to_networkx(data, to_undirected=True)


def test_csl_is_what_the_paper_says():
    data = CSL()
    assert len(data) == 150 and data.y.tolist() == [c for c in range(10) for _ in range(15)]
    for label, skip in enumerate(CSL_SKIPS):
        first = as_nx(data[15 * label])
        wanted = nx.circulant_graph(41, [1, skip])
        assert set(map(frozenset, first.edges)) == set(map(frozenset, wanted.edges))
        assert nx.vf2pp_is_isomorphic(first, as_nx(data[15 * label + 7]))
        assert len({to_graph6(data[15 * label + c]) for c in range(15)}) == 15
    assert all(set(dict(as_nx(g).degree).values()) == {4} for g in data)


def test_csl_classes_are_all_there_are():
    found = {frozenset({r, 41 - r, pow(r, -1, 41), 41 - pow(r, -1, 41)}) for r in range(2, 40)}
    assert len(found) == 10 and all(any(s in c for c in found) for s in CSL_SKIPS)
    assert len({next(c for c in found if s in c) for s in CSL_SKIPS}) == 10


def test_csl_folds_are_stratified_and_disjoint():
    data = CSL()
    folds = data.folds()
    assert torch.equal(torch.cat([t for _, t in folds]).sort().values, torch.arange(150))
    for train, test in folds:
        assert len(train) == 120 and len(test) == 30
        assert not set(train.tolist()) & set(test.tolist())
        assert torch.bincount(data.y[test]).tolist() == [3] * 10
    with pytest.raises(ValueError, match="divisor"):
        data.folds(4)
    with pytest.raises(ValueError, match="copies"):
        CSL(copies=0)


def test_relabel_moves_features_with_their_nodes():
    data = circulant_graph(6, [1])
    data.x = torch.arange(6.0)[:, None]
    data.edge_attr = data.edge_index.sum(0).float()
    permutation = torch.tensor([3, 1, 5, 0, 2, 4])
    copy = relabel(data, permutation)
    assert torch.equal(copy.x[permutation], data.x)
    inverse = torch.argsort(permutation)
    assert torch.equal(copy.edge_attr, inverse[copy.edge_index].sum(0).float())
    with pytest.raises(ValueError, match="permutation"):
        relabel(data, torch.zeros(6, dtype=torch.long))


@pytest.mark.parametrize(
    "base", [nx.cycle_graph(3), nx.cycle_graph(4), nx.complete_graph(4), nx.ladder_graph(3)]
)
def test_cfi_parity_decides_isomorphism(base):
    edges = list(base.edges)
    plain, twisted = map(as_nx, cfi_pair(edges))
    assert not nx.vf2pp_is_isomorphic(plain, twisted)
    assert nx.vf2pp_is_isomorphic(plain, as_nx(cfi_graph(edges, (0, 2))))
    assert nx.vf2pp_is_isomorphic(twisted, as_nx(cfi_graph(edges, (1,))))
    assert plain.number_of_nodes() == sum(2 ** (d - 1) for _, d in base.degree)


def test_cfi_errors():
    for edges, message in [([], "at least one"), ([(0, 0)], "loop"), ([(0, 1), (1, 0)], "once")]:
        with pytest.raises(ValueError, match=message):
            cfi_graph(edges)
    with pytest.raises(ValueError, match="Node 1 of the base"):
        cfi_graph([(0, 2)])
    with pytest.raises(ValueError, match="twisted"):
        cfi_graph([(0, 1)], (1,))


def test_strongly_regular_parameters():
    assert strongly_regular_parameters(circulant_graph(13, [1, 3, 4])) == (13, 6, 2, 3)
    with pytest.raises(ValueError, match="share"):
        strongly_regular_parameters(circulant_graph(8, [1]))
    path = circulant_graph(5, [1])
    path.edge_index = path.edge_index[:, (path.edge_index != 0).all(0)]
    with pytest.raises(ValueError, match="not regular"):
        strongly_regular_parameters(path)
    with pytest.raises(ValueError, match="no non-adjacent"):
        strongly_regular_parameters(circulant_graph(5, [1, 2]))


def test_sr25(shared_data, tmp_path):
    data = SR25(shared_data / "expressive")
    assert len(data) == 15 and {g.num_edges for g in data} == {300}
    lines = (shared_data / "expressive" / "sr251256.g6").read_text().split()
    # The damage found in copies of this file.
    lines[7] = lines[7][:7] + "cd" + lines[7][9:]
    (tmp_path / "sr251256.g6").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="line 8"):
        SR25(tmp_path)
    (tmp_path / "sr251256.g6").write_text("\n".join(lines[:5]))
    with pytest.raises(ValueError, match="15 graphs"):
        SR25(tmp_path)


def test_exp_and_cexp(shared_data):
    folder = shared_data / "expressive"
    for cls, sizes, mean_nodes in ((EXP, (33, 73), 48.7), (CEXP, (40, 81), 55.8)):
        data = cls(folder)
        nodes = torch.tensor([g.num_nodes for g in data])
        assert len(data) == 1200 and int(data.y.sum()) == 600
        assert (int(nodes.min()), int(nodes.max())) == sizes
        assert nodes.float().mean().item() == pytest.approx(mean_nodes, abs=0.05)
        assert torch.equal(data.y[data.pairs()], torch.tensor([[1, 0]]).expand(600, 2))
    folds = data.folds(10)
    assert all(len(test) == 120 and len(train) == 1080 for train, test in folds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2 1\n0 1 1\n", "ends after line 3"),
        ("1\n2 1\n0 1 1\n1 1 0\n0 0\n", "end at line 4 of 5"),
        ("1\n2 2\n", "label 0 or 1"),
        ("1\n2 1\n0 2 1\n", "line 3: expected `type degree"),
        ("1\n2 1\n0 1 2\n", "0..1"),
        ("1\n2 1\n5 1 1\n", "type 0 or 1"),
        ("1\n2 1\n0 1 1\n1 0\n", r"edge \(0, 1\) at node 0 only"),
        ("x\n", "integers"),
    ],
)
def test_malformed_exp_files(tmp_path, text, message):
    file = tmp_path / "EXP_GRAPHSAT.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        EXP(tmp_path)


def test_exp_pairs_must_hold_both_labels(tmp_path):
    file = tmp_path / "two.txt"
    file.write_text("2\n1 1\n0 0\n1 1\n0 0\n")
    with pytest.raises(ValueError, match="pairs"):
        EXP(file)


def test_connected_graphs_against_networkx_atlas():
    for n in range(1, 7):
        wanted = [g for g in nx.graph_atlas_g() if len(g) == n and nx.is_connected(g)]
        found = [as_nx(g) for g in connected_graphs(n)]
        assert len(found) == len(wanted)
        for graph in wanted:
            assert (
                sum(
                    nx.faster_could_be_isomorphic(graph, h) and nx.is_isomorphic(graph, h)
                    for h in found
                )
                == 1
            )
    with pytest.raises(ValueError, match="1..8"):
        connected_graphs(9)


@pytest.mark.slow
def test_graph8c_generated_and_read_agree(shared_data):
    generated, read = Graph8c(), Graph8c(shared_data / "expressive")
    assert len(generated) == len(read) == 11117

    def census(data):
        return sorted(
            tuple(sorted(torch.bincount(g.edge_index[0], minlength=8).tolist())) for g in data
        )

    assert census(generated) == census(read)
    assert all(nx.is_connected(as_nx(g)) for g in generated[:200])


def write_brec(folder, rng):
    def line(n):
        return nx.to_graph6_bytes(
            nx.gnp_random_graph(n, 0.4, seed=int(rng.integers(1 << 30))), header=False
        ).strip()

    for block in BREC_BLOCKS:
        lines = [line(int(rng.integers(7, 20))) for _ in range(2 * block.pairs)]
        array = np.array(lines) if block.name in ("regular", "cfi", "distance_regular") else None
        array = np.array([x.decode() for x in lines]) if array is None else array
        shaped = array.reshape(-1, 2) if block.name in ("regular", "extension", "cfi") else array
        np.save(folder / block.file, shaped)


def test_brec_layout(tmp_path):
    write_brec(tmp_path, np.random.default_rng(0))
    data = BREC(tmp_path)
    assert len(data) == 800 and data.pair_ids == list(range(400))
    assert brec_ranges()["distance_regular"] == range(380, 400)
    cfi = BREC(tmp_path, kinds=("cfi",))
    assert cfi.pair_ids == list(range(260, 360))
    first, second = np.load(tmp_path / "cfi.npy")[17]
    assert [to_graph6(g) for g in cfi.pair(17)] == [first.decode(), second.decode()]
    assert to_graph6(data.pair(277)[1]) == second.decode()
    for kinds in (("cgi",), (), "cfi"):
        with pytest.raises(ValueError, match="`kinds` must be"):
            BREC(tmp_path, kinds=kinds)
    np.save(tmp_path / "dr.npy", np.array(["Bw"]))
    with pytest.raises(ValueError, match="40 graphs; got 1"):
        BREC(tmp_path)
    np.save(tmp_path / "dr.npy", np.arange(40))
    with pytest.raises(ValueError, match="graph6 strings"):
        BREC(tmp_path)


def test_brec_copies_layout(tmp_path):
    lines = [
        nx.to_graph6_bytes(nx.path_graph(2 + i // 64), header=False).strip() for i in range(256)
    ]
    np.save(tmp_path / "brec_v3.npy", np.array(lines))
    copies = BRECCopies(tmp_path)
    assert len(copies) == 2
    assert [g.num_nodes for g in copies.block(1)] == [3] * 64
    assert [g.num_nodes for g in copies.reliability_block(1)] == [5] * 64
    with pytest.raises(IndexError, match="0..1"):
        copies.block(2)
    np.save(tmp_path / "brec_v3.npy", np.array(lines[:100]))
    with pytest.raises(ValueError, match="multiple of 128"):
        BRECCopies(tmp_path)
