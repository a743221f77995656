"""Mesh formats that are left to trimesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphpool._optional import require
from graphpool.io.meshes.mesh_file import MeshFile

FOREIGN = (".glb", ".gltf")


def read_foreign(path: Path) -> MeshFile:
    """All triangles of a scene, each part moved to where the scene has it.

    The names of the parts are the face value ``"object"``, those of the materials ``"material"``.
    """
    trimesh = require("trimesh", purpose=f"reading {path.name}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        scene = trimesh.load_scene(str(path), process=False)
        parts = [(node, *scene.graph[node]) for node in scene.graph.nodes_geometry]
    # Its readers raise what JSON, NumPy and base64 do, and a dozen classes of their own.
    except Exception as error:
        raise ValueError(
            f"The package trimesh cannot read the file: {type(error).__name__}: {error}"
        ) from None
    vertices, faces, objects, materials = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], [], []
    objects_of, materials_of = {"": 0}, {"": 0}
    count = 0
    for node, transform, name in parts:
        shape = scene.geometry[name]
        points = np.asarray(shape.vertices, dtype=np.float64).reshape(-1, 3)
        vertices.append(points @ transform[:3, :3].T + transform[:3, 3])
        corners = np.asarray(getattr(shape, "faces", []), dtype=np.int64).reshape(-1, 3)
        # A part that is mirrored into its place is turned inside out by that.
        if np.linalg.det(transform[:3, :3]) < 0:
            corners = corners[:, ::-1]
        faces.append(corners + count)
        count += len(points)
        material = getattr(getattr(getattr(shape, "visual", None), "material", None), "name", None)
        objects += [objects_of.setdefault(str(node), len(objects_of))] * len(corners)
        materials += [materials_of.setdefault(material or "", len(materials_of))] * len(corners)
    corners = np.concatenate(faces)
    values = {"object": np.array(objects, np.int64), "material": np.array(materials, np.int64)}
    names = {"object": tuple(objects_of), "material": tuple(materials_of)}
    used = [kind for kind in values if values[kind].any()]
    return MeshFile(
        np.concatenate(vertices),
        corners.reshape(-1),
        np.full(len(corners), 3, dtype=np.int64),
        {kind: values[kind] for kind in used},
        {},
        {kind: names[kind] for kind in used},
    )
