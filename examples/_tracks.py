"""Events of generated tracks, which pairs of their hits may belong together, and their features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphpool import Segments
from graphpool.ops import segment_mean
from graphpool.ops.neighbors import knn
from graphpool.ragged import ragged_arange, ragged_gather

#: Radii of the cylinders that are hit, in mm.
LAYERS = (32.0, 72.0, 116.0, 172.0, 260.0, 360.0, 500.0, 660.0, 820.0, 1020.0)
FIELD, LENGTH, SMEAR = (
    2.0,
    1200.0,
    0.05,
)  # tesla, half the length of a cylinder and a hit's error in mm


def helical_tracks(
    num_tracks: int, *, missing: float = 0.0, noise: float = 0.05, seed: int = 0
) -> Data:
    r"""One event: the hits of helices on ten cylinders, in random order, with noise.

    A particle of momentum :math:`p` across the field (log-uniform, 0.5 to 5 GeV) and charge :math:`q` flies
    on a circle of radius :math:`\rho = p / (0.3 B)`; it meets the cylinder of radius ``r`` at

    .. math:: \theta = \arcsin \frac{r}{2 \rho}, \quad
        (r \cos(\varphi - q \theta),\; r \sin(\varphi - q \theta),\; z_0 + 2 \rho\, \theta \sinh \eta)

    with uniform :math:`\varphi` and :math:`|\eta| < 1.2`, and :math:`z_0` of a deviation of 50 mm. A toy: no
    scattering, no secondary vertices; its numbers do not compare with those of real detectors.

    Args:
        num_tracks: How many particles.
        missing: The probability that a hit is not seen, in [0, 1).
        noise: The expected share of hits that belong to nobody, in [0, 1).
        seed: Of the generator.

    Returns:
        ``pos`` ``[N, 3]`` in mm and ``track_index`` ``[N]``, the first hit of the track a hit belongs to,
        itself for noise: it stays right in a mini-batch. ``momentum`` ``[num_tracks]`` in GeV.
    """
    for name, share in (("missing", missing), ("noise", noise)):
        if not 0 <= share < 1:
            raise ValueError(f"`{name}` must lie in [0, 1); got {share}.")
    count = num_tracks
    rng, radii = np.random.default_rng(seed), np.array(LAYERS)
    momentum = np.exp(rng.uniform(np.log(0.5), np.log(5.0), count))
    phi, eta = rng.uniform(-np.pi, np.pi, (count, 1)), rng.uniform(-1.2, 1.2, (count, 1))
    start, charge = rng.normal(0.0, 50.0, (count, 1)), rng.choice([-1.0, 1.0], (count, 1))
    rho = 1000.0 * momentum[:, None] / (0.3 * FIELD)
    theta = np.arcsin(radii / (2.0 * rho))
    angle, z = phi - charge * theta, start + 2.0 * rho * theta * np.sinh(eta)
    hits = np.stack([radii * np.cos(angle), radii * np.sin(angle), z], -1)
    hits += rng.normal(0.0, SMEAR, hits.shape)
    seen = (np.abs(z) < LENGTH) & (rng.random(z.shape) >= missing)
    owner = np.nonzero(seen)[0]
    extra = rng.poisson(owner.size * noise / (1.0 - noise))
    around, layer = rng.uniform(-np.pi, np.pi, extra), rng.choice(radii, extra)
    others = [layer * np.cos(around), layer * np.sin(around), rng.uniform(-LENGTH, LENGTH, extra)]
    pos = np.concatenate([hits[seen], np.stack(others, -1)])
    owner = np.concatenate([owner, count + np.arange(extra)])
    order = rng.permutation(owner.size)
    _, first, inverse = np.unique(owner[order], return_index=True, return_inverse=True)
    return Data(
        pos=torch.from_numpy(pos[order]).float(),
        track_index=torch.from_numpy(first[inverse]),
        momentum=torch.from_numpy(momentum).float(),
    )


class LinkedCells(NamedTuple):
    """Cells of space, and which of them examples have linked ("voxel dynamics"; Mieskolainen, "Neural
    Combinatorics for High Energy Physics", CHEP 2023).

    Space is divided by k-means; two cells are linked as soon as one training track has hits in both, however
    far apart they lie. Nothing else is learned, so that more cells give purer pairs, and more examples miss
    fewer.

    Attributes:
        centers: ``[V, D]``.
        ptr: Where the row of each cell begins, ``[V + 1]``.
        cells: The cells that each is linked with, row by row.
    """

    centers: Tensor
    ptr: Tensor
    cells: Tensor

    @classmethod
    def fit(
        cls, pos: Tensor, track: Tensor, num_cells: int, rounds: int = 8, seed: int = 0
    ) -> LinkedCells:
        """Counts what belongs together.

        Args:
            pos: Points of all examples, ``[N, D]``.
            track: What each belongs to, ``[N]``, integers. A point that is alone links nothing.
            num_cells: Of them, at most as many as points.
            rounds: Of k-means; a cell that loses its points stays where it was.
            seed: Of the first centres, which are points.
        """
        count = min(num_cells, pos.size(0))
        first = torch.randperm(pos.size(0), generator=torch.Generator().manual_seed(seed))[:count]
        centers = pos[first.to(pos.device)]
        for _ in range(rounds):
            bags = Segments(index=_nearest(centers, pos), num_segments=count)
            mean = segment_mean(pos, bags)
            centers = torch.where(bags.counts[:, None] > 0, mean, centers)
        cell = _nearest(centers, pos)
        _, label, sizes = track.unique(return_inverse=True, return_counts=True)
        order = label.argsort(stable=True)
        order = order[sizes[label[order]] > 1]
        tracks = Segments(index=label[order], num_segments=sizes.numel(), is_sorted=True)
        owner, other = ragged_gather(tracks.ptr, tracks.index)
        keys = (cell[order[owner]] * count + cell[order[other]]).unique()
        ptr = torch._convert_indices_from_coo_to_csr(keys // count, count)
        return cls(centers, ptr, keys % count)

    def pairs(self, pos: Tensor, clouds: Segments | None = None) -> Tensor:
        """All pairs of points of a cloud whose cells are linked, ``[2, P]``, each once, the smaller first.

        Args:
            pos: ``[N, D]``.
            clouds: Which cloud each point lies in; one cloud if ``None``.
        """
        count, cell = self.centers.size(0), _nearest(self.centers, pos)
        cloud = torch.zeros_like(cell) if clouds is None else clouds.index
        held, order = (cloud * count + cell).sort(stable=True)
        owner, position = ragged_gather(self.ptr, cell)
        wanted = cloud[owner] * count + self.cells[position]
        begin = torch.searchsorted(held, wanted)
        which, place = ragged_arange(torch.searchsorted(held, wanted, right=True) - begin)
        i, j = owner[which], order[begin[which] + place]
        return torch.stack([i, j])[:, i < j]


def _nearest(centers: Tensor, pos: Tensor) -> Tensor:
    return knn(centers, 1, queries=pos).index[:, 0]


def features(pos: Tensor) -> Tensor:
    """What the network sees of a hit: lengths in metres, directions across and along the beam, ``[N, 7]``."""
    xy, z = pos[:, :2], pos[:, 2:]
    r = xy.norm(dim=1, keepdim=True)
    return torch.cat([xy / 1000, z / 1000, r / 1000, xy / r, z / r], 1)


def pair_features(pos: Tensor, pairs: Tensor) -> Tensor:
    """What the network sees of a pair ``[P, 4]``: bend, slope, and the place on the beam that it points to.

    Two hits of one cylinder, which no track has, point nowhere: the last is 1 for them, the others 0.
    """
    xy, z = pos[:, :2], pos[:, 2]
    r, phi = xy.norm(dim=1), torch.atan2(xy[:, 1], xy[:, 0])
    (i, j), apart = pairs, (r[pairs[1]] - r[pairs[0]])
    same = apart.abs() < 5 * SMEAR
    apart = torch.where(same, 1.0, apart)
    turn = torch.remainder(phi[j] - phi[i] + torch.pi, 2 * torch.pi) - torch.pi
    slope = (z[j] - z[i]) / apart
    found = torch.stack([1000 * turn / apart, slope, (z[i] - r[i] * slope) / 100], 1).clamp(-3, 3)
    return torch.cat([torch.where(same[:, None], 0.0, found), same[:, None].float()], 1)
