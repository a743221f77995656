"""Networks on QM9: who is trained on, chosen by and tested on, and in which units errors are."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from graphpool.io.molecules import _COLUMNS


def chains(folder, sizes):
    """Molecules that are chains of carbon; each target grows with the length."""
    names = ["Elements", "XYZ_Ang", *(column for column, _ in _COLUMNS.values())]
    for k in range(3):
        lines = [",".join(names)]
        for n in sizes if k == 0 else ():
            places = ",".join(f"[{1.4 * i:.1f},0.,0.]" for i in range(n))
            values = ",".join(f"{0.1 * n + i + n % 3}" for i in range(len(_COLUMNS)))
            lines.append(f'"{["C"] * n}","[{places}]",{values}')
        (folder / f"qm9_part{k + 1}.csv").write_text("\n".join(lines) + "\n")


def test_parts_are_disjoint_and_large_molecules_are_new(example):
    module, sizes = example("molecule_networks"), torch.arange(5_000) % 27 + 3
    for split in module.SPLITS:
        train, validation, test = module.parts(sizes, split, 1_000)
        everything = torch.cat([train, validation, test])
        assert everything.unique().numel() == everything.numel()
        assert len(train) == 1_000 and len(validation) == 250 or split == "large"
    assert sizes[train].max() == sizes[validation].max() == 17 and sizes[test].min() == 20
    again = module.parts(sizes, "random", 2_000)[0]
    assert torch.equal(again[:1_000], module.parts(sizes, "random", 1_000)[0])


def test_errors_are_those_of_a_loop_and_a_second_call_makes_none_anew(
    example, monkeypatch, tmp_path, capsys
):
    sizes = torch.randint(3, 29, (300,), generator=torch.Generator().manual_seed(0))
    chains(tmp_path, sizes.tolist())
    module, outputs = example("molecule_networks"), []
    predict = module.predict
    monkeypatch.setattr(module, "predict", lambda *a: outputs.append(predict(*a)) or outputs[-1])
    options = ["--readouts", "sum", "gnp", "--train-size", "100", "--epochs", "1", "--hidden", "8"]
    where = ["--root", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["molecule_networks", *options, *where])
    module.main()
    printed = capsys.readouterr().out
    data = module.QM9(module.TARGETS, tmp_path)
    y = data._data.y.numpy()
    train, _, test = module.parts(sizes, "random", 100)
    counts = np.stack([sizes, np.ones(len(sizes))], 1)  # chains are of carbon alone
    known = counts @ np.linalg.lstsq(counts[train], y[train], rcond=None)[0]
    spread = np.abs(y[train] - known[train]).mean(0)
    found = outputs[0][0].numpy() * spread + known[test]
    expected = np.abs(found - y[test]).mean(0) * [1, 1, 1e3, 1e3, 1e3]
    (row,) = (line for line in printed.split("large")[0].splitlines() if line.startswith("| sum "))
    shown = [float(cell.replace(",", "")) for cell in row.split("|")[2:7]]
    assert shown == pytest.approx(expected, rel=5e-3)

    monkeypatch.setattr(module, "one_run", lambda *a: pytest.fail("made anew"))
    module.main()
    assert capsys.readouterr().out.splitlines()[1:] == printed.splitlines()
