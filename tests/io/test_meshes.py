import numpy as np
import pytest

from graphpool.mesh import icosphere, read_mesh, write_mesh

PLY_HEAD = "ply\nformat {} 1.0\ncomment made by hand\nelement vertex {}\n"


@pytest.mark.parametrize("suffix", [".obj", ".off", ".ply"])
def test_what_was_written_is_read(tmp_path, suffix):
    vertices, faces = icosphere(1)
    vertices = vertices * np.pi
    write_mesh(tmp_path / f"new/mesh{suffix}", vertices, faces)
    again = read_mesh(tmp_path / f"new/mesh{suffix}")
    assert np.array_equal(again.vertices, vertices) and np.array_equal(again.faces, faces)


def test_obj_with_everything(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text(
        "# comment\nmtllib x.mtl\no thing\nvn 0 0 1\nv 0 0 0 1.0\nv 1 0 0\nvt 0 0\nv 1 1 0\n"
        "f -3 -2 -1\nv 0 1 0\nusemtl m\ns off\nf 1/1/1 2/2/1 3/1/1 4/1/1\nf 1//1 3//1 4//1\nl 1 2\n"
    )
    mesh = read_mesh(path)
    assert mesh.vertices.shape == (4, 3)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 2, 3]]


def test_off_with_counts_on_the_first_line_and_a_quadrilateral(tmp_path):
    path = tmp_path / "a.off"
    path.write_text("OFF4 1 0\n0 0 0\n1 0 0 # corner\n1 1 0\n\n0 1 0\n4 0 1 2 3 255 0 0\n")
    assert read_mesh(path).faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_ascii_ply_with_normals_and_colors(tmp_path):
    path = tmp_path / "a.ply"
    path.write_text(
        PLY_HEAD.format("ascii", 4)
        + "property float nx\nproperty float x\nproperty float y\nproperty float z\n"
        + "element face 2\nproperty uchar red\nproperty list uchar int vertex_index\nend_header\n"
        + "9 0 0 0\n9 1 0 0\n9 1 1 0\n9 0 1 0\n255 3 0 1 2\n0 4 0 1 2 3\n"
    )
    mesh = read_mesh(path)
    assert mesh.vertices[2].tolist() == [1, 1, 0]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("order, mark", [("binary_little_endian", "<"), ("binary_big_endian", ">")])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 4)])
def test_binary_ply(tmp_path, order, mark, sizes):
    head = (
        PLY_HEAD.format(order, 4)
        + "property float x\nproperty float y\nproperty float z\nproperty uchar red\n"
        + f"element face {len(sizes)}\nproperty list uchar uint vertex_indices\n"
        + "property short flag\nend_header\n"
    )
    body = b""
    for x, y in ((0, 0), (1, 0), (1, 1), (0, 1)):
        body += np.array([x, y, 0], mark + "f4").tobytes() + b"\x07"
    for n in sizes:
        body += bytes([n]) + np.arange(n).astype(mark + "u4").tobytes()
        body += np.array([-1], mark + "i2").tobytes()
    path = tmp_path / "a.ply"
    path.write_bytes(head.encode() + body)
    expected = [[0, 1, 2], [0, 1, 2]] + [[0, 2, 3]] * (4 in sizes)
    assert read_mesh(path).faces.tolist() == expected
    path.write_bytes(head.encode() + body[:-5])
    with pytest.raises(ValueError, match="ends inside its 2 elements 'face'"):
        read_mesh(path)


def test_colors_per_face_are_stored(tmp_path):
    vertices, faces = icosphere(0)
    colors = np.linspace(0, 1, 60).reshape(20, 3)
    write_mesh(tmp_path / "a.ply", vertices, faces, colors)
    data = (tmp_path / "a.ply").read_bytes()
    table = np.frombuffer(data[data.index(b"end_header\n") + 11 + 12 * 24 :], np.uint8)
    assert np.array_equal(table.reshape(20, 16)[:, 13:], np.rint(colors * 255))
    assert np.array_equal(read_mesh(tmp_path / "a.ply").faces, faces)
    with pytest.raises(ValueError, match="only be written to .ply"):
        write_mesh(tmp_path / "a.obj", vertices, faces, colors)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        write_mesh(tmp_path / "b.ply", vertices, faces, 2 * colors)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", r"Face 0 has corners \[0, 1, 8\]"),
        ("a.obj", "v 0 0 0\nf 1 x 2\n", "line 2: cannot read the face"),
        ("a.obj", "v 0 0 0\nf 0 1 2\n", "line 2: a face needs"),
        ("a.obj", "v 0 zero 0\n", "vertex 0 is not three numbers"),
        ("a.off", "nonsense", "starts with 'OFF'"),
        ("a.off", "OFF\n5 1 0\n0 0 0\n", "but 1 lines follow"),
        ("a.off", "OFF\n", "numbers of vertices and faces are missing"),
        ("a.ply", "ply\nformat ascii 1.0\n", "not a PLY file"),
        ("a.ply", "ply\nformat odd 1.0\nend_header\n", "header line 'format odd 1.0'"),
        ("a.ply", PLY_HEAD.format("ascii", 2) + "property float x\nend_header\n1\n", "ends inside"),
        ("a.stl", "solid", "no vertex"),
        ("a.vtk", "solid", "unknown mesh format '.vtk'"),
    ],
)
def test_malformed_files_say_where(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_mesh(path)


def test_real_meshes_are_read(shared_data):
    large_meshes = shared_data / "meshes"
    bunny = read_mesh(large_meshes / "stanford-bunny.obj")
    assert len(bunny.faces) == 69451
    suzanne = read_mesh(large_meshes / "suzanne.obj")
    assert len(suzanne.faces) == 968 and len(suzanne.vertices) == 507
