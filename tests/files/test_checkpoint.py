"""A checkpoint says all that it takes to make its network again, or is refused in one line."""

from __future__ import annotations

import pickle
import re
import zipfile

import pytest
import torch

import graphpool
from graphpool import aggr, models
from graphpool._recorded import SAVABLE
from graphpool.files import GraphFiles, MeshFiles, PointFiles
from graphpool.files.reader import Table
from graphpool.models import GraphModel, PointNet2Classifier


def graph():
    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 1], [1, 2, 0, 4, 5, 6, 3]])
    return torch.randn(7, 5), edges, torch.tensor([0, 0, 0, 1, 1, 1, 1]), 2


def same(model, path, *inputs, **named):
    """Saves and loads, and compares the answers to the last bit."""
    graphpool.save(model, path)
    torch.manual_seed(99)
    again = graphpool.load(path).model
    assert type(again) is type(model) and again is not model
    with torch.no_grad():
        assert torch.equal(model.eval()(*inputs, **named), again(*inputs, **named))


USABLE = [
    n for n in aggr.names() if not aggr.lookup(n).ragged and not aggr.lookup(n).needs_positions
]


@pytest.mark.parametrize("name", USABLE)
def test_every_pool_comes_back_by_name_and_as_a_module(name, tmp_path):
    cls = aggr.lookup(name)
    arguments = dict(cls.example_arguments)
    module = aggr.resolve(name, channels=8, **arguments)
    for readout, more in ((name, arguments), (cls, arguments), (module, {})):
        model = GraphModel(5, 8, 3, num_layers=1, readout=readout, readout_kwargs=more or None)
        same(model, tmp_path / "model.pt", *graph())


def test_every_network_of_the_library_can_be_saved():
    assert {name for name in models.__all__} <= set(SAVABLE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_precision_is_kept(dtype, tmp_path):
    x, *rest = graph()
    same(GraphModel(5, 8, 3, readout="mean").to(dtype), tmp_path / "m.pt", x.to(dtype), *rest)


def test_lazy_widths_tuples_and_lists_come_back(tmp_path):
    model = GraphModel(
        -1, 8, 2, aggr=("max", ["sum", "std"]), num_layers=2, readout=["mean", aggr.GNP(-1)]
    )
    model(*graph())
    same(model, tmp_path / "m.pt", *graph())


def test_what_a_checkpoint_holds_needs_no_code(tmp_path):
    path = tmp_path / "m.pt"
    files = GraphFiles(features=("charge",))
    graphpool.save(
        GraphModel(5, 8, 2), path, classes=["a", "b"], preprocess=files, about={"units": "nm"}
    )
    stored = torch.load(path, weights_only=True)
    assert stored["version"] == graphpool.__version__
    found = graphpool.load(path)
    assert (found.files, found.classes, found.about) == (files, ["a", "b"], {"units": "nm"})


class Own(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.width, self.linear = width, torch.nn.Linear(width, 2)

    def forward(self, x):
        return self.linear(x)


def test_what_cannot_be_described_is_refused_by_name_with_the_way_out(tmp_path):
    class Nameless(aggr.Max):
        pass

    cases = {
        "is an Own, .* @graphpool.savable": Own(),
        r"GraphModel.encoder is a Linear": GraphModel(5, 8, 2, encoder=torch.nn.Linear(5, 8)),
        r"GraphModel.readout is the pool Nameless, .* register": GraphModel(5, 8, 2, readout=Nameless()),
        r"GraphModel.conv is a function": GraphModel(5, 8, 2, conv=own_conv),
    }  # fmt: skip
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            graphpool.save(model, tmp_path / "m.pt")
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def own_conv(in_channels, out_channels, aggr, edge_dim):
    return graphpool.conv.GINConv(in_channels, out_channels, aggr=aggr)


def test_a_subclass_is_not_taken_for_its_base(tmp_path):
    class Mine(GraphModel):
        def __init__(self):
            super().__init__(5, 8, 2)

    with pytest.raises(ValueError, match="is a Mine"):
        graphpool.save(Mine(), tmp_path / "m.pt")


def test_a_network_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "m.pt"
    model = GraphModel(5, 8, 2)
    model.activation = False
    with pytest.raises(ValueError, match="changed after it was made: activation: False, True"):
        graphpool.save(model, path)
    model = GraphModel(5, 8, 2, dropout=0.5)
    model.dropout.p = 0.1
    with pytest.raises(ValueError, match=r"dropout\.p"):
        graphpool.save(model, path)
    model = GraphModel(5, 8, 2)
    model.head = torch.nn.Linear(8, 7)
    with pytest.raises(ValueError, match="do not fit"):
        graphpool.save(model, path)
    model = GraphModel(5, 8, 2)
    model.head = torch.nn.Sequential(torch.nn.Linear(8, 2), torch.nn.Tanh())
    with pytest.raises(ValueError, match="do not fit"):
        graphpool.save(model, path)


def test_arguments_that_are_written_to_later_do_not_reach_a_checkpoint(tmp_path):
    readout = ["mean", "max"]
    model = GraphModel(5, 8, 2, readout=readout)
    readout.append("sum")
    same(model, tmp_path / "m.pt", *graph())


def test_networks_and_pools_of_ones_own(tmp_path):
    path = tmp_path / "m.pt"
    try:
        graphpool.savable(Own)

        @aggr.register("largest_of_mine")
        class Largest(aggr.Max):
            pass

        same(Own(3), path, torch.rand(4, 3))
        with pytest.raises(ValueError, match="taken"):
            graphpool.savable(type("Own", (torch.nn.Module,), {"__module__": "elsewhere"}))
        del SAVABLE["Own"]
        with pytest.raises(ValueError, match="needs 'Own', .* import the module"):
            graphpool.load(path)
        same(GraphModel(5, 8, 2, readout="largest_of_mine"), path, *graph())
        graphpool.save(GraphModel(5, 8, 2, readout=Largest()), tmp_path / "other.pt")
    finally:
        SAVABLE.pop("Own", None)
        aggr.unregister("largest_of_mine")
    for file in (path, tmp_path / "other.pt"):
        with pytest.raises(ValueError, match="'largest_of_mine'.* import the module") as error:
            graphpool.load(file)
        assert "\n" not in str(error.value)


def test_foreign_and_damaged_files_are_refused_in_a_line(tmp_path):
    path = tmp_path / "m.pt"
    model = GraphModel(5, 8, 2, readout="gnp")
    graphpool.save(model, path, classes=["a", "b"])
    good = torch.load(path, weights_only=True)

    def refused(stored, message):
        torch.save(stored, path)
        with pytest.raises(ValueError, match=message) as error:
            graphpool.load(path)
        assert "\n" not in str(error.value) and str(path) in str(error.value)

    refused(model.state_dict(), "no checkpoint that graphpool.save wrote; it holds encoder.weight")
    refused([1, 2], "no checkpoint")
    refused({**good, "format": 2, "version": "9.0"}, "format 2, not 1: .* by graphpool 9.0")
    arguments = good["model"]["arguments"]["values"]
    other = {
        **good["model"],
        "arguments": {"is": "dict", "values": {**arguments, "readout": "attsets"}},
    }
    refused({**good, "model": other}, "weights do not fit GraphModel: .*readout")
    wide = {**good["model"], "arguments": {"is": "dict", "values": {**arguments, "in_channels": 6}}}
    refused({**good, "model": wide}, "size mismatch for encoder.weight")
    newer = {**good["model"], "arguments": {"is": "dict", "values": {**arguments, "magic": 6}}}
    refused(
        {**good, "model": newer, "version": "9.0"}, "does not take magic.*written by graphpool 9.0"
    )
    refused({k: v for k, v in good.items() if k != "state"}, "lacks 'state'")
    path.write_bytes(pickle.dumps({"kind": "graphpool checkpoint"}))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        graphpool.load(path)
    with pytest.raises(FileNotFoundError):
        graphpool.load(tmp_path / "none.pt")


def test_what_an_older_version_did_not_know_has_its_default(made, tmp_path):
    path, cloud = tmp_path / "m.pt", sorted(made("points").rglob("*.csv"))[0]
    network = PointNet2Classifier(2, 3, width=4, k=4, radii=(None, None), norm="batch")
    table = Table(("color",), {}, (0.5,) * 3, (0.3,) * 3, (0.0,) * 3, (1.0,) * 3)
    files = PointFiles(features=("color",), num_points=40, table=table, fewest=90, radii=None)
    graphpool.save(network, path, classes=["a", "b"], preprocess=files)
    new = graphpool.load(path).predict(cloud)[0]
    stored = torch.load(path, weights_only=True)
    values = stored["preprocess"]["arguments"]["values"]
    del stored["model"]["arguments"]["values"]["norm"], values["fewest"], values["radii"]
    del (
        values["table"]["arguments"]["values"]["low"],
        values["table"]["arguments"]["values"]["high"],
    )
    torch.save(stored, path)
    assert torch.equal(graphpool.load(path).predict(cloud)[0].probabilities, new.probabilities)


def test_a_byte_that_was_changed_is_found(tmp_path):
    path = tmp_path / "m.pt"
    graphpool.save(GraphModel(5, 8, 2, readout="gnp"), path)
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        weights = [member for member in archive.infolist() if "/data/" in member.filename]
        content = archive.read(max(weights, key=lambda member: member.file_size))
    at = good.index(content)
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    with pytest.raises(ValueError, match="is damaged: .* is not what its checksum says"):
        graphpool.load(path)


def test_a_pickle_never_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"kind": "graphpool checkpoint", "model": Evil()}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match="is not a file of tensors"):
        graphpool.load(tmp_path / "m.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    with pytest.raises(
        ValueError,
        match=r"Python objects \(torch\.nn\.modules\.linear\.Linear\), and .* code\. A model is",
    ):
        graphpool.load(tmp_path / "m.pt")


def test_names_must_fit_the_outputs(tmp_path):
    with pytest.raises(ValueError, match="`classes` must name the 3 outputs; got 2"):
        graphpool.save(PointNet2Classifier(3, width=4), tmp_path / "m.pt", classes=["a", "b"])


def test_a_checkpoint_without_a_reader_says_how_to_go_on(tmp_path):
    graphpool.save(GraphModel(5, 8, 2), tmp_path / "m.pt")
    with pytest.raises(ValueError, match="`preprocess` and `classes`"):
        graphpool.load(tmp_path / "m.pt").predict("a.csv")


def test_an_interruption_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    graphpool.save(GraphModel(5, 8, 2), path, classes=["a", "b"])
    before = path.read_bytes()
    write = torch.save

    def stop(stored, to):
        write({}, to)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        graphpool.save(GraphModel(5, 8, 2), path)
    assert path.read_bytes() == before


def test_readers_check_their_arguments():
    with pytest.raises(ValueError, match="`size` must be"):
        PointFiles(size="big")
    with pytest.raises(ValueError, match="`block` must be"):
        PointFiles(block=2.0)
    for wrong, message in (
        ({"features": ("color",)}, "`features` of meshes are normal and position; got 'color'"),
        (
            {"augment": ("spin",)},
            "`augment` must be of jitter, flip, scale, rotate, .*; got 'spin'",
        ),
        ({"augment": ("rotate-z",)}, "`augment` by 'rotate-z' needs `features`"),
        ({"num_faces": 3}, "`num_faces` must be"),
        ({"edges": True, "labels": "files"}, "`labels` need faces"),
    ):
        with pytest.raises(ValueError, match=message):
            MeshFiles(**wrong)
