"""Every reader, fed files that are truncated, miscounted, foreign, huge by declaration, or hostile.

Allowed outcomes: a value that keeps the promises of the reader, or an error that names the file, in
bounded memory and time.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphpool.datasets import BREC, EXP, PackedPointClouds, TUGraphs, read_graph6
from graphpool.datasets.meshes.labels import read_labels, read_soft_labels
from graphpool.io import read_points
from graphpool.mesh import read_mesh
from graphpool.points import MemoryBank

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import damaged, read_or_refuse  # noqa: E402

if not sys.platform.startswith("linux"):
    pytest.skip("limits of memory and time are set as on Linux", allow_module_level=True)

EXAMPLES = 250
relaxed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def text_of(rows: np.ndarray) -> bytes:
    return "\n".join(" ".join(f"{v:g}" for v in row) for row in rows).encode() + b"\n"


def ply(order: str) -> bytes:
    head = (
        f"ply\nformat {order} 1.0\ncomment x\nelement vertex 4\nproperty float x\nproperty float y\n"
        "property float z\nelement face 2\nproperty list uchar int vertex_indices\nend_header\n"
    )
    points = np.eye(4, 3)
    if order == "ascii":
        return head.encode() + text_of(points) + b"3 0 1 2\n4 0 1 2 3\n"
    mark = "<" if "little" in order else ">"
    faces = [b"\x03", np.arange(3).astype(mark + "i4").tobytes()]
    faces += [b"\x04", np.arange(4).astype(mark + "i4").tobytes()]
    return head.encode() + points.astype(mark + "f4").tobytes() + b"".join(faces)


def pcd(encoding: str) -> bytes:
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 2\nTYPE F F F U\nCOUNT 1 1 1 1\n"
        f"WIDTH 5\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 5\nDATA {encoding}\n"
    )
    points = np.arange(15.0).reshape(5, 3)
    if encoding == "ascii":
        return head.encode() + text_of(np.column_stack([points, np.arange(5)]))
    table = np.zeros(5, np.dtype([("p", "<f4", (3,)), ("i", "<u2")]))
    table["p"] = points
    if encoding == "binary":
        return head.encode() + table.tobytes()
    plain = points.T.astype("<f4").tobytes() + table["i"].tobytes()
    packed = b"".join(bytes([9]) + plain[i : i + 10] for i in range(0, 70, 10))
    return head.encode() + struct.pack("<II", len(packed), len(plain)) + packed


OBJ = b"""# cube corner
mtllib a_b.mtl
v 0 0 0
v 1 0 0 1.0
v 0.5 1e0 0
vn 0 0 1
v 0 0 -1
f 1 2 3
f 1/1/1 2//1 3/2
f -4 -3 -2 -1
"""
OFF = b"OFF\n4 2 0\n" + text_of(np.eye(4, 3)) + b"3 0 1 2\n4 0 1 2 3 255 0 0\n"
XYZ = text_of(np.arange(12.0).reshape(4, 3))
G6 = b">>graph6<<Bw\nC~\nDhc\n"
EXP_TEXT = b"2\n3 1\n0 1 1\n1 2 0 2\n0 1 1\n3 0\n0 2 1 2\n1 2 0 2\n1 2 0 1\n"

STL = b"solid a\n" + b"".join(
    b"facet normal 0 0 1\nouter loop\n%sendloop\nendfacet\n"
    % (b"vertex 0 0 0\nvertex 1 0 %d\nvertex 0 1 0\n" % i)
    for i in range(3)
)
BINARY_STL = bytes(80) + b"\2\0\0\0" + 2 * (np.eye(4, 3, dtype="<f4").tobytes() + b"\0\0")
BINARY_OFF = (
    b"OFF BINARY\n" + np.array([4, 2, 0], ">i4").tobytes() + np.eye(4, 3).astype(">f4").tobytes()
)
BINARY_OFF += np.array([3, 0, 1, 2, 0, 4, 0, 1, 2, 3, 0], ">i4").tobytes()
STRIPS = ply("binary_little_endian").replace(b"face 2", b"tristrips 2")

MESHES = {
    "a.obj": OBJ,
    "a.off": OFF,
    "ascii.ply": ply("ascii"),
    "little.ply": ply("binary_little_endian"),
    "big.ply": ply("binary_big_endian"),
    "text.stl": STL,
    "binary.stl": BINARY_STL,
    "binary.off": BINARY_OFF,
    "strips.ply": STRIPS,
}
CLOUDS = {
    "a.xyz": XYZ,
    "a.pts": XYZ,
    "a.csv": b"x,y,z,label\n0,1,2,3\n4,5,6,7\n",
    "counted.pts": b"4\n" + XYZ,
    "a.bin": np.arange(20, dtype="<f4").tobytes(),
    "ascii.pcd": pcd("ascii"),
    "binary.pcd": pcd("binary"),
    "packed.pcd": pcd("binary_compressed"),
    **MESHES,
}


def stored(save, tmp: Path, *args, **kwargs) -> bytes:
    save(tmp, *args, **kwargs)
    data = tmp.read_bytes()
    tmp.unlink()
    return data


def check_mesh(mesh) -> None:
    assert mesh.vertices.dtype == np.float64 and mesh.vertices.shape[1:] == (3,)
    assert len(mesh.vertices) and np.isfinite(mesh.vertices).all()
    assert mesh.faces.dtype == np.int64 and mesh.faces.shape[1:] == (3,)
    if mesh.faces.size:
        assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)


def check_points(result) -> None:
    points, faces = result
    assert points.dtype == np.float64 and points.ndim == 2 and points.shape[1] == 3
    assert len(points) and np.isfinite(points).all()
    assert faces is None or faces.max() < len(points)


def assert_survives(read, path, valid, check, examples=EXAMPLES) -> None:
    """The valid file passes ``check``; a damaged one is refused, or passes it, too."""
    check(read_or_refuse(read, path, valid))

    @settings(relaxed, max_examples=examples)
    @given(damaged(valid))
    def run(data):
        result = read_or_refuse(read, path, data)
        if result is not None:
            check(result)

    run()


@pytest.mark.parametrize("name", MESHES)
def test_meshes(name, tmp_path):
    assert_survives(read_mesh, tmp_path / name, MESHES[name], check_mesh)


@pytest.mark.parametrize("name", [name for name in CLOUDS if name not in MESHES])
def test_point_files(name, tmp_path):
    assert_survives(read_points, tmp_path / name, CLOUDS[name], check_points)


@pytest.mark.parametrize("suffix", [".npy", ".npz", "compressed.npz"])
def test_point_arrays(suffix, tmp_path):
    points = np.arange(30.0).reshape(10, 3)
    save = {
        ".npy": np.save,
        ".npz": lambda p, x: np.savez(p, pos=x, other=x),
        "compressed.npz": lambda p, x: np.savez_compressed(p, points=x),
    }[suffix]
    valid = stored(save, tmp_path / f"a{suffix}", points)
    assert np.array_equal(read_or_refuse(read_points, tmp_path / f"a{suffix}", valid)[0], points)
    assert_survives(read_points, tmp_path / f"a{suffix}", valid, check_points)


def scan(path: Path, point_format: int) -> bytes:
    import laspy

    las = laspy.create(point_format=point_format, file_version="1.4")
    las.x, las.y, las.z = np.arange(30.0).reshape(3, 10)
    return stored(lambda path: las.write(path), path)


@pytest.mark.needs("laspy", "lazrs")
@pytest.mark.parametrize("name, examples", [("a.las", EXAMPLES), ("a.laz", EXAMPLES // 20)])
@pytest.mark.parametrize("point_format", [2, 7])
def test_laser_scans(name, examples, point_format, tmp_path):
    valid = scan(tmp_path / name, point_format)
    assert_survives(read_points, tmp_path / name, valid, check_points, examples)


@pytest.mark.needs("laspy", "lazrs")
def test_a_packed_scan_equals_the_plain_one_and_one_that_ends_its_reader_is_refused(tmp_path):
    """The table of chunks asks for 34 GB: the decompressor does not raise, it aborts its process."""
    packed, plain = scan(tmp_path / "a.laz", 7), scan(tmp_path / "a.las", 7)
    found = read_or_refuse(read_points, tmp_path / "a.laz", packed)
    assert np.array_equal(found[0], np.arange(30.0).reshape(3, 10).T)
    assert np.array_equal(found[0], read_or_refuse(read_points, tmp_path / "a.las", plain)[0])

    (points_at,) = struct.unpack_from("<I", packed, 96)
    (table_at,) = struct.unpack_from("<q", packed, points_at)
    assert struct.unpack_from("<II", packed, table_at) == (0, 1)  # version, number of chunks
    broken = bytearray(packed)
    struct.pack_into("<I", broken, table_at + 4, 0x7FFFFFFF)
    (tmp_path / "b.laz").write_bytes(broken)
    with pytest.raises(ValueError, match="b.laz cannot be read as a laser scan.* bytes failed"):
        read_points(tmp_path / "b.laz")


@pytest.mark.needs("h5py")
def test_hdf5(tmp_path):
    import h5py

    def save(path):
        with h5py.File(path, "w") as file:
            file["data"] = np.arange(30.0).reshape(10, 3)

    valid = stored(save, tmp_path / "a.h5")
    assert_survives(read_points, tmp_path / "a.h5", valid, check_points)


def test_packed_clouds(tmp_path):
    points = np.arange(90, dtype=np.int16).reshape(3, 10, 3)
    arrays = {"points_train": points, "labels_train": np.array([0, 1, 1]), "classes": ["a", "b"]}
    valid = stored(lambda p: np.savez(p, **arrays), tmp_path / "a.npz")
    assert len(read_or_refuse(PackedPointClouds, tmp_path / "a.npz", valid)) == 3

    @relaxed
    @given(damaged(valid))
    def run(data):
        clouds = read_or_refuse(PackedPointClouds, tmp_path / "a.npz", data)
        if clouds is not None:
            assert all(cloud.pos.isfinite().all() for cloud in clouds)
            assert all(0 <= int(cloud.y) < len(clouds.classes) for cloud in clouds)

    run()


@pytest.mark.parametrize("suffix", [".eseg", ".seg"])
def test_labels(suffix, tmp_path):
    valid = b"1\n2\n2\n10\n"
    assert read_or_refuse(read_labels, tmp_path / f"a{suffix}", valid).tolist() == [1, 2, 2, 10]

    @relaxed
    @given(damaged(valid))
    def run(data):
        labels = read_or_refuse(read_labels, tmp_path / f"a{suffix}", data)
        if labels is not None:
            assert labels.dtype == np.int64 and labels.ndim == 1
            assert not labels.size or np.abs(labels).max() < 2**16

    run()


def test_soft_labels(tmp_path):
    def read(path):
        return read_soft_labels(path, 3, 2)

    valid = b"1 0\n0.5 0.5\n0 1\n"
    assert read_or_refuse(read, tmp_path / "a.seseg", valid).shape == (3, 2)

    @relaxed
    @given(damaged(valid))
    def run(data):
        table = read_or_refuse(read, tmp_path / "a.seseg", data)
        assert table is None or (table.shape == (3, 2) and np.isfinite(table).all())

    run()


def test_graph6(tmp_path):
    assert len(read_or_refuse(read_graph6, tmp_path / "a.g6", G6)) == 3

    @relaxed
    @given(damaged(G6))
    def run(data):
        for graph in read_or_refuse(read_graph6, tmp_path / "a.g6", data) or []:
            assert graph.x.shape == (graph.num_nodes, 1)
            assert not graph.num_edges or int(graph.edge_index.max()) < graph.num_nodes

    run()


def test_graph_text(tmp_path):
    assert len(read_or_refuse(EXP, tmp_path / "exp.txt", EXP_TEXT)) == 2

    @relaxed
    @given(damaged(EXP_TEXT))
    def run(data):
        for graph in read_or_refuse(EXP, tmp_path / "exp.txt", data) or []:
            assert not graph.num_edges or 0 <= int(graph.edge_index.max()) < graph.num_nodes
            assert graph.is_undirected() and not graph.has_self_loops()

    run()


@pytest.mark.parametrize("kind", ["U", "S"])
def test_brec(kind, tmp_path):
    valid = stored(np.save, tmp_path / "dr.npy", np.array(["Bw"] * 40).astype(kind))

    def read(path):
        return BREC(path.parent, ("distance_regular",))

    assert len(read_or_refuse(read, tmp_path / "dr.npy", valid)) == 40

    @relaxed
    @given(damaged(valid))
    def run(data):
        graphs = read_or_refuse(read, tmp_path / "dr.npy", data)
        assert graphs is None or len(graphs) == 40

    run()


TU = {
    "A": b"1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n",
    "graph_indicator": b"1\n1\n1\n2\n2\n",
    "graph_labels": b"1\n-1\n",
    "node_labels": b"0\n1\n2\n0\n2\n",
    "edge_labels": b"0\n0\n1\n1\n2\n2\n",
    "node_attributes": b"0.5, 1\n1, 2\n1, 2\n1, 2\n1, 2\n",
}


@pytest.mark.parametrize("part", TU)
def test_tu(part, tmp_path):
    raw = tmp_path / "TINY" / "raw"
    raw.mkdir(parents=True)
    for name, data in TU.items():
        (raw / f"TINY_{name}.txt").write_bytes(data)

    def read(path):
        for old in (tmp_path / "TINY" / "processed").glob("*.pt"):
            old.unlink()
        return TUGraphs(tmp_path, "TINY", use_node_attr=True)

    target = raw / f"TINY_{part}.txt"
    assert len(read_or_refuse(read, target, TU[part])) == 2

    @settings(relaxed, max_examples=EXAMPLES // 5)
    @given(damaged(TU[part]))
    def run(data):
        for graph in read_or_refuse(read, target, data) or []:
            assert graph.x.isfinite().all() and graph.num_nodes == len(graph.x)
            assert not graph.num_edges or 0 <= int(graph.edge_index.max()) < graph.num_nodes

    run()


def test_memory_bank(tmp_path):
    bank = MemoryBank(gamma=3.0).fit(torch.eye(3), torch.tensor([0, 1, 1]))
    valid = stored(lambda path: bank.save(path), tmp_path / "bank.pt")
    again = read_or_refuse(MemoryBank.load, tmp_path / "bank.pt", valid)
    assert torch.equal(again.keys, bank.keys) and float(again.gamma) == 3

    @relaxed
    @given(damaged(valid))
    def run(data):
        found = read_or_refuse(MemoryBank.load, tmp_path / "bank.pt", data)
        assert found is None or found.scores(torch.eye(3, found.keys.size(1))).isfinite().all()

    run()


def test_a_generated_cache(tmp_path):
    from graphpool.datasets import MaxDegree

    def read(path):
        return MaxDegree(tmp_path, num_graphs=90, seed=3)

    expected = read(None)
    (cache,) = (tmp_path / "generated" / "MaxDegree").glob("train-*.pt")
    valid = cache.read_bytes()

    @settings(relaxed, max_examples=EXAMPLES // 5)
    @given(damaged(valid))
    def run(data):
        graphs = read_or_refuse(read, cache, data)
        assert graphs is None or len(graphs) == len(expected)

    run()


@relaxed
@given(st.binary(max_size=300), st.sampled_from([*CLOUDS, "a.npy", "a.npz"]))
def test_noise_is_refused_or_read(tmp_path_factory, data, name):
    folder = tmp_path_factory.getbasetemp() / "noise"
    folder.mkdir(exist_ok=True)
    result = read_or_refuse(read_points, folder / name, data)
    if result is not None:
        check_points(result)


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("ends", [b"\r\n", b"\r"], ids=["crlf", "cr"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
def test_line_ends_and_byte_order_marks_change_nothing(name, ends, mark, tmp_path):
    binary = name in ("a.bin", "little.ply", "big.ply", "strips.ply", "packed.pcd")
    binary = binary or name.startswith("binary")
    if binary or (ends == b"\r" and name[-3:] in ("ply", "pcd")) or (mark and "." in name[5:]):
        return  # PLY and PCD headers end with \n and begin with their own mark
    expected = read_or_refuse(read_points, tmp_path / name, CLOUDS[name])
    found = read_or_refuse(read_points, tmp_path / name, mark + CLOUDS[name].replace(b"\n", ends))
    assert np.array_equal(found[0], expected[0])
    assert found[1] is expected[1] is None or np.array_equal(found[1], expected[1])
