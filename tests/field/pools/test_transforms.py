"""Needs of those who differentiate pools by other means than ``backward()``, look inside of them, and
combine them: functional transforms and dual numbers, meta-learning, Jacobians, explanations, export."""

from __future__ import annotations

import copy
import inspect
import io
import re
from functools import partial

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

import graphpool
from graphpool import Segments, aggr, attention, catalogue, contributions, explain, ops
from graphpool.models import GraphModel
from graphpool.ops import neighbors
from graphpool.ops.derivatives import differentiate_again
from graphpool.ops.second_moment import segment_matmul, segment_outer
from graphpool.testing.ops import segment_functions

CHANNELS = 4
INDEX = torch.tensor([2, 0, 2, 0, 0, 3, 3, 3, 3])
SEGMENTS = Segments(index=INDEX, num_segments=5)
RAGGED = ("ward", "dynamic_kmax")


def make(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    arguments = aggr.lookup(name).example_arguments
    return aggr.resolve(name, channels=CHANNELS, **arguments).double().eval()


def sample(seed: int = 1, rows: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, CHANNELS, generator=generator, dtype=torch.float64)


def values(name: str):
    pool = make(name)

    def call(x):
        y = pool(x, INDEX, dim_size=5)
        return y[0] if isinstance(y, tuple) else y

    return call


def slope(f, x, direction, step=1e-6):
    """Central differences: no derivative of any kind takes part."""
    with torch.no_grad():
        return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


def close(actual, expected, atol=1e-6):
    torch.testing.assert_close(actual.detach(), expected.detach(), atol=atol, rtol=1e-5)


@pytest.mark.parametrize("name", aggr.names())
def test_every_transform_of_first_order(name):
    f, x, t = values(name), sample(), sample(2) - 0.5
    expected, w = slope(f, x, t), torch.randn_like(f(x))

    def scalar(v):
        return (f(v) * w).sum()

    along = (expected * w).sum()
    value, tangent = jvp(f, (x,), (t,))
    close(value, f(x))
    close(tangent, expected)
    close((grad(scalar)(x) * t).sum(), along)
    close((vjp(f, x)[1](w)[0] * t).sum(), along)
    with forward_ad.dual_level():
        close(forward_ad.unpack_dual(f(forward_ad.make_dual(x, t))).tangent, expected)
    for jacobian in (jacrev, jacfwd):
        close((jacobian(f)(x) * t).sum((-1, -2)), expected)


#: One of each kind of computation. `linearize` writes down every step, which takes up to seconds a pool.
WRITTEN_DOWN = ("std", "quantile", "powermean", "gated_attention", "deepsets", "mfb")


@pytest.mark.parametrize(
    "name",
    [
        name if name in WRITTEN_DOWN else pytest.param(name, marks=pytest.mark.slow)
        for name in aggr.names()
        if name not in RAGGED
    ],
)
def test_linearized(name):
    f, x, t = values(name), sample(), sample(2) - 0.5
    close(linearize(f, x)[1](t), slope(f, x, t))


@pytest.mark.parametrize("name", aggr.names())
def test_every_order_of_two_transforms(name):
    f, x, t = values(name), sample(), sample(2) - 0.5
    w = torch.randn_like(f(x))

    def scalar(v):
        return (f(v) * w).sum()

    def first(v):
        return torch.func.grad(scalar)(v)

    expected = slope(first, x, t)
    close(jvp(grad(scalar), (x,), (t,))[1], expected, atol=1e-4)
    close((hessian(scalar)(x) * t).sum((-1, -2)), expected, atol=1e-4)
    for outer in (jacfwd, jacrev):
        close((outer(jacfwd(scalar))(x) * t).sum((-1, -2)), expected, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in aggr.names() if n not in RAGGED])
def test_vmap_and_vmap_of_grad_are_loops(name):
    f, many = values(name), torch.stack([sample(seed) for seed in range(3)])

    def scalar(v):
        return f(v).cos().sum()

    close(vmap(f)(many), torch.stack([f(x) for x in many]))
    loop = torch.stack(
        [torch.autograd.grad(scalar(x := v.clone().requires_grad_()), x)[0] for v in many]
    )
    close(vmap(grad(scalar))(many), loop)


def test_a_choice_of_clusters_is_refused_by_name_under_vmap():
    with pytest.raises(ValueError, match="`x` is vectorised by torch.vmap"):
        vmap(values("ward"))(torch.stack([sample(), sample(2)]))
    with pytest.raises(ValueError, match="`points` is vectorised by torch.vmap"):
        vmap(lambda p: neighbors.knn(p, k=2).index)(torch.rand(2, 5, 3))


WEIGHT = torch.linspace(0.5, 1.5, 9, dtype=torch.float64)
GATHER = torch.tensor([0, 0, 1, 2, 3, 8, 7, 6, 6])
P = torch.tensor([2.0, 3.0, -1.0, 1.5], dtype=torch.float64)
OPS = {
    "moments": lambda x: torch.cat(ops.segment_moments(x, SEGMENTS, ("sum", "max", "std"))),
    "softmax_sum": lambda x: ops.segment_softmax_sum(x[:, :2], x, SEGMENTS),
    "softpool of a learned temperature": lambda x: ops.segment_softpool(x, SEGMENTS, x[0]),
    "power per channel": lambda x: ops.segment_power(x, SEGMENTS, P, 1 / P, WEIGHT),
    "power of learned exponents": lambda x: ops.segment_power(x, SEGMENTS, x[0] + 0.5, x[1]),
    "outer": lambda x: segment_outer(x, x, SEGMENTS, WEIGHT),
    "matmul": lambda x: segment_matmul(x, x.unsqueeze(1).expand(9, 4, 4)[:5], SEGMENTS),
    "interpolated features": lambda x: neighbors.interpolate(x, PLACES, PLACES[:3] + 0.1),
    "interpolation by place": lambda x: neighbors.interpolate(x, x, x[:3, :] + 0.1),
}
for _name, _op in segment_functions().items():
    _takes = {"weight": WEIGHT, "gather": GATHER}
    _takes = {key: _takes[key] for key in inspect.signature(_op).parameters}
    for _options in ({}, _takes, *({key: value} for key, value in _takes.items())):
        OPS[" ".join([_name, *_options])] = partial(_op, segments=SEGMENTS, **_options)
PLACES = sample(7)[:, :2]


@pytest.mark.parametrize("name", OPS)
def test_no_op_loses_a_tangent(name):
    f, x, t = OPS[name], sample(), sample(2) - 0.5
    expected = slope(f, x, t)
    assert expected.abs().max() > 1e-3
    close(jvp(f, (x,), (t,))[1], expected)
    with forward_ad.dual_level():
        close(forward_ad.unpack_dual(f(forward_ad.make_dual(x, t))).tangent, expected)
    close((jacrev(f)(x) * t).sum((-1, -2)), expected)


def test_the_sum_of_ones_has_the_tangent_three():
    segments = Segments(ptr=torch.tensor([0, 3]))
    ones = torch.ones(3)
    assert jvp(lambda x: ops.segment_sum(x, segments), (ones,), (ones,))[1].item() == 3


def test_extrema_keep_their_value_and_derivative_at_infinities_and_ties():
    x = torch.tensor([[torch.inf, 1.0], [2.0, 1.0], [0.1, 1.0]], dtype=torch.float64)
    one = Segments(ptr=torch.tensor([0, 3]))
    value, back = vjp(lambda v: ops.segment_max(v, one), x)
    assert value.tolist() == [[torch.inf, 1.0]]
    third = 1 / 3
    close(
        back(torch.ones(1, 2).double())[0],
        torch.tensor([[1, third], [0, third], [0, third]]).double(),
    )


@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp", "dual"])
def test_explain_says_why_the_composed_form_is_taken(transform):
    said = []

    def f(x):
        said.append(explain("segment_sum", x))
        return ops.segment_sum(x, SEGMENTS).sum()

    x = sample()
    if transform == "grad":
        grad(f)(x)
    elif transform == "vmap":
        vmap(f)(x[None])
    elif transform == "jvp":
        jvp(f, (x,), (x,))
    else:
        with forward_ad.dual_level():
            f(forward_ad.make_dual(x, x))
    assert "composed form on plain PyTorch" in said[0]
    assert "torch.func" in said[0]
    assert "Numba" in explain("segment_sum", x)


@pytest.mark.parametrize("readout", ["sum", "gnp", "attsets", ["mean", "std"], "slots"], ids=str)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_gradient_of_a_whole_model_through_functional_call(readout, norm):
    torch.manual_seed(0)
    model = (
        GraphModel(4, 8, 2, num_layers=2, aggr="gnp", readout=readout, norm=norm).double().eval()
    )
    edges = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 6]])
    inputs = (sample(rows=7), edges, torch.tensor([0, 0, 0, 1, 1, 1, 1]))
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters):
        return functional_call(model, parameters, inputs, {"batch_size": 2}).cos().sum()

    model(*inputs, batch_size=2).cos().sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    found, along = grad(loss)(parameters), torch.zeros(())
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}
    for name, reference in expected.items():
        close(found[name], reference, atol=1e-9)
        along = along + (tangents[name] * reference).sum()
    close(jvp(loss, (parameters,), (tangents,))[1], along)


def test_segments_first_used_inside_a_transform_serve_afterwards():
    """What is computed once and kept must not stay wrapped in a level that is gone."""
    for segments in (
        Segments(index=INDEX, num_segments=5),
        Segments(ptr=torch.tensor([0, 2, 2, 9])),
    ):
        for transform in (grad, lambda f: vmap(f, in_dims=0)):
            x = sample() if transform is grad else sample()[None]
            transform(lambda v, s=segments: aggr.Median()(v, s).sum() + (s.perm is None))(x)
        kept = copy.deepcopy(segments)
        assert (
            kept.counts.numpy().tolist() == torch.bincount(kept.index, minlength=len(kept)).tolist()
        )
        assert segments.ptr.numpy()[-1] == 9
        torch.save(segments, io.BytesIO())


@pytest.mark.parametrize("name", aggr.names())
def test_gradients_are_the_same_with_and_without_create_graph(name):
    f, x = values(name), sample().requires_grad_()
    w = torch.randn_like(f(x))
    plain, again = (
        torch.autograd.grad((f(x) * w).sum(), x, create_graph=graph)[0] for graph in (False, True)
    )
    close(again, plain, atol=1e-9)
    direction = sample(3)
    close((plain * direction).sum(), (slope(f, x.detach(), direction) * w).sum())


def test_an_input_made_of_another_is_not_counted_twice():
    x = torch.tensor([2.0], requires_grad=True)
    y = x * x
    (of_x, of_y) = differentiate_again(lambda a, b: a * b, [x, y], [True, True], torch.ones(1))
    # The function is a * b: its slopes are b and a, whatever b was made of.
    assert (of_x.item(), of_y.item()) == (4.0, 2.0)


# ------------------------------------------------------------------------------------- looking inside

DIVIDED = {
    "sum": {}, "mean": {}, "max": {}, "min": {}, "std": {}, "median": {}, "quantile": {"q": [0.2, 0.9]},
    "powermean": {"p": 3.0}, "gem": {}, "ggem": {"groups": 2}, "kmax": {"k": 2}, "gnp": {},
    "softmax": {}, "attsets": {}, "adapool": {}, "isqrt_cov": {},
    "multi": {"members": ["sum", "max"], "mode": "mixture"},
}  # fmt: skip


@pytest.mark.parametrize("name", DIVIDED)
@pytest.mark.parametrize("weighted", [False, True])
def test_contributions_add_up_to_the_result(name, weighted):
    torch.manual_seed(0)
    pool, x = aggr.resolve(name, channels=CHANNELS, **DIVIDED[name]).double().eval(), sample()
    weight = torch.arange(1, 10) % 3 if weighted else None
    parts = contributions(pool, x, SEGMENTS, weight=weight)
    result = pool(x, SEGMENTS, weight=weight).detach()
    total = torch.stack([parts[bag == INDEX].sum(0) for bag in range(5)])
    close(total, result, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["var", "pma", "deepsets", "bilinear", "logsumexp", "lowrank_bilinear"]
)
def test_what_cannot_be_divided_is_refused(name):
    with pytest.raises(ValueError, match="cannot be divided among the elements"):
        contributions(make(name), sample(), SEGMENTS)


def test_gnp_is_divided_through_its_linear_map():
    pool = aggr.GNP(2, form="paper", sign="both").double()
    x = torch.tensor([[1.0, 2.0], [3.0, 0.5]], dtype=torch.float64)
    expected = torch.zeros(2, 2, dtype=torch.float64)
    for element in range(2):
        grown = x.clone()
        grown[element] *= 1 + 1e-6
        expected[element] = (pool(grown) - pool(x))[0].detach() / 1e-6
    close(contributions(pool, x), expected, atol=1e-5)


def test_the_attention_of_pma_is_the_softmax_of_its_scores():
    torch.manual_seed(0)
    pool, x = aggr.PMA(4, num_seeds=2, heads=2).double(), sample()
    share = attention(pool, x, SEGMENTS)
    assert share.shape == (9, 2, 2)
    attend = pool.attend
    key, query = attend.key(x), attend.query(pool.seeds)
    for bag in (0, 2, 3):
        rows = bag == INDEX
        for head in range(2):
            part = slice(2 * head, 2 * head + 2)
            expected = (key[rows][:, part] @ query[:, part].T / 2**0.5).softmax(0)
            close(share[rows][:, :, head], expected)


@pytest.mark.parametrize("name", ["softmax", "attsets", "adapool", "logsumexp", "midam_attention"])
def test_attention_adds_up_to_one(name):
    share = attention(make(name), sample(), SEGMENTS)
    for bag in (0, 2, 3):
        close(share[bag == INDEX].sum(0), torch.ones(share.size(1)).double())


def test_attention_of_a_pool_without_is_refused():
    with pytest.raises(ValueError, match=r"Max has no attention weights; `contributions`"):
        attention(aggr.Max(), sample())


# ---------------------------------------------------------------------------------------- combinations


def test_weights_beside_the_vectors_are_refused_where_one_vector_is_needed():
    pool = aggr.AttSets(4, return_weights=True)
    for place in (
        lambda: GraphModel(4, 8, 2, readout=aggr.AttSets(8, return_weights=True)),
        lambda: GraphModel(4, 8, 2, aggr=pool),
        lambda: aggr.Multi(4, members=["sum", pool]),
        lambda: aggr.Multi(4, members=["sum", "dynamic_kmax"]),
    ):
        with pytest.raises(ValueError, match="one pool of several"):
            place()


def test_hasattr_answers():
    assert not hasattr(aggr.Multi(members=["sum"]), "mixture")
    assert hasattr(aggr.Multi(members=["sum"], mode="mixture"), "mixture")
    # Every property of every pool: there, or not; no other error.
    for name in aggr.names():
        pool = make(name)
        for attribute in dir(type(pool)):
            if isinstance(getattr(type(pool), attribute), property):
                hasattr(pool, attribute)


def test_integers_go_through_several_pools_that_take_them():
    whole = torch.tensor([[2**60], [1], [3]])
    index = torch.tensor([0, 0, 2])
    y = aggr.Multi(members=["sum", "max", "min"])(whole, index, dim_size=3)
    assert y.tolist() == [[2**60 + 1, 2**60, 1], [0, 0, 0], [3, 3, 3]]
    for pool in (aggr.Multi(members=["sum", "mean"]), aggr.Multi(members=["sum"], mode="mixture")):
        with pytest.raises(TypeError, match="floating point"):
            pool(whole)


def test_a_sum_of_names_is_a_word_everywhere():
    x = sample()
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for bag in (0, 2, 3):
        expected[bag] = x[bag == INDEX].amax(0) + x[bag == INDEX].mean(0)
    close(aggr.resolve("max+mean", channels=4)(x, INDEX, dim_size=5), expected)
    model = GraphModel(4, 8, 2, aggr="sum + std", readout="max+mean")
    assert model(torch.rand(3, 4), torch.tensor([[0, 1], [1, 2]])).shape == (1, 2)
    with pytest.raises(ValueError, match="Unknown aggregation 'maxx'"):
        aggr.resolve("maxx+mean")


MODES = {
    "sum": lambda y: y.sum(0),
    "mean": lambda y: y.mean(0),
    "max": lambda y: y.amax(0),
    "min": lambda y: y.amin(0),
    "std": lambda y: y.std(0, correction=0),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_several_pools(mode):
    x, pools = sample(), [aggr.Sum(), aggr.Max(), aggr.SoftPool().double()]
    y = aggr.Multi(members=pools, mode=mode)(x, SEGMENTS)
    stacked = torch.stack([pool(x, SEGMENTS) for pool in pools])
    close(y, MODES[mode](stacked))
    with pytest.raises(ValueError, match="equal width"):
        aggr.Multi(4, members=["sum", aggr.KMax(4, k=2)], mode=mode)(torch.rand(3, 4))


def test_projection_of_several_pools():
    pool = aggr.Multi(4, members=["sum", "max"], mode="proj", out_channels=3).double()
    x = sample()
    expected = torch.cat([aggr.Sum()(x, SEGMENTS), aggr.Max()(x, SEGMENTS)], 1) @ pool.proj.weight.T
    close(pool(x, SEGMENTS), expected)
    assert pool.out_channels == 3
    for arguments in ({"mode": "proj"}, {"mode": "sum", "out_channels": 3}):
        with pytest.raises(ValueError, match="`out_channels` goes with mode='proj'"):
            aggr.Multi(4, members=["sum"], **arguments)


def test_several_quantiles_side_by_side_and_a_value_for_empty_bags():
    x, levels = sample(), [0.1, 0.5, 0.9]
    pool = aggr.Quantile(4, q=levels, fill_value=-7.0)
    y = pool(x, INDEX, dim_size=5)
    assert pool.out_channels == 12
    for bag in (0, 2, 3):
        close(y[bag], torch.cat([torch.quantile(x[bag == INDEX], q, dim=0) for q in levels]))
    assert y[1].eq(-7).all()
    assert y[4].eq(-7).all()
    assert aggr.Median(fill_value=2.0)(x, INDEX, dim_size=5)[1].eq(2).all()
    assert aggr.Median()(x, INDEX, dim_size=5)[1].eq(0).all()
    absent = aggr.Median(fill_value=2.0)(x, INDEX, dim_size=5, weight=(INDEX != 3).double())
    assert absent[3].eq(2).all()


def test_the_temperature_of_logsumexp_learns():
    pool, x = aggr.LogSumExp(tau=0.5, learn=True).double(), sample()
    one = Segments(ptr=torch.tensor([0, 9]))
    close(pool(x, one), 0.5 * (x / 0.5).logsumexp(0, keepdim=True))
    pool(x, one).sum().backward()

    def of(tau):
        return (tau * (x / tau).logsumexp(0)).sum()

    close(pool.log_tau.grad, 0.5 * (of(0.5 + 1e-6) - of(0.5 - 1e-6)) / 2e-6)
    with torch.no_grad():
        pool.log_tau.sub_(50)
    assert 0 < pool.tau.item() < 1e-20
    pool.reset_parameters()
    assert pool.tau.item() == pytest.approx(0.5)


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_product_with_zeros_and_its_derivative(zeros):
    x = sample() - 0.5
    x[:zeros] = 0
    x.requires_grad_()
    y = aggr.Mul()(x, INDEX * 0, dim_size=1)
    close(y[0], torch.stack([torch.prod(c) for c in x.unbind(1)]))
    (found,) = torch.autograd.grad(y.sum(), x)
    others = torch.stack([x[torch.arange(9) != e].prod(0) for e in range(9)])
    close(found, others, atol=1e-12)


def test_product_weights_are_repetitions_integers_exact_and_nan_stays_at_home():
    x = torch.tensor([[-2.0], [3.0], [5.0], [torch.nan]])
    index = torch.tensor([0, 0, 1, 2])
    y = aggr.Mul()(x, index, dim_size=4, weight=torch.tensor([3, 2, 0, 1]))
    assert y[:2].tolist() == [[-72.0], [0.0]]
    assert y[2].isnan().all()
    assert y[3].item() == 0
    whole = torch.tensor([3**20, 3**19])
    assert aggr.Mul()(whole, torch.tensor([0, 0])).item() == 3**39
    x = torch.tensor([[2.0], [torch.inf], [torch.nan]], requires_grad=True)
    (slopes,) = torch.autograd.grad(aggr.Mul()(x, torch.tensor([0, 1, 2])).nan_to_num().sum(), x)
    assert slopes[0].item() == 1


def test_degree_scalers_of_pyg_around_these_pools():
    from torch_geometric.nn import DegreeScalerAggregation

    degree = torch.bincount(torch.tensor([3, 2, 4, 1]))
    x = sample()
    scaled = DegreeScalerAggregation(
        [aggr.GNP(CHANNELS).double(), aggr.Max()], ["identity", "amplification"], degree
    )
    y = scaled(x, INDEX.sort().values, dim_size=5)
    counts = torch.bincount(INDEX, minlength=5).double()
    factor = (counts + 1).log() / (torch.tensor([1.0, 2.0, 3.0, 4.0]) + 1).log().mean()
    bags = Segments(index=INDEX.sort().values, num_segments=5)
    plain = torch.cat([scaled.aggr.aggrs[0](x, bags), scaled.aggr.aggrs[1](x, bags)], 1)
    close(y, torch.cat([plain, plain * factor[:, None]], 1), atol=1e-5)


# --------------------------------------------------------------------------------- pages and programs


def test_the_first_lines_of_the_catalogue_run():
    (block,) = re.findall(r"```python\n(.*?)```", catalogue.to_markdown(), re.S)
    ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
    names = {"x": torch.rand(3, 64), "edge_index": ring, "cluster": torch.tensor([0, 0, 1])}
    exec(block, names)
    assert "SAGEConv" in names


class WithSize(torch.nn.Module):
    """A pool with its number of bags: what export needs to see only tensors."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x, index):
        return self.pool(x, index, dim_size=3)


@pytest.mark.parametrize("name", ["sum", "max", "gnp", "softmax", "mul"])
def test_exported_programs_hold_plain_operations(name):
    """Without `use_backend("torch")`."""
    network = WithSize(aggr.resolve(name, channels=4)).eval()
    x, index = torch.rand(6, 4), torch.tensor([0, 0, 2, 2, 2, 0])
    program = torch.export.export(network, (x, index))
    assert "graphpool::" not in str(program.graph_module.graph)
    torch.testing.assert_close(program.module()(x + 1, index), network(x + 1, index))


def export_to_onnx(name, file, dynamo):
    network = WithSize(aggr.resolve(name, channels=4)).eval()
    x, index = torch.rand(6, 4), torch.tensor([0, 0, 2, 2, 2, 0])
    torch.onnx.export(network, (x, index), str(file), dynamo=dynamo, input_names=["x", "index"])
    return network, x, index


@pytest.mark.slow
@pytest.mark.needs("onnxscript", "onnxruntime")
@pytest.mark.parametrize(
    ("name", "dynamo"), [("gnp", True), ("attsets", True), ("sum", False), ("std", False)]
)
@pytest.mark.filterwarnings("ignore")
def test_onnx_without_choosing_a_backend(name, dynamo, tmp_path):
    import onnxruntime as runtime

    network, x, index = export_to_onnx(name, tmp_path / "pool.onnx", dynamo)
    session = runtime.InferenceSession(str(tmp_path / "pool.onnx"))
    names = [i.name for i in session.get_inputs()]
    (y,) = session.run(None, dict(zip(names, (x.numpy(), index.numpy()), strict=True)))
    torch.testing.assert_close(torch.from_numpy(y), network(x, index).detach())


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("name", ["gnp", "softmax", "median"])
@pytest.mark.filterwarnings("ignore")
def test_what_the_older_onnx_exporter_gets_wrong_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="call torch.onnx.export with dynamo=True"):
        export_to_onnx(name, tmp_path / "pool.onnx", dynamo=False)


def test_explain_under_no_transform_is_as_before():
    with graphpool.use_backend("torch"):
        assert "use_backend('torch') is in force" in explain("segment_sum", sample())
