"""Bags spread over processes: what one process gets, to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from graphpool import aggr
from graphpool.states import average_gradients

WORKER = Path(__file__).with_name("shards.py")


@pytest.fixture
def run(fresh):
    """What each process of a group wrote."""

    def results(what: str, name: str, size: int, folder: Path) -> list[dict]:
        folder.mkdir()
        for done in fresh(*([WORKER, what, name, rank, size, folder] for rank in range(size))):
            assert done.returncode == 0, done.stderr
        return [torch.load(folder / f"{rank}.pt") for rank in range(size)]

    return results


def same(a: dict, b: dict, tolerance: float = 1e-9) -> None:
    for key in ("losses", "gradients"):
        for left, right in zip(a[key], b[key], strict=True):
            torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)
    for name, value in a.get("state", {}).items():
        torch.testing.assert_close(value, b["state"][name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["logsumexp", pytest.param("gnp", marks=pytest.mark.slow)])
def test_twenty_steps_are_those_of_one_process(run, name, size, tmp_path):
    alone = run("train", name, 1, tmp_path / "one")[0]
    for each in run("train", name, size, tmp_path / "several"):
        same(each, alone)


def test_sums_of_gradients_count_once_per_process(run, tmp_path):
    """The trap: the mean is right on both sides of the pool, a sum on neither."""
    encoder, pool, head = _module().network("pma")
    x, bag = _module().data()
    head(pool(encoder(x), bag, dim_size=2)).sum().backward()
    for each in run("trap", "pma", 2, tmp_path / "two"):
        torch.testing.assert_close(each["before"], 2 * encoder[0].weight.grad, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(each["behind"], 2 * head.weight.grad, rtol=1e-9, atol=1e-9)


def _module():
    import importlib.util

    spec = importlib.util.spec_from_file_location("shards", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_readout_over_a_partitioned_graph(run, tmp_path):
    alone = run("graph", "attsets", 1, tmp_path / "one")[0]
    for each in run("graph", "attsets", 2, tmp_path / "two"):
        same(each, alone)


def test_fixed_point_gives_the_same_bits_whoever_holds_what(run, tmp_path):
    (alone,) = run("bits", "softmax", 1, tmp_path / "one")
    for each in run("bits", "softmax", 2, tmp_path / "two"):
        assert all(torch.equal(v, each["state"][k]) for k, v in alone["state"].items())


def test_without_a_group_there_is_an_error():
    with pytest.raises(ValueError, match="There is no group"):
        average_gradients(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match="There is no group"):
        aggr.Mean().begin(1).add(torch.ones(1, 1)).all_reduce()
