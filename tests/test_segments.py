from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric import Index

import graphpool
from graphpool import Segments


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 3))
def test_all_forms_agree_with_counting(index, extra):
    size = max(index, default=-1) + 1 + extra
    bags = [[e for e, b in enumerate(index) if b == s] for s in range(size)]
    segments = Segments(index=torch.tensor(index, dtype=torch.long), num_segments=size)
    assert segments.counts.tolist() == [len(b) for b in bags]
    assert segments.is_sorted == (index == sorted(index))
    order = segments.perm.tolist() if segments.perm is not None else list(range(len(index)))
    assert order == [e for b in bags for e in b]  # stable
    assert [order[a:b] for a, b in zip(segments.ptr.tolist(), segments.ptr.tolist()[1:])] == bags  # noqa: B905
    by_ptr = Segments(ptr=segments.ptr)
    assert by_ptr.index.tolist() == sorted(index)
    assert by_ptr.num_elements == len(index) and len(by_ptr) == size
    assert by_ptr.perm is None


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=6))
def test_padded(rows):
    mask = torch.tensor(rows, dtype=torch.bool).reshape(-1, 4)
    segments = Segments.from_padded(mask)
    assert segments.counts.tolist() == [sum(row) for row in rows]
    assert segments.index.tolist() == mask.nonzero()[:, 0].tolist()


def test_results_are_kept():
    segments = Segments(index=torch.tensor([1, 0]), num_segments=2)
    assert segments.perm is segments.perm and segments.ptr is segments.ptr
    assert segments.counts is segments.counts


def test_accepts_pyg_index_and_int32():
    assert Segments(index=Index([0, 1, 1], dim_size=3), num_segments=3).counts.tolist() == [1, 2, 0]
    assert Segments(ptr=torch.tensor([0, 2], dtype=torch.int32)).index.dtype == torch.int64


def test_copies():
    segments = Segments(index=torch.tensor([1, 0]), num_segments=2)
    _ = segments.perm
    for other in (
        pickle.loads(pickle.dumps(segments)),
        copy.deepcopy(segments),
        segments.to("cpu"),
    ):
        assert other.perm.tolist() == [1, 0] and len(other) == 2


def test_moves_without_looking_at_values():
    moved = Segments(index=torch.tensor([1, 0]), num_segments=2).to("meta")
    assert moved.device.type == "meta" and "meta" in repr(moved)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "`index`"),
        ({"index": torch.tensor([0])}, ValueError, "`num_segments` is required"),
        ({"index": torch.tensor([0.0]), "num_segments": 1}, TypeError, "float32"),
        ({"index": [0], "num_segments": 1}, TypeError, "list"),
        ({"index": torch.tensor([[0]]), "num_segments": 1}, ValueError, r"\(1, 1\)"),
        ({"index": torch.tensor([0]), "num_segments": 1.0}, TypeError, "float"),
        ({"index": torch.tensor([0]), "num_segments": True}, TypeError, "bool"),
        ({"index": torch.tensor([0]), "num_segments": -1}, ValueError, "-1"),
        ({"index": torch.tensor([0, 3, 9]), "num_segments": 3}, ValueError, "got 3 at position 1"),
        ({"index": torch.tensor([0, -2]), "num_segments": 3}, ValueError, "got -2 at position 1"),
        ({"ptr": torch.tensor([], dtype=torch.long)}, ValueError, "none"),
        ({"ptr": torch.tensor([1, 2])}, ValueError, "start at 0; got 1"),
        ({"ptr": torch.tensor([0, 3, 2])}, ValueError, "got 2 after 3 at position 2"),
        ({"ptr": torch.tensor([0, 2]), "num_segments": 2}, ValueError, "1 bags"),
        ({"ptr": torch.tensor([0, 2]), "num_elements": 3}, ValueError, "3; got 2"),
        (
            {"ptr": torch.tensor([0, 1, 2]), "index": torch.tensor([0, 0])},
            ValueError,
            "position 1: `index` says bag 0, `ptr` says bag 1",
        ),
        ({"index": torch.tensor([0]), "num_segments": 1, "num_elements": 2}, ValueError, "2 elem"),
        (
            {"index": torch.tensor([0, 1, 0]), "num_segments": 2, "is_sorted": True},
            ValueError,
            "falls at position 2",
        ),
    ],
)
def test_errors_say_what_and_where(arguments, error, message):
    with pytest.raises(error, match=message):
        Segments(**arguments)


def test_padded_refuses_anything_but_a_mask():
    with pytest.raises(TypeError, match="float32"):
        Segments.from_padded(torch.ones(2, 2))


def test_values_elsewhere_are_checked_only_on_request(monkeypatch):
    from graphpool import _debug

    meta = torch.device("meta")
    assert not _debug.values_are_checked(meta)
    cuda = torch.device("cuda")
    assert not _debug.values_are_checked(cuda)
    with graphpool.debug():
        assert _debug.values_are_checked(cuda)
    assert not _debug.values_are_checked(cuda)


def test_backend_is_restored_and_named():
    assert graphpool.backend() == "auto"
    with pytest.raises(RuntimeError), graphpool.use_backend("torch"):
        assert graphpool.backend() == "torch"
        raise RuntimeError
    assert graphpool.backend() == "auto"
    with pytest.raises(ValueError, match="'auto', 'fused'"), graphpool.use_backend("numpy"):
        pass


def test_a_column_of_a_matrix_is_an_index():
    index = torch.tensor([[0, 7], [0, 7], [1, 7], [2, 7]])[:, 0]
    assert Segments(index=index, num_segments=3).ptr.tolist() == [0, 2, 3, 4]
    ptr = torch.tensor([[0, 9], [2, 9], [4, 9]])[:, 0]
    assert Segments(ptr=ptr).index.tolist() == [0, 0, 1, 1]
