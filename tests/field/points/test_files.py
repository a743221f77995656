"""What people need who read their own scans: files as other programs write them, folders, surveys."""

from __future__ import annotations

import importlib
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphpool import _optional
from graphpool.datasets import (
    GeneratedShapes,
    HDF5PointClouds,
    PointCloudFolder,
    load_cloud,
    model_net,
    read_cloud,
    read_points,
    write_cloud,
)
from graphpool.files.fitting import train_network
from graphpool.models import PointNet2Classifier
from graphpool.points.transforms import Normalize

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
RNG = np.random.default_rng(0)
TABLE = np.column_stack([RNG.normal(size=(7, 6)).round(3), np.arange(7) % 3])


def text(table, delimiter=" ", end="\n") -> str:
    return "".join(delimiter.join(f"{v:g}" for v in row) + end for row in table)


def save(folder, count=1, points=None, suffix=".npy") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cloud = np.random.default_rng(i).normal(size=(40, 3)) if points is None else points
        np.save(folder / f"{i}{suffix}", cloud)


class TestText:
    @pytest.mark.parametrize("suffix", [".txt", ".xyz", ".pts", ".asc", ".csv"])
    @pytest.mark.parametrize("delimiter", [" ", ",", ", ", ";", "; ", "\t", " , "])
    def test_delimiters_are_found(self, tmp_path, suffix, delimiter):
        file = tmp_path / f"a{suffix}"
        file.write_text(text(TABLE, delimiter))
        found = read_cloud(file, "x y z nx ny nz label")
        assert np.array_equal(found.points, TABLE[:, :3])
        assert np.array_equal(found.fields["normal"], TABLE[:, 3:6])
        assert found.fields["label"].tolist() == [0, 1, 2, 0, 1, 2, 0]
        assert found.fields["label"].dtype == np.int64

    def test_a_delimiter_at_the_end_of_lines_is_no_column(self, tmp_path):
        (tmp_path / "a.csv").write_text(text(TABLE[:, :3], ",", ",\n"))
        assert np.array_equal(read_points(tmp_path / "a.csv")[0], TABLE[:, :3])

    @pytest.mark.parametrize("line", ["1,,3", "1,2", "1,5 2,5 3,5", "1;2,5;3", "1,2 3,4,5"])
    def test_what_is_missing_or_a_decimal_comma_is_not_guessed(self, tmp_path, line):
        (tmp_path / "a.txt").write_text(f"{line}\n{line}\n")
        with pytest.raises(ValueError, match=r"a\.txt"):
            read_points(tmp_path / "a.txt")

    @pytest.mark.parametrize("head", ["x,y,z,r,g,b\n", '"X","Y","Z","Red","Green","Blue"\n',
                                      "# made in Åland\n// X,Y,Z,R,G,B\n"])  # fmt: skip
    def test_names_above_the_data_are_used(self, tmp_path, head):
        table = np.column_stack([TABLE[:, :3], RNG.integers(0, 256, (7, 3))])
        (tmp_path / "a.csv").write_text(head + text(table, ","), encoding="utf-8")
        found = read_cloud(tmp_path / "a.csv")
        assert np.array_equal(found.points, TABLE[:, :3])
        assert np.allclose(found.fields["color"], table[:, 3:] / 255)

    def test_named_columns_may_stand_anywhere(self, tmp_path):
        (tmp_path / "a.csv").write_text("class;z;y;x\n1;30;20;10\n2;31;21;11\n")
        found = read_cloud(tmp_path / "a.csv")
        assert found.points.tolist() == [[10, 20, 30], [11, 21, 31]]
        assert found.fields["label"].tolist() == [1, 2]
        (tmp_path / "a.csv").write_text("east;north;up\n1;30;20\n")
        with pytest.raises(ValueError, match="no column is named 'x', only east, north, up"):
            read_cloud(tmp_path / "a.csv")
        assert read_cloud(tmp_path / "a.csv", "x y z").points.tolist() == [[1, 30, 20]]

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_counts_are_counts(self, tmp_path, end):
        file = tmp_path / "a.pts"
        file.write_bytes(f"7{end}{text(TABLE[:, :3], ' ', end)}".encode())
        assert np.array_equal(read_points(file)[0], TABLE[:, :3])
        # Scanners write several scans one behind the other.
        file.write_text(f"3\n{text(TABLE[:3, :3])}4\n{text(TABLE[3:, :3])}")
        assert np.array_equal(read_points(file)[0], TABLE[:, :3])
        for count in ("6", "8", "9" * 5000):
            file.write_text(f"{count}\n{text(TABLE[:, :3])}")
            with pytest.raises(ValueError, match=r"a\.pts.*number of points"):
                read_points(file)

    def test_comments_are_in_any_encoding_and_numbers_are_not(self, tmp_path):
        file = tmp_path / "a.xyz"
        for encoding in ("utf-8", "latin-1"):
            file.write_bytes(f"# Höhe über Null\n{text(TABLE[:, :3])}".encode(encoding))
            assert np.array_equal(read_points(file)[0], TABLE[:, :3])
        file.write_text("1 2 ٣\n", encoding="utf-8")
        with pytest.raises(ValueError, match="one point per line"):
            read_points(file)

    def test_suffixes_that_promise_columns(self, tmp_path):
        (tmp_path / "a.xyzn").write_text(text(TABLE[:, :6]))
        assert np.array_equal(read_cloud(tmp_path / "a.xyzn").fields["normal"], TABLE[:, 3:6])
        (tmp_path / "a.xyzrgb").write_text("0 0 0 1 0.5 0\n")
        assert read_cloud(tmp_path / "a.xyzrgb").fields["color"].tolist() == [[1, 0.5, 0]]

    def test_wrong_columns_are_named(self, tmp_path):
        (tmp_path / "a.txt").write_text(text(TABLE))
        for columns, message in (
            ("x y z", "has 7 columns, but `columns` = 'x y z' means 3"),
            (6, "has 7 columns, but `columns` = 6"),
            ("x y x z a b c", "named twice"),
            ("x y a b c d e", "no column is named 'z'"),
        ):
            with pytest.raises(ValueError, match=message):
                read_cloud(tmp_path / "a.txt", columns)
        assert list(read_cloud(tmp_path / "a.txt", "x y z _ _ _ label").fields) == ["label"]


class TestRecords:
    def sweep(self, width, count=600):
        rng = np.random.default_rng(width)
        table = np.zeros((count, width), "<f4")
        table[:, :3] = rng.normal(size=(count, 3)) * [30, 30, 3]
        table[:, 3:4] = rng.random((count, 1))[:, : max(width - 3, 0)]
        table[:, 4:] = rng.integers(0, 32, (count, max(width - 4, 0)))
        return table

    def test_four_columns_are_the_rule(self, tmp_path, recwarn):
        table = self.sweep(4)
        table.tofile(tmp_path / "a.bin")
        found = read_cloud(tmp_path / "a.bin")
        assert np.array_equal(found.points.astype("f4"), table[:, :3])
        assert np.array_equal(found.fields["intensity"], table[:, 3])
        assert not recwarn

    @pytest.mark.parametrize("width", [3, 5, 6, 7])
    def test_other_records_are_not_read_as_four(self, tmp_path, width):
        table = self.sweep(width, 12 * 7 * 5)
        table.tofile(tmp_path / "a.bin")
        with pytest.raises(ValueError, match=rf"make no sense.*{width}.*`columns`"):
            read_cloud(tmp_path / "a.bin")
        for columns in (width, ["x", "y", "z", "intensity", "ring", "time", "row"][:width]):
            assert np.array_equal(read_cloud(tmp_path / "a.bin", columns).points, table[:, :3])

    def test_what_cannot_be_told_apart_is_said(self, tmp_path):
        np.random.default_rng(0).random((20, 5)).astype("<f4").tofile(tmp_path / "a.bin")
        with pytest.warns(UserWarning, match="nothing tells: 5 would fit"):
            read_cloud(tmp_path / "a.bin")

    def test_sizes_and_doubles(self, tmp_path):
        self.sweep(5, 7).tofile(tmp_path / "a.bin")
        with pytest.raises(ValueError, match="140 bytes are not.*5, 7 columns would fit"):
            read_cloud(tmp_path / "a.bin")
        with pytest.raises(ValueError, match="140 bytes are not a whole number of points of 4"):
            read_cloud(tmp_path / "a.bin", "x y z intensity")
        np.random.default_rng(0).normal(size=(100, 4)).tofile(tmp_path / "b.bin")
        with pytest.raises(ValueError, match="make no sense"):
            read_cloud(tmp_path / "b.bin")

    def test_a_real_sweep(self, shared_data):
        sweep = shared_data / "lidar" / "kitti_000001.bin"
        intensity = read_cloud(sweep).fields["intensity"]
        assert intensity.min() >= 0 and intensity.max() <= 1


def lzf_literals(data: bytes) -> bytes:
    """LZF without a single back-reference."""
    blocks = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(block) - 1]) + block for block in blocks)


def pcd(encoding: str, body: bytes, count: int) -> bytes:
    head = (
        "VERSION .7\nFIELDS x y z _ rgb normal_x normal_y normal_z label\nSIZE 4 4 4 1 4 4 4 4 2\n"
        f"TYPE F F F U F F F F U\nCOUNT 1 1 1 4 1 1 1 1 1\nWIDTH {count}\nHEIGHT 1\n"
        f"POINTS {count}\nDATA {encoding}\n"
    )
    return head.encode() + body


class TestPCD:
    layout = np.dtype([("xyz", "<f4", (3,)), ("_", "u1", (4,)), ("rgb", "<u4"), ("n", "<f4", (3,)),
                       ("label", "<u2")])  # fmt: skip

    def table(self):
        table = np.zeros(5, self.layout)
        table["xyz"] = np.arange(15).reshape(5, 3) / 4
        table["xyz"][1, 2] = np.nan
        table["rgb"] = [0x00FF8000, 1, 2, 3, 0x00010203]
        table["n"], table["label"] = table["xyz"][::-1] / 8, [9, 8, 7, 6, 5]
        table["n"][3] = 0
        return table

    def files(self, folder):
        table = self.table()
        rows = []
        for row in table:
            color = np.array(row["rgb"]).view("<f4")
            numbers = [*row["xyz"], 0, 0, 0, 0, color, *row["n"], row["label"]]
            rows.append(" ".join(repr(float(v)) for v in numbers))
        columns = [table["xyz"][:, i] for i in range(3)] + [table["_"], table["rgb"]]
        columns += [table["n"][:, i] for i in range(3)] + [table["label"]]
        plain = b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
        packed = lzf_literals(plain)
        bodies = {
            "ascii": "\n".join(rows).encode(),
            "binary": table.tobytes(),
            "binary_compressed": struct.pack("<II", len(packed), len(plain)) + packed,
        }
        for encoding, body in bodies.items():
            (folder / f"{encoding}.pcd").write_bytes(pcd(encoding, body, 5))
            yield folder / f"{encoding}.pcd"

    def test_three_forms_say_the_same_and_a_nan_is_no_point(self, tmp_path):
        table, kept = self.table(), [0, 2, 3, 4]
        for file in self.files(tmp_path):
            found = read_cloud(file)
            assert np.array_equal(found.points, table["xyz"][kept]), file
            assert np.array_equal(found.fields["normal"], table["n"][kept])
            assert found.fields["label"].tolist() == [9, 7, 6, 5]
            expected = np.array([[255, 128, 0], [0, 0, 2], [0, 0, 3], [1, 2, 3]]) / 255
            assert np.allclose(found.fields["color"], expected)
            assert set(found.fields) == {"color", "normal", "label"}

    def test_back_references_are_followed(self, tmp_path):
        # 24 zero bytes: one literal, a short reference, a long one that reads what it writes.
        packed = bytes([0, 0]) + bytes([1 << 5, 0]) + bytes([7 << 5, 24 - 1 - 3 - 9, 0])
        head = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2\nDATA binary_compressed\n"
        file = tmp_path / "a.pcd"
        file.write_bytes(head.encode() + struct.pack("<II", len(packed), 24) + packed)
        assert read_points(file)[0].tolist() == [[0, 0, 0], [0, 0, 0]]
        for body in (packed[:-1], packed[2:], packed + b"\0a", b"", b"\x05abc"):
            file.write_bytes(head.encode() + struct.pack("<II", len(body), 24) + body)
            with pytest.raises(ValueError, match=r"a\.pcd.*packed"):
                read_points(file)
        file.write_bytes(head.encode() + struct.pack("<II", len(packed), 10**9) + packed)
        with pytest.raises(ValueError, match="1000000000 bytes packed"):
            read_points(file)


class TestFields:
    def test_nothing_is_left_out_in_silence(self, tmp_path):
        (tmp_path / "a.txt").write_text(text(TABLE))
        with pytest.warns(UserWarning, match="also holds column 3 to 6; read_points leaves it out"):
            read_points(tmp_path / "a.txt")
        write_cloud(tmp_path / "a.ply", TABLE[:, :3], {"color": np.full((7, 3), 0.2)})
        with pytest.warns(UserWarning, match="also holds color"):
            read_points(tmp_path / "a.ply")

    def test_a_cloud_in_colours_is_written_and_read(self, tmp_path):
        colors, label = RNG.integers(0, 256, (7, 3)) / 255, np.arange(7)
        far = TABLE[:, :3] + [458000, 5428000, 110]
        write_cloud(tmp_path / "new" / "a.ply", far,
                    {"color": colors, "normal": TABLE[:, 3:6], "label": label})  # fmt: skip
        found = read_cloud(tmp_path / "new" / "a.ply")
        assert np.array_equal(found.points, far) and found.faces is None
        assert np.array_equal(found.fields["color"], colors)
        assert np.array_equal(found.fields["normal"], TABLE[:, 3:6])
        assert np.array_equal(found.fields["label"], label)

    def test_what_cannot_be_written_is_named(self, tmp_path):
        points = TABLE[:, :3]
        for path, fields, message in (
            ("a.obj", {}, "written as .ply"),
            ("a.ply", {"color": points}, r"or lie in \[0, 1\]"),
            ("a.ply", {"color": np.zeros((6, 3))}, "'color' must have shape"),
            ("a.ply", {"label": np.full(7, 2**40)}, "32 bits"),
            ("a.ply", {"my label": np.zeros(7)}, "one word"),
        ):
            with pytest.raises(ValueError, match=message):
                write_cloud(tmp_path / path, points, fields)
        assert not list(tmp_path.iterdir())

    def test_arrays(self, tmp_path):
        np.savez(tmp_path / "a.npz", points=TABLE[:, :3], colors=np.full((7, 3), 51, np.uint8),
                 labels=np.arange(7), name=np.array("x"))  # fmt: skip
        found = read_cloud(tmp_path / "a.npz")
        assert np.allclose(found.fields["color"], 0.2) and found.fields["label"].tolist() == [
            *range(7)
        ]
        np.save(tmp_path / "t.npy", TABLE[:, :3].T)
        with pytest.raises(ValueError, match=r"\[3, 7\] looks like one row per coordinate"):
            read_points(tmp_path / "t.npy")
        assert len(read_cloud(tmp_path / "t.npy", 7).points) == 3

    @pytest.mark.parametrize("name", ["a.e57", "a.foo", "a"])
    def test_an_unknown_suffix_says_so(self, tmp_path, name):
        (tmp_path / name).write_text("0 0 0\n")
        expected = "pye57" if name == "a.e57" else "unknown suffix"
        with pytest.raises(ValueError, match=rf"{expected}.*\.xyz"):
            read_points(tmp_path / name)

    @pytest.mark.parametrize(
        "name, package", [("a.las", "laspy"), ("a.laz", "laspy"), ("a.h5", "h5py")]
    )
    def test_a_missing_package_is_named(self, tmp_path, monkeypatch, name, package):
        monkeypatch.setitem(_optional._loaded, package, ModuleNotFoundError("no", name=package))
        (tmp_path / name).write_text("x")
        with pytest.raises(ImportError, match=rf"{package}.*graphpool\[formats\]"):
            read_points(tmp_path / name)


class TestPackages:
    @pytest.mark.needs("laspy", "lazrs")
    @pytest.mark.parametrize("suffix", [".las", ".laz"])
    def test_laser_scans(self, tmp_path, suffix):
        import laspy

        points = RNG.random((50, 3)).round(3) * [2, 2, 5] + [458000, 5428000, 110]
        las = laspy.create(point_format=2, file_version="1.2")
        las.header.scales, las.header.offsets = [0.001] * 3, [458000, 5428000, 0]
        las.x, las.y, las.z = points.T
        las.intensity, las.classification = np.arange(50), np.arange(50) % 7
        las.red, las.green, las.blue = np.arange(150).reshape(3, 50) * 256
        file = tmp_path / f"a{suffix}"
        las.write(file)
        found = read_cloud(file)
        assert np.abs(found.points - points).max() < 0.0006
        assert found.fields["label"].tolist() == (np.arange(50) % 7).tolist()
        assert np.allclose(found.fields["color"], np.arange(150).reshape(3, 50).T * 256 / 65535)
        data = file.read_bytes()
        for damaged in (
            data[:300],
            data[:100],
            b"LASF",
            data[:107] + b"\xff\xff\xff\x7f" + data[111:],
        ):
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"a\{suffix}"):
                read_cloud(file)

    def packed(self, file, h5py, **arrays):
        with h5py.File(file, "w") as target:
            for name, values in arrays.items():
                target.create_dataset(name, data=values, compression="gzip")

    @pytest.mark.needs("h5py")
    def test_clouds_in_hdf5(self, tmp_path):
        import h5py

        data, normal = (RNG.normal(size=(4, 9, 3)).astype("f4") for _ in range(2))
        one, two = tmp_path / "ply_data_train0.h5", tmp_path / "ply_data_train1.h5"
        self.packed(
            one, h5py, data=data[:3], label=np.array([[2], [0], [1]], "u1"), normal=normal[:3]
        )
        self.packed(two, h5py, data=data[3:], label=np.array([[1]], "u1"), normal=normal[3:])
        (tmp_path / "shape_names.txt").write_text("airplane\nbathtub\nbed\nbench\n")
        clouds = HDF5PointClouds([one, two], num_points=5, features=["normal"])
        assert clouds.classes == ["airplane", "bathtub", "bed", "bench"]
        assert clouds.y.tolist() == [2, 0, 1, 1]
        assert np.array_equal(clouds[3].pos, data[3, :5]) and np.array_equal(
            clouds[3].x, normal[3, :5]
        )
        with pytest.warns(UserWarning, match="also holds normal"):
            HDF5PointClouds(one)
        with pytest.raises(ValueError, match=r"labels must lie in \[0, 2\).*0 to 2"):
            HDF5PointClouds(one, classes=["a", "b"], features=())
        mask = np.where(RNG.random((2, 9)) < 0.5, -1, 3)
        self.packed(two, h5py, data=data[:2], label=np.array([1, 0]), mask=mask)
        objects = HDF5PointClouds(two, features=["mask"], classes=["bag", "bin"])
        assert objects[1].x.flatten().tolist() == mask[1].tolist()

    @pytest.mark.needs("h5py")
    def test_one_cloud_in_hdf5(self, tmp_path):
        import h5py

        self.packed(tmp_path / "a.h5", h5py, points=TABLE[:, :3], label=np.arange(7))
        found = read_cloud(tmp_path / "a.h5")
        assert np.array_equal(found.points, TABLE[:, :3]) and found.fields["label"][5] == 5
        self.packed(tmp_path / "a.h5", h5py, data=np.zeros((2, 9, 3)))
        with pytest.raises(ValueError, match="HDF5PointClouds"):
            read_cloud(tmp_path / "a.h5")

    @pytest.mark.needs("h5py")
    def test_hostile_hdf5(self, tmp_path):
        import h5py

        file = tmp_path / "a.h5"
        self.packed(tmp_path / "b.h5", h5py, points=TABLE[:, :3])
        with h5py.File(file, "w") as target:
            target["points"] = h5py.ExternalLink("b.h5", "points")
        with pytest.raises(ValueError, match="is a link"):
            read_cloud(file)
        with h5py.File(file, "w") as target:
            target.create_dataset("points", (10**10, 3), "f8", chunks=(1000, 3))
        with pytest.raises(ValueError, match="would unpack to 240000000000"):
            read_cloud(file)
        (tmp_path / "raw").write_bytes(bytes(240))
        with h5py.File(file, "w") as target:
            external = [(str(tmp_path / "raw"), 0, 240)]
            target.create_dataset("points", (10, 3), "f8", external=external)
        with pytest.raises(ValueError, match="lies in other files"):
            read_cloud(file)
        file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        with pytest.raises(ValueError, match=r"a\.h5 cannot be read as HDF5"):
            read_cloud(file)


class TestFarAway:
    far = np.random.default_rng(3).random((1024, 3)) * [2, 2, 5] + [458000, 5428000, 110]

    def test_a_survey_keeps_its_shape(self, tmp_path):
        save(tmp_path / "a", 1, self.far)
        save(tmp_path / "b", 1, self.far - self.far.mean(0))
        with pytest.warns(UserWarning, match="1 of 2 clouds.*`offset`"):
            folder = PointCloudFolder(tmp_path, num_points=None, transform=Normalize())
        centred = self.far - self.far.mean(0)
        expected = centred / np.linalg.norm(centred, axis=1).max()
        for data in folder:
            assert data.pos.dtype == torch.float32
            assert np.abs(data.pos.numpy() - expected).max() < 1e-6
        folder.transform = None
        back = folder[0].pos.double() + folder[0].offset
        assert folder[0].offset.dtype == torch.float64
        assert np.abs(back.numpy() - self.far).max() < 2e-7
        assert not folder[1].offset.any()
        assert np.array_equal(folder[1].pos.numpy(), centred.astype("f4"))

    def test_offsets_by_demand(self, tmp_path, recwarn):
        save(tmp_path / "a", 1, self.far)
        with pytest.raises(
            ValueError, match=r"0\.npy: Rounding to float32 moves these points by up to 0\.3"
        ):
            PointCloudFolder(tmp_path, offset="never")
        save(tmp_path / "a", 1, self.far - self.far.min(0))
        always = PointCloudFolder(tmp_path, offset="always")[0]
        assert torch.allclose(always.pos.amin(0), -always.pos.amax(0), atol=1e-6)
        assert not PointCloudFolder(tmp_path, offset="never")[0].offset.any()
        assert not recwarn
        save(tmp_path / "a", 1, self.far * 1e40)
        with pytest.raises(ValueError, match="do not fit float32"):
            PointCloudFolder(tmp_path)
        with pytest.raises(ValueError, match="`offset` must be"):
            PointCloudFolder(tmp_path, offset="centre")

    def test_a_point_that_lies_far_away(self, tmp_path):
        save(tmp_path / "a", 1, self.far[:1])
        with pytest.warns(UserWarning, match="float32 would round"):
            data = PointCloudFolder(tmp_path, num_points=None)[0]
        assert np.array_equal((data.pos.double() + data.offset).numpy(), self.far[:1])


class TestFolders:
    def test_a_split_that_lacks_a_class_numbers_the_others_alike(self, tmp_path):
        for name in "abc":
            save(tmp_path / "train" / name)
        for name in "ac":
            save(tmp_path / "test" / name)
        train = PointCloudFolder(tmp_path / "train", 20)
        test = PointCloudFolder(tmp_path / "test", 20, classes=train.classes)
        assert test.classes == ["a", "b", "c"] and test.y.tolist() == [0, 2]
        save(tmp_path / "test" / "d")
        with pytest.raises(ValueError, match="has the class d, not in"):
            PointCloudFolder(tmp_path / "test", 20, classes=train.classes)
        with pytest.raises(ValueError, match="different names"):
            PointCloudFolder(tmp_path / "train", 20, classes=["a", "b", "c", "a"])
        with pytest.raises(ValueError, match="different names"):
            PointCloudFolder(tmp_path / "train", 20, classes="abc")

    def test_classes_with_splits_inside(self, tmp_path):
        for name, split in (
            ("a", "train"),
            ("b", "train"),
            ("b", "test"),
            ("c", "train"),
            ("c", "test"),
        ):
            save(tmp_path / name / split)
        save(tmp_path / "b" / ".ipynb_checkpoints")
        (tmp_path / "no_class").mkdir()
        test = PointCloudFolder(tmp_path, 20, split="test")
        assert test.classes == ["a", "b", "c"] and test.y.tolist() == [1, 2]
        assert [file.parent.name for file in test.files] == ["test", "test"]
        with pytest.raises(ValueError, match="train: is one of them the `split`"):
            PointCloudFolder(tmp_path, 20, classes=["a", "b", "c", "no_class"])
        with pytest.raises(ValueError, match="val has no file"):
            PointCloudFolder(tmp_path, 20, split="val")

    def test_what_programs_leave_behind_is_no_data(self, tmp_path):
        for name in ("a", ".ipynb_checkpoints", "__MACOSX", "b/.thumbs"):
            save(tmp_path / name)
        save(tmp_path / "b")
        (tmp_path / "b" / "._0.npy").write_bytes(b"resource fork")
        folder = PointCloudFolder(tmp_path, 20)
        assert folder.classes == ["a", "b"] and len(folder) == 2

    def test_modelnet_has_the_classes_that_its_labels_mean(self, tmp_path):
        off = "OFF\n4 2 0\n0 0 0\n2 0 0\n0 2 0\n2 2 0\n3 0 1 2\n3 1 3 2\n"
        names = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa",
                 "table", "toilet"]  # fmt: skip
        for name in [*names, ".ipynb_checkpoints"]:
            for split in ("train", "test"):
                folder = tmp_path / "ModelNet10" / "raw" / name / split
                folder.mkdir(parents=True)
                (folder / f"{name}_0001.off").write_text(off)
        assert model_net(tmp_path, "10", "test", num_points=8).classes == names

    def test_small_clouds_repeat_points_when_asked(self, tmp_path):
        save(tmp_path / "a")
        with pytest.raises(ValueError, match="40 points, fewer.*short='repeat'"):
            PointCloudFolder(tmp_path, 100)
        pos = PointCloudFolder(tmp_path, 100, short="repeat")[0].pos
        _, count = pos.unique(dim=0, return_counts=True)
        assert len(count) == 40 and sorted(count.tolist()) == [2] * 20 + [3] * 20
        for number, short in ((0, "error"), (10, "pad")):
            with pytest.raises(ValueError, match="`num_points`|`short`"):
                load_cloud(tmp_path / "a" / "0.npy", number, np.random.default_rng(0), short)

    def test_fields_become_features_of_the_same_points(self, tmp_path):
        (tmp_path / "a").mkdir()
        table = np.column_stack([np.arange(50)] * 6 + [np.arange(50) % 5]).astype(float)
        (tmp_path / "a" / "0.txt").write_text(text(table, ","))
        columns = "x y z nx ny nz label"
        folder = PointCloudFolder(tmp_path, 20, columns=columns, features=("label", "normal"))
        data = folder[0]
        assert data.x.shape == (20, 4)
        assert torch.equal(data.x[:, 0], data.pos[:, 0] % 5) and torch.equal(
            data.x[:, 1:], data.pos
        )
        with pytest.warns(UserWarning, match="also hold normal, label, which is left out"):
            PointCloudFolder(tmp_path, 20, columns=columns)
        with pytest.raises(ValueError, match=r"0\.txt has no field 'color'.*it has normal, label"):
            PointCloudFolder(tmp_path, 20, columns=columns, features=["color"])

    def test_knowing_that_no_field_is_wanted(self, tmp_path, recwarn):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "0.txt").write_text(text(TABLE))
        assert PointCloudFolder(tmp_path, 5, features=())[0].x is None
        assert not recwarn


@pytest.fixture
def example(monkeypatch):
    """Loads a script; with options, also says what they parse to."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load(name, *options):
        for module in (name, "_points", "_common"):
            sys.modules.pop(module, None)
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        return (module, module.parse_arguments()) if options else module

    return load


class TestScripts:
    def folder(self, root, inner=False, lacking=()):
        """Boxes and balls in millimetres."""
        rng = np.random.default_rng(0)
        for split in ("train", "test"):
            for name in ("ball", "box"):
                if (split, name) in lacking:
                    continue
                folder = root / name / split if inner else root / split / name
                folder.mkdir(parents=True)
                for i in range(5):
                    points = rng.normal(size=(1100, 3))
                    norm = (
                        np.linalg.norm(points, axis=1) if name == "ball" else np.abs(points).max(1)
                    )
                    np.save(folder / f"{i}.npy", 2000 + 900 * points / norm[:, None])
        return root

    @pytest.mark.parametrize("inner", [False, True])
    def test_augmentation_comes_behind_the_transform_of_the_data(
        self, example, tmp_path, monkeypatch, inner
    ):
        root = self.folder(tmp_path, inner)
        module, args = example(
            "point_cloud_classification", "--data", root, "--model", "pointnet2", "--quick"
        )
        train_set, test_set = module.load(args)
        seen = []

        def stop(model, loader, *_):
            seen.extend(loader)
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            module.run_network(args, train_set, test_set)
        for batch in seen:
            assert batch.pos.shape == (10 * 64, 3)
            # Radius 1, scaled by 3/2 at most, moved by 0.2 and shaken by 0.05.
            assert 0.5 < batch.pos.abs().max() < 1.75
        assert train_set[0].pos.norm(dim=1).max() == pytest.approx(1, abs=1e-5)

    def test_meshes_of_modelnet_are_sampled_before_they_are_augmented(
        self, example, tmp_path, monkeypatch
    ):
        names = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa",
                 "table", "toilet"]  # fmt: skip
        for name in names:
            for split in ("train", "test"):
                folder = tmp_path / "ModelNet10" / "raw" / name / split
                folder.mkdir(parents=True)
                (folder / f"{name}_0001.off").write_text(
                    "OFF\n4 2 0\n0 0 0\n20 0 0\n0 20 0\n20 20 0\n3 0 1 2\n3 1 3 2\n"
                )
        module, args = example("point_cloud_classification", "--data", "modelnet10", "--root", tmp_path,
                               "--model", "pointnet2", "--quick", "--num-points", 32)  # fmt: skip
        train_set, test_set = module.load(args)
        batches = []
        monkeypatch.setattr(
            module, "train", lambda model, loader, *_: batches.extend(loader) or 0.0
        )
        monkeypatch.setattr(module, "predict", lambda *_: (torch.zeros(10, 10), torch.zeros(10)))
        module.run_network(args, train_set, test_set)
        (batch,) = batches
        assert batch.pos.shape == (320, 3) and batch.pos.abs().max() < 1.75
        # Four corners would be four different points.
        assert len(batch.pos[:32].unique(dim=0)) == 32
        assert torch.equal(test_set[3].pos, test_set[3].pos)

    @pytest.mark.slow
    def test_a_test_folder_without_the_first_class(self, example, tmp_path, capsys):
        root = self.folder(tmp_path / "data", lacking=[("test", "ball")])
        module, args = example("point_cloud_classification", "--data", root, "--k", 16, "--num-points", 128,
                               "--out", tmp_path / "out")  # fmt: skip
        train_set, test_set = module.load(args)
        assert test_set.y.tolist() == [1] * 5 and test_set.classes == ["ball", "box"]
        module.check_classes(train_set.y, test_set.y, train_set.classes)
        assert "the test set has nothing of class ball" in capsys.readouterr().out
        scores, truth, _ = module.run_point_nn(args, train_set, test_set)
        assert (scores.argmax(1) == truth).all()

    def test_num_points_holds_for_packed_clouds(self, example, tmp_path):
        points = RNG.normal(size=(4, 50, 3)).astype("f4")
        arrays = {f"{a}_{s}": v for s in ("train", "test")
                  for a, v in (("points", points), ("labels", np.array([0, 1, 0, 1])))}  # fmt: skip
        np.savez(tmp_path / "a.npz", classes=np.array(["a", "b"]), **arrays)
        module, args = example(
            "point_cloud_classification", "--data", tmp_path / "a.npz", "--num-points", 20
        )
        for clouds in module.load(args):
            assert clouds[1].pos.shape == (20, 3)

    def test_few_shot_protocols_that_the_data_cannot_hold(self, example):
        module, args = example("point_cloud_classification", "--episodes", 1)
        features, labels = torch.eye(12), torch.arange(12) % 3
        for ways, shots in ((4, 1), (1, 1), (3, 4), (2, 0)):
            with pytest.raises(ValueError, match="3 classes, and the smallest has 4 clouds"):
                module.few_shot(features, labels, ways, shots, args)
        assert float(module.few_shot(features, labels, 3, 3, args)) <= 100
        # Classes are those that there are, and not all numbers below the largest.
        assert float(module.few_shot(features.repeat(1, 2), 7 * labels, 3, 3, args)) <= 100

    def test_statistics_over_batches_keep_the_order_of_the_clouds(self, example):
        module, args = example(
            "point_cloud_classification", "--statistics", "batch", "--batch-size", 4
        )
        shapes = GeneratedShapes(4, 64, classes=["torus", "box"])
        encoder = module.PointNN(channels=24, stages=2, k=8, statistics="batch")
        assert module.describe(encoder, shapes, args, "x")[1].tolist() == shapes.y.tolist()

    def test_pictures_of_parts_colour_the_points_that_were_labelled(
        self, example, monkeypatch, tmp_path
    ):
        """A data set that draws anew on every access, as ShapeNet with ``Sample`` does."""
        module, args = example("point_cloud_segmentation", "--data", "shapenet", "--num-points", 40,
                               "--quick", "--k", 8, "--out", tmp_path)  # fmt: skip

        class Objects(module.GeneratedParts):
            def __init__(self, folder, split, transform):
                super().__init__(2, 64, "test" if split == "test" else "train", transform=transform)
                self.categories = self.classes

        monkeypatch.setattr(module, "ShapeNet", Objects)
        monkeypatch.setattr(Objects, "num_classes", 15)
        monkeypatch.setattr(
            Objects, "seg_classes", {"table": [0, 1], "rest": [*range(2, 15)]}, False
        )
        _, test, _, parts = module.load(args)
        assert torch.equal(test[0].pos, test[0].pos) and len(test[0].pos) == 40
        shown, run = [], module.run_point_nn
        monkeypatch.setattr(
            module.plot, "cloud_gallery", lambda pictures, *_, **__: shown.extend(pictures)
        )

        def record(args, train_set, test_set, parts):
            self.labelled = [data.pos.clone() for data in test_set]
            return run(args, train_set, test_set, parts)

        monkeypatch.setattr(module, "run_point_nn", record)
        module.main()
        assert torch.equal(shown[0], shown[1])
        assert any(torch.equal(shown[0], pos) for pos in self.labelled)


class TestCheckpoints:
    @pytest.fixture
    def run(self, example):
        points = example("_points")

        def train(checkpoint, epochs=2, clouds=3, batch=4, drop=False, **settings):
            torch.manual_seed(0)
            shapes = GeneratedShapes(clouds, 48, classes=["torus", "box"])
            loader = points.DataLoader(shapes, batch, shuffle=True, drop_last=drop)
            model = PointNet2Classifier(
                2, k=4, width=4, radii=(None, None), pool=settings.get("pool", "max")
            )
            train_network(model, loader, lambda m, b: m(b.pos, ptr=b.ptr), epochs, 0.01, 0.1, checkpoint,
                         "cpu", (), settings)  # fmt: skip
            return model

        return train

    def test_more_epochs_go_on(self, run, tmp_path, capsys):
        run(tmp_path / "a.pt", 2)
        run(tmp_path / "a.pt", 5)
        out = capsys.readouterr().out
        assert "resumed after epoch 2 of 5, the schedule is stretched from 2" in out
        assert [f"epoch   {i}" in out for i in range(1, 6)] == [True] * 5
        with pytest.raises(ValueError, match="has 5 epochs already; asked for were 3"):
            run(tmp_path / "a.pt", 3)
        finished, again = run(tmp_path / "a.pt", 5), run(tmp_path / "a.pt", 5)
        for a, b in zip(finished.state_dict().values(), again.state_dict().values(), strict=True):
            assert torch.equal(a, b)

    def test_the_schedule_is_the_same_after_a_resume(self, run, tmp_path, monkeypatch):
        rates, step = [], torch.optim.AdamW.step

        def record(self, *args, **kwargs):
            rates.append(self.param_groups[0]["lr"])
            return step(self, *args, **kwargs)

        monkeypatch.setattr(torch.optim.AdamW, "step", record)
        run(None, 5)
        straight = rates.copy()
        rates.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", self.replace_then_stop)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "a.pt", 5)
        run(tmp_path / "a.pt", 5)
        assert rates == straight

    @staticmethod
    def replace_then_stop(part, target):
        part.rename(target)
        raise KeyboardInterrupt

    def test_another_pool_is_named(self, run, tmp_path):
        run(tmp_path / "a.pt", pool="gnp", k=4)
        with pytest.raises(
            ValueError, match="this checkpoint was trained with pool=gnp, and.*pool=max"
        ):
            run(tmp_path / "a.pt", pool="max", k=4)

    @pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04rest", "tensor", "numbers"])
    def test_garbage_is_named(self, run, tmp_path, content):
        file = tmp_path / "a.pt"
        if isinstance(content, str):
            torch.save({"tensor": torch.zeros(3), "numbers": {"model": {}}}[content], file)
        else:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.pt"):
            run(file)

    def test_a_place_that_cannot_be_written_is_found_before_training(
        self, run, tmp_path, monkeypatch
    ):
        run(tmp_path / "new" / "folders" / "a.pt")
        assert (tmp_path / "new" / "folders" / "a.pt").exists()
        (tmp_path / "file").write_text("x")

        def no_step(*_, **__):
            raise AssertionError("training began")

        monkeypatch.setattr(torch.optim.AdamW, "step", no_step)
        for place in (tmp_path / "file" / "a.pt", tmp_path / "new"):
            with pytest.raises(OSError):
                run(place)

    @pytest.mark.parametrize("epochs", [1, 2, 5])
    def test_fewer_clouds_than_a_batch(self, run, epochs):
        assert run(None, epochs, clouds=2, batch=99) is not None
        with pytest.raises(ValueError, match="4 items in batches of 99"):
            run(None, epochs, clouds=2, batch=99, drop=True)
        with pytest.raises(ValueError, match="got 0 epochs"):
            run(None, 0)
