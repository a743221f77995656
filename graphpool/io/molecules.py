"""Molecules of QM9 out of the tables of the package ``qm9pack``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphpool.io.untrusted import named_rows

SYMBOLS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
HARTREE = 27.211386
"""In eV."""
_COLUMNS = {
    "mu": ("Dipole_debye", 1.0),
    "alpha": ("Polarizability_bohr3", 1.0),
    "homo": ("HOMO_au", HARTREE),
    "lumo": ("LUMO_au", HARTREE),
    "gap": ("HOMO_LUMO_gap_au", HARTREE),
    "r2": ("R2_bohr2", 1.0),
    "zpve": ("ZPVE_au", HARTREE),
    "u0": ("InternalEnergy_0K_au", HARTREE),
    "u": ("InternalEnergy_298K_au", HARTREE),
    "h": ("Enthalphy_298K_au", HARTREE),
    "g": ("GibbsFreeEnergy_298K_au", HARTREE),
    "cv": ("Heatcapacity_Cv_cal_mol_K", 1.0),
}
_U0 = list(_COLUMNS).index("u0")
#: U0 of free atoms, in hartree.
_ATOMS = {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730}
TARGETS = (*_COLUMNS, "u0_atom")
"""What :func:`read_qm9` gives of a molecule, in this order."""


class Molecules(NamedTuple):
    """Atomic numbers ``[N]``, positions ``[N, 3]`` in Angstrom, numbers of atoms ``[B]``, and targets
    ``[B, 13]`` in float64."""

    z: np.ndarray
    pos: np.ndarray
    sizes: np.ndarray
    y: np.ndarray


def read_qm9(paths: Sequence[str | os.PathLike[str]], limit: int | None = None) -> Molecules:
    """The molecules of tables with a header and one molecule in each row, the first ``limit`` of them.

    Raises:
        ValueError: A column is missing, or a row is damaged or has more fields than there are names; the
            message names file and line.
    """
    z: list[int] = []
    pos: list[float] = []
    sizes: list[int] = []
    y: list[list[float]] = []
    for path in paths:
        with open(path, newline="", encoding="utf-8-sig") as file:
            needed = ["Elements", "XYZ_Ang", *(column for column, _ in _COLUMNS.values())]
            for line, row in named_rows(file, Path(path), needed):
                if limit is not None and len(sizes) >= limit:
                    break
                try:
                    atoms = [SYMBOLS[v.strip(" '\"")] for v in row["Elements"][1:-1].split(",")]
                    # Not JSON: a number may end in a point.
                    flat = row["XYZ_Ang"].replace("[", "").replace("]", "").split(",")
                    places = list(map(float, flat))
                    values = [scale * float(row[name]) for name, scale in _COLUMNS.values()]
                    if len(places) != 3 * len(atoms) or not np.isfinite(places + values).all():
                        raise ValueError(
                            f"{len(atoms)} atoms, {len(places)} coordinates, and values {values}."
                        )
                except (ValueError, KeyError) as error:
                    raise ValueError(f"{path}, line {line}: {error}") from error
                free = sum(_ATOMS[number] for number in atoms) * HARTREE
                values.append(values[_U0] - free)
                z += atoms
                sizes.append(len(atoms))
                y.append(values)
                pos += places
    return Molecules(
        np.array(z, np.int64),
        np.array(pos, np.float64).reshape(-1, 3),
        np.array(sizes, np.int64),
        np.array(y, np.float64).reshape(-1, len(TARGETS)),
    )
