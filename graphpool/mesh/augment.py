"""Meshes that are a little different at every step of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from graphpool.mesh.dual.features import placed
from graphpool.mesh.halfedges import half_edges

# Two faces are as good as flat where the cosine between their normals is above the first; and a face is no
# sliver where its height is above the second share of its longest edge.
_FLAT, _HEIGHT = 0.9, 0.05


class JitterVertices(BaseTransform):
    """Adds independent normal noise to the vertices ``pos`` of a mesh with faces ``face`` ``[3, F]``.

    Args:
        sigma: Standard deviation, as a share of the mean length of the edges, >= 0.
        generator: Source of randomness.
    """

    def __init__(self, sigma: float = 0.05, generator: torch.Generator | None = None) -> None:
        if not sigma >= 0:
            raise ValueError(f"`sigma` must be >= 0; got {sigma}.")
        self.sigma, self.generator = sigma, generator

    def forward(self, data: Data) -> Data:
        corners = data.pos[data.face.t()]
        length = (corners - corners.roll(1, dims=1)).norm(dim=2).mean()
        noise = torch.randn(data.pos.shape, generator=self.generator, dtype=data.pos.dtype)
        data.pos = data.pos + self.sigma * length * noise.to(data.pos.device)
        return data


class FlipEdges(BaseTransform):
    r"""Lets pairs of nearly coplanar faces share the other diagonal of their quadrilateral.

    Takes a mesh with vertices ``pos``, faces ``face`` ``[3, F]`` and maybe labels ``y`` ``[F]``. An edge
    stays where the normals of its faces are more than :math:`\arccos 0.9` apart, its faces have different
    labels, the other diagonal is an edge already, or a new face would be folded over or a sliver. A face
    takes part in one flip at most.

    Args:
        share: The share of the edges that are tried, in [0, 1].
        generator: Source of randomness.

    Example:
        >>> square = Data(
        ...     pos=torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
        ...     face=torch.tensor([[0, 0], [1, 2], [2, 3]]),
        ... )
        >>> FlipEdges(1.0)(square).face.t().tolist()
        [[1, 2, 3], [3, 0, 1]]
    """

    def __init__(self, share: float = 0.1, generator: torch.Generator | None = None) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"`share` must lie in [0, 1]; got {share}.")
        self.share, self.generator = share, generator

    def forward(self, data: Data) -> Data:
        faces, count = data.face.t().clone(memory_format=torch.contiguous_format), data.pos.size(0)
        table = half_edges(faces, count)
        order = torch.randperm(len(table.sides), generator=self.generator).to(faces.device)
        tried = order[: round(self.share * len(order))]
        one, two = table.sides[tried].unbind(1)
        apart = (two >= 0) & ~table.disagreeing(faces)[tried]
        one, two = one[apart], two[apart]

        def corner(half: Tensor, shift: int) -> Tensor:
            return faces[half // 3, (half + shift) % 3]

        # Half-edge a -> b of the first face, with c opposite there and d in the second.
        a, b, c, d = corner(one, 0), corner(one, 1), corner(one, 2), corner(two, 2)
        old = torch.stack([faces[one // 3], faces[two // 3]])
        new = torch.stack([torch.stack([c, a, d], 1), torch.stack([d, b, c], 1)])
        (before, _), (after, height) = (_shapes(data.pos, each) for each in (old, new))
        fine = (before[0] * before[1]).sum(1) > _FLAT
        fine &= (after * before.sum(0)).sum(2).amin(0) > _FLAT
        fine &= height.amin(0) > _HEIGHT
        if data.get("y") is not None and data.y.numel() == len(faces) > 1:
            fine &= data.y[one // 3] == data.y[two // 3]
        key = torch.minimum(c, d) * count + torch.maximum(c, d)
        fine &= ~torch.isin(key, table.edges[:, 0] * count + table.edges[:, 1])
        # The first that was drawn takes its faces and its edge from those behind it.
        rank = torch.where(fine, torch.arange(len(one), device=faces.device), len(one))
        for taken in (torch.stack([one, two]) // 3, key[None]):
            names, place = taken.unique(return_inverse=True)
            first = torch.full_like(names, len(one))
            first.scatter_reduce_(0, place.flatten(), rank.expand_as(place).flatten(), "amin")
            fine &= (first[place] == rank).all(0)
        faces[one[fine] // 3], faces[two[fine] // 3] = new[:, fine].unbind(0)
        data.face = faces.t().contiguous()
        return data


def _shapes(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals ``[..., 3]``, and the smallest height of each face over its longest edge."""
    corners = vertices[faces].double()
    edges = corners.roll(-1, dims=-2) - corners
    cross = torch.linalg.cross(edges[..., 0, :], edges[..., 1, :])
    area = cross.norm(dim=-1)
    longest = edges.square().sum(-1).amax(-1)
    return torch.nn.functional.normalize(cross, dim=-1, eps=1e-300), area / longest.clamp(1e-300)


class Remake(BaseTransform):
    """The graph of a mesh, made again after transforms of the mesh itself.

    The transforms get a :class:`torch_geometric.data.Data` with vertices ``pos``, moved and scaled to the
    centre and radius of 1, faces ``face`` and labels ``y``: :class:`JitterVertices`, :class:`FlipEdges`,
    whatever of :mod:`graphpool.points` and :mod:`torch_geometric.transforms` changes ``pos`` alone.

    Args:
        transforms: What is done to the mesh, in this order.
        make: ``make(vertices, faces)`` makes the graph, such as :func:`graphpool.mesh.primal_dual`. Labels
            of graphs of edges are those of the mesh only.

    Raises:
        ValueError: When applied: the transforms left a mesh of which there is no graph; labels belong to
            edges.

    Example:
        >>> from graphpool.mesh import icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(2), labels=3)
        >>> change = Remake([JitterVertices(0.1), FlipEdges(0.2)], primal_dual)
        >>> made = change(graph)
        >>> made.x.shape == graph.x.shape, bool((made.faces != graph.faces).any()), made.y
        (True, True, tensor([3]))
    """

    def __init__(self, transforms: Sequence[BaseTransform], make: Callable[..., Any]) -> None:
        self.transforms, self.make = list(transforms), make

    def forward(self, data: Data) -> Data:
        faces, target = data.faces, data.get("y")
        corners = data.vertices[faces].double()
        double = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        mesh = Data(pos=placed(data.vertices.double(), faces, double.norm(dim=1)), face=faces.t())
        if target is not None:
            if target.numel() not in (1, len(faces)):
                raise ValueError(
                    f"`data` must have labels of the mesh or of its {len(faces)} faces, which are there "
                    f"after flips, too; got {target.numel()}."
                )
            mesh.y = target
        for transform in self.transforms:
            mesh = transform(mesh)
        made = self.make(mesh.pos, mesh.face.t().contiguous())
        if target is not None:
            made.y = target
        return made
