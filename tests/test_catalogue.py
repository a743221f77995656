from __future__ import annotations

import runpy
import sys

import pytest
import torch

from graphpool import aggr, catalogue, testing
from graphpool.testing.samples import pooled

ENTRIES = catalogue.entries()


def make(name):
    return aggr.resolve(name, channels=8, **aggr.lookup(name).example_arguments).double().eval()


def test_every_name_is_there_once():
    assert [entry.name for entry in ENTRIES] == aggr.names()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
class TestEntry:
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def test_width_is_what_comes_out(self, entry):
        y = make(entry.name)(self.x)
        if entry.width == "ragged":
            assert isinstance(y, tuple)
        else:
            assert y.size(1) == int(entry.width.split()[0])

    def test_learned_means_parameters(self, entry):
        pool = make(entry.name)
        if entry.name in ("multi", "pyramid"):
            assert entry.learnable  # some of their variants have parameters
        else:
            assert entry.learnable == any(p.requires_grad for p in pool.parameters())

    def test_counts_means_that_doubling_shows(self, entry):
        pool = make(entry.name)
        once, twice = pooled(pool, self.x), pooled(pool, torch.cat([self.x, self.x]))
        same = once.shape == twice.shape and torch.allclose(once, twice, rtol=1e-6)
        assert same is not entry.multiplicity_aware

    def test_order_free_pools_claim_no_exemption(self, entry):
        assert entry.invariant is ("permutation" not in aggr.lookup(entry.name).exempt)
        testing.check("permutation", make(entry.name), 8)

    def test_pieces_means_that_a_state_can_be_begun(self, entry):
        if entry.mergeable:
            assert make(entry.name).begin(1).add(self.x).pieces == 1
        else:
            with pytest.raises(TypeError, match=f"{entry.cls} cannot pool a bag in pieces"):
                make(entry.name).begin(1)

    def test_says_what_it_is(self, entry):
        assert entry.summary and entry.complexity
        assert ":" not in entry.summary[-1:] and not entry.summary.endswith((" of", " into"))
        assert ":class:" not in entry.summary and ":math:" not in entry.summary


def test_page_and_table_hold_every_line():
    page, table = catalogue.to_markdown(), catalogue.to_text().splitlines()
    assert len(table) == len(ENTRIES) + 2
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(ENTRIES)
    assert {line.count("|") - line.count("\\|") for line in rows} == {11}


def test_names_in_the_guide_exist():
    table = [line.split("|")[2] for line in catalogue._GUIDE.splitlines() if line.startswith("| ")]
    words = [word for cell in table[1:] for word in cell.split("`")[1::2]]
    assert len(words) > 20
    assert [word for word in words if word != "pos_dim" and not aggr.lookup(word)] == []


def test_command_line(capsys, monkeypatch):
    assert catalogue.main([]) == 0
    assert "attsets" in capsys.readouterr().out
    assert catalogue.main(["--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Catalogue")
    monkeypatch.delitem(sys.modules, "graphpool.catalogue")
    monkeypatch.setattr(sys, "argv", ["graphpool.catalogue"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("graphpool.catalogue", run_name="__main__")
    assert ended.value.code == 0
