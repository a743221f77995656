from __future__ import annotations

from importlib import metadata

import torch

from graphpool import _optional, info


def test_facts_match_what_is_installed():
    facts = info.collect()
    assert facts["graphpool"] == metadata.version("graphpool")
    assert facts["numpy"] == metadata.version("numpy")
    assert facts["torch threads"] == str(torch.get_num_threads())
    assert facts["devices"].startswith("cpu")
    assert set(_optional.PACKAGES) <= set(facts)


def test_absent_and_broken_packages_are_told_apart(monkeypatch):
    monkeypatch.setattr(_optional, "has", lambda name: False)
    assert info._optional_version("matplotlib") == (
        f"{metadata.version('matplotlib')}, but it cannot be imported"
    )
    monkeypatch.setattr(info, "_version", lambda name: "not installed")
    assert info._optional_version("matplotlib") == "not installed"


def test_command_prints_one_fact_a_line(fresh):
    (done,) = fresh(["-m", "graphpool.info"])
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) == len(info.collect())
    assert shown[0].split() == ["graphpool", info.__version__]
