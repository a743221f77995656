"""Small data sets on disk, made as a stranger would have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphpool.__main__ import main
from graphpool.datasets import write_cloud
from graphpool.mesh import icosphere, write_mesh


def clouds(root: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("ball", "stick"):
        for i in range(6):
            points = rng.normal(size=(90, 3)) * ([1, 1, 1] if kind == "ball" else [9, 1, 1]) + 50
            path = root / kind / f"scan {i}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            colors = rng.integers(0, 255, (90, 3))
            table = np.concatenate([points, colors], 1)
            np.savetxt(path, table, delimiter=",", header="x,y,z,red,green,blue", comments="")


def parts(root: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(5):
        points = rng.random((150, 3))
        label = np.where(points[:, 2] > 0.5, 7, 3)
        label[:5] = -1
        write_cloud(root / f"{i}.ply", points, {"label": label, "intensity": points[:, 2] ** 2})


def shapes(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces = icosphere(1)
    stretch = [1, 1, 3] if kind == "egg" else [1, 1, 1]
    return vertices * stretch + rng.normal(size=vertices.shape) * 0.02, faces


def meshes(root: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("ball", "egg"):
        for i in range(5):
            write_mesh(root / kind / f"{i}{('.ply', '.obj', '.off')[i % 3]}", *shapes(kind, rng))


def halves(root: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        vertices, faces = shapes("egg", rng)
        write_mesh(root / f"{i}.obj", vertices, faces)
        label = vertices[faces].mean(1)[:, 2] > 0
        np.savetxt(root / f"{i}.eseg", label, fmt="%d")


def graphs(root: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("path", "star"):
        for i in range(6):
            count = int(rng.integers(4, 9))
            path = root / kind / f"{i}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            edges = [(j, j - 1 if kind == "path" else 0, rng.random()) for j in range(1, count)]
            lines = [f"n{a},n{b},{w:.3f}" for a, b, w in edges]
            path.write_text("\n".join(["source,target,length", *lines]))
            rows = [f"n{j},{'CNO'[j % 3]},{rng.normal():.3f}" for j in range(count)]
            path.with_suffix(".nodes.csv").write_text("\n".join(["id,element,charge", *rows]))


def bags(root: Path) -> None:
    rng = np.random.default_rng(0)
    root.mkdir()
    lines = ["file,label"]
    for i in range(12):
        np.save(
            root / f"{i}.npy", rng.normal(size=(int(rng.integers(1, 9)), 3)) * 100 + 500 * (i % 2)
        )
        lines.append(f"{i}.npy,{('low', 'high')[i % 2]}")
    (root / "labels.csv").write_text("\n".join(lines))


def numbers(root: Path) -> None:
    """Bags, and a number with decimals for each."""
    bags(root)
    lines = [f"{i}.npy,{0.25 + float(np.load(root / f'{i}.npy').max())!r}" for i in range(12)]
    (root / "labels.csv").write_text("\n".join(["file,label", *lines]))


def modelnet40(root: Path) -> None:
    """The layout that is passed on as ``modelnet40_ply_hdf5_2048``: several files, lists of them, names."""
    import h5py

    rng = np.random.default_rng(0)
    root.mkdir()
    for split, files in (("train", 2), ("test", 1)):
        names = [f"ply_data_{split}{i}.h5" for i in range(files)]
        lines = "".join(f"data/modelnet40_ply_hdf5_2048/{name}\n" for name in names)
        (root / f"{split}_files.txt").write_text(lines)
        for name in names:
            label = np.arange(8, dtype=np.uint8)[:, None] % 2 * 2
            data = rng.normal(size=(8, 64, 3)) * np.where(label[:, :, None], [1, 1, 9], 1)
            with h5py.File(root / name, "w") as file:
                file.create_dataset("data", data=data.astype("f4"), compression="gzip")
                file.create_dataset("label", data=label, compression="gzip")
                file["normal"] = rng.normal(size=(8, 64, 3)).astype("f4")
                file["faceId"] = np.zeros((8, 64), np.int32)
    (root / "shape_names.txt").write_text("airplane\nbathtub\nbed\n")
    (root / "ply_data_test_0_id2file.json").write_text("[]")


def tiles(root: Path) -> None:
    """Airborne scans in metres of a national grid: ground (2), roofs (6) and points of no class (0)."""
    import laspy

    rng = np.random.default_rng(0)
    root.mkdir()
    for i in range(5):
        points = rng.random((300, 3)) * [40, 20, 0.5] + [458000 + 40 * i, 5428000, 110]
        roof = points[:, 0] % 40 > 20
        scan = laspy.create(point_format=6, file_version="1.4")
        scan.header.scales, scan.header.offsets = [0.001] * 3, [458000, 5428000, 0]
        scan.x, scan.y, scan.z = (points + np.outer(roof, [0, 0, 6])).T
        scan.intensity = rng.integers(0, 65535, 300)
        scan.classification = np.where(rng.random(300) < 0.05, 0, np.where(roof, 6, 2))
        scan.write(root / f"tile_{458 + i}_5428.laz")


#: Name: kind, what makes the files, further options.
HOMES = {
    "points": ("points", clouds, ["--num-points", "32", "--features", "color", "--pool", "gnp"]),
    "point-nn": ("points", clouds, ["--num-points", "64", "--model", "point-nn", "--set", "k=8"]),
    "labelled points": ("points", parts, ["--num-points=64", "--labels=label", "--features=intensity"]),
    "scene": ("points", parts, ["--num-points", "32", "--labels", "label", "--block", "0.8"]),
    "meshes": ("meshes", meshes, ["--pool", "max", "--features", "position", "--augment", "rotate-z,flip"]),
    "edges": ("meshes", meshes, ["--edges", "--features", "normal", "--augment", "jitter,scale"]),
    "fine faces": ("meshes", halves, ["--labels", "files", "--num-faces", "50", "--set", "checkpoint=True"]),
    "labelled faces": ("meshes", halves, ["--labels", "files"]),
    "graphs": ("graphs", graphs, ["--pool", "gnp,attsets"]),
    "labelled nodes": ("graphs", graphs, ["--labels", "element", "--set", "num_layers=2"]),
    "bags": ("bags", bags, []),
    "numbers": ("bags", numbers, []),
    "modelnet40": ("points", modelnet40, ["--num-points", "32", "--features", "normal"]),
    "tiles": ("points", tiles, ["--labels=label", "--ignore=0", "--features=intensity",
                                "--block=16", "--num-points=64"]),
}  # fmt: skip


#: Open3D thins what has too many faces.
NEEDS = {"fine faces": ["open3d"], "modelnet40": ["h5py"], "tiles": ["laspy", "lazrs"]}


EVERY_HOME = [
    pytest.param(n, marks=pytest.mark.needs(*NEEDS.get(n, [])), id=n.replace(" ", "-"))
    for n in HOMES
]


@pytest.fixture(params=EVERY_HOME)
def home(request, tmp_path):
    kind, make, options = HOMES[request.param]
    make(tmp_path / "data")
    return kind, tmp_path / "data", options


@pytest.fixture(scope="module", params=EVERY_HOME)
def trained(request, tmp_path_factory):
    """A data set of every home, and the folder of a run over one epoch of it: to be read only."""
    kind, make, options = HOMES[request.param]
    folder = tmp_path_factory.mktemp("home")
    make(folder / "data")
    command = ["train", kind, str(folder / "data"), "--epochs", "1", "--out", str(folder / "run")]
    assert main([*command, *options]) == 0
    return folder / "data", folder / "run"


@pytest.fixture
def made(tmp_path):
    def make(name: str) -> Path:
        HOMES[name][1](tmp_path / "data")
        return tmp_path / "data"

    return make
