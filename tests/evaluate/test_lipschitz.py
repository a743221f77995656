"""Constants hold under attack, and are nearly reached."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from graphpool import aggr
from graphpool.evaluate import lipschitz
from graphpool.evaluate.lipschitz import DISTANCES

N, D = 3, 2
POOLS = {
    "sum": aggr.Sum(),
    "mean": aggr.Mean(),
    "max": aggr.Max(),
    "min": aggr.Min(),
    "std": aggr.Std(),
    "variance_preserving": aggr.VariancePreserving(),
    "median": aggr.Median(),
    "quantile": aggr.Quantile(q=0.3),
    "trimmed_mean": aggr.TrimmedMean(trim=0.25),
    "powermean": aggr.PowerMean(p=2.0),
    "gem": aggr.GeM(p=3.0),
    "logsumexp": aggr.LogSumExp(tau=0.2),
    "softmax": aggr.SoftPool(t=2.0),
    "kmax": aggr.KMax(k=2),
    "pna": aggr.PNA(delta=1.3),
    "gnp": aggr.GNP(D),
    "mean and deviation": aggr.Moments(order=2),
    "fsw": aggr.FSW(D, out_channels=9),
    "fsw, the measure alone": aggr.FSW(D, out_channels=9, total=None),
}
ORDERS = torch.tensor(list(itertools.permutations(range(N))))


def distances(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """All distances of bags ``[B, N, D]`` of one size."""
    apart = (x[:, :, None] - y[:, None]).norm(dim=-1)
    matched = apart[:, torch.arange(N), ORDERS]  # [B, orders, N]
    hausdorff = torch.maximum(apart.amin(2).amax(1), apart.amin(1).amax(1))
    return {
        "matching": matched.sum(2).amin(1),
        "wasserstein": matched.mean(2).amin(1),
        "wasserstein2": matched.square().mean(2).amin(1).sqrt(),
        "hausdorff": hausdorff,
    }


def attack(pool: torch.nn.Module, distance: str, steps: int = 150, pairs: int = 667) -> float:
    """The largest ratio that ``steps * pairs`` random steps of climbing find."""
    generator = torch.Generator().manual_seed(0)
    bags = torch.arange(pairs).repeat_interleave(N)

    def ratio(x, y):
        moved = (pool(x.flatten(0, 1), bags) - pool(y.flatten(0, 1), bags)).norm(dim=1)
        return moved / distances(x, y)[distance].clamp_min(1e-9)

    def draw(scale):
        return scale * torch.randn(pairs, N, D, generator=generator, dtype=torch.double)

    with torch.no_grad():
        x, y = draw(1.0), draw(1.0)
        # Some begin near one another, and some with equal elements.
        y[::2] = x[::2] + 0.1 * draw(1.0)[::2]
        x[::3, 1] = x[::3, 0]
        best = ratio(x, y)
        for step in range(steps):
            scale = 10.0 ** -(3.0 * step / steps)
            u, v = x + draw(scale), y + draw(scale)
            # Now and then one element alone.
            keep = torch.rand(pairs, N, 1, generator=generator) < 0.5
            u, v = torch.where(keep, x, u), torch.where(keep, y, v)
            found = ratio(u, v)
            better = (found > best) & found.isfinite()
            x, y = (torch.where(better[:, None, None], a, b) for a, b in ((u, x), (v, y)))
            best = torch.where(better, found, best)
    return float(best.max())


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLS)
def test_attack(name):
    pool = POOLS[name].double().eval()
    for distance in DISTANCES:
        bound = lipschitz(pool, distance, size=N, channels=D)
        if math.isinf(bound):
            continue
        worst = attack(pool, distance)
        assert worst <= bound * (1 + 1e-6), distance
        assert worst >= bound / 3, distance


@pytest.mark.parametrize("name", POOLS)
def test_what_a_constant_asks_to_be_ignored(name):
    """Zero vectors, copies of the bag, copies of an element: nothing that a distance does not see is seen."""
    pool, x = POOLS[name].double().eval(), torch.randn(3, D, dtype=torch.double).abs() + 0.5
    others = {
        "matching": torch.cat([x, torch.zeros_like(x)]),
        "wasserstein": torch.cat([x, x]),
        "wasserstein2": torch.cat([x, x]),
        "hausdorff": torch.cat([x, x[:1]]),
    }
    for distance, other in others.items():
        if math.isfinite(lipschitz(pool, distance, channels=D)):
            torch.testing.assert_close(pool(x), pool(other))


def test_constants_that_are_known():
    assert lipschitz(aggr.Max(), "wasserstein", size=7) == 7
    assert lipschitz(aggr.TrimmedMean(trim=0.25), "wasserstein") == 2
    assert lipschitz(aggr.PowerMean(p=4.0), "wasserstein", size=16) == pytest.approx(8)
    assert lipschitz(aggr.SoftPool(), "wasserstein", size=10) == pytest.approx(13.74, abs=0.01)
    assert math.isinf(lipschitz(aggr.AttSets(4), "wasserstein", size=3))
    pool = aggr.GNP(4)
    before = lipschitz(pool, "matching", size=5)
    with torch.no_grad():
        pool.size += math.log(2) / 6  # twice the scale
    assert lipschitz(pool, "matching", size=5) == pytest.approx(2 * before)
    for arguments, message in (
        ((aggr.Sum(), "euclidean"), "`distance` must be one of"),
        ((aggr.Max(), "hausdorff"), "`channels` must be given"),
        ((aggr.Pyramid(4, pos_dim=2), "matching"), "No constant of Pyramid is known"),
        ((aggr.GNP(4, form="paper"), "matching"), "No constant of PaperGNP is known"),
    ):
        with pytest.raises(ValueError, match=message):
            lipschitz(*arguments)
