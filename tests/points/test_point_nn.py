from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments, use_backend
from graphpool.points import (
    MemoryBank,
    PointNN,
    PointNNSegmenter,
    gaussian_encoding,
    position_encoding,
)
from graphpool.points.hierarchy import build_levels
from graphpool.points.stages import run_bell_stage


def dense(pos: torch.Tensor, channels: int, stages: int, k: int, bells=None) -> torch.Tensor:
    """The method on one cloud as it is written down: float64, loops, nothing shared between stages.

    ``bells``, an encoding of vectors, takes the place of sines, and every stage is described.
    """
    encode = bells or position_encoding
    p, x, described = pos.double(), encode(pos.double(), channels), []
    for _ in range(stages):
        centre, nearest = [0], torch.full((len(p),), math.inf, dtype=torch.float64)
        while len(centre) < len(p) // 2:
            nearest = torch.minimum(nearest, (p - p[centre[-1]]).square().sum(1))
            nearest[centre] = -1
            centre.append(int(nearest.argmax()))
        neighbor = torch.cdist(p[centre], p).topk(min(k, len(p)), largest=False).indices
        dx, dp = x[neighbor] - x[centre][:, None], p[neighbor] - p[centre][:, None]
        dx, dp = dx / (dx.std() + 1e-5), dp / (dp.std() + 1e-5)
        f = torch.cat([dx, x[centre][:, None].expand_as(dx)], 2)
        e = encode(dp, f.size(2))
        w = (f + e) * e
        x = w.amax(1) + w.mean(1)
        x = torch.nn.functional.gelu(x if bells else x / math.sqrt(1 + 1e-5))
        p = p[centre]
        described += [x.amax(0), x.mean(0)]
    return torch.cat(described) if bells else x.amax(0) + x.mean(0)


def bell(u: torch.Tensor, channels: int, sigma: float, adapt: bool) -> torch.Tensor:
    """Channel by channel, as the papers write it."""
    count = math.ceil(channels / 3)
    blend = 1.0
    if adapt:
        spread = float(torch.stack([u[..., a].std() for a in range(3)]).mean())
        sigma, blend = sigma * (1 + spread) + 1e-6, 1 / (1 + math.exp(-10 * (spread - 0.1)))
    out = []
    for place in [math.floor(v) for v in torch.linspace(0, 3 * count - 1, channels).tolist()]:
        axis, j = place // count, place % count + 1
        off = (u[..., axis] - (-1 + 2 * j / (count + 1))) / sigma
        out.append(blend * torch.exp(-off * off / 2) + (1 - blend) * torch.cos(off))
    return torch.stack(out, -1)


@pytest.mark.parametrize("encoding", ["gaussian", "adaptive"])
@pytest.mark.parametrize(("count", "k", "channels"), [(128, 20, 27), (61, 30, 35)])
def test_bells_equal_the_dense_formulation(encoding, count, k, channels):
    pos = torch.randn(count, 3, dtype=torch.float64) * 0.2
    encoder = PointNN(channels, 2, k, encoding=encoding, sigma=0.3, descriptor="stages")
    expected = dense(pos, channels, 2, k, lambda u, c: bell(u, c, 0.3, encoding == "adaptive"))
    assert encoder.out_channels == len(expected) == channels * 12
    assert close(encoder(pos)[0], expected) < 1e-9
    assert close(encoder(pos.float())[0], expected) < 1e-4


def test_bells_of_a_batch_and_of_any_order():
    sizes = [100, 1, 0, 3, 90]
    pos, ptr = torch.randn(sum(sizes), 3), torch.tensor([0, *sizes]).cumsum(0)
    encoder = PointNN(27, 2, 12, start="centroid", encoding="adaptive", descriptor="stages")
    rows = [encoder(pos[a:b])[0] for a, b in zip(ptr[:-1], ptr[1:], strict=True)]
    assert close(encoder(pos, ptr=ptr), torch.stack(rows)) < 1e-6
    assert close(encoder(pos[torch.randperm(100)]), rows[0]) < 1e-6
    assert encoder(pos, ptr=ptr).isfinite().all() and (rows[2] == 0).all()
    segmenter = PointNNSegmenter(9, stages=2, k=8, encoding="adaptive")
    assert close(segmenter(pos[:100]), segmenter(pos, ptr=ptr)[:100]) < 1e-5


def test_widths_of_the_published_networks_and_what_is_refused():
    assert PointNN(27, encoding="gaussian", descriptor="stages").out_channels == 1620
    assert PointNN(35, encoding="adaptive", descriptor="stages").out_channels == 2100
    assert PointNN().out_channels == 1152
    kept = [
        k for k in range(36) if k != 34
    ]  # of 36 channels 35 are kept, as the released code rounds
    pos = torch.randn(5, 3)
    assert torch.equal(gaussian_encoding(pos, 35), gaussian_encoding(pos, 36)[:, kept])
    for wrong in ({"encoding": "sine"}, {"sigma": 0.0}, {"descriptor": "first"}, {"channels": 27}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
            PointNN(**wrong)
    with pytest.raises(ValueError, match="`descriptor`"):
        PointNNSegmenter(descriptor="stages")


def close(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize(("count", "k"), [(256, 20), (101, 20), (37, 50)])
def test_equals_the_dense_formulation(count, k):
    pos = torch.randn(count, 3) * 0.4
    encoder = PointNN(channels=24, stages=3, k=k)
    expected = dense(pos, 24, 3, k)
    assert close(encoder(pos)[0], expected) < 1e-4
    assert close(encoder(pos.double())[0], expected) < 1e-9
    with use_backend("torch"):
        assert close(encoder(pos)[0], expected) < 1e-4


@pytest.mark.parametrize("statistics", ["cloud", "batch"])
@pytest.mark.parametrize(
    ("encoding", "channels", "bound"),
    [("fourier", 72, 1e-5), ("gaussian", 54, 1e-6), ("adaptive", 70, 1e-6)],
)
def test_fused_equals_composed_at_full_width(encoding, channels, bound, statistics):
    pos, ptr = torch.randn(500, 3) * 0.5, torch.tensor([0, 300, 300, 301, 500])
    encoder = PointNN(channels, k=90, statistics=statistics, encoding=encoding, sigma=0.3)
    fast = encoder(pos, ptr=ptr)
    with use_backend("torch"):
        slow = encoder(pos, ptr=ptr)
    assert fast.shape == (4, 16 * channels)
    assert close(fast, slow) < bound
    assert bool((fast[1] == 0).all())


@pytest.mark.parametrize("sigma", [0.01, 30.0])
def test_narrow_and_wide_bells_equal_the_composed_ones(sigma):
    # Most narrow ones are 0, and all wide ones nearly 1.
    encoder = PointNN(27, 2, 20, encoding="gaussian", sigma=sigma, descriptor="stages")
    pos = torch.randn(200, 3) * 0.5
    with use_backend("torch"):
        slow = encoder(pos)
    assert close(encoder(pos), slow) < 1e-5


@pytest.mark.parametrize("encoding", ["gaussian", "adaptive"])
def test_bells_far_away_keep_the_accuracy_of_their_differences(encoding):
    pos = (torch.randn(200, 3, dtype=torch.float64) * 64).round() / 64
    encoder = PointNN(27, 1, 16, encoding=encoding, sigma=0.3)
    bags, x = Segments(ptr=torch.tensor([0, 200])), torch.randn(200, 27)
    (level,) = build_levels((pos + 512).float(), bags, 1, 16)
    (exact,) = build_levels(pos, bags, 1, 16)
    args = (encoder.sigma, encoding == "adaptive", False)
    assert torch.equal(level.neighbor, exact.neighbor)
    assert close(run_bell_stage(x, level, *args), run_bell_stage(x.double(), exact, *args)) < 1e-6


def test_a_ragged_batch_equals_its_clouds_one_by_one():
    sizes = [200, 1, 77, 3, 150]
    pos, ptr = torch.randn(sum(sizes), 3), torch.tensor([0, *sizes]).cumsum(0)
    encoder = PointNN(channels=12, stages=2, k=30)
    rows = [encoder(pos[a:b])[0] for a, b in zip(ptr[:-1], ptr[1:], strict=True)]
    assert torch.equal(encoder(pos, ptr=ptr), torch.stack(rows))


def test_clouds_come_in_any_order_and_in_all_three_forms():
    pos, cloud = torch.randn(120, 3), torch.randint(0, 3, (120,))
    encoder = PointNN(channels=12, stages=2, k=10)
    segments = Segments(index=cloud, num_segments=4)
    out = encoder(pos, segments)
    order = cloud.argsort(stable=True)
    assert torch.equal(out, encoder(pos[order], ptr=segments.ptr))
    assert torch.equal(out, encoder(pos, cloud, batch_size=4))
    assert torch.equal(out[:3], encoder(pos, cloud))
    assert bool((out[3] == 0).all())


def test_many_clouds_are_encoded_in_portions(monkeypatch):
    pos, ptr = torch.randn(400, 3), torch.tensor([0, 100, 100, 180, 330, 400])
    encoder = PointNN(channels=12, stages=2, k=10)
    whole = encoder(pos, ptr=ptr)
    monkeypatch.setattr("graphpool.points.point_nn._PORTION", 120)
    assert torch.equal(encoder(pos, ptr=ptr), whole)


def test_the_order_of_all_points_but_the_first_does_not_matter():
    pos = torch.randn(300, 3)
    shuffle = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(299)])
    encoder = PointNN(channels=24, stages=3, k=20)
    assert close(encoder(pos[shuffle]), encoder(pos)) < 1e-6
    everything = torch.randperm(300)
    free = PointNN(channels=24, stages=3, k=20, start="centroid")
    assert close(free(pos[everything]), free(pos)) < 1e-6


def test_batch_statistics_depend_on_the_batch_and_cloud_statistics_do_not():
    pos, ptr = torch.cat([torch.randn(80, 3), 3 * torch.randn(80, 3)]), torch.tensor([0, 80, 160])
    together = PointNN(channels=12, stages=2, k=10, statistics="batch")
    assert close(together(pos, ptr=ptr)[0], together(pos[:80])[0]) > 1e-3
    apart = PointNN(channels=12, stages=2, k=10)
    assert torch.equal(apart(pos[:80])[0], together(pos[:80])[0])


def test_degenerate_clouds_have_finite_descriptors():
    encoder = PointNN(channels=12, stages=3, k=8)
    for pos in (torch.zeros(20, 3), torch.randn(1, 3), torch.randn(2, 3), torch.ones(5, 3)):
        assert bool(encoder(pos).isfinite().all())
    assert encoder(torch.empty(0, 3)).abs().sum() == 0
    assert encoder(torch.empty(0, 3), ptr=torch.tensor([0])).shape == (0, 96)


def test_far_clouds_keep_the_accuracy_of_their_differences():
    pos = (torch.randn(200, 3, dtype=torch.float64) * 64).round() / 64
    moved = pos + 512
    encoder = PointNN(channels=12, stages=2, k=16)
    x, level = encoder.encode_levels(moved.float(), Segments(ptr=torch.tensor([0, 200])))[0]
    with use_backend("torch"):
        y, other = encoder.encode_levels(moved, Segments(ptr=torch.tensor([0, 200])))[0]
    assert torch.equal(level.centre, other.centre)
    assert close(x, y) < 1e-3


@pytest.mark.parametrize("encoding", ["fourier", "gaussian", "adaptive"])
def test_coordinates_can_be_differentiated(encoding):
    pos = torch.randn(12, 3, dtype=torch.float64).requires_grad_()
    encoder = PointNN(channels=6, stages=1, k=4, beta=2.0, encoding=encoding)
    assert torch.autograd.gradcheck(encoder, (pos,))


@pytest.mark.parametrize("statistics", ["cloud", "batch"])
@pytest.mark.parametrize("encoding", ["fourier", "gaussian", "adaptive"])
def test_clouds_without_a_spread_have_a_derivative(encoding, statistics):
    """Points in one place or on a plane, and clouds of so few that a level has one of them left."""
    encoder = PointNN(channels=12, stages=2, k=4, encoding=encoding, statistics=statistics)
    flat = torch.rand(20, 3) * torch.tensor([1.0, 1.0, 0.0])
    for pos in (torch.ones(9, 3), torch.rand(1, 3), torch.rand(2, 3), flat):
        pos.requires_grad_()
        encoder(pos).sum().backward()
        assert bool(pos.grad.isfinite().all())


@pytest.mark.parametrize("encoding", ["fourier", "adaptive"])
def test_threads_do_not_change_a_bit(encoding):
    pos, ptr = torch.randn(3000, 3), torch.arange(0, 3001, 300)
    encoder = PointNN(channels=24, stages=2, k=20, encoding=encoding)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = encoder(pos, ptr=ptr)
        torch.set_num_threads(3)
        assert torch.equal(encoder(pos, ptr=ptr), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": 10}, "multiple of 6"),
        ({"stages": 0}, "stages"),
        ({"k": 0}, "`k`"),
        ({"statistics": "all"}, "statistics"),
    ],
)
def test_wrong_settings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PointNN(**kwargs)


def test_wrong_clouds_are_named():
    encoder = PointNN(channels=6, stages=1, k=2)
    bad = torch.randn(5, 3)
    bad[4, 2] = torch.inf
    with pytest.raises(ValueError, match="point 4, coordinate 2"):
        encoder(bad)
    with pytest.raises(ValueError, match=r"\[N, 3\]"):
        encoder(torch.randn(5, 2))
    with pytest.raises(TypeError, match="floating"):
        encoder(torch.zeros(5, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="describes 4 points"):
        encoder(torch.randn(5, 3), ptr=torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="not both"):
        encoder(torch.randn(5, 3), torch.zeros(5, dtype=torch.long), torch.tensor([0, 5]))


def test_point_features_of_the_segmenter():
    pos, cloud = torch.randn(90, 3), torch.randint(0, 2, (90,))
    encoder = PointNNSegmenter(channels=12, stages=2, k=10)
    out = encoder(pos, Segments(index=cloud, num_segments=2))
    assert out.shape == (90, 12 + 24 + 48)
    assert torch.equal(out[:, :12], position_encoding(pos, 12))
    order = cloud.argsort(stable=True)
    ptr = Segments(index=cloud, num_segments=2).ptr
    assert torch.equal(out[order], encoder(pos[order], ptr=ptr))
    assert PointNNSegmenter().out_channels == 4464


def test_a_single_coarse_point_is_copied():
    out = PointNNSegmenter(channels=6, stages=1, k=4)(torch.randn(3, 3))
    assert torch.allclose(out[0, 6:], out[1, 6:])
    assert torch.allclose(out[0, 6:], out[2, 6:])


def test_autocast_leaves_angles_and_similarities_alone():
    pos = torch.randn(100, 3)
    encoder = PointNN(channels=12, stages=2, k=10)
    with use_backend("torch"):
        plain = encoder(pos)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = encoder(pos)
            scores = MemoryBank(gamma=50.0).fit(plain, torch.tensor([0])).scores(plain)
    assert torch.equal(plain, cast)
    assert scores.dtype == torch.float32
