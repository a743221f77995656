"""What people need who pad their clouds: a padded row, of weight 0, takes no neighbour's place."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments, aggr


@pytest.mark.parametrize("name, kwargs", [("poolformer", {}), ("ponet", {"voxel": 0.5})])
@pytest.mark.parametrize("at", ["everywhere", "origin"])
def test_absent_points_are_nobodys_neighbours(name, kwargs, at):
    torch.manual_seed(0)
    pool = aggr.resolve(name, channels=3 + 8, pos_dim=3, k=4, **kwargs).double().eval()
    x = torch.rand(40, 11, dtype=torch.float64)
    x[:, :3] -= 0.5
    index = torch.randint(3, (40,))
    weight = torch.randint(1, 4, (40,)).double()
    absent = torch.rand(40) < 0.4
    if at == "origin":
        x[absent, :3] = 0
    weight[absent] = 0
    found = pool(x, Segments(index=index, num_segments=3), weight=weight)
    here = ~absent
    alone = pool(x[here], Segments(index=index[here], num_segments=3), weight=weight[here])
    torch.testing.assert_close(found, alone)
