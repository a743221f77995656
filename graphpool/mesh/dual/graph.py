"""From a triangle mesh to its primal and dual graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphpool.mesh.dual.features import dual_features, face_geometry, neighbor_features, placed
from graphpool.mesh.dual.topology import MeshTopology, check_config, dual_connectivity
from graphpool.mesh.halfedges import half_edges, warn_of_lonely_faces
from graphpool.mesh.repair.orientation import agree
from graphpool.mesh.structures import batch_of

#: What a face may carry.
FACE_FEATURES = ("area", "neighbors", "normal", "position")


class MeshGraph(Data):
    """The primal and dual graph of a mesh, as :func:`primal_dual` makes it.

    A :class:`torch_geometric.data.Data`: it batches, moves, pickles and can carry more attributes.

    Attributes:
        x: ``[F, C_p]``, features of the faces (the nodes of the primal graph).
        x_dual: ``[n_d, C_d]``, features of the dual nodes.
        edge_index: ``[2, 2 E]``, adjacent faces; the two directions of a pair are neighbours.
        dual_edge_index: ``[2, D]``.
        area: ``[F]``, area of each face divided by that of the mesh.
        y: Labels: ``[F]`` per face or ``[1]`` per mesh; absent if there are none.
        vertices, faces: The mesh itself, for pictures: its vertices are rounded to float32.
        config: ``"A"``, ``"B"`` or ``"C"``.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "dual_edge_index":
            return self.x_dual.size(0)
        if key == "faces":
            return self.vertices.size(0)
        return super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0 if key == "faces" else super().__cat_dim__(key, value, *args, **kwargs)

    def topology(self) -> MeshTopology:
        """The index tensors of the mesh, or of all meshes of a batch, as the layers take them."""
        batch, num_meshes = batch_of(self, self.x.size(0))
        config = self.config
        if not isinstance(config, str):
            if len(set(config)) != 1:
                raise ValueError(
                    f"`graph` must be a batch of one config; got {sorted(set(config))}."
                )
            config = config[0]
        return MeshTopology(self.edge_index, self.dual_edge_index, batch, num_meshes, config)


def primal_dual(
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor,
    config: str = "A",
    labels: np.ndarray | Tensor | None = None,
    *,
    primal_features: str | Sequence[str] = "area",
) -> MeshGraph:
    """The primal and the dual graph of a triangle mesh (Milano et al., NeurIPS 2020).

    Faces are the nodes of the primal graph; two faces with a common edge are adjacent. The dual
    graph has a node for every such pair, or for every ordered pair:

    ====== ====================== =================================================== ==============
    config dual nodes             dual edges                                          features
    ====== ====================== =================================================== ==============
    A      E: pairs {i, j}        {i, j} with {i, m} and {j, n}, both ways             8
    B      2 E: i -> j and j -> i i -> j with m -> i (m != j) and j -> n, both ways    5
    C      2 E: i -> j and j -> i m -> i to i -> j (m != j), one way                   5
    ====== ====================== =================================================== ==============

    On a watertight mesh ``E = 3 F / 2``, with 4 E, 8 E and 4 E directed dual edges. An edge at a
    boundary makes no pair. Two faces with several common edges make one pair (of the edge that leaves
    the smallest of their vertices in the smaller face), so that the graph stays simple.

    Features depend on which side of a face is its front. Faces that disagree with their neighbours are
    taken as turned over, until all of a connected part agree: a closed part then faces outwards, one with a
    boundary as most of its faces do (of as many, as its largest face). So the features do not depend on
    which faces were flipped. A part whose faces agree is taken as it is, inside out if it is.

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``, corners counted from 0. Nothing is dropped here, and ``faces`` of the result
            are these: see :func:`graphpool.mesh.clean`.
        config: ``"A"``, ``"B"`` or ``"C"``.
        labels: Per face ``[F]``, or one number for the mesh.
        primal_features: One or several of ``"area"``: the area of each face divided by that of the mesh,
            1 channel; ``"neighbors"``: means of the five features of B and C over the neighbours of a
            face, 5 channels; ``"normal"``: its unit normal, 3 channels; ``"position"``: its centre, where
            the surface has its centre at the origin and radius 1, 3 channels. The last two turn with the
            mesh: they tell top from bottom, and the network must see turned copies
            (:class:`graphpool.mesh.Remake`) if it should not.

    Returns:
        The graphs with float32 features (computed in float64), see
        :func:`graphpool.mesh.dual.features.dual_features`.

    Raises:
        ValueError: A shape or value is wrong, a face has no area, or more than two faces meet at an
            edge; the message says where.

    Warns:
        UserWarning: More than half of the faces have no neighbour; faces disagree in orientation; or they
            form a part that cannot be oriented (a Möbius strip), whose features depend on the order of
            the corners of each face.

    Example:
        >>> tetrahedron = [[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> graph = primal_dual(tetrahedron, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
        >>> graph.x.shape, graph.x_dual.shape, graph.edge_index.shape, graph.dual_edge_index.shape
        (torch.Size([4, 1]), torch.Size([6, 8]), torch.Size([2, 12]), torch.Size([2, 24]))
    """
    check_config(config)
    wanted = known_features(primal_features, FACE_FEATURES, "primal_features")
    points, corners = check_mesh(vertices, faces)
    num_faces = corners.size(0)
    target = None if labels is None else _check_labels(labels, num_faces)
    # Sums round differently in another order: the same bits whichever corner comes first.
    place = corners.argmin(1, keepdim=True) + torch.arange(3, device=corners.device)
    oriented = corners.gather(1, place % 3)
    geometry, table = face_geometry(points, oriented), half_edges(oriented, points.size(0))
    if bool(table.disagreeing(oriented).any()):
        oriented = _oriented(points, oriented)
        geometry, table = face_geometry(points, oriented), half_edges(oriented, points.size(0))
    warn_of_lonely_faces(table)
    sides = table.sides[table.sides[:, 1] >= 0]

    # Half-edges are numbered face by face, so the first side belongs to the smaller face.
    key, order = torch.sort(sides[:, 0] // 3 * num_faces + sides[:, 1] // 3, stable=True)
    new = torch.ones_like(key, dtype=torch.bool)
    new[1:] = key[1:] != key[:-1]
    first, second = sides[order[new]].unbind(1)
    pairs = torch.stack([first // 3, second // 3])

    single, directed = dual_features(geometry, oriented, first, second)
    edge_index = torch.stack([pairs, pairs.flip(0)], dim=2).reshape(2, -1)
    share = geometry.area / geometry.area.sum()
    features = {
        "area": lambda: share[:, None],
        "neighbors": lambda: neighbor_features(directed, edge_index[0], num_faces),
        "normal": lambda: geometry.normal,
        "position": lambda: placed(points, corners, geometry.area)[corners].mean(1),
    }
    graph = MeshGraph(
        x=torch.cat([features[name]() for name in wanted], dim=1).float(),
        edge_index=edge_index,
        x_dual=(single if config == "A" else directed).float(),
        dual_edge_index=dual_connectivity(pairs, num_faces, config),
        area=share.float(),
        vertices=points.float(),
        faces=corners,
        config=config,
    )
    if target is not None:
        graph.y = target
    return graph


def known_features(names: str | Sequence[str], known: Sequence[str], argument: str) -> list[str]:
    """``names`` as a list, if all of them are ``known`` and none is there twice."""
    wanted = [names] if isinstance(names, str) else list(names)
    if not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"`{argument}` must be of {', '.join(known)}, each once at most; got {names!r}."
        )
    return wanted


def _oriented(points: Tensor, faces: Tensor) -> Tensor:
    """The faces turned over until neighbours agree; warns, and where that cannot be."""
    result, turned, twisted = agree(points.cpu().numpy(), faces.cpu().numpy())
    if turned.any():
        warnings.warn(
            f"{turned.sum()} of {len(turned)} faces (face {turned.argmax()} is the first) disagree with "
            f"their neighbours in orientation; the features are those of the mesh with these turned over, "
            f"as graphpool.mesh.clean does.",
            stacklevel=3,
        )
    if twisted.any():
        warnings.warn(
            f"{twisted.sum()} of {len(twisted)} faces (face {twisted.argmax()} is the first) lie in a part "
            f"that cannot be oriented, such as a Möbius strip: what is a ridge there and what a valley "
            f"depends on the order of the corners of each face. graphpool.mesh.clean drops the faces that "
            f"close the twist.",
            stacklevel=3,
        )
    return torch.from_numpy(result).to(faces.device)


def as_tensor(values: Any, name: str, kinds: str, dtype: type) -> Tensor:
    """``values`` as a tensor, if its dtype is of one of the ``kinds`` of NumPy.

    Raises:
        TypeError: The numbers are of another kind; ``name`` is named.
    """
    if isinstance(values, Tensor):
        kind = "f" if values.is_floating_point() else "c" if values.is_complex() else "i"
        kind = "b" if values.dtype == torch.bool else kind
    else:
        values = np.asarray(values)
        kind = values.dtype.kind
    # An empty list is one of floating point numbers.
    if kind not in kinds and 0 not in values.shape:
        expected = "real numbers" if "f" in kinds else "integers"
        raise TypeError(f"`{name}` must be {expected}; got {values.dtype}.")
    if isinstance(values, Tensor):
        return values.double() if dtype is np.float64 else values.long()
    # torch takes no negative strides, no foreign byte order and no array that cannot be written.
    return torch.from_numpy(np.array(values, dtype=dtype, order="C"))


def check_mesh(vertices: np.ndarray | Tensor, faces: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """``vertices`` as float64 and ``faces`` as int64 tensors, or an error that says what is wrong."""
    points = as_tensor(vertices, "vertices", "fiu", np.float64)
    corners = as_tensor(faces, "faces", "iu", np.int64)
    if points.dim() != 2 or points.size(1) != 3:
        raise ValueError(f"`vertices` must have shape [V, 3]; got {tuple(points.shape)}.")
    if corners.dim() != 2 or corners.size(1) != 3 or corners.size(0) == 0:
        raise ValueError(f"`faces` must have shape [F, 3], F >= 1; got {tuple(corners.shape)}.")
    if not bool(points.isfinite().all()):
        bad = int((~points.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"`vertices` must be finite; vertex {bad} is {points[bad].tolist()}.")
    outside = ((corners < 0) | (corners >= points.size(0))).any(1)
    if bool(outside.any()):
        bad = int(outside.nonzero()[0])
        raise ValueError(
            f"`faces` must have corners in [0, {points.size(0)}); face {bad} is "
            f"{corners[bad].tolist()}."
        )
    return points, corners


def _check_labels(labels: np.ndarray | Tensor | int, num_faces: int) -> Tensor:
    target = as_tensor(labels, "labels", "biu", np.int64)
    if target.numel() == 1 and target.dim() <= 1 and num_faces != 1:
        return target.reshape(1)
    if target.dim() == 0:
        return target.reshape(1)
    if target.dim() != 1 or target.numel() != num_faces:
        raise ValueError(
            f"`labels` must be one number, or one per face [{num_faces}]; got shape "
            f"{tuple(target.shape)}."
        )
    return target
