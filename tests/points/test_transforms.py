from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from graphpool.points.transforms import Drop, Jitter, Normalize, Rotate, Sample, Scale, Shift

RANDOM = (Jitter, Scale, Shift, Rotate, Drop, lambda generator: Sample(10, generator=generator))


def cloud() -> Data:
    return Data(pos=torch.randn(40, 3), y=torch.tensor([1]), x=torch.arange(40.0)[:, None])


@pytest.mark.parametrize("make", RANDOM)
def test_the_generator_decides(make):
    data = cloud()
    outs = [make(generator=torch.Generator().manual_seed(s))(data.clone()).pos for s in (1, 1, 2)]
    assert torch.equal(outs[0], outs[1])
    assert outs[0].shape != outs[2].shape or not torch.equal(outs[0], outs[2])


def test_normalize():
    pos = Normalize()(cloud()).pos
    assert torch.allclose(pos.mean(0), torch.zeros(3), atol=1e-6)
    assert torch.isclose(pos.norm(dim=1).max(), torch.tensor(1.0))
    assert bool((Normalize()(Data(pos=torch.ones(4, 3))).pos == 0).all())
    assert Normalize()(Data(pos=torch.empty(0, 3))).pos.shape == (0, 3)


def test_jitter_is_clipped():
    data = cloud()
    moved = Jitter(1.0, clip=0.1)(data.clone()).pos - data.pos
    assert moved.abs().max() <= 0.1 + 1e-6
    assert torch.equal(Jitter(0.0)(data.clone()).pos, data.pos)


def test_scale_and_shift():
    data = cloud()
    ratio = Scale((2.0, 3.0))(data.clone()).pos / data.pos
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-4)
    assert bool(((ratio >= 2 - 1e-4) & (ratio <= 3 + 1e-4)).all())
    same = Scale((2.0, 3.0), per_axis=False)(data.clone()).pos / data.pos
    assert torch.allclose(same, same[0, 0].expand_as(same), rtol=1e-4)
    moved = Shift(0.5)(data.clone()).pos - data.pos
    assert moved.abs().max() <= 0.5
    assert torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-6)


@pytest.mark.parametrize("axis", ["x", "y", "z", None])
def test_rotations_keep_distances_and_handedness(axis):
    data = Data(pos=torch.eye(3))
    pos = Rotate(axis)(data.clone()).pos
    assert torch.allclose(pos @ pos.T, torch.eye(3), atol=1e-5)
    assert torch.isclose(torch.linalg.det(pos), torch.tensor(1.0), atol=1e-5)
    if axis is not None:
        a = "xyz".index(axis)
        assert torch.allclose(pos[a], torch.eye(3)[a], atol=1e-6)


def test_a_quarter_turn():
    pos = Rotate("z", (90.0, 90.0))(Data(pos=torch.tensor([[1.0, 0.0, 0.0]]))).pos
    assert torch.allclose(pos, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-6)


def test_dropping_takes_everything_of_a_point():
    out = Drop((0.5, 0.5))(cloud())
    assert out.pos.shape == (20, 3)
    assert out.x.shape == (20, 1)
    assert out.y.tolist() == [1]
    assert Drop((0.99, 0.99))(Data(pos=torch.randn(2, 3))).pos.shape[0] == 1


def test_samples():
    data = cloud()
    assert torch.equal(Sample(7, random=False)(data.clone()).pos, data.pos[:7])
    drawn = Sample(40)(data.clone())
    assert drawn.x.flatten().sort().values.tolist() == list(range(40))
    assert torch.equal(data.pos[drawn.x.flatten().long()], drawn.pos)
    with pytest.raises(ValueError, match="has 40"):
        Sample(41)(data)


def test_labels_of_points_go_with_them():
    out = Sample(5, random=False)(Data(pos=torch.randn(9, 3), y=torch.arange(9)))
    assert out.y.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jitter(-1.0),
        lambda: Scale((0.0, 1.0)),
        lambda: Shift(-1.0),
        lambda: Rotate("w"),
        lambda: Drop((0.5, 1.0)),
        lambda: Sample(0),
    ],
)
def test_wrong_settings_raise(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_wrong_data_raise():
    with pytest.raises(ValueError, match="no points"):
        Normalize()(Data(x=torch.ones(3, 1)))
    with pytest.raises(ValueError, match="normal"):
        Rotate()(Data(pos=torch.randn(3, 3), normal=torch.randn(3, 3)))
