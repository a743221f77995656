from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments
from graphpool.points import DSVT, SetAttention, voxel_partition, voxel_sets

DOUBLE = torch.float64
WINDOW, TAU = (6, 4, 3), 5


def scene(count=160, clouds=3, extent=16, seed=0):
    """Voxels of several clouds, some of them with negative coordinates; the second cloud is empty."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-extent // 2, extent // 2, (count, 3), generator=generator)
    cloud = 2 * torch.randint(0, (clouds + 1) // 2, (count,), generator=generator)
    both = torch.cat([cloud[:, None], rows], 1).unique(dim=0)
    both = both[torch.randperm(len(both), generator=generator)]
    return both[:, 1:], Segments(index=both[:, 0], num_segments=clouds)


def published_sets(cells, cloud, window, tau, axis, shift):
    """Rows of each set, repeated to ``tau`` of them, and which are repetitions, window by window."""
    windows: dict[tuple, list[int]] = {}
    for row, cell in enumerate(cells.tolist()):
        key = tuple((c + s) // w for c, s, w in zip(cell, shift, window, strict=True))
        windows.setdefault((cloud[row], *key), []).append(row)
    order = (0, 1, 2) if axis == "x" else (1, 0, 2)
    sets = []
    for key in sorted(windows):
        rows = sorted(windows[key], key=lambda r: [int(cells[r, a]) for a in order])
        n = len(rows)
        number = math.ceil(n / tau)
        for j in range(number):
            picked = [rows[(j * tau + k) * n // (number * tau)] for k in range(tau)]
            again = [k > 0 and picked[k] == picked[k - 1] for k in range(tau)]
            sets.append((picked, again))
    return sets


def windows_of(block):
    """Window and shift of the partition of a block."""
    if block % 2 == 0:
        return WINDOW, (0, 0, 0)
    return (2 * WINDOW[0], 2 * WINDOW[1], WINDOW[2]), (WINDOW[0] // 2, WINDOW[1] // 2, 0)


def padded_attention(layer, x, encoding, sets):
    """The published layer: dense, padded by repetition, masked, by PyTorch's attention."""
    c = x.size(1)
    dense = torch.nn.MultiheadAttention(c, layer.heads, batch_first=True, dtype=x.dtype)
    dense.in_proj_weight.data, dense.in_proj_bias.data = layer.project.weight, layer.project.bias
    dense.out_proj.weight.data, dense.out_proj.bias.data = layer.out.weight, layer.out.bias
    rows = torch.tensor([picked for picked, _ in sets])
    mask = torch.tensor([again for _, again in sets])
    q = (x + encoding)[rows]
    y = dense(q, q, x[rows], key_padding_mask=mask, need_weights=False)[0]
    mixed = torch.zeros_like(x)
    mixed[rows[~mask]] = y[~mask]
    h = layer.norm0(x + mixed)
    return layer.norm1(h + layer.network(h))


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("block", [0, 1])
def test_sets_are_the_published_ones_without_what_fills_them(axis, block):
    cells, clouds = scene()
    window, shift = windows_of(block)
    found = voxel_sets(cells, window, TAU, clouds, axis=axis, shift=shift)
    expected = published_sets(cells, clouds.index.tolist(), window, TAU, axis, shift)
    assert found.num_segments == len(expected)
    members = [set((found.index == s).nonzero().flatten().tolist()) for s in range(len(expected))]
    assert members == [set(picked) for picked, _ in expected]
    assert max(map(len, members)) <= TAU and max(map(len, members)) > 1


@pytest.mark.parametrize("n", [1, TAU - 1, TAU, TAU + 1, 2 * TAU + 1])
def test_sets_of_one_window_are_of_like_size(n):
    cells = torch.stack([torch.arange(n), 0 * torch.arange(n), 0 * torch.arange(n)], 1)
    counts = voxel_sets(cells, (100, 1, 1), TAU).counts.tolist()
    assert len(counts) == math.ceil(n / TAU) and sum(counts) == n
    assert max(counts) - min(counts) <= 1


def test_places_are_those_from_the_centre_of_the_window():
    cells = torch.tensor([[-1, 0, 0], [6, 4, 3]])
    part = voxel_partition(cells, WINDOW, TAU)
    assert part.places.tolist() == [[2.0, -2.0, -1.5], [-3.0, -2.0, -1.5]]


@pytest.mark.parametrize("released", [False, True])
def test_the_network_is_the_published_one_padded(released):
    cells, clouds = scene()
    model = DSVT(8, WINDOW, TAU, blocks=3, heads=2, released=released).double().eval()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    x = torch.randn(len(cells), 8, dtype=DOUBLE)
    found = model(x, cells, clouds)
    y = x
    with torch.no_grad():
        for b in range(3):
            window, shift = windows_of(b)
            before = y
            for i, axis in enumerate("yx"):
                seen, offset = windows_of(i if released else b)
                inside = (cells + torch.tensor(offset)).remainder(torch.tensor(seen))
                encoding = model.places[2 * b + i](inside - torch.tensor(seen, dtype=DOUBLE) / 2)
                sets = published_sets(cells, clouds.index.tolist(), window, TAU, axis, shift)
                layer = model.attention[2 * b + i]
                y = model.norms[2 * b + i](padded_attention(layer, y, encoding, sets) + y)
            y = model.ends[b](before + y)
    torch.testing.assert_close(found, y, atol=1e-12, rtol=1e-12)
    model, x = model.float(), x.float()
    torch.testing.assert_close(model(x, cells, clouds).double(), y, atol=1e-5, rtol=1e-5)


def test_the_released_places_differ():
    cells, clouds = scene()
    models = [DSVT(8, WINDOW, TAU, heads=2, released=r).double().eval() for r in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(len(cells), 8, dtype=DOUBLE)
    assert not torch.allclose(models[0](x, cells, clouds), models[1](x, cells, clouds), atol=1e-3)


@pytest.mark.parametrize("pool", ["attention", "mean", "max", "softmax", "gnp", "attsets", "pma"])
class TestEveryPool:
    def model(self, pool):
        return DSVT(8, WINDOW, TAU, heads=2, pool=pool).double().eval()

    def test_order_and_company_do_not_matter(self, pool):
        cells, clouds = scene()
        model, x = self.model(pool), torch.randn(len(cells), 8, dtype=DOUBLE)
        found = model(x, cells, clouds)
        p = torch.randperm(len(cells))
        moved = Segments(index=clouds.index[p], num_segments=3)
        torch.testing.assert_close(model(x[p], cells[p], moved), found[p])
        alone = clouds.index == 2
        torch.testing.assert_close(model(x[alone], cells[alone]), found[alone])

    def test_whole_windows_of_both_kinds_may_be_added(self, pool):
        cells, clouds = scene()
        model, x = self.model(pool), torch.randn(len(cells), 8, dtype=DOUBLE)
        far = cells + torch.tensor([-4 * WINDOW[0], 6 * WINDOW[1], WINDOW[2]])
        torch.testing.assert_close(model(x, far, clouds), model(x, cells, clouds))

    def test_no_voxels(self, pool):
        nothing = torch.zeros(0, 3, dtype=torch.long)
        out = self.model(pool)(torch.zeros(0, 8, dtype=DOUBLE), nothing)
        assert out.shape == (0, 8)


def test_gradients():
    cells, clouds = scene(count=14, extent=8)
    model = DSVT(4, WINDOW, TAU, blocks=1, heads=2).double().eval()
    x = torch.randn(len(cells), 4, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x, cells, clouds), (x,))


def test_a_pool_stands_in_the_place_of_attention():
    """By its definition, on two sets."""
    layer = SetAttention(4, pool="max").double()
    x, e = torch.randn(2, 5, 4, dtype=DOUBLE)
    found = layer(x, e, Segments(index=torch.tensor([0, 1, 0, 1, 1]), num_segments=2))
    for rows in ([0, 2], [1, 3, 4]):
        h = layer.norm0(x[rows] + layer.out((x + e)[rows].amax(0)))
        torch.testing.assert_close(found[rows], layer.norm1(h + layer.network(h)))


def test_refuses_what_makes_no_sense():
    cells = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"different within a cloud; got \[0, 0, 0\] in row 0"):
        voxel_sets(cells, WINDOW, TAU)
    voxel_sets(cells, WINDOW, TAU, Segments(index=torch.tensor([0, 0, 1]), num_segments=2))
    with pytest.raises(TypeError, match=r"`cells` must be integers \[V, 3\]; got a float32"):
        voxel_sets(cells.float(), WINDOW, TAU)
    with pytest.raises(ValueError, match=r"`cells` must have shape \[V, 3\]"):
        voxel_sets(cells[:, :2], WINDOW, TAU)
    with pytest.raises(ValueError, match="`window` must have three sizes"):
        voxel_partition(cells, (4, 4), TAU)
    with pytest.raises(ValueError, match="`set_size` must be an int of at least 1; got 0"):
        voxel_sets(cells, WINDOW, 0)
    with pytest.raises(ValueError, match="`shift` must have three entries"):
        voxel_sets(cells[:2], WINDOW, TAU, shift=(1, 1))
    with pytest.raises(TypeError, match="`shift` must be an int; got 0.5"):
        voxel_sets(cells[:2], WINDOW, TAU, shift=(0.5, 0, 0))
    with pytest.raises(TypeError, match="`segments` must be a graphpool.Segments"):
        voxel_sets(cells[:2], WINDOW, TAU, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="`axis` must be one of 'x', 'y'; got 'z'"):
        voxel_sets(cells, WINDOW, TAU, axis="z")
    with pytest.raises(ValueError, match="`heads` must divide the number of channels, 8; got 3"):
        DSVT(8, heads=3)
    with pytest.raises(ValueError, match="`cells` must lie within"):
        voxel_sets(cells[:2] * 2**60, WINDOW, TAU)
    layer, sets = SetAttention(8), Segments(ptr=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="`encoding` must have the shape of `x`"):
        layer(torch.zeros(2, 8), torch.zeros(3, 8), sets)
    with pytest.raises(ValueError, match="`sets` must have one entry per voxel, 3; got 2"):
        layer(torch.zeros(3, 8), torch.zeros(3, 8), sets)
    with pytest.raises(ValueError, match="`cells` must hold two voxels or more in training"):
        DSVT(8)(torch.zeros(1, 8), cells[:1])
    assert DSVT(8).eval()(torch.zeros(1, 8), cells[:1]).shape == (1, 8)
    with pytest.raises(TypeError, match="`cells` must be integers"):
        DSVT(8)(torch.zeros(1, 8), [[0, 0, 0]])
    with pytest.raises(ValueError, match="`x` must have 8 channels"):
        DSVT(8)(torch.randn(2, 4), cells[:2])
    with pytest.raises(ValueError, match="`cells` must have one entry per voxel, 2; got 3"):
        DSVT(8)(torch.randn(2, 8), cells)
