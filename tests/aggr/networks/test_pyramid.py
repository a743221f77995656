from __future__ import annotations

import itertools

import pytest
import torch

from graphpool import Segments, aggr


def loop(bag, pos_dim, levels, reduce):
    """Every cell of every level by its bounds."""
    position, x = bag[:, :pos_dim], bag[:, pos_dim:]
    low, high = position.amin(0), position.amax(0)
    extent = torch.where(high > low, high - low, torch.ones_like(low))
    unit = (position - low) / extent
    parts = []
    for level in range(levels):
        n = 2**level
        for cell in itertools.product(range(n), repeat=pos_dim):
            inside = torch.ones(len(bag), dtype=torch.bool)
            for axis, c in enumerate(cell):
                above = unit[:, axis] * n >= c
                below = (unit[:, axis] * n < c + 1) | (c == n - 1)
                inside &= above & below
            rows = x[inside]
            if len(rows) == 0:
                parts.append(torch.zeros(x.size(1), dtype=x.dtype))
            else:
                parts.append(rows.amax(0) if reduce == "max" else rows.mean(0))
    return torch.cat(parts)


@pytest.mark.parametrize("pos_dim, levels", [(2, 3), (3, 2)])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_grid_against_a_loop(against_oracle, pos_dim, levels, reduce):
    pool = aggr.Pyramid(7, pos_dim=pos_dim, levels=levels, reduce=reduce)
    against_oracle(pool, lambda bag: loop(bag, pos_dim, levels, reduce), channels=7)


def test_width_and_occupancy(against_oracle):
    pool = aggr.Pyramid(8, pos_dim=2, levels=2, width=3, occupancy=True)

    def oracle(bag):
        narrow = torch.cat([bag[:, :2], pool.narrow(bag[:, 2:])], dim=1)
        ones = torch.cat([bag[:, :2], torch.ones(len(bag), 1).double()], dim=1)
        cells = loop(narrow, 2, 2, "max").view(5, 3)
        occupied = loop(ones, 2, 2, "max").view(5, 1)
        return torch.cat([cells, occupied], dim=1)

    against_oracle(pool, oracle)


@pytest.mark.parametrize("pos_dim", [2, 3])
@pytest.mark.parametrize("count", [64, 100])
def test_balanced_cells_hold_equal_numbers(pos_dim, count):
    pool = aggr.Pyramid(pos_dim + 1, pos_dim=pos_dim, levels=3, reduce="sum", cells="balanced")
    x = torch.cat([torch.rand(count, pos_dim), torch.ones(count, 1)], dim=1)
    sizes = pool(x)[0]
    start = 0
    for level in range(3):
        cells = 2 ** (level * pos_dim)
        here = sizes[start : start + cells]
        assert here.sum() == count
        assert here.max() - here.min() <= 1 or here.max() <= -(-count // cells) + 1
        start += cells
    if count == 64:
        assert sizes[-1] > 0 and (sizes > 0).all()


def test_balanced_cells_against_recursion():
    pool = aggr.Pyramid(4, pos_dim=3, levels=2, reduce="sum", cells="balanced")
    x = torch.randn(50, 4)

    def cut(rows, axis):
        if axis == 3:
            return [rows[:, 3].sum()]
        median = rows[:, axis].median()
        low, high = rows[rows[:, axis] <= median], rows[rows[:, axis] > median]
        return cut(low, axis + 1) + cut(high, axis + 1)

    torch.testing.assert_close(pool(x)[0, 1:], torch.stack(cut(x, 0)))


@pytest.mark.parametrize("cells", ["grid", "balanced"])
def test_moving_and_scaling_the_bag_changes_nothing(cells):
    pool, x = aggr.Pyramid(5, pos_dim=3, levels=2, cells=cells), torch.randn(40, 5)
    moved = torch.cat([4 * x[:, :3] + 8, x[:, 3:]], dim=1)
    torch.testing.assert_close(pool(moved), pool(x))


def test_a_position_that_is_nowhere_spoils_its_own_bag():
    pool = aggr.Pyramid(3, pos_dim=2, levels=2)
    x = torch.rand(4, 3)
    x[0, 1] = torch.nan
    y = pool(x, Segments(ptr=torch.tensor([0, 2, 4])))
    assert y[0].isnan().all() and y[1].isfinite().all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="3 columns of positions and at least one feature; got 3"):
        aggr.Pyramid(3)
    with pytest.raises(ValueError, match="`pos_dim` must be an int of at least 1; got 0"):
        aggr.Pyramid(3, pos_dim=0)
    with pytest.raises(ValueError, match="`cells` must be one of"):
        aggr.Pyramid(8, cells="hexagons")
    with pytest.raises(ValueError, match="`reduce` must be one of"):
        aggr.Pyramid(8, reduce="min")
    lazy = aggr.Pyramid(-1)
    with pytest.raises(ValueError, match="torch.cat"):
        lazy(torch.rand(4, 2))
