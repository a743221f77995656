"""What goes wrong with files and folders is said before the work, by file, and costs the others nothing."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import graphpool
from graphpool.__main__ import main
from graphpool.files import BagFiles, GraphFiles, MeshFiles, PointFiles, Settings, runs
from graphpool.files.reader import targets


def one_line(capsys):
    error = capsys.readouterr().err
    lines = [line for line in error.replace("\r", "\n").split("\n") if line.startswith("python -m")]
    assert len(lines) == 1 and "Traceback" not in error, error
    return lines[0]


@pytest.mark.parametrize("change, said", [
    (lambda x: x[:, :2], r"3\.npy has 2 columns of features; .*\.npy has 3\."),
    (lambda x: x * [[1], [1], [np.nan], [1]], r"3\.npy holds .* not finite, in row 2 of x\. Fill it"),
])  # fmt: skip
def test_the_bag_that_does_not_fit_is_named(made, change, said):
    data = made("bags")
    np.save(data / "3.npy", change(np.ones((4, 3))))
    files, settings = BagFiles(), Settings(val=0, test=0, epochs=1)
    with pytest.raises(ValueError, match=said):
        runs.train_files(runs.read_splits(data, files, settings), files, settings)


def test_an_edge_list_of_one_column_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("source\n1\n")
    with pytest.raises(ValueError, match=r"a\.csv: An edge is two names of nodes"):
        GraphFiles().read(tmp_path / "a.csv")


def test_labels_of_faces_are_named_by_their_own_file(made):
    data = made("labelled faces")
    (data / "1.eseg").write_text("1\n0\n")
    with pytest.raises(ValueError, match=r"1\.eseg has 2 lines"):
        MeshFiles(labels="files").read(data / "1.obj")


def test_what_could_label_a_mesh_is_said(tmp_path, capsys):
    text = (
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\ng side\nf 1 3 2\nf 1 2 4\ng front\nf 2 3 4\nf 1 4 3\n"
    )
    (tmp_path / "a.obj").write_text(text)
    (item,) = MeshFiles(labels="files").read(tmp_path / "a.obj")
    with pytest.raises(ValueError, match=r"could give to `labels` is .*group"):
        targets(item, ["a"])
    assert main(["info", str(tmp_path / "a.obj")]) == 0
    assert "group (front to side)" in capsys.readouterr().out


def test_labels_with_decimals_are_refused_by_value(made):
    with pytest.raises(ValueError, match=r"0\.ply: labels must be integers; number \d+ is "):
        PointFiles(labels="intensity").read(made("labelled points") / "0.ply")


def test_a_bad_file_costs_no_other_its_prediction(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    new, out = tmp_path / "new", tmp_path / "p.csv"
    new.mkdir()
    np.save(new / "a.npy", np.ones((2, 3)))
    np.save(new / "b.npy", np.ones((2, 5)))
    (new / "c.npy").write_bytes(b"\x93NUMPY")
    np.save(new / "d.npy", np.zeros((2, 3)))
    capsys.readouterr()
    assert main(["predict", str(run / "model.pt"), str(new), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "no prediction: " in error and "b.npy has 5" in error and "c.npy" in error
    assert "2 of 4 files have no prediction" in error
    with out.open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [
            str(new / n) for n in ("a.npy", "d.npy")
        ]
    assert main(["predict", str(run / "model.pt"), str(new / "c.npy")]) == 2
    assert "c.npy" in one_line(capsys)


def test_where_nothing_can_be_written_nothing_is_computed(made, tmp_path, capsys, monkeypatch):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    taken = tmp_path / "taken"
    taken.write_text("")
    monkeypatch.setattr("graphpool.__main__.read_splits", None)
    monkeypatch.setattr(graphpool.files.checkpoint.Predictor, "of_item", None)
    model, bag = str(run / "model.pt"), str(data / "1.npy")
    for command, name in (
        (["train", "bags", str(data), "--out", str(taken)], "out"),
        (["evaluate", model, str(data), "--out", str(taken)], "out"),
        (["predict", model, bag, "--out", str(taken / "a.csv")], "out"),
    ):
        capsys.readouterr()
        assert main(command) == 2
        assert f"--{name}: {taken} cannot be a folder: " in one_line(capsys)
    assert main(["predict", model, bag, "--pictures", str(tmp_path / "a.png")]) == 2
    assert "--pictures are for points and meshes" in one_line(capsys)


def test_an_interruption_says_how_to_go_on(made, tmp_path, capsys, monkeypatch):
    data, run = made("bags"), tmp_path / "run"

    def stop(*args, **kwargs):
        (run / "run.pt").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("graphpool.__main__.train_files", stop)
    assert main(["train", "bags", str(data), "--out", str(run)]) == 130
    assert "the same command with --resume goes on" in one_line(capsys)


def test_a_state_of_training_is_no_checkpoint_and_says_which_is(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    assert main(["predict", str(run / "run.pt"), str(data / "1.npy")]) == 2
    assert "model.pt beside it may be one" in one_line(capsys)
    assert main(["predict", str(run), str(data / "1.npy")]) == 2
    assert "is a folder, no checkpoint" in (said := one_line(capsys)) and "model.pt in it" in said
    assert main(["info", str(data)]) == 2
    assert "one file; " in one_line(capsys)


@pytest.mark.parametrize("content", [b"print(1)\n", b"", b"PK\x03\x04 cut"])
def test_a_foreign_file_in_the_place_of_a_model_is_told_what_one_is(content, tmp_path, capsys):
    (tmp_path / "make.py").write_bytes(content)
    assert main(["predict", str(tmp_path / "make.py"), str(tmp_path)]) == 2
    said = one_line(capsys)
    assert "make.py is damaged, or of another kind" in said
    assert said.endswith("A model is a file that training or graphpool.save has written.")


def test_a_folder_is_no_cloud_and_a_tu_folder_is_many_graphs(made, tmp_path, capsys):
    data = made("bags")
    for reader in (BagFiles(), MeshFiles(), PointFiles()):
        with pytest.raises(ValueError, match=f"is no file of {reader.kind}"):
            reader.read(data)
    folder = tmp_path / "PAIR"
    folder.mkdir()
    for name, text in (
        ("A", "1, 2\n2, 1\n"),
        ("graph_indicator", "1\n1\n"),
        ("graph_labels", "1\n"),
    ):
        (folder / f"PAIR_{name}.txt").write_text(text)
    assert main(["info", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "graphs: 1" in said and "not " not in said


def test_bags_without_a_common_column_are_named(made):
    data = made("bags")
    (data / "3.csv").write_text("a,b,c\n1,2,3\n")
    files, settings = BagFiles(), Settings(val=0, test=0, epochs=1)
    (data / "3.npy").unlink()
    table = data / "labels.csv"
    table.write_text(table.read_text().replace("\n3.npy", "\n3.csv"))
    parts = runs.read_splits(data, files, settings)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(
            ValueError, match=r"has x and .*3\.csv has a, b, c\. Columns have the same names"
        ),
    ):
        runs.train_files(parts, files, settings)


def test_decimal_commas_are_no_words(tmp_path):
    path = tmp_path / "bag.csv"
    for text in ("a;b\n0,5;1\n-2;3,25\n", "a\tb\n0,5\t1\n-2,0\t3\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"bag\.csv.*'a' have decimal commas, such as '0,5'"):
            BagFiles().read(path)
    path.write_text("a;b\n0.5;1,5 m\n")
    assert BagFiles().read(path)[0].columns["b"].tolist() == ["1,5 m"]


def test_labels_that_are_one_number_are_refused(made):
    data = made("bags")
    table = data / "labels.csv"
    table.write_text(
        table.read_text().replace("low", "0").replace("high", "1").replace(",0\n", ",0.0\n", 1)
    )
    files, settings = BagFiles(target="class"), Settings(epochs=1)
    with pytest.raises(ValueError, match=r"'0' and '0\.0' are the same number"):
        runs.train_files(runs.read_splits(data, files, settings), files, settings)


def test_names_above_columns_are_not_overruled(tmp_path):
    path = tmp_path / "a.csv"
    for mark in ("", "# ", "//"):
        path.write_text(f"{mark}label z y x\n1 2 3 4\n0 5 6 7\n")
        with pytest.raises(
            ValueError, match=r"a\.csv names its columns label z y x, .*'x' in another"
        ):
            PointFiles(labels="label", columns="klasse x y z").read(path)
    # Other names are what `columns` is for.
    path.write_text("e n h what\n1 2 3 4\n0 5 6 7\n")
    (item,) = PointFiles(labels="klasse", columns="x y z klasse").read(path)
    assert item.found.values.tolist() == [4, 7]


def test_a_table_without_names_beside_one_with_a_column_x_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    items = [item for name in ("a.csv", "b.csv") for item in BagFiles().read(tmp_path / name)]
    with (
        pytest.warns(UserWarning, match="y left out"),
        pytest.raises(ValueError, match=r"b\.csv has 2 .*a\.csv has 1\. A table without names"),
    ):
        BagFiles().fit(items)


def test_a_number_that_is_missing_does_not_make_words_of_the_others_in_silence(made):
    data = made("graphs")
    table = next(data.rglob("*.nodes.csv"))
    lines = table.read_text().split("\n")
    lines[1] = ",".join([*lines[1].split(",")[:-1], ""])
    table.write_text("\n".join(lines))
    edges = [p for p in sorted(data.rglob("*.csv")) if not p.name.endswith(".nodes.csv")]
    items = [item for path in edges for item in GraphFiles().read(path)]
    with pytest.warns(
        UserWarning, match="charge holds numbers, and '': each value counts as a word"
    ):
        GraphFiles().fit(items)


def test_an_argument_that_a_network_lacks_is_answered_with_those_it_has(made):
    files, settings = BagFiles(), Settings(val=0, test=0, epochs=1, arguments={"wide": 3})
    parts = runs.read_splits(made("bags"), files, settings)
    with pytest.raises(
        ValueError, match="argument 'wide'; it takes in_channels, hidden_channels, "
    ):
        runs.train_files(parts, files, settings)
    settings.arguments = {"features": "degree"}
    with pytest.raises(ValueError, match="every node has its degree"):
        runs.train_files(parts, files, settings)


def test_a_run_with_other_files_says_what_differs_and_no_more(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    train = ["train", "bags", str(data), "--epochs", "1", "--out", str(run)]
    assert main(train) == 0
    assert main([*train, "--resume", "--test", "0.4"]) == 2
    said = one_line(capsys)
    assert "test=0.15, files=... mean=(" in said and len(said) < 700
    assert main([*train, "--resume", "--pool", "max"]) == 2
    assert "trained with pool=None, and asked for is pool=max" in one_line(capsys)


def test_info_of_a_model_and_of_what_nobody_reads(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    assert (
        main(["train", "bags", str(data), "--epochs", "1", "--pool", "gnp", "--out", str(run)]) == 0
    )
    capsys.readouterr()
    assert main(["info", str(run / "model.pt")]) == 0
    said = capsys.readouterr().out
    assert "network: GraphModel(" in said and "readout=gnp" in said and "table: x\n" in said
    (tmp_path / "make.py").write_text("print(1)")
    assert main(["info", str(tmp_path / "make.py")]) == 2
    assert "make.py ends like no file that can be read" in one_line(capsys)


def test_info_names_the_values_of_edges(made, capsys):
    (path, *_) = sorted(made("graphs").rglob("0.csv"))
    assert main(["info", str(path)]) == 0
    assert "of edges length (0." in capsys.readouterr().out


def test_columns_of_a_new_file_may_have_no_names(made, tmp_path, capsys):
    data, run = made("points"), tmp_path / "run"
    options = ["--features", "color", "--num-points", "16", "--epochs", "1"]
    options += ["--model", "pointnet2", "--set", "width=4"]
    assert main(["train", "points", str(data), *options, "--out", str(run)]) == 0
    np.savetxt(tmp_path / "bare.txt", np.random.default_rng(0).random((40, 6)))
    bare = ["predict", str(run / "model.pt"), str(tmp_path / "bare.txt")]
    assert main(bare) == 2
    assert "has no 'color' of the `features`; it has column 3" in one_line(capsys)
    assert main([*bare, "--columns", "x y z r g b"]) == 0


def test_columns_are_for_clouds(made, tmp_path, capsys):
    data, run = made("bags"), tmp_path / "run"
    assert main(["train", "bags", str(data), "--epochs", "1", "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["predict", str(run / "model.pt"), str(data), "--columns", "x"]) == 2
    assert "--columns are those of clouds" in one_line(capsys)


def test_bags_have_no_edges_to_go_one_way(capsys):
    for kind, there in (("graphs", True), ("bags", False)):
        with pytest.raises(SystemExit):
            main(["train", kind, "--help"])
        said = capsys.readouterr().out
        assert ("--directed" in said) is there and "If not given: 16." in " ".join(said.split())
