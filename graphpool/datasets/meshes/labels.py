"""Labels of meshes: per face, edge or vertex, in files of their own or in the file of the mesh."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphpool._arguments import check_one_per
from graphpool.io.untrusted import read_table
from graphpool.mesh import CleanMesh, MeshFile
from graphpool.mesh.shapes import cross_of

#: What labels may belong to.
PER = ("face", "edge", "triangle", "vertex")
#: The label of what has none.
UNLABELLED = -1
_SUFFIXES = (".eseg", ".seg", ".json")
_JSON_LISTS = ("sub_labels", "raw_labels")


class TriangleLabels(NamedTuple):
    """Labels of the triangles ``[F]`` of a mesh and of their sides ``[F, 3]``, -1 where there is none.

    Side c of a triangle runs from its corner c to the next.
    """

    of_faces: np.ndarray
    of_sides: np.ndarray


def read_labels(path: str | Path, count: int | None = None) -> np.ndarray:
    """One integer per line, ``[N]``, or from a ``.json`` file as SubdivNet writes it.

    Args:
        path: The file.
        count: The number of faces, by which the lists ``sub_labels`` and ``raw_labels`` of a ``.json``
            file are told apart; the first if ``None``, or if neither is as long.

    Raises:
        ValueError: A line holds something else, or a label is not in (-65536, 65536).
    """
    path = Path(path)
    if path.suffix != ".json":
        table = read_table(path, "one integer per line")
        return whole_labels(table[:, 0] if table.shape[1:] == (1,) else table, path)
    try:
        stored = json.loads(path.read_bytes())
        held = stored if isinstance(stored, dict) else {}
        lists = [np.array(held[key], np.float64) for key in _JSON_LISTS if key in held]
    # Nested lists, other types, numbers beyond float64, and text that is not UTF-8.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON with lists of integers: {error}.") from None
    if not lists:
        raise ValueError(f"{path}: expected an object with a list {' or '.join(_JSON_LISTS)}.")
    return whole_labels(next((found for found in lists if len(found) == count), lists[0]), path)


def whole_labels(values: np.ndarray, path: Path) -> np.ndarray:
    """Numbers as labels ``[N]``, or a ``ValueError``: votes are counted by label."""
    if not values.size:
        return np.zeros(0, dtype=np.int64)
    if values.ndim != 1:
        raise ValueError(f"{path}: expected one integer per line; got shape {values.shape}.")
    if (broken := values != np.rint(values)).any():
        bad = int(broken.argmax())
        raise ValueError(f"{path}: labels must be integers; number {bad} is {values[bad]:g}.")
    if not np.abs(values).max() < 2**16:
        raise ValueError(f"{path}: labels must lie in (-65536, 65536); got {values.max():g}.")
    return values.astype(np.int64)


def read_soft_labels(path: str | Path, num_edges: int, num_classes: int) -> np.ndarray:
    """Soft labels of edges (``.seseg``) ``[E, num_classes]``; a class counts where it is above 0.

    Raises:
        ValueError: The table has another shape, or a number is not finite.
    """
    table = read_table(Path(path), f"{num_edges} lines of {num_classes} numbers")
    if table.shape != (num_edges, num_classes):
        raise ValueError(
            f"{path}: expected {num_edges} lines of {num_classes} numbers; got {table.shape}."
        )
    if not np.isfinite(table).all():
        bad = int(np.flatnonzero(~np.isfinite(table).all(1))[0])
        raise ValueError(f"{path}: line {bad} of the table is not finite.")
    return table


def find_labels(folder: Path, mesh: Path) -> Path:
    """The label file of a mesh: ``folder/<name>.eseg``, ``.seg`` or ``.json``, or beside the mesh."""
    candidates = [home / f"{mesh.stem}{s}" for home in (folder, mesh.parent) for s in _SUFFIXES]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"no label file {candidates[0]} (or .seg, .json), nor beside {mesh}; `labels` names what is "
            f"a label in the file of a mesh itself."
        )
    return found


def label_triangles(
    labels: np.ndarray, mesh: MeshFile, path: Path | str = "labels", per: str | None = None
) -> TriangleLabels:
    """Labels of the triangles of a mesh, and of their sides, from labels of what its file holds.

    The number of labels tells what they belong to: the faces of the file (polygons, not the triangles
    they are cut into), their edges, the triangles, the vertices, or the edges that MeshCNN numbers
    after it has dropped faces. Where two of these are equally many, the first counts, with a warning.
    A face takes the label that most of its edges or vertices have (see :func:`edge_to_face_labels`);
    the lines that cut a polygon have its label.

    Args:
        labels: ``[N]``, -1 where there is none.
        mesh: From :func:`graphpool.mesh.read_mesh_file`.
        path: The file of the labels, for messages.
        per: ``"face"``, ``"edge"``, ``"triangle"`` or ``"vertex"``; told by the number if ``None``.

    Raises:
        ValueError: The number of labels fits nothing, or not what ``per`` says.

    Example:
        >>> square = MeshFile(np.eye(4, 3), np.arange(4), np.array([4]))
        >>> label_triangles(np.array([5, 5, 5, 6]), square, per="edge")
        TriangleLabels(of_faces=array([5, 5]), of_sides=array([[5, 5, 5],
               [5, 5, 6]]))
    """
    counts = {
        "face": len(mesh.sizes),
        "edge": len(mesh.edges),
        "triangle": len(mesh.faces),
        "vertex": len(mesh.vertices),
    }
    fits = [name for name in PER if counts[name] == len(labels) and per in (None, name)]
    if len(mesh.faces) == len(mesh.sizes) and "face" in fits:
        fits = [name for name in fits if name != "triangle"]
    if not fits and per in (None, "edge"):
        kept = _faces_of_meshcnn(mesh)
        part = MeshFile(mesh.vertices, mesh.faces[kept].reshape(-1), np.full(len(kept), 3))
        if len(part.edges) == len(labels) and len(kept) < len(mesh.faces):
            return _of_a_part(label_triangles(labels, part, path, "edge"), kept, len(mesh.faces))
    if not fits:
        held = f"{counts['face']} faces and {counts['edge']} edges"
        cut = f", {counts['triangle']} triangles" if counts["triangle"] != counts["face"] else ""
        raise ValueError(
            f"{path} has {len(labels)} lines, but its mesh has {held} ({counts['vertex']} vertices{cut})"
            f"{'' if per is None else f', and `per` is {per!r}'}."
        )
    if len(fits) > 1:
        warnings.warn(
            f"{path}: {len(labels)} labels fit each {' and each '.join(fits)} of the mesh; taken per "
            f"{fits[0]}. `per` says which it is.",
            stacklevel=3,
        )
    if fits[0] == "triangle":
        return TriangleLabels(labels, np.repeat(labels[:, None], 3, axis=1))
    sides = mesh.edge_of if fits[0] == "edge" else mesh.corners
    of_polygons = labels if fits[0] == "face" else _votes(labels[sides], mesh)
    of_faces = of_polygons[mesh.polygon_of]
    of_sides = np.repeat(of_faces[:, None], 3, axis=1)
    if fits[0] == "edge":
        edge = _edges_of_triangles(mesh)
        of_sides = np.where(edge >= 0, labels[edge], of_sides)
    return TriangleLabels(of_faces, of_sides)


def _of_a_part(labels: TriangleLabels, kept: np.ndarray, count: int) -> TriangleLabels:
    of_faces, of_sides = np.full(count, UNLABELLED), np.full((count, 3), UNLABELLED)
    of_faces[kept], of_sides[kept] = labels
    return TriangleLabels(of_faces, of_sides)


def _faces_of_meshcnn(mesh: MeshFile) -> np.ndarray:
    """The triangles that MeshCNN numbers edges of: those with area whose directed edges are all new."""
    flat = (cross_of(mesh.vertices[mesh.faces]) == 0).all(1)
    seen: set[tuple[int, int]] = set()
    kept = []
    for face, (i, j, k) in enumerate(mesh.faces.tolist()):
        edges = {(i, j), (j, k), (k, i)}
        if not flat[face] and not edges & seen:
            seen |= edges
            kept.append(face)
    return np.array(kept, dtype=np.int64)


def _edges_of_triangles(mesh: MeshFile) -> np.ndarray:
    """The edge of the polygons on each side of each triangle ``[F, 3]``, -1 inside a polygon."""
    span = len(mesh.vertices)
    keys = mesh.edges[:, 0] * span + mesh.edges[:, 1]
    order = np.argsort(keys)
    ends = np.sort(np.stack([mesh.faces, np.roll(mesh.faces, -1, axis=1)]), axis=0)
    wanted = ends[0] * span + ends[1]
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order][at] == wanted, order[at], -1)


def labels_after_cleaning(
    labels: TriangleLabels, mesh: MeshFile, cleaned: CleanMesh
) -> TriangleLabels:
    """The labels of the faces that :func:`graphpool.mesh.clean` kept, whose corners it may have turned."""
    before = mesh.vertices[mesh.faces[cleaned.kept_faces]]
    after = cleaned.vertices[cleaned.faces]
    apart = np.abs(after[:, :, None] - before[:, None]).sum(3)
    corner = apart.argmin(2)
    following = np.roll(corner, -1, axis=1)
    side = np.where(following == (corner + 1) % 3, corner, following)
    of_sides = np.take_along_axis(labels.of_sides[cleaned.kept_faces], side, axis=1)
    return TriangleLabels(labels.of_faces[cleaned.kept_faces], of_sides)


def edge_to_face_labels(faces: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label that most of a face's three edges carry; -1, no label, does not count.

    A face whose edges carry as many of one label as of another waits until neighbours are decided and
    takes the label most of these have (the smallest on a tie); where none ever is, it takes the
    smallest of its own. A face none of whose edges has a label has none.

    Args:
        faces: ``[F, 3]``.
        labels: ``[E]``, -1 or more, edges in the order of first appearance (see
            :func:`graphpool.mesh.halfedges.half_edges`).

    Example:
        >>> edge_to_face_labels(np.array([[0, 1, 2], [2, 1, 3]]), np.array([1, 1, 0, 2, 1]))
        array([1, 1])
    """
    mesh = _triangle_mesh(faces)
    check_one_per("edge", len(mesh.edges), "labels", len(labels))
    return _votes(np.asarray(labels)[mesh.edge_of], mesh)


def face_to_edge_labels(faces: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of the first face at each edge that has one, ``[E]``.

    Args:
        faces: ``[F, 3]``.
        labels: ``[F]``, or ``[F, 3]`` for the sides of the faces one by one; -1 where there is none.
    """
    mesh = _triangle_mesh(faces)
    of_sides = np.asarray(labels)
    of_sides = np.repeat(of_sides, 3) if of_sides.ndim == 1 else of_sides.reshape(-1)
    used = np.flatnonzero(of_sides != UNLABELLED)
    edge, first = np.unique(mesh.edge_of[used], return_index=True)
    result = np.full(len(mesh.edges), UNLABELLED)
    result[edge] = of_sides[used[first]]
    return result


def _triangle_mesh(faces: np.ndarray) -> MeshFile:
    corners = np.asarray(faces, dtype=np.int64)
    return MeshFile(np.zeros((0, 3)), corners.reshape(-1), np.full(len(corners), 3))


def _votes(labels: np.ndarray, mesh: MeshFile) -> np.ndarray:
    """The label ``[P]`` that most sides of each polygon have, given one per side ``[C]``."""
    polygon = np.repeat(np.arange(len(mesh.sizes)), mesh.sizes)
    result, tied = _most_frequent(polygon, labels, len(mesh.sizes))
    smallest = result.copy()
    result[tied] = UNLABELLED
    order = np.argsort(mesh.edge_of, kind="stable")
    common = mesh.edge_of[order][1:] == mesh.edge_of[order][:-1]
    ends = np.stack([polygon[order][:-1][common], polygon[order][1:][common]])
    one, other = np.concatenate([ends, ends[::-1]], axis=1)
    while tied.any():
        ask = tied[one]
        found, _ = _most_frequent(one[ask], result[other[ask]], len(result))
        decided = tied & (found != UNLABELLED)
        if not decided.any():
            return np.where(tied, smallest, result)
        result[decided] = found[decided]
        tied &= ~decided
    return result


def _most_frequent(
    owner: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Per owner the label it has most often (the smallest of equals), and whether there are equals."""
    voting = labels != UNLABELLED
    pairs, votes = np.unique(np.stack([owner[voting], labels[voting]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -votes, pairs[0]))
    owners, names, votes = pairs[0][order], pairs[1][order], votes[order]
    head = np.ones(len(owners), dtype=bool)
    head[1:] = owners[1:] != owners[:-1]
    equal = np.zeros(len(owners), dtype=bool)
    equal[:-1] = ~head[1:] & (votes[1:] == votes[:-1])
    result, tied = np.full(count, UNLABELLED), np.zeros(count, dtype=bool)
    result[owners[head]], tied[owners[head]] = names[head], equal[head]
    return result, tied
