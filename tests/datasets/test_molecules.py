"""QM9 out of tables: units, bonds, and what is wrong with a table."""

from __future__ import annotations

import sys

import pytest
import torch
from torch_geometric.loader import DataLoader

from graphpool.datasets import QM9
from graphpool.io.molecules import _COLUMNS, TARGETS

WATER = "['O','H','H']", "[[0.,0.,0.],[0.96,0.,0.],[-0.24,0.93,0.]]"
FAR = "['H','F']", "[[0.,0.,0.],[1.281,0.,0.]]"  # one thousandth beyond .31 + .57 + .4
NEAR = "['H','F']", "[[0.,0.,0.],[1.279,0.,0.]]"


def write(folder, *parts, head=None):
    names = ["Elements", "XYZ_Ang", *(column for column, _ in _COLUMNS.values())]
    for k in range(3):
        lines = [head or ",".join(names)]
        for elements, places in parts if k == 0 else ():
            values = ",".join(f"{i + 1}." for i in range(len(_COLUMNS)))
            lines.append(f'"{elements}","{places}",{values}')
        (folder / f"qm9_part{k + 1}.csv").write_text("\n".join(lines) + "\n")


def test_atoms_bonds_and_units(tmp_path):
    write(tmp_path, WATER, FAR, NEAR)
    data = QM9(root=tmp_path)
    assert [d.z.tolist() for d in data] == [[8, 1, 1], [1, 9], [1, 9]]
    assert data[0].edge_index.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]
    expected = [0.96, (0.24**2 + 0.93**2) ** 0.5, 0.96, (0.24**2 + 0.93**2) ** 0.5]
    assert data[0].length.flatten().tolist() == pytest.approx(expected)
    assert data[1].num_edges == 0 and data[2].edge_index.tolist() == [[0, 1], [1, 0]]
    y = dict(zip(TARGETS, data[0].y[0].tolist(), strict=True))
    assert y["mu"] == 1 and y["r2"] == 6 and y["cv"] == 12
    assert y["homo"] == pytest.approx(3 * 27.211386) and y["u0"] == pytest.approx(8 * 27.211386)
    free = 27.211386 * (75.064579 + 2 * 0.500273)
    assert y["u0_atom"] == pytest.approx(y["u0"] + free)
    (batch,) = DataLoader(QM9(["homo"], tmp_path), batch_size=3)
    assert batch.edge_index.tolist() == [[0, 0, 1, 2, 5, 6], [1, 2, 0, 0, 6, 5]]
    assert len(QM9(root=tmp_path, limit=1)) == 1


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (("['O','Xx']", "[[0,0,0],[1,0,0]]"), "part1.csv, line 3: 'Xx'"),
        (("['O','H']", "[[0,0,0],[1,0]]"), "line 3: 2 atoms, 5 coordinates"),
        (("['O','H']", "[[0,0,0],[1,0,nan]]"), "line 3: 2 atoms, 6 coordinates"),
        (("['O','H']", "[[0,0,0],[1,0,x]]"), "line 3: could not convert"),
    ],
)
def test_damaged_rows(tmp_path, part, message):
    write(tmp_path, WATER, part)
    with pytest.raises(ValueError, match=message):
        QM9(root=tmp_path)


def test_fields_that_shift_what_follows_are_no_other_numbers(tmp_path):
    """A comma too many makes each value that of the column before, and all are still numbers."""
    write(tmp_path, WATER)
    file = tmp_path / "qm9_part1.csv"
    whole = file.read_text()
    for text, message in (
        (whole.replace(",1.,", ",1.,1.,"), "line 2: 15 fields, but 14 names"),
        (whole.replace(",1.,", ","), "line 2: nothing in Heatcapacity"),
        (whole.replace("H']\"", "H']"), "line 2: "),
        (whole + '"' + "x" * 200_000, "part1.csv, line "),
        (whole + "\xe9", "part1.csv, line "),
    ):
        file.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=message):
            QM9(root=tmp_path)


def test_wrong_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*qm9_part1.csv"):
        QM9(root=tmp_path)
    write(tmp_path, head="Elements,XYZ_Ang")
    with pytest.raises(ValueError, match="has no column Dipole_debye, "):
        QM9(root=tmp_path)
    for targets in ("homo", [], ["homo", "spin"]):
        with pytest.raises(ValueError, match="`targets` must be names out of"):
            QM9(targets, tmp_path)
    with pytest.raises(ValueError, match="`limit`"):
        QM9(root=tmp_path, limit=0)


@pytest.mark.needs("qm9pack")
def test_those_of_the_package():
    data = QM9(["u0_atom", "mu"], limit=50)
    assert "qm9pack" not in sys.modules  # its files are read, its code is not run
    methane, ammonia = data[0], data[1]
    assert methane.z.tolist() == [6, 1, 1, 1, 1] and methane.num_edges == 8
    assert float(methane.y[0, 0]) == pytest.approx(-17.1722, abs=1e-4)
    assert ammonia.z.tolist() == [7, 1, 1, 1] and float(ammonia.y[0, 1]) == 1.6256
    assert torch.equal(methane.edge_index[0].bincount(), torch.tensor([4, 1, 1, 1, 1]))
