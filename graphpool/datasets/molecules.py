"""QM9: 130,831 small organic molecules, and what quantum chemistry says of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool import _optional
from graphpool._arguments import as_count
from graphpool.io.molecules import TARGETS, read_qm9

_FILES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
#: Covalent radii by atomic number, in Angstrom, and how much longer than their sum a bond may be.
_RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57}
_SLACK = 0.4
_CHUNK = 4096


class QM9(InMemoryDataset):
    """The molecules of QM9 (Ramakrishnan et al., *Scientific Data*, 2014), from the files of ``qm9pack``.

    Each is a :class:`torch_geometric.data.Data` with the atomic numbers ``z`` ``[n]`` (1, 6, 7, 8, 9), the
    places ``pos`` ``[n, 3]`` in Angstrom, ``edge_index`` both ways between atoms that are closer than the sum
    of their covalent radii and 0.4 Angstrom (the files have no table of bonds), ``length`` ``[e, 1]`` of the
    edges in Angstrom, and ``y`` ``[1, T]`` in float64. The order follows their composition: shuffle before a
    split. The package's files are read, its code is not run; reading takes about ten seconds.

    ============================  ==================================================================
    target                        unit
    ============================  ==================================================================
    ``mu``, ``alpha``, ``r2``     Debye, cubic and squared Bohr radii
    ``homo``, ``lumo``, ``gap``   eV
    ``zpve``                      eV
    ``u0``, ``u``, ``h``, ``g``   eV, with all the energy of the atoms
    ``u0_atom``                   eV, ``u0`` less that of the free atoms
    ``cv``                        cal / (mol K)
    ============================  ==================================================================

    Args:
        targets: Those that ``y`` holds, in this order.
        root: The folder of ``qm9_part1.csv`` to ``qm9_part3.csv``; that of the package, if ``None``.
        limit: The first so many molecules only.
        transform: Applied to each molecule when it is read.

    Attributes:
        targets: As given.

    Raises:
        ImportError: The package is not installed; the message says how to get it.
        FileNotFoundError: A file is missing.
        ValueError: A target is unknown, or a file is damaged.
    """

    def __init__(
        self,
        targets: Sequence[str] = TARGETS,
        root: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        if isinstance(targets, str) or not targets or not set(targets) <= set(TARGETS):
            raise ValueError(f"`targets` must be names out of {TARGETS}; got {targets!r}.")
        if limit is not None:
            limit = as_count(limit, "limit")
        super().__init__(None, transform)
        if root is None:
            package = _optional.require("qm9pack", purpose="QM9()")
            root = Path(package.__path__[0]) / "data"
        paths = [Path(root) / name for name in _FILES]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"There is no file {path}.")
        found = read_qm9(paths, limit)
        self.targets = list(targets)
        z, sizes = torch.from_numpy(found.z), torch.from_numpy(found.sizes)
        pos = torch.from_numpy(found.pos).float()
        y = torch.from_numpy(found.y)[:, [TARGETS.index(name) for name in targets]]
        edges, length, bonds = _bonds(z, pos, sizes)
        self._data = Data(z=z, pos=pos, edge_index=edges, length=length, y=y)
        atoms, ends = (torch.cat([v.new_zeros(1), v.cumsum(0)]) for v in (sizes, bonds))
        rows = torch.arange(len(sizes) + 1)
        self.slices = {"z": atoms, "pos": atoms, "edge_index": ends, "length": ends, "y": rows}
        self._data.num_nodes = sizes.tolist()


def _bonds(z: Tensor, pos: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edges, with the atoms of each molecule counted from 0, their lengths, and how many a molecule has."""
    radius = torch.zeros(max(_RADII) + 1)
    for number, value in _RADII.items():
        radius[number] = value
    widest = int(sizes.max()) if len(sizes) else 0
    edges, lengths, counts = [], [], []
    start = 0
    for chunk in sizes.split(_CHUNK):
        stop = start + int(chunk.sum())
        there = torch.arange(widest) < chunk[:, None]
        places, reach = pos.new_zeros(len(chunk), widest, 3), pos.new_zeros(len(chunk), widest)
        places[there], reach[there] = pos[start:stop], radius[z[start:stop]]
        far = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
        near = far < reach[:, :, None] + reach[:, None] + _SLACK
        near &= there[:, :, None] & there[:, None] & ~torch.eye(widest, dtype=torch.bool)
        molecule, first, second = near.nonzero(as_tuple=True)
        edges.append(torch.stack([first, second]))
        lengths.append(far[molecule, first, second])
        counts.append(near.sum((1, 2)))
        start = stop
    if not edges:
        return torch.empty(2, 0, dtype=torch.long), pos.new_empty(0, 1), sizes
    return torch.cat(edges, 1), torch.cat(lengths)[:, None], torch.cat(counts)
