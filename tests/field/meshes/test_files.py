"""What people who train on meshes of their own need: their files read, whatever program wrote them.

Every file is written here byte by byte, so that no fault of a writer hides one of a reader.
"""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from graphpool._optional import has, require
from graphpool.datasets import read_points
from graphpool.mesh import icosphere, read_mesh, read_mesh_file

CUBE = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
QUADS = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
XYZ = "property float x\nproperty float y\nproperty float z\n"
INDICES = "property list uchar int vertex_indices\n"


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def written(path, content):
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(content)
    return path


def rows(table):
    return "".join(" ".join(map(str, row)) + "\n" for row in table)


# --- .ply ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_triangle_strips_of_a_ply_are_read(tmp_path, encoding):
    # Two strips; the first is broken by -1, and a repeated corner joins two pieces of the second.
    strips = [[0, 1, 2, 3, 4, -1, 5, 6, 7], [7, 6, 5, 5, 1, 2]]
    expected = []
    for strip in strips:
        pieces, piece = [], []
        for corner in [*strip, -1]:
            if corner == -1:
                pieces.append(piece)
                piece = []
            else:
                piece.append(corner)
        for piece in pieces:
            for i in range(len(piece) - 2):
                a, b, c = piece[i : i + 3]
                if len({a, b, c}) == 3:
                    expected.append([b, a, c] if i % 2 else [a, b, c])
    head = f"ply\nformat {encoding} 1.0\nelement vertex 8\n{XYZ}element tristrips 2\n"
    head += "property list int int vertex_indices\nend_header\n"
    if encoding == "ascii":
        body = (rows(CUBE) + rows([len(s), *s] for s in strips)).encode()
    else:
        mark = "<" if "little" in encoding else ">"
        body = b"".join(struct.pack(mark + "3f", *p) for p in CUBE)
        body += b"".join(struct.pack(f"{mark}{len(s) + 1}i", len(s), *s) for s in strips)
    faces = read_mesh(written(tmp_path / "a.ply", head.encode() + body)).faces
    assert faces.tolist() == expected


def test_a_strip_keeps_one_side_up(tmp_path):
    # A flat ribbon: all triangles of a strip that zigzags along it face the same way.
    points = [(i // 2, i % 2, 0) for i in range(8)]
    text = f"ply\nformat ascii 1.0\nelement vertex 8\n{XYZ}element tristrips 1\n"
    text += f"property list int int vertex_indices\nend_header\n{rows(points)}8 0 1 2 3 4 5 6 7\n"
    vertices, faces = read_mesh(written(tmp_path / "a.ply", text))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    assert np.unique(np.sign(np.cross(b - a, c - a)[:, 2])).size == 1 and len(faces) == 6


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_faces_of_any_size_beside_other_lists(tmp_path, encoding):
    rng = np.random.default_rng(0)
    polygons = [rng.integers(0, 8, rng.integers(3, 7)).tolist() for _ in range(40)]
    coordinates = [rng.integers(0, 9, rng.integers(0, 5)).tolist() for _ in range(40)]
    labels = rng.integers(-5, 300, 40).tolist()
    head = f"ply\nformat {encoding} 1.0\nelement vertex 8\n{XYZ}element face 40\n"
    head += "property short label\nproperty list ushort double texcoord\n"
    head += "property list char uint vertex_index\nproperty uchar red\nend_header\n"
    body = b""
    for polygon, extra, label in zip(polygons, coordinates, labels, strict=True):
        if encoding == "ascii":
            line = [label, len(extra), *extra, len(polygon), *polygon, label % 256]
            body += (" ".join(map(str, line)) + "\n").encode()
        else:
            mark = "<" if "little" in encoding else ">"
            form = f"{mark}hH{len(extra)}db{len(polygon)}IB"
            body += struct.pack(
                form, label, len(extra), *extra, len(polygon), *polygon, label % 256
            )
    if encoding == "ascii":
        body = rows(CUBE).encode() + body
    else:
        body = b"".join(struct.pack(mark + "3f", *p) for p in CUBE) + body
    mesh = read_mesh_file(written(tmp_path / "a.ply", head.encode() + body))
    stops = np.cumsum(mesh.sizes)[:-1]
    assert [part.tolist() for part in np.split(mesh.corners, stops)] == polygons
    assert mesh.face_values["label"].tolist() == labels
    assert mesh.face_values["red"].tolist() == [label % 256 for label in labels]
    assert "texcoord" not in mesh.face_values


def test_a_ply_longer_than_its_header_is_read_and_said(tmp_path):
    text = f"ply\nformat ascii 1.0\nelement vertex 3\n{XYZ}element face 1\n{INDICES}end_header\n"
    path = written(tmp_path / "a.ply", text + rows(CUBE[:3]) + "3 0 1 2\n3 2 1 0\n")
    with pytest.warns(UserWarning, match=r"a\.ply: 4 numbers follow the last element"):
        assert read_mesh(path).faces.tolist() == [[0, 1, 2]]


def test_other_elements_of_a_ply_that_might_be_faces_are_named(tmp_path):
    text = f"ply\nformat ascii 1.0\nelement vertex 3\n{XYZ}element trifan 1\n{INDICES}"
    text += f"element face 1\n{INDICES}end_header\n{rows(CUBE[:3])}3 0 1 2\n3 2 1 0\n"
    with pytest.warns(UserWarning, match=r"a\.ply: the elements 'trifan' .* left alone"):
        assert read_mesh(written(tmp_path / "a.ply", text)).faces.tolist() == [[2, 1, 0]]


@pytest.mark.filterwarnings("ignore:.*(follow the last element|speak of vertices)")
@pytest.mark.parametrize("element", ["face", "tristrips", "contour"])
@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_millions_of_empty_lists_take_no_time(tmp_path, element, encoding):
    count = 3_000_000
    head = f"ply\nformat {encoding} 1.0\nelement vertex 3\n{XYZ}element {element} {count}\n"
    head += f"{INDICES}end_header\n"
    body = struct.pack("<9f", *np.ravel(CUBE[:3])) + bytes(count)
    if encoding == "ascii":
        body = rows(CUBE[:3]).encode() + b"0 " * count
    path = written(tmp_path / "a.ply", head.encode() + body)
    written(tmp_path / "small.ply", head.replace(str(count), "2").encode() + body[:40])
    for file in (tmp_path / "small.ply", path):  # the first one compiles
        start = time.process_time()
        with pytest.raises(ValueError, match="[Ff]ace 0 has 0 corners|no face"):
            read_mesh(file)
    assert time.process_time() - start < 3


# --- .obj ------------------------------------------------------------------------------------------


def test_an_obj_with_lines_that_go_on_comments_and_old_words(tmp_path):
    text = "# C:\\models\\\nmtllib C:\\models\\\nv 0 0 0\nv 1 \\\n 0 0\nv 1 1 0 # third\nv 0 1 0\n"
    text += (
        "f 1 2 \\\n3 \\\n4\nf 1 2 3 # one more\nf 1/1 2/2 4/3# tight\nfo 2 3 4\nf 2 \\  \n 4 1\n"
    )
    faces = read_mesh(written(tmp_path / "a.obj", text)).faces
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 1, 3], [1, 2, 3], [1, 3, 0]]
    with pytest.raises(ValueError, match="line 7: a face needs"):
        read_mesh(written(tmp_path / "b.obj", "v 0 0 0\nv \\\n1 0 0\nv 0 1 0\n\n\nf 1 \\\n2\n"))


def test_an_unknown_word_of_an_obj_is_named_and_the_rest_is_read(tmp_path):
    text = "v 0 0 0\nv 1 0 0\nrainbow 7\nv 1 1 0\nf 1 2 3\nrainbow 8\ncall other.obj\n"
    with pytest.warns(UserWarning, match=r"a\.obj, line 3: 'rainbow'.*'call' \(line 7\)") as seen:
        assert len(read_mesh(written(tmp_path / "a.obj", text)).faces) == 1
    assert len(seen) == 1


def test_groups_materials_and_colours_of_an_obj_are_kept(tmp_path):
    text = "o thing\n" + "".join(f"v {x} {y} {z} {x} {y} 0.5\n" for x, y, z in CUBE)
    for i, quad in enumerate(QUADS):
        text += "g side #a\nusemtl red paint\n" if i == 2 else "usemtl blue\ng\n" if i == 4 else ""
        text += "f " + " ".join(str(c + 1) for c in quad) + "\n"
    mesh = read_mesh_file(written(tmp_path / "a.obj", text))
    told = {k: [mesh.names[k][v] for v in mesh.face_values[k]] for k in mesh.names}
    assert told["object"] == ["thing"] * 6
    assert told["group"] == ["", "", "side #a", "side #a", "", ""]
    assert told["material"] == ["", "", "red paint", "red paint", "blue", "blue"]
    assert mesh.vertex_values["green"].tolist() == [y for _, y, _ in CUBE]
    assert mesh.polygon_of.tolist() == [i // 2 for i in range(12)] and len(mesh.edges) == 12
    assert volume(mesh.vertices, mesh.faces) == pytest.approx(1)


# --- .off ------------------------------------------------------------------------------------------

FLAT = rows((4, *quad) for quad in QUADS)


@pytest.mark.parametrize(
    ("head", "behind"),
    [
        ("OFF\n8 6 12\n", ""),
        ("off\n8 6 12\n", ""),
        ("Off 8 6 12\n", ""),
        ("OFF8 6\n", ""),
        ("# made by hand\n\nOFF # really\n8\n6\n12\n", ""),
        ("OFF\n8 6\n12\n", ""),
        ("COFF\n8 6 12\n", " 255 0 7 255"),
        ("COFF\n8 6 12\n", " 255 0 7"),
        ("NOFF\n8 6 12\n", " 0 0 1"),
        ("CNOFF\n8 6 12\n", " 0 0 1 255 0 7 255"),
        ("STOFF\n8 6 12\n", " 0.5 0.5"),
        ("STCNOFF\n8 6 12\n", " 0 0 1 255 0 7 255 0.5 0.5"),
    ],
)
def test_off_files_of_every_kind(tmp_path, head, behind):
    body = "".join(f"{x} {y} {z}{behind}\n" for x, y, z in CUBE) + FLAT
    mesh = read_mesh_file(written(tmp_path / "a.off", head + body))
    assert mesh.vertices.tolist() == [list(map(float, p)) for p in CUBE]
    assert mesh.corners.reshape(6, 4).tolist() == [list(quad) for quad in QUADS]
    if "C" in head[:5]:
        assert [mesh.vertex_values[c].tolist() for c in ("red", "green", "blue")] == [
            [255.0] * 8,
            [0.0] * 8,
            [7.0] * 8,
        ]


def test_an_off_file_with_more_numbers_than_its_first_word_says(tmp_path):
    body = "".join(f"{x} {y} {z} 1 2 3\n" for x, y, z in CUBE) + FLAT
    with pytest.warns(UserWarning, match=r"a\.off: some vertices have more numbers"):
        assert len(read_mesh(written(tmp_path / "a.off", "OFF\n8 6 12\n" + body)).vertices) == 8


def test_an_off_file_whose_lines_are_broken_elsewhere(tmp_path):
    words = (rows(CUBE) + FLAT).split()
    text = "OFF\n8 6 0\n" + rows(words[i : i + 7] for i in range(0, len(words), 7))
    mesh = read_mesh_file(written(tmp_path / "a.off", text))
    assert mesh.corners.reshape(6, 4).tolist() == [list(quad) for quad in QUADS]
    for cut in (text.rsplit(maxsplit=1)[0], text + "1\n"):
        with pytest.raises(ValueError, match="were announced"):
            read_mesh(written(tmp_path / "b.off", cut))


@pytest.mark.parametrize("word, extra", [("OFF", 0), ("NOFF", 3), ("COFF", 4), ("STOFF", 2)])
def test_binary_off_files(tmp_path, word, extra):
    data = f"{word} BINARY\n".encode() + struct.pack(">3i", 8, 6, 12)
    for point in CUBE:
        data += struct.pack(f">{3 + extra}f", *point, *[0.25] * extra)
    for i, quad in enumerate(QUADS):
        data += struct.pack(">5i", 4, *quad) + struct.pack(">i3f", 3, i / 8, 0, 1)
    mesh = read_mesh_file(written(tmp_path / "a.off", data))
    assert mesh.vertices.tolist() == [list(map(float, p)) for p in CUBE]
    assert mesh.corners.reshape(6, 4).tolist() == [list(quad) for quad in QUADS]
    assert mesh.face_values["red"].tolist() == [i / 8 for i in range(6)]
    assert ("red" in mesh.vertex_values) == (word == "COFF")
    for cut in (
        data[:-1],
        data[:200],
        data[:20],
        data + b"1234",
        data.replace(b"\0\0\0\4", b"\x7f\0\0\4"),
    ):
        with pytest.raises(ValueError, match=r"b\.off"):
            read_mesh(written(tmp_path / "b.off", cut))


# --- .stl and .glb ---------------------------------------------------------------------------------


def triangles():
    return [t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))]


def binary_stl(head, attribute=0):
    data = head.ljust(80, b" ") + struct.pack("<I", 12)
    for i, corners in enumerate(triangles()):
        data += struct.pack("<12f", 0, 0, 0, *(x for c in corners for x in CUBE[c]))
        data += struct.pack("<H", attribute * i)
    return data


@pytest.mark.parametrize("head", [b"made by hand", b"solid thing", b"solid \nfacet\n"])
def test_binary_stl_files_even_if_they_begin_with_solid(tmp_path, head):
    mesh = read_mesh(written(tmp_path / "a.stl", binary_stl(head)))
    assert mesh.vertices.shape == (8, 3) and volume(*mesh) == pytest.approx(1)
    soup = mesh.vertices[mesh.faces].tolist()
    assert soup == [[list(map(float, CUBE[c])) for c in corners] for corners in triangles()]
    marked = read_mesh_file(written(tmp_path / "b.stl", binary_stl(head, attribute=5)))
    assert marked.face_values["attribute"].tolist() == [5 * i for i in range(12)]
    for cut in (binary_stl(head)[:-1], binary_stl(head) + b"\0", binary_stl(head)[:83], b""):
        with pytest.raises(ValueError, match=r"c\.stl"):
            read_mesh(written(tmp_path / "c.stl", cut))


@pytest.mark.parametrize("change", [str, str.upper, lambda text: text.replace("\n", "\r\n")])
def test_ascii_stl_files(tmp_path, change):
    text = ""
    for i, corners in enumerate(triangles()):
        text += f"solid part {i // 6}\n" if i % 6 == 0 else ""
        text += "  facet normal 0 0 0\n    outer loop\n"
        # -0 and 0 are one place.
        text += "".join(
            f"      vertex {' '.join(str(x or -0.0) for x in CUBE[c])}e0\n" for c in corners
        )
        text += "    endloop\n  endfacet\n" + ("endsolid\n" if i % 6 == 5 else "")
    mesh = read_mesh_file(written(tmp_path / "a.stl", change(text)))
    assert mesh.vertices.shape == (8, 3) and volume(mesh.vertices, mesh.faces) == pytest.approx(1)
    names = mesh.names["group"]
    assert [names[i].lower() for i in mesh.face_values["group"]] == ["part 0"] * 6 + ["part 1"] * 6
    for wrong in (text.replace("endloop", "endlop", 1), text[: text.rindex("vertex")], text[:80]):
        with pytest.raises(ValueError, match=r"b\.stl"):
            read_mesh(written(tmp_path / "b.stl", wrong))


def glb(mirrored):
    """A scene by the specification: one cube, placed twice."""
    points = struct.pack("<24f", *np.ravel(CUBE))
    corners = struct.pack("<36H", *np.ravel(triangles()))
    scale = [-2, 2, 2] if mirrored else [2, 2, 2]
    text = (
        '{"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0, 1]}], "nodes": ['
        '{"mesh": 0, "name": "left"}, {"mesh": 0, "name": "right", "translation": [5, 0, 0], '
        f'"scale": {scale}}}], "meshes": [{{"primitives": [{{"attributes": {{"POSITION": 0}}, '
        '"indices": 1}]}], "buffers": [{"byteLength": 168}], "bufferViews": ['
        '{"buffer": 0, "byteLength": 96}, {"buffer": 0, "byteOffset": 96, "byteLength": 72}], '
        '"accessors": [{"bufferView": 0, "componentType": 5126, "count": 8, "type": "VEC3", '
        '"min": [0, 0, 0], "max": [1, 1, 1]}, '
        '{"bufferView": 1, "componentType": 5123, "count": 36, "type": "SCALAR"}]}'
    ).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", 168, b"BIN\0") + points + corners
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


@pytest.mark.needs("trimesh")
@pytest.mark.parametrize("mirrored", [False, True])
def test_scenes_of_a_glb_are_put_together(tmp_path, mirrored):
    mesh = read_mesh_file(written(tmp_path / "a.glb", glb(mirrored)))
    names = [mesh.names["object"][i] for i in mesh.face_values["object"]]
    assert sorted(set(names)) == ["left", "right"] and len(names) == 24
    right = np.array(names) == "right"
    assert volume(mesh.vertices, mesh.faces[~right]) == pytest.approx(1)
    # Mirroring turns no surface inside out.
    assert volume(mesh.vertices, mesh.faces[right]) == pytest.approx(8)
    x = mesh.vertices[mesh.faces[right]][..., 0]
    assert (x.min(), x.max()) == ((3, 5) if mirrored else (5, 7))
    with pytest.raises(ValueError, match=r"b\.glb"):
        read_mesh(written(tmp_path / "b.glb", glb(mirrored)[:300]))


@pytest.mark.skipif(has("trimesh"), reason="trimesh is installed")
def test_a_glb_without_trimesh_says_what_to_install(tmp_path):
    with pytest.raises(ImportError, match=r"reading a\.glb needs trimesh.*graphpool\[formats\]"):
        read_mesh(written(tmp_path / "a.glb", b"glTF"))


@pytest.mark.parametrize("package", ["open3d", "trimesh"])
@pytest.mark.parametrize("suffix", [".obj", ".off", ".ply", ".stl", ".glb"])
def test_what_other_programs_write_is_read(tmp_path, package, suffix):
    if not has(package) or (suffix == ".glb" and not has("trimesh")):
        pytest.skip(f"{package} or trimesh is not installed")
    vertices, faces = icosphere(2, np.pi)
    path = tmp_path / f"a{suffix}"
    if package == "trimesh":
        trimesh = require("trimesh", purpose="this test")
        trimesh.Trimesh(vertices, faces, process=False).export(path)
    else:
        o3d = require("open3d", purpose="this test")
        shape = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces)
        )
        shape.compute_triangle_normals()  # an .stl has them
        assert o3d.io.write_triangle_mesh(str(path), shape)
    mesh = read_mesh(path)
    # Some write float32, some six digits; none changes the order of the faces.
    np.testing.assert_allclose(mesh.vertices[mesh.faces], vertices[faces], atol=2e-5)


# --- no faces --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nl 1 2 3\n"),
        ("a.off", "OFF\n2 0 0\n0 0 0\n1 1 1\n"),
        ("a.ply", f"ply\nformat ascii 1.0\nelement vertex 1\n{XYZ}end_header\n0 0 0\n"),
        (
            "a.ply",
            f"ply\nformat ascii 1.0\nelement vertex 1\n{XYZ}element face 0\n{INDICES}end_header\n0 0 0\n",
        ),
    ],
)
def test_a_mesh_file_without_faces_says_so_and_points_to_read_points(tmp_path, name, text):
    path = written(tmp_path / name, text)
    with pytest.raises(ValueError, match=rf"{name} has \d vertices, but no face.*read_points"):
        read_mesh(path)
    points, faces = read_points(path)[:2]
    assert faces is None and len(points) == len(read_mesh_file(path).vertices)
