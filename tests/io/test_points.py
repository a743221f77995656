from __future__ import annotations

import numpy as np
import pytest

from graphpool import _optional
from graphpool.io import read_cloud, read_points, write_cloud

POINTS = np.array([[0.0, 1.0, 2.0], [3.5, -4.0, 5.25], [6.0, 7.0, -8.5]])
PCD = """# .PCD v.7
VERSION .7
FIELDS {fields}
SIZE {size}
TYPE {type}
COUNT {count}
WIDTH 3
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS 3
DATA {data}
"""


def write(path, suffix: str):
    file = path / f"cloud{suffix}"
    if suffix == ".off":
        file.write_text("OFF\n3 1 0\n0 1 2\n3.5 -4 5.25\n6 7 -8.5\n3 0 1 2\n")
    elif suffix == ".ply":
        head = "ply\nformat ascii 1.0\nelement vertex 3\n"
        head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
        file.write_text(head + "\n".join(" ".join(map(str, row)) for row in POINTS) + "\n")
    elif suffix == ".npy":
        np.save(file, POINTS.astype(np.float32))
    elif suffix == ".npz":
        np.savez(file, points=POINTS, other=np.zeros(2))
    elif suffix == ".bin":
        np.column_stack([POINTS, np.ones(3)]).astype("<f4").tofile(file)
    elif suffix == ".pcd":
        fields = {"fields": "x y z", "size": "4 4 4", "type": "F F F", "count": "1 1 1"}
        file.write_bytes(
            PCD.format(data="binary", **fields).encode() + POINTS.astype("<f4").tobytes()
        )
    else:
        np.savetxt(file, np.column_stack([POINTS, np.ones(3)]))
    return file


@pytest.mark.parametrize(
    "suffix", [".off", ".ply", ".npy", ".npz", ".bin", ".pcd", ".xyz", ".txt", ".pts"]
)
def test_every_format_is_read(tmp_path, suffix):
    points, faces = read_points(write(tmp_path, suffix))
    assert np.allclose(points, POINTS)
    assert (faces is not None) == (suffix == ".off")


def test_pcd_with_other_fields_and_missing_points(tmp_path):
    fields = {"fields": "intensity x normal y z", "size": "2 8 4 4 4", "type": "U F F F F",
              "count": "1 1 3 1 1"}  # fmt: skip
    layout = np.dtype([("i", "<u2"), ("x", "<f8"), ("n", "<f4", (3,)), ("y", "<f4"), ("z", "<f4")])
    table = np.zeros(3, layout)
    table["x"], table["y"], table["z"] = POINTS.T
    table["y"][1] = np.nan
    binary = tmp_path / "a.pcd"
    binary.write_bytes(PCD.format(data="binary", **fields).encode() + table.tobytes())
    assert np.allclose(read_points(binary)[0], POINTS[[0, 2]])
    text = tmp_path / "b.pcd"
    rows = "\n".join(f"7 {x} 0 0 1 {y} {z}" for x, y, z in POINTS)
    text.write_text(PCD.format(data="ascii", **fields) + rows)
    assert np.allclose(read_points(text)[0], POINTS)


@pytest.mark.needs("open3d")
def test_what_open3d_writes_is_read(tmp_path):
    open3d = _optional.require("open3d", purpose="this test")
    rng = np.random.default_rng(0)
    points, colors = rng.normal(size=(500, 3)).round(2), rng.integers(0, 256, (500, 3)) / 255
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    cloud.colors = open3d.utility.Vector3dVector(colors)
    for name, options in (
        ("a.pcd", {"compressed": True}),
        ("b.pcd", {}),
        ("c.pcd", {"write_ascii": True}),
        ("a.xyzrgb", {}),
        ("a.ply", {}),
        ("b.ply", {"write_ascii": True}),
    ):
        assert open3d.io.write_point_cloud(str(tmp_path / name), cloud, **options)
        found = read_cloud(tmp_path / name)
        assert np.allclose(found.points, points), name
        assert np.allclose(found.fields["color"], colors, atol=1e-6), name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xyz", b"1 2 three\n", "one point per line"),
        ("a.xyz", b"1 2\n", "3 coordinates"),
        ("a.xyz", b"1 2 nan\n", "point 0 is not finite. Take such points out"),
        ("a.xyz", b"1 2 nan\n1 2 3\n1 2 inf\n", "point 0 is not finite, nor are 1 more. Take"),
        ("a.bin", b"123", "whole number of points"),
        ("a.pcd", b"VERSION .7\n", "no DATA line"),
        ("a.pcd", b"FIELDS a b\nDATA ascii\n", "header"),
    ],
)
def test_malformed_files_are_named(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_points(file)
    assert str(file) in str(error.value)


def test_short_pcd_and_ambiguous_npz(tmp_path):
    fields = {"fields": "x y z", "size": "4 4 4", "type": "F F F", "count": "1 1 1"}
    short = tmp_path / "a.pcd"
    short.write_bytes(PCD.format(data="binary", **fields).encode() + b"1234")
    with pytest.raises(ValueError, match="ends before"):
        read_points(short)
    np.savez(tmp_path / "b.npz", a=POINTS, b=POINTS)
    with pytest.raises(ValueError, match="'points' or 'pos'"):
        read_points(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_points(tmp_path / "c.npz")


@pytest.mark.parametrize(
    "fields",
    [{"y": np.array([7, 8])}, {"color": np.zeros((2, 3)), "red": np.array([200, 255])}],
    ids=["coordinate", "colour"],
)
def test_a_field_may_not_overwrite_what_is_written_already(tmp_path, fields):
    with pytest.raises(ValueError, match="is there already"):
        write_cloud(tmp_path / "a.ply", np.zeros((2, 3)), fields)
