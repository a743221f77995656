"""What means the same in PyTorch Geometric gives the same here; what differs is in the table of the docs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch_geometric.nn import aggr as pyg

from graphpool import Segments, aggr
from graphpool.aggr.pyg import pool as call_pool
from graphpool.models import GraphModel

PAGE = Path(__file__).resolve().parents[2] / "docs" / "differences-to-pyg.md"
CHANNELS = 6
SORTED = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3, 3])
PTR = torch.tensor([0, 3, 3, 4, 9])
SIZE = 4


def elements(*shape: int, positive: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x.abs() + 0.1 if positive else x


def linear(*sizes: int) -> torch.nn.Module:
    torch.manual_seed(1)
    layers = [torch.nn.Linear(a, b, bias=False) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    return torch.nn.Sequential(*layers)


def gated() -> tuple[torch.nn.Module, torch.nn.Module]:
    gate, ours = torch.nn.Linear(CHANNELS, CHANNELS), aggr.AttSets(CHANNELS)
    ours.score.load_state_dict(gate.state_dict())
    return ours, pyg.AttentionalAggregation(gate)


def projected() -> tuple[torch.nn.Module, torch.nn.Module]:
    theirs = pyg.MultiAggregation(
        ["sum", "max"], mode="proj",
        mode_kwargs={"in_channels": CHANNELS, "out_channels": 3, "bias": False},
    )  # fmt: skip
    ours = aggr.Multi(CHANNELS, members=["sum", "max"], mode="proj", out_channels=3)
    ours.proj.load_state_dict(theirs.lin.state_dict())
    return ours, theirs


def deep_sets() -> tuple[torch.nn.Module, torch.nn.Module]:
    theirs = pyg.DeepSetsAggregation(linear(CHANNELS, 5), linear(5, 3))
    phi, rho = linear(CHANNELS, 5), linear(5, 3)
    ours = aggr.DeepSets(CHANNELS, phi=phi, rho=rho, hidden=5, out_channels=3)
    ours.phi.load_state_dict(theirs.local_nn.state_dict())
    ours.rho.load_state_dict(theirs.global_nn.state_dict())
    return ours, theirs


def several(mode: str, *members: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    return aggr.Multi(members=list(members), mode=mode), pyg.MultiAggregation(
        list(members), mode=mode
    )


SAME = {
    "sum": lambda: (aggr.Sum(), pyg.SumAggregation()),
    "mean": lambda: (aggr.Mean(), pyg.MeanAggregation()),
    "min": lambda: (aggr.Min(), pyg.MinAggregation()),
    "max": lambda: (aggr.Max(), pyg.MaxAggregation()),
    "var": lambda: (aggr.Var(), pyg.VarAggregation()),
    "std": lambda: (aggr.Std(), pyg.StdAggregation()),
    "softmax": lambda: (aggr.SoftPool(t=0.5), pyg.SoftmaxAggregation(t=0.5, learn=True)),
    "softmax per channel": lambda: (
        aggr.SoftPool(CHANNELS, t=0.5, per_channel=True),
        pyg.SoftmaxAggregation(t=0.5, learn=True, channels=CHANNELS),
    ),
    "softmax, half a gradient": lambda: (
        aggr.SoftPool(t=0.5, learn=False, semi_grad=True),
        pyg.SoftmaxAggregation(t=0.5, semi_grad=True),
    ),
    "powermean": lambda: (
        aggr.PowerMean(p=1.7),
        pyg.PowerMeanAggregation(p=1.7, learn=True, clamp_min=1e-30, clamp_max=None),
    ),
    "median": lambda: (aggr.Median(), pyg.MedianAggregation()),
    "median, filled": lambda: (aggr.Median(fill_value=3.0), pyg.MedianAggregation(3.0)),
    **{
        f"quantile, {how}": lambda how=how: (
            aggr.Quantile(q=0.25, interpolation=how),
            pyg.QuantileAggregation(0.25, interpolation=how),
        )
        for how in ("linear", "lower", "higher", "midpoint", "nearest")
    },
    "quantiles": lambda: (
        aggr.Quantile(q=[0.25, 0.5], fill_value=2.0),
        pyg.QuantileAggregation([0.25, 0.5], fill_value=2.0),
    ),
    "attentional": gated,
    "deepsets": deep_sets,
    "variance preserving": lambda: (
        aggr.VariancePreserving(),
        pyg.VariancePreservingAggregation(),
    ),
    "variance preserving, as a norm": lambda: (
        aggr.GNP(form="paper", sign="plus", p=1.0, q=0.5, negative="split"),
        pyg.VariancePreservingAggregation(),
    ),
    "multi, cat": lambda: several("cat", "mean", "max", "std"),
    **{
        f"multi, {mode}": lambda mode=mode: several(mode, "sum", "mean", "max")
        for mode in ("sum", "mean", "max", "min")
    },
    "multi, proj": projected,
}
POSITIVE = {"powermean"}
BY_INDEX_ONLY = ("median", "quantile")  # of PyTorch Geometric


def pair(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    ours, theirs = SAME[name]()
    return ours.double(), theirs.double()


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("form", ["index", "ptr", "unsorted"])
def test_same_value_and_derivative(name, form):
    ours, theirs = pair(name)
    x, index = elements(9, CHANNELS, positive=name in POSITIVE).requires_grad_(), SORTED
    bags = {"index": index}
    if form == "ptr":
        bags = {"ptr": PTR}
    elif form == "unsorted":
        shuffle = torch.tensor([4, 0, 8, 2, 3, 7, 1, 6, 5])
        x, bags = x.detach()[shuffle].requires_grad_(), {"index": index[shuffle]}
    theirs_by = {"index": index} if form == "ptr" and name.startswith(BY_INDEX_ONLY) else bags
    y, expected = ours(x, **bags, dim_size=SIZE), theirs(x, **theirs_by, dim_size=SIZE)
    torch.testing.assert_close(y, expected, rtol=1e-7, atol=1e-9)
    w = torch.randn_like(y)
    found, reference = (torch.autograd.grad((v * w).sum(), x)[0] for v in (y, expected))
    torch.testing.assert_close(found, reference, rtol=1e-6, atol=1e-8)


# Theirs take two dimensions only with a temperature per channel, and lay several quantiles out otherwise.
@pytest.mark.parametrize("name", [n for n in SAME if n not in ("softmax per channel", "quantiles")])
@pytest.mark.parametrize(
    ("shape", "dim"), [((2, 9, CHANNELS), -2), ((2, 9, CHANNELS), 1), ((9, 2, CHANNELS), 0)]
)
def test_same_in_three_dimensions(name, shape, dim):
    ours, theirs = pair(name)
    x = elements(*shape, positive=name in POSITIVE)
    y = ours(x, SORTED, dim_size=SIZE, dim=dim)
    if name == "multi, cat" or not name.startswith("multi"):
        expected = theirs(x, SORTED, dim_size=SIZE, dim=dim)
    else:
        # Their modes other than cat stack the results on the last dimension but one: slice by slice.
        slices = x.unbind(0 if dim in (-2, 1) else 1)
        one = [theirs(v, SORTED, dim_size=SIZE) for v in slices]
        expected = torch.stack(one, dim=0 if dim in (-2, 1) else 1)
    torch.testing.assert_close(y, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "std", "softmax", "median"])
def test_same_without_a_number_of_bags(name):
    ours, theirs = pair(name)
    x = elements(9, CHANNELS)
    torch.testing.assert_close(ours(x, SORTED), theirs(x, SORTED))
    one = torch.zeros(9, dtype=torch.long)
    torch.testing.assert_close(ours(x), theirs(x, one, dim_size=1))


def test_product_where_no_bag_is_empty():
    x, index = elements(9, CHANNELS).requires_grad_(), SORTED.clamp(max=1)
    y, expected = aggr.Mul()(x, index, dim_size=2), pyg.MulAggregation()(x, index, dim_size=2)
    torch.testing.assert_close(y, expected)
    w = torch.randn_like(y)
    for a, b in zip(*(torch.autograd.grad((v * w).sum(), x) for v in (y, expected)), strict=True):
        torch.testing.assert_close(a, b)


# What only PyTorch Geometric has: by its name, with elements in any order.
THEIRS = {
    "lstm": ({"out_channels": 5}, 5),
    "gru": ({"out_channels": 5}, 5),
    "sort": ({"k": 2}, 2 * CHANNELS),
    "GraphMultisetTransformer": ({"k": 2, "heads": 2}, CHANNELS),
    "EquilibriumAggregation": ({"out_channels": 3, "num_layers": [4]}, 3),
    "MLPAggregation": ({"out_channels": 3, "max_num_elements": 9, "num_layers": 1}, 3),
    "SetTransformerAggregation": ({"heads": 2}, CHANNELS),
    "LCMAggregation": ({"out_channels": 3}, 3),
    "PatchTransformerAggregation": ({"out_channels": 4, "patch_size": 2, "hidden_channels": 4}, 4),
    "VariancePreservingAggregation": ({}, CHANNELS),
    "AttentionalAggregation": ({"gate_nn": torch.nn.Linear(CHANNELS, 1)}, CHANNELS),
}


@pytest.mark.parametrize("name", THEIRS)
def test_what_only_pyg_has_is_called_right(name):
    arguments, width = THEIRS[name]
    torch.manual_seed(0)
    theirs = aggr.resolve(name, channels=CHANNELS, **arguments).eval()
    assert type(theirs).__module__.startswith("torch_geometric")
    x = elements(9, CHANNELS).float()
    shuffle = torch.tensor([4, 0, 8, 2, 3, 7, 1, 6, 5])
    order = SORTED[shuffle].argsort(stable=True)
    expected = theirs(x[shuffle][order], SORTED, dim_size=SIZE)
    y = call_pool(theirs, x[shuffle], Segments(index=SORTED[shuffle], num_segments=SIZE))
    torch.testing.assert_close(y, expected)
    assert y.shape == (SIZE, width)


@pytest.mark.parametrize("name", ["sum", "median", "attentional", "multi, cat"])
def test_ours_inside_theirs(name):
    ours, theirs = pair(name)
    x = elements(9, CHANNELS)
    both = [pyg.MultiAggregation([pool, pyg.MeanAggregation()]).double() for pool in (ours, theirs)]
    torch.testing.assert_close(*(multi(x, SORTED, dim_size=SIZE) for multi in both))


def test_theirs_as_readout():
    model = GraphModel(4, 8, 2, readout="VariancePreservingAggregation")
    assert model(torch.rand(3, 4), torch.tensor([[0, 1], [1, 2]])).shape == (1, 2)


def rows() -> list[list[str]]:
    text = PAGE.read_text().split("## What differs on purpose")[1]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def outcome(pool: torch.nn.Module, values: str, bags: str) -> object:
    if values == "count":
        return len(list(pool.parameters()))
    numbers = {"inf": math.inf, "nan": math.nan}
    x = torch.tensor(eval(values.removeprefix("1-D "), numbers))
    if not values.startswith("1-D") and x.dim() == 1:
        x = x.unsqueeze(1)
    if bags.startswith("ptr"):
        arguments = {"ptr": torch.tensor(eval(bags.removeprefix("ptr ")))}
    else:
        index, size = eval(bags)
        arguments = {"index": torch.tensor(index), "dim_size": size}
    try:
        return pool(x, **arguments).flatten().tolist()
    except (TypeError, ValueError, NotImplementedError) as error:
        return type(error).__name__


def _marked(row: list[str]) -> object:
    # PyG has no mean of integers by offsets without torch-scatter.
    marks = [pytest.mark.needs("torch_scatter")] if row[0] == "mean of integers" else []
    return pytest.param(row, id=row[0], marks=marks)


@pytest.mark.parametrize("row", [_marked(row) for row in rows()])
def test_every_row_of_the_table_of_differences(row):
    _, values, bags, theirs, gives, here, gives_here, why = row
    assert why
    for module, code, said in ((pyg, theirs, gives), (aggr, here, gives_here)):
        found = outcome(eval(code, vars(module)), values, bags)
        if re.fullmatch(r"\w+Error", said):
            assert found == said
        else:
            expected = eval(said, {"inf": math.inf, "nan": math.nan})
            assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert gives != gives_here


def test_every_aggregation_of_pyg_is_accounted_for():
    """A new one must find its line on the page and its test here."""
    page = PAGE.read_text().lower()
    known = {
        "Aggregation", "MultiAggregation", "SumAggregation", "MeanAggregation", "MaxAggregation",
        "MinAggregation", "MulAggregation", "VarAggregation", "StdAggregation", "SoftmaxAggregation",
        "PowerMeanAggregation", "MedianAggregation", "QuantileAggregation", "LSTMAggregation",
        "GRUAggregation", "Set2Set", "DegreeScalerAggregation", "SortAggregation", "SortAggr",
        "GraphMultisetTransformer", "AttentionalAggregation", "EquilibriumAggregation", "MLPAggregation",
        "DeepSetsAggregation", "SetTransformerAggregation", "LCMAggregation",
        "VariancePreservingAggregation", "PatchTransformerAggregation",
    }  # fmt: skip
    assert set(pyg.classes) <= known, "say on the page what stands for it here"
    for word in (
        "lstm",
        "gru",
        "set2set",
        "sort",
        "gmt",
        "equilibrium",
        "mlp",
        "lcm",
        "degreescaler",
    ):
        assert word in page
