"""Files made to do harm: code in pickles, archives that unpack to more than there is, false sizes."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from graphpool.datasets import MaxDegree, PackedPointClouds, TUGraphs, model_net
from graphpool.datasets.meshes.labels import read_labels
from graphpool.io import load_tensors, read_points
from graphpool.mesh import read_mesh
from graphpool.points import MemoryBank


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy(shape, dtype="<f8", body: bytes = b"") -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


# --- code ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_in_arrays_are_not_unpickled(suffix, tmp_path):
    mark, path = tmp_path / "ran", tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, np.array([Trap(mark)], dtype=object))
    with pytest.raises(ValueError, match=r"a\.np[yz].*Python objects"):
        read_points(path)
    assert not mark.exists()


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_bank_does_not_run_code(write, tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "bank.pt"
    write({"keys": Trap(mark)}, path)
    with pytest.raises(ValueError, match=r"bank\.pt"):
        MemoryBank.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data.pt", "pre_transform.pt", "pre_filter.pt"])
def test_a_tu_cache_does_not_run_code(name, tmp_path):
    """PyTorch Geometric would unpickle it."""
    raw, cache = tmp_path / "TINY" / "raw", tmp_path / "TINY" / "processed"
    raw.mkdir(parents=True)
    (raw / "TINY_A.txt").write_text("1, 2\n2, 1\n3, 4\n4, 3\n")
    (raw / "TINY_graph_indicator.txt").write_text("1\n1\n2\n2\n")
    (raw / "TINY_graph_labels.txt").write_text("0\n1\n")
    TUGraphs(tmp_path, "TINY")
    mark = tmp_path / "ran"
    torch.save(Trap(mark), cache / name)
    with pytest.raises(ValueError, match=name):
        TUGraphs(tmp_path, "TINY")
    assert not mark.exists()


def test_generated_and_downloaded_caches_do_not_run_code(tmp_path):
    mark = tmp_path / "ran"
    MaxDegree(tmp_path, num_graphs=9)
    torch.save(Trap(mark), tmp_path / "generated" / "MaxDegree" / "pre_filter.pt")
    with pytest.raises(ValueError, match="pre_filter"):
        MaxDegree(tmp_path, num_graphs=9)
    cache = tmp_path / "ModelNet10" / "processed"
    cache.mkdir(parents=True)
    torch.save(Trap(mark), cache / "training.pt")
    with pytest.raises(ValueError, match="training"):
        model_net(tmp_path, "10")
    assert not mark.exists()


# --- sizes -----------------------------------------------------------------------------------------


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path, monkeypatch):
    path = npz(tmp_path / "bomb.npz", points=npy((9 * 2**20, 3), body=bytes(9 * 2**20 * 24)))
    assert path.stat().st_size < 2**20

    def read(*_, **__):
        raise AssertionError("nothing may be unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", read)
    for reader in (read_points, PackedPointClouds):
        with pytest.raises(ValueError, match=r"bomb\.npz: its \d+ bytes would unpack to 226"):
            reader(path)


def test_small_files_may_compress_well(tmp_path):
    path = npz(tmp_path / "zeros.npz", points=npy((10**6, 3), body=bytes(24 * 10**6)))
    assert path.stat().st_size * 200 < 24 * 10**6
    assert read_points(path)[0].shape == (10**6, 3)


def test_an_archive_that_lies_about_its_size_is_refused(tmp_path):
    path = npz(tmp_path / "a.npz", points=npy((1000, 3), body=bytes(24000)))
    real, claim = 24000 + len(npy((1000, 3))), 128 + len(npy((1000, 3)))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", real), struct.pack("<I", claim)))
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_points(path)


@pytest.mark.parametrize(
    "data",
    [
        npy((10**12, 3)),
        npy((10**12, 3), body=bytes(48)),
        npy((-1, 3), body=bytes(48)),
        npy((10**9, 10**9, 10**9)),
        npy((10**12,), dtype="<U0"),
        npy((2, 3), dtype="|V8", body=bytes(48)),
        npy((2, 3), body=bytes(49)),
        npy((2, 3), dtype="<c8", body=bytes(48)),
        b"",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_declared_shapes_are_compared_with_the_file(data, packed, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    if packed:
        path = npz(tmp_path / "a.npz", points=data)
    with pytest.raises(ValueError, match=r"a\.np[yz]"):
        read_points(path)


def test_tensors_that_repeat_one_number_are_refused(tmp_path):
    path = tmp_path / "bank.pt"
    keys, values = torch.ones(1, 1).expand(10**6, 10**6), torch.ones(1, 1).expand(10**6, 2)
    torch.save({"keys": keys, "values": values, "gamma": torch.tensor(1.0)}, path)
    assert path.stat().st_size < 10**4
    with pytest.raises(ValueError, match=r"bank\.pt holds a tensor of shape .* over 4 bytes"):
        MemoryBank.load(path)


def test_a_compressed_file_of_tensors_is_refused(tmp_path):
    plain, path = tmp_path / "plain.pt", tmp_path / "a.pt"
    torch.save({"keys": torch.zeros(1000, 1000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="would unpack"):
        load_tensors(path)
    assert load_tensors(plain)["keys"].shape == (1000, 1000)


def test_sparse_tensors_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save([torch.eye(3).to_sparse()], path)
    with pytest.raises(ValueError, match="only plain ones"):
        load_tensors(path)


HEAD = (
    "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
)
FACES = "element face {}\nproperty list {} int vertex_indices\nend_header\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.off", "OFF\n999999999999 3 0\n0 0 0\n", "announced, but"),
        ("a.off", "OFF\n-1 2 0\n0 0 0\n", "announced, but"),
        ("a.off", "OFF\n1 0 0\n0 0 0\n0 0 0\n", "announced, but"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n99999999999 0 1 2\n", "face 0 announces"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -2\n", "corners"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 99999999999999999999\n", "cannot read"),
        ("a.off", "OFF\n1 0 0\n0 nan 0\n", "Vertex 0 is not finite.* with any faces that name it"),
        ("a.off", "OFF\n1 0 0\n0 1_0 0\n", "not three numbers"),
        ("a.off", "", "starts with 'OFF'"),
        ("a.obj", "", "no vertex"),
        ("a.obj", "v 0 0 0\nf 1 1 99999999999999999999\n", "cannot read the face"),
        ("a.obj", "v 0 0 0\nf -2 1 1\n", "corners"),
        ("a.obj", "v 0 0 0\nv \N{ARABIC-INDIC DIGIT THREE} 0 0\n", "vertex 1"),
        ("a.ply", HEAD.format("ascii", 10**15) + "end_header\n1 2 3\n", "ends inside"),
        ("a.ply", HEAD.format("binary_little_endian", 10**15) + "end_header\n123", "ends inside"),
        ("a.ply", HEAD.format("ascii", -1) + "end_header\n", "-1 elements"),
        ("a.ply", HEAD.format("ascii", 1) + "end_header\n1 nan 3\n", "not finite"),
        ("a.ply", HEAD.format("ascii", 1) + "end_header\n1 x 3\n", "elements 'vertex'"),
        (
            "a.ply",
            HEAD.format("ascii", 1) + "element mark 9999999\nend_header\n1 2 3",
            "of 0 prop",
        ),
        (
            "a.ply",
            HEAD.format("ascii", 1) + FACES.format(10**12, "int") + "0 0 0\n-1\n",
            "length -1",
        ),
        (
            "a.ply",
            HEAD.format("ascii", 1) + FACES.format(1, "int") + "0 0 0\n999999999999 0\n",
            "ends inside",
        ),
        ("a.ply", HEAD.format("ascii", 1) + FACES.format(1, "float") + "0 0 0\n3 0 0 0\n", "list"),
        ("a.ply", HEAD.format("ascii", 1) + FACES.format(1, "int") + "0 0 0\n2 0 0\n", "2 corners"),
        ("a.ply", HEAD.format("ascii", 1) + "property float x\nend_header\n0 0 0 0\n", "twice"),
        ("a.xyz", "", "at least one point"),
        ("a.xyz", "0 0 0\n1 inf 0\n", "point 1 is not finite"),
        ("a.xyz", "0 0 0\n1 0\n", "one point per line"),
        ("a.bin", "x" * 20, "20 bytes"),
    ],
)
def test_what_is_wrong_is_said(name, data, message, tmp_path):
    path = tmp_path / name
    path.write_text(data, encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        read_points(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.obj", "v 0 0 0\nw 1 0 0\n", "line 2: 'w' is no keyword"),
        ("a.ply", HEAD.format("ascii", 1) + "end_header\n0 0 0 4\n", "1 numbers follow"),
        (
            "a.ply",
            HEAD.format("binary_little_endian", 1) + "end_header\n" + "\0" * 12 + "XY",
            "2 bytes",
        ),
    ],
)
def test_what_is_left_alone_is_said(name, data, message, tmp_path):
    (tmp_path / name).write_text(data, encoding="utf-8")
    with pytest.warns(UserWarning, match=f"{name}.*{message}"):
        assert read_points(tmp_path / name)[0].tolist() == [[0, 0, 0]]


def pcd(points, encoding="ascii", body="0 0 0\n1 1 1\n", fields="x y z", counts="1 1 1") -> str:
    return (
        f"FIELDS {fields}\nSIZE 4 4 4\nTYPE F F F\nCOUNT {counts}\nPOINTS {points}\n"
        f"DATA {encoding}\n{body}"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pcd(10**15), "expected 3000000000000000 numbers"),
        (pcd(10**15, "binary"), "ends before"),
        (pcd(-1), "header"),
        (pcd(1), "expected 3 numbers; got 6"),
        (pcd(1, "binary", "abcdabcdabcdXX"), "2 bytes follow"),
        (pcd(2, counts="1 1 99999999999"), "header"),
        (pcd(2, counts="1 1 -1"), "header"),
        (pcd(2, body="0 0 0\n1 1 x\n"), "b'x' is not a number"),
        (pcd(2, fields="x y x"), "header"),
        (pcd(2, ""), "header"),
        ("POINTS 1\n" + pcd(1), "two lines 'POINTS'"),
    ],
)
def test_point_cloud_headers(data, message, tmp_path):
    (tmp_path / "a.pcd").write_text(data)
    with pytest.raises(ValueError, match=f"a.pcd.*{message}"):
        read_points(tmp_path / "a.pcd")


def test_missing_measurements_are_found_by_coordinate_not_by_column(tmp_path):
    text = (
        "FIELDS i x y z\nSIZE 4 4 4 4\nTYPE F F F F\nPOINTS 3\nDATA ascii\n"
        "nan 0 0 0\n1 1 1 nan\n2 2 2 2\n"
    )
    (tmp_path / "a.pcd").write_text(text)
    assert read_points(tmp_path / "a.pcd")[0].tolist() == [[0, 0, 0], [2, 2, 2]]


@pytest.mark.parametrize("text", ["1\n99999999\n", "1\nnan\n", "1\n1.5\n", "1 2\n", "1\ninf\n"])
def test_labels_that_would_need_huge_tables_are_refused(text, tmp_path):
    (tmp_path / "a.eseg").write_text(text)
    with pytest.raises(ValueError, match=r"a\.eseg"):
        read_labels(tmp_path / "a.eseg")


def test_lists_of_other_numbers_in_a_ply_file_are_left_alone(tmp_path):
    text = HEAD.format("ascii", 3) + "element face 1\nproperty list uchar int vertex_indices\n"
    text += (
        "property list uchar float texcoord\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2 2 0.5 nan\n"
    )
    (tmp_path / "a.ply").write_text(text)
    assert read_mesh(tmp_path / "a.ply").faces.tolist() == [[0, 1, 2]]


def test_a_damaged_cache_says_that_it_can_be_deleted(tmp_path):
    MaxDegree(tmp_path, num_graphs=9)
    (cache,) = (tmp_path / "generated" / "MaxDegree").glob("train-*.pt")
    stored = torch.load(cache, weights_only=True)
    stored["slices"]["x"][-1] += 1
    torch.save(stored, cache)
    with pytest.raises(ValueError, match=r"train-.*damaged.*delete it.*'x'"):
        MaxDegree(tmp_path, num_graphs=9)
    cache.unlink()
    assert len(MaxDegree(tmp_path, num_graphs=9)) == 9


def test_a_bank_that_does_not_fit_together_is_refused(tmp_path):
    path = tmp_path / "bank.pt"
    good = {"keys": torch.eye(2), "values": torch.eye(2), "gamma": torch.tensor(1.0)}
    for change in (
        {"values": torch.ones(3, 2)},
        {"keys": torch.tensor([[1.0, torch.nan], [0, 1]])},
        {"values": -torch.eye(2)},
        {"gamma": torch.tensor(-1.0)},
        {"extra": torch.eye(2)},
    ):
        torch.save({**good, **change}, path)
        with pytest.raises(ValueError, match=r"bank\.pt"):
            MemoryBank.load(path)
    stored = io.BytesIO()
    torch.save(good, stored)
    path.write_bytes(stored.getvalue())
    assert len(MemoryBank.load(path)) == 2
