"""Deep weight spaces, against the published blocks as loops over entries, in float64."""

import itertools

import pytest
import torch
from torch import nn

import graphpool
from graphpool.models.weight_space import DWSLayer, DWSNet, Perceptrons, WeightTable
from graphpool.models.weight_space.layers import RoleNorm, num_roles
from graphpool.train import recalibrate

POOLS = {"max": lambda x: x.amax(0), "mean": lambda x: x.mean(0), "sum": lambda x: x.sum(0)}


def perceptron(*widths):
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def entries_of(widths):
    """Every weight and bias in the layout of the vectors: tensor, its hidden neurons, its input or output."""
    last = len(widths) - 2
    for layer, (ins, outs) in enumerate(itertools.pairwise(widths)):
        for c, r in itertools.product(range(outs), range(ins)):
            neurons = ([(layer, r)] if layer else []) + ([(layer + 1, c)] if layer < last else [])
            yield ("weight", layer), neurons, (r if layer == 0 else c if layer == last else None)
        for c in range(outs):
            yield (
                ("bias", layer),
                [(layer + 1, c)] if layer < last else [],
                c if layer == last else None,
            )


def by_loop(layer, x, widths, sizes, pool):
    """What each entry gets from each tensor: for all sets of shared neurons, these kept, the rest pooled."""
    (ins, outs, depth), f, g = sizes, x.size(1), layer.out_channels
    slots, last = 1 + ins + outs, len(widths) - 2
    shared = num_roles(*sizes) - outs
    entries = list(entries_of(widths))

    def slot(tensor, free):
        kind, at = tensor
        return 0 if kind == "bias" else 1 + free + (ins if at == last else 0)

    def role(tensor, neurons, free):
        if len(neurons) == 2:
            return (depth - 1) * slots + tensor[1] - 1
        return (neurons[0][0] - 1) * slots + slot(tensor, free) if neurons else shared + free

    def part(tensor, neurons, free, kept):
        """Of the features of a neuron: a slot, or what arrives, or what leaves."""
        return slot(tensor, free) if len(neurons) < 2 else slots + (kept == neurons[0])

    out = []
    for tensor, neurons, free in entries:
        at = role(tensor, neurons, free)
        total = layer.common.bias[at * g : at * g + g]
        for kept in neurons:
            place = slots + (kept == neurons[1]) if len(neurons) == 2 else slot(tensor, free)
            total = total + layer.neuron.bias[kept[0] - 1, place * g : place * g + g]
        if len(neurons) == 2:
            total = total + layer.inner.bias[tensor[1] - 1]
        for sender, other in {(t, o) for t, _, o in entries}:
            rows = [i for i, (t, _, o) in enumerate(entries) if (t, o) == (sender, other)]
            ends = {n[0] for n in entries[rows[0]][1]}
            common = [n for n in neurons if n[0] in ends]
            for keep in itertools.chain.from_iterable(
                itertools.combinations(common, k) for k in range(len(common) + 1)
            ):
                chosen = [i for i in rows if all(n in entries[i][1] for n in keep)]
                value, like = POOLS[pool](x[chosen]), entries[chosen[0]]
                if len(keep) == 2:
                    weight = layer.inner.weight[tensor[1] - 1]
                elif keep:
                    place = (
                        slots + (keep[0] == neurons[1]) if len(neurons) == 2 else slot(tensor, free)
                    )
                    read = part(*like, keep[0])
                    weight = layer.neuron.weight[
                        keep[0][0] - 1, place * g : place * g + g, read * f : read * f + f
                    ]
                else:
                    read = role(*like)
                    weight = layer.common.weight[at * g : at * g + g, read * f : read * f + f]
                total = total + weight @ value
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("widths", [(2, 3, 4, 3, 2), (1, 3, 2), (2, 3, 3, 1), (2, 2, 3, 2, 3, 1)])
@pytest.mark.parametrize("more", [0, 1])
def test_layer_is_the_sum_of_the_published_blocks(widths, pool, more):
    torch.manual_seed(0)
    sizes = (widths[0] + more, widths[-1] + more, len(widths) - 1 + more)
    layer = DWSLayer(3, 2, *sizes, pool=pool).double()
    table = WeightTable(Perceptrons.of([perceptron(*widths)] * 2), *sizes)
    x = torch.randn(len(table.x), 3, dtype=torch.double)
    for before, after in zip(table.unpack(x), table.unpack(layer(x, table)), strict=True):
        torch.testing.assert_close(after, by_loop(layer, before, widths, sizes, pool))


def permuted(model, orders):
    """The same function, with hidden neurons in another order."""
    layers = [m for m in model if isinstance(m, nn.Linear)]
    moved = perceptron(*(m.in_features for m in layers), layers[-1].out_features)
    orders = [torch.arange(layers[0].in_features), *orders, torch.arange(layers[-1].out_features)]
    with torch.no_grad():
        for old, new, before, after in zip(layers, moved[::2], orders, orders[1:], strict=False):
            new.weight.copy_(old.weight[after][:, before])
            new.bias.copy_(old.bias[after])
    return moved


def whole_numbers(module):
    """Parameters for which all sums are exact."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randint(-3, 4, p.shape))
    return module.double()


WIDTHS = [(2, 4, 5, 3, 1), (2, 6, 1), (1, 3, 3, 2)]
SIZES = (2, 2, 4)


@pytest.mark.parametrize("pool", ["max", "sum", "min", "median"])
def test_neurons_that_move_move_what_is_said_of_them_to_the_bit(pool):
    torch.manual_seed(1)
    models = [whole_numbers(perceptron(*w)) for w in WIDTHS]
    orders = [[torch.randperm(n) for n in w[1:-1]] for w in WIDTHS]
    others = [permuted(*pair) for pair in zip(models, orders, strict=True)]
    there = [torch.randn(5, w[0], dtype=torch.double) for w in WIDTHS]
    for one, other, points in zip(models, others, there, strict=True):
        torch.testing.assert_close(one(points), other(points))
    net = whole_numbers(DWSNet(*SIZES, 4, 2, pool, per_entry=True, norm=None))
    mine, yours = (net.table(Perceptrons.of(group)) for group in (models, others))
    found = zip(mine.unpack(net(mine)), yours.unpack(net(yours)), models, orders, strict=True)
    for before, after, model, order in found:
        for channel in range(2):
            carrier = perceptron(
                *(p.size(1) for p in [*model.parameters()][::2]), model[-1].out_features
            )
            nn.utils.vector_to_parameters(before[:, channel], carrier.parameters())
            expected = nn.utils.parameters_to_vector(permuted(carrier, order).parameters())
            assert torch.equal(after[:, channel], expected)
    head = whole_numbers(DWSNet(*SIZES, 4, 2, pool, norm=None))
    assert torch.equal(head(mine), head(yours))


def test_inputs_and_outputs_keep_their_meaning():
    torch.manual_seed(0)
    model = perceptron(2, 4, 3, 2)
    net = DWSNet(2, 2, 3, 8, 1).double().eval()
    moved = {name: perceptron(2, 4, 3, 2) for name in ("inputs", "outputs")}
    for other in moved.values():
        other.load_state_dict(model.state_dict())
    with torch.no_grad():
        moved["inputs"][0].weight.copy_(model[0].weight.flip(1))
        moved["outputs"][-1].weight.copy_(model[-1].weight.flip(0))
        moved["outputs"][-1].bias.copy_(model[-1].bias.flip(0))
    said = net(Perceptrons.of([model, *moved.values()]))
    assert (said[1:] - said[0]).abs().min() > 1e-4


@pytest.mark.parametrize(
    "pool", ["max", "mean", "softmax", "gnp", "attsets", ["sum", "std"], "median"]
)
def test_a_network_is_read_alone_whatever_the_batch(pool):
    torch.manual_seed(0)
    models = [perceptron(*w) for w in [*WIDTHS, WIDTHS[0]]]
    networks = Perceptrons.of(models)
    net = DWSNet(*SIZES, 6, 3, pool).double()
    net(networks)  # the norms have seen something
    net.eval()
    said = net(networks)
    alone = torch.cat([net(Perceptrons.of([m])) for m in models])
    torch.testing.assert_close(said, alone)
    order = torch.tensor([3, 1, 1, 0])
    torch.testing.assert_close(net(networks[order]), said[order])
    assert net(networks[torch.tensor([], dtype=torch.long)]).shape == (0, 3)
    said.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("pool", ["mean", "softmax", "gnp"])
def test_derivatives_are_those_of_finite_differences(pool):
    torch.manual_seed(0)
    layer = DWSLayer(2, 2, *SIZES, pool=pool).double()
    table = WeightTable(Perceptrons.of([perceptron(2, 3, 2, 1), perceptron(1, 2, 1)]), *SIZES)
    x = torch.rand(len(table.x), 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x, table), x)


def test_rows_go_back_to_the_networks_they_came_from():
    models = [perceptron(*w) for w in [WIDTHS[1], WIDTHS[0], WIDTHS[1]]]
    networks = Perceptrons.of(models)
    assert networks.widths == (WIDTHS[1], WIDTHS[0]) and len(networks) == 3
    for chosen in ([0, 1, 2], [2, 1], [1, 1, 0]):
        table = WeightTable(networks[torch.tensor(chosen)], *SIZES)
        for number, rows in zip(chosen, table.unpack(table.x), strict=True):
            expected = nn.utils.parameters_to_vector(models[number].parameters())
            assert torch.equal(rows.squeeze(1), expected)


def test_every_role_is_normalised_as_by_torch():
    torch.manual_seed(0)
    networks = Perceptrons.of([perceptron(2, 3, 3, 1) for _ in range(4)])
    table = WeightTable(networks, *SIZES)
    norm = RoleNorm(2, num_roles(*SIZES)).double()
    for _ in range(2):
        x = torch.randn(len(table.x), 2, dtype=torch.double)
        found = norm(x, table.roles)
    seen = norm.eval()(x, table.roles)
    present = table.roles.index.unique().tolist()
    for role in present:
        theirs, rows = nn.BatchNorm1d(2).double(), table.roles.index == role
        torch.manual_seed(0)
        Perceptrons.of([perceptron(2, 3, 3, 1) for _ in range(4)])
        for _ in range(2):
            values = torch.randn(len(table.x), 2, dtype=torch.double)[rows]
            expected = theirs(values)
        torch.testing.assert_close(found[rows], expected)
        torch.testing.assert_close(seen[rows], theirs.eval()(values))
    one = WeightTable(networks[torch.tensor([0])], *SIZES)
    alone = norm.train()(torch.ones(len(one.x), 2).double(), one.roles)
    last = one.roles.index == num_roles(*SIZES) - 2  # one row: the running moments
    expected = (1 - norm.mean[-2]) / (norm.var[-2] + norm.eps).sqrt()
    torch.testing.assert_close(alone[last].squeeze(0), expected)
    absent = [r for r in range(num_roles(*SIZES)) if r not in present]
    assert absent and torch.equal(norm.var[absent], torch.ones(len(absent), 2).double())


def test_moments_of_a_role_are_those_of_all_its_rows_however_they_are_batched():
    torch.manual_seed(0)
    networks = Perceptrons.of([perceptron(2, 3, 3, 1) for _ in range(6)])
    parts = [networks[torch.tensor(which)] for which in ([0], [1, 2, 3], [4, 5])]
    tables = [WeightTable(part, *SIZES) for part in parts]
    norm = RoleNorm(1, num_roles(*SIZES)).double()
    assert recalibrate(norm, tables, lambda n, table: n(table.x, table.roles)) == 1
    rows = torch.cat([table.x for table in tables]).double()
    roles = torch.cat([table.roles.index for table in tables])
    for role in range(num_roles(*SIZES)):
        mine = rows[roles == role]
        mean, var = (mine.mean(0), mine.var(0)) if len(mine) > 1 else (0, 1)
        assert float(norm.mean[role]) == pytest.approx(float(mean), rel=1e-5, abs=1e-6)
        assert float(norm.var[role]) == pytest.approx(float(var), rel=1e-5)
    kept = norm.mean.clone()
    recalibrate(norm, tables[:1], lambda n, table: n(table.x, table.roles))
    single = tables[0].roles.counts < 2
    assert torch.equal(norm.mean[single], kept[single]) and norm.training
    assert not torch.equal(norm.mean[~single], kept[~single])
    net = DWSNet(*SIZES, 4, 2).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert recalibrate(net, tables) == sum(isinstance(m, RoleNorm) for m in net.modules()) > 1
    changed = {n for n, v in net.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all(name.endswith((".mean", ".var")) for name in changed)


def test_parameters_start_afresh():
    net = DWSNet(*SIZES, 4, 2)
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1e6)
    net.reset_parameters()
    assert all(p.abs().max() < 10 for p in net.parameters())


def test_what_cannot_be_read_is_refused_by_name():
    with pytest.raises(
        ValueError, match="`modules` must be perceptrons.* bias; give it one of zeros"
    ):
        Perceptrons.of([nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1))])
    with pytest.raises(
        ValueError, match="`modules` must be perceptrons.* the parameter '1.weight'"
    ):
        Perceptrons.of([nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))])
    with pytest.raises(ValueError, match="at position 0, a Linear with 1 linear layers"):
        Perceptrons.of([nn.Linear(2, 3)])
    with pytest.raises(ValueError, match="`modules` must hold a network"):
        Perceptrons.of([])
    with pytest.raises(TypeError, match="`modules` must be a list of modules"):
        Perceptrons.of(perceptron(2, 3, 1))
    twice = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="that stands in it twice"):
        Perceptrons.of([nn.Sequential(nn.Linear(2, 3), twice, nn.ReLU(), twice, nn.Linear(3, 1))])
    with pytest.raises(ValueError, match="do not follow on one another"):
        Perceptrons.of([nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 1))])
    with pytest.raises(TypeError, match="`widths` must hold a sequence"):
        Perceptrons((1, 1, 1), [torch.zeros(2, 4)])
    with pytest.raises(ValueError, match=r"`vectors` must have shape \[k, 4\]"):
        Perceptrons([(1, 1, 1)], [torch.zeros(2, 5)])
    table = WeightTable(Perceptrons.of([perceptron(2, 3, 1)]), 2, 1, 2)
    with pytest.raises(ValueError, match="`y` must have one entry per entry, 13; got 5"):
        table.unpack(torch.zeros(5, 1))
    with pytest.raises(ValueError, match="`x` must have one entry per entry, 13; got 5"):
        DWSLayer(1, 2, 2, 1, 2)(torch.zeros(5, 1), table)
    with pytest.raises(TypeError, match="`in_features` must be an int"):
        WeightTable(table.networks, 2.0, 1, 2)
    with pytest.raises(TypeError, match="`vectors` must be floating"):
        Perceptrons([(1, 1, 1)], [torch.zeros(2, 4, dtype=torch.long)])
    with pytest.raises(ValueError, match="one matrix for each"):
        Perceptrons([], [])
    with pytest.raises(ValueError, match="`numbers` must give each"):
        Perceptrons([(1, 1, 1)], [torch.zeros(2, 4)], [torch.tensor([0, 0])])
    with pytest.raises(ValueError, match="`num_layers` must be at least 4"):
        DWSNet(2, 2, 3, 4, 1)(Perceptrons.of([perceptron(2, 3, 3, 3, 1)]))
    with pytest.raises(ValueError, match="`networks` must be a table for"):
        DWSNet(2, 2, 3, 4, 1)(WeightTable(Perceptrons.of([perceptron(2, 3, 1)]), 2, 1, 2))
    with pytest.raises(TypeError, match="`networks` must be Perceptrons"):
        DWSNet(2, 2, 3, 4, 1)(torch.zeros(3))
    for wrong in ({"dropout": 1.0}, {"norm": "layer"}, {"num_blocks": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must"):
            DWSNet(2, 1, 2, 4, 1, **wrong)


def test_a_reader_of_networks_can_be_saved(tmp_path):
    networks = Perceptrons.of([perceptron(2, 3, 1)]).to("cpu")
    model = DWSNet(2, 1, 2, 4, 3, ["sum", "gnp"], num_blocks=2).double().eval()
    graphpool.save(model, tmp_path / "model.pt")
    assert torch.equal(graphpool.load(tmp_path / "model.pt").model(networks), model(networks))
