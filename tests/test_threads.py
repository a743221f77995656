"""The thread pool, and the same bits however many threads there are."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from graphpool import Segments, ops
from graphpool._compiled import parallel_for

DIRECTION = torch.randn(300, 24, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def problem():
    torch.manual_seed(1)
    # One long bag, cut in pieces, among short ones.
    index = torch.cat([torch.randint(300, (20_000,)), torch.full((40_000,), 7)])
    index = index[torch.randperm(len(index))]
    return torch.rand(len(index), 24) + 0.1, Segments(index=index, num_segments=300)


def results(x, segments):
    x = x.clone().requires_grad_()
    t = torch.tensor(1.5, requires_grad=True)
    p = torch.tensor(2.5, requires_grad=True)
    heads = x[:, :4].detach() * 3
    values = [
        *ops.segment_moments(x, segments, ("sum", "var", "max")),
        ops.segment_softpool(x, segments, t),
        ops.segment_power(x, segments, p, 0.5),
        ops.segment_softmax_sum(heads, x, segments),
        ops.segment_logsumexp(x, segments),
        ops.segment_standardized_moments(x, segments)[:, 3],
        ops.segment_outer(heads, x, segments).sum(1),
    ]
    gradients = torch.autograd.grad(values, [x, t, p], [DIRECTION] * len(values))
    return [v.detach() for v in values] + list(gradients)


def test_same_bits_for_any_number_of_threads():
    x, segments = problem()
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(results(x, segments))
    torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


def test_a_bag_does_not_depend_on_its_batch():
    x, segments = problem()
    members = (segments.index == 7).nonzero()[:, 0]
    alone = Segments(ptr=torch.tensor([0, len(members)]))
    for op in (
        ops.segment_sum,
        ops.segment_var,
        ops.segment_standardized_moments,
        lambda x, s: ops.segment_softpool(x, s, 2.0),
        lambda x, s: ops.segment_power(x, s, -1.5, 0.5),
        ops.segment_softmax,
    ):
        together, single = op(x, segments), op(x[members], alone)
        expected = together[members] if len(together) == len(x) else together[7:8]
        assert torch.equal(single, expected)


def test_eight_python_threads_at_once(two_threads):
    x, segments = problem()
    expected = results(x, segments)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: results(x, segments), range(16)):
            for a, b in zip(found, expected, strict=True):
                assert torch.equal(a, b)


FORK = """
import torch
from graphpool import Segments, ops
torch.set_num_threads(2)
x = torch.rand(60_000, 32)
segments = Segments(index=torch.randint(3000, (60_000,)), num_segments=3000)
expected = ops.segment_softpool(x, segments, 2.0)

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        torch.set_num_threads(2)
        return ops.segment_softpool(x, segments, 2.0)

loader = torch.utils.data.DataLoader(Data(), batch_size=None, num_workers=2, multiprocessing_context="fork")
assert all(torch.equal(y, expected) for y in loader)
assert torch.equal(ops.segment_softpool(x, segments, 2.0), expected)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_workers_after_the_parent_used_the_pool(fresh):
    (done,) = fresh(["-c", FORK], timeout=120)
    assert done.stdout.strip() == "done", done.stderr


def test_chunks_all_run_once(two_threads):
    seen, lock = [], threading.Lock()

    def work(a, b):
        with lock:
            seen.append((a, b))

    parallel_for(work, [(i, i * i) for i in range(50)])
    assert sorted(seen) == [(i, i * i) for i in range(50)]
    parallel_for(work, [])
    assert len(seen) == 50


def test_an_exception_comes_out(two_threads):
    def fail(i):
        if i == 3:
            raise ValueError("chunk 3")

    with pytest.raises(ValueError, match="chunk 3"):
        parallel_for(fail, [(i,) for i in range(20)])
    parallel_for(fail, [(i,) for i in range(3)])


def test_nested_calls_make_progress(two_threads):
    done = []
    parallel_for(
        lambda i: parallel_for(lambda j: done.append((i, j)), [(j,) for j in range(5)]),
        [(i,) for i in range(5)],
    )
    assert len(done) == 25
