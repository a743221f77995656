"""BREC by its protocol: the statistic, what counts as told apart, and runs that were stopped."""

import argparse
import json

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from graphpool.datasets import circulant_graph, connected_graphs
from graphpool.evaluate import hotelling, relabelled


@pytest.fixture
def brec(example):
    return example("_expressive_brec")


@pytest.fixture
def models(brec):
    return {model.name: model for model in brec.MODELS}


def record(**changes):
    found = {"statistic": 0.0, "reliability": 0.0, "constant": False, "gap": 0.0, "noise": 0.0}
    return {**found, "q": 32, "d": 16, "epochs": 1.0, "seconds": 0.0, **changes}


def test_both_thresholds_against_a_loop(brec):
    rng = np.random.default_rng(0)
    seen = set()
    for shift in np.linspace(0, 12, 25):
        x, y, alike = rng.normal(size=(3, 32, 16))
        y += shift
        values = []
        for a, b in ((x, y), (alike, x)):
            mean, sigma = np.zeros(16), np.zeros((16, 16))
            for row in a - b:
                mean += row / 32
            for row in a - b:
                sigma += np.outer(row - mean, row - mean) / 31
            values.append(float(mean @ scipy.linalg.solve(sigma, mean, assume_a="pos")))
            assert float(hotelling(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(
                values[-1], rel=1e-9
            )
        found = brec.verdicts(record(statistic=values[0], reliability=values[1]))
        level = scipy.stats.f.sf(32 * values[0] * (32 - 16) / (31 * 16), 16, 32 - 16)
        assert found["statistical"] == (level < 0.05)
        assert found["published"] == (values[0] > 72.34)
        assert found["told apart"] == found["published"]
        seen.add((found["published"], found["statistical"]))
    # The published one is the stricter.
    assert seen == {(False, False), (False, True), (True, True)}


def test_what_is_not_reliable_is_not_counted(brec):
    found = brec.verdicts(record(statistic=200.0, reliability=100.0))
    assert found["published"] and found["published, unreliable"] and not found["told apart"]
    alike = brec.verdicts(record(statistic=200.0, reliability=200.0))
    assert not alike["published"] and not alike["told apart"]


@pytest.mark.parametrize("pools", ["sum/sum", "max/mean", "gnp/gnp"])
def test_isomorphic_graphs_are_not_told_apart(brec, models, pools):
    graph = connected_graphs(6)[50]
    pair = [graph, relabelled([graph], 3)[0]]
    for name in ("GIN", "GIN + one label"):
        found = brec.judge(models[name], pools, 3, pair, 3, 0)
        assert not brec.verdicts(found)["told apart"]
        assert found["epochs"] == 3.0


def test_pairs_count_that_a_model_can_tell(brec, models):
    path, star = (
        next(g for g in connected_graphs(5) if sorted(degrees(g)) == wanted)
        for wanted in ([1, 1, 2, 2, 2], [1, 1, 1, 1, 4])
    )
    assert brec.verdicts(brec.judge(models["GIN"], "sum/sum", 3, [path, star], 2, 0))["told apart"]
    # All degrees agree: it takes a label.
    pair = [circulant_graph(8, [1, 2]), circulant_graph(8, [1, 3])]
    told = [
        brec.verdicts(brec.judge(models[name], "sum/sum", 3, pair, 2, 0))["told apart"]
        for name in ("GIN", "GIN + one label")
    ]
    assert told == [False, True]


def degrees(graph):
    return torch.bincount(graph.edge_index[0], minlength=graph.num_nodes).tolist()


def test_layers_that_read_in_place_are_those_of_pyg(brec, models):
    graph = connected_graphs(6)[70]
    slow, fast = (
        models["GIN + one label"].build(1, 3, gin=gin, **brec.RANDOM).double()
        for gin in (brec.GIN, brec.InPlaceGIN)
    )
    fast.load_state_dict(slow.state_dict())
    torch.testing.assert_close(
        fast(graph.x.double(), graph.edge_index), slow(graph.x.double(), graph.edge_index)
    )


@pytest.fixture
def table(brec, monkeypatch, tmp_path):
    graphs = connected_graphs(5)
    kinds = [
        brec.PairSet("basic", graphs[:4], torch.arange(4).view(2, 2), 2),
        brec.PairSet("cfi", graphs[4:6], torch.arange(2).view(1, 2), 2),
    ]
    monkeypatch.setattr(brec, "brec_sets", lambda folder, limit: kinds)

    def run(out, **changes):
        options = {"full": True, "quick": False, "brec": tmp_path, "sets": None, "only": ["GIN"]}
        options |= {
            "pools": ["sum/sum", "max/mean"],
            "epochs": 2,
            "seed": 0,
            "limit": None,
            "untrained": False,
            **changes,
        }
        headers, rows = brec.brec_table(argparse.Namespace(out=tmp_path / out, **options))
        found = json.loads((tmp_path / out / "brec.json").read_text())["found"]
        return headers, rows, {k: {**v, "seconds": 0} for k, v in found.items()}

    return run


def test_a_run_that_was_stopped_is_the_same_run(brec, table, monkeypatch):
    headers, rows, whole = table("whole")
    assert headers[2:5] == ["basic", "cfi", "all"] and [row[:2] for row in rows] == [
        ["GIN", "sum/sum"],
        ["GIN", "max/mean"],
    ]
    assert ["GIN", "max/mean", 2, 260, 0] in [json.loads(case)[:5] for case in whole]
    judged, calls = brec.judge, []

    def stopped(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        torch.rand(7)
        return judged(*args)

    monkeypatch.setattr(brec, "judge", stopped)
    with pytest.raises(KeyboardInterrupt):
        table("parts")
    monkeypatch.setattr(brec, "judge", judged)
    # What chooses among cases does not set them aside.
    table("parts", sets=["cfi"], quick=False)
    again = table("parts")
    assert again[2] == whole and [row[2:5] for row in again[1]] == [row[2:5] for row in rows]
    assert table("other", seed=1)[2].keys().isdisjoint(whole)


def test_results_of_other_graphs_are_not_taken_over(brec, table, monkeypatch):
    _, _, first = table("same")
    graphs = connected_graphs(5)[8:14]
    kinds = [brec.PairSet("basic", graphs, torch.arange(6).view(3, 2), 2)]
    monkeypatch.setattr(brec, "brec_sets", lambda folder, limit: kinds)
    _, _, both = table("same")
    assert len(both) == len(first) + 6


def test_without_training_there_is_no_epoch(table):
    _, rows, found = table("untrained", untrained=True)
    assert {v["epochs"] for v in found.values()} == {0} and rows[0][-2] == "0.0"


def test_what_cannot_be_run_is_refused(table):
    with pytest.raises(ValueError, match="`brec` must be the folder"):
        table("none", brec=None)
    with pytest.raises(ValueError, match="`sets` must be out of basic, cfi"):
        table("none", sets=["CFI"])
