"""Text as spreadsheets, scanners and chemists write it: read as is meant, or refused by line and column."""

from __future__ import annotations

import numpy as np
import pytest

from graphpool.datasets import read_cloud, read_points

WANT = [[1.5, 2.0, 3.0], [4.0, 5.0, 6.25]]


def read(folder, text, suffix=".csv"):
    file = folder / f"a{suffix}"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_points(file)[0].tolist()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
@pytest.mark.parametrize("tail", ["", "{}", "{}{}", " {} ", "{} # noted by hand"])
def test_delimiters_at_the_end_mean_nothing(tmp_path, mark, end, tail):
    behind = tail.replace("{}", mark)
    rows = [mark.join(f"{v:g}" for v in row) for row in WANT]
    every = "".join(f"{row}{behind}{end}" for row in rows)
    assert read(tmp_path, every) == WANT
    assert read(tmp_path, f"{rows[0]}{behind}{end}{rows[1]}") == WANT
    assert read(tmp_path, mark.join("xyz") + behind + end + every) == WANT
    assert read(tmp_path, "﻿" + every) == WANT


@pytest.mark.parametrize(
    "head", ["x y z\n", "x,y,z,\n", '"x","y","z"\n', "# x y z\n", "// x, y, z,\n"]
)
def test_names_between_other_marks(tmp_path, head):
    assert read(tmp_path, head + "1.5,2,3\n4,5,6.25\n") == WANT


def test_quoted_numbers_and_unicode_text_of_spreadsheets(tmp_path):
    assert read(tmp_path, '"1.5","2","3"\n"4","5","6.25"\n') == WANT
    assert read(tmp_path, "x\ty\tz\r\n1.5\t2\t3\r\n4\t5\t6.25\r\n".encode("utf-16"), ".txt") == WANT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n\n# note\n4,5\n", "line 4 has 2 numbers, line 1 has 3"),
        ("1,2,3,4\n4,5,6,\n", "line 2 has 3 numbers, line 1 has 4"),
        ("x,y,z\n1,2,3\n4,,6\n", "line 3 has nothing in column 2"),
        ("1 2 3\n4 5\n", "line 2 has 2 numbers, line 1 has 3"),
        ("1 2 3\n4 5 6 7\n", "line 2 has 4 numbers, line 1 has 3"),
        ("1;2;3\n1,5;2,5;3,5\n", "line 2 has '1,5' in column 1. Numbers take a point"),
        ("1,5 2,5 3,5\n", "line 1 has '5 2' in column 2. Numbers take a point"),
        ("1 2 3\n4,5,6\n", "line 1 has '1 2 3' in column 1. Numbers take a point"),
        ("1,2,3\n4 5 6\n", "line 1 has '1,2,3' in column 1. Numbers take a point"),
        ("x,y,z\nm,m,m\n1,2,3\n", "line 2 has 'm' in column 1"),
        ("1 2 three\n", "line 1 has 'three' in column 3"),
        ("5\n1 2 3\n4 5 6\n", "'5' in line 1 stands where a number of points must"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_line_and_column(tmp_path, text, message):
    with pytest.raises(ValueError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert str(tmp_path / "a.csv") in str(error.value)
    assert "usecols" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "3\nwater\nO 0.0 0.0 0.1\nH 0.0 0.7 -0.4\nH 0.0 -0.7 -0.4\n",
        "3\n\nO 0.0 0.0 0.1\nH 0.0 0.7 -0.4\nH 0.0 -0.7 -0.4\n",
        "3\n\n8 0.0 0.0 0.1\n1 0.0 0.7 -0.4\n1 0.0 -0.7 -0.4\n",
        "3\n-76.4\n8 0.0 0.0 0.1\n1 0.0 0.7 -0.4\n1 0.0 -0.7 -0.4\n",
        "1\nfirst\nHe 0 0 0\n1\nsecond\nHe 0 0 1\n",
    ],
)
def test_molecules_are_no_clouds(tmp_path, text):
    with pytest.raises(ValueError, match="holds molecules"):
        read(tmp_path, text, ".xyz")


def test_clouds_with_counts_are_no_molecules(tmp_path):
    assert read(tmp_path, "2\n1.5 2 3\n4 5 6.25\n", ".xyz") == WANT
    assert read(tmp_path, "2\n\n1.5 2 3\n4 5 6.25\n", ".xyz") == WANT
    assert read_cloud(tmp_path / "a.xyz").fields == {}
    table = "2\n1.5 2 3 7\n4 5 6.25 8\n"
    assert np.array_equal(read(tmp_path, table, ".xyz"), WANT)
