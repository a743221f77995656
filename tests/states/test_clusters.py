"""States in a Dask reduction, on threads and on a local cluster."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import aggr
from graphpool.states.clusters import from_dask

pytestmark = pytest.mark.needs("dask")


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((1000, 4)), rng.integers(0, 3, 1000), rng.random(1000)


def arrays(chunk=73):
    import dask.array as da

    x, bag, weight = data()
    return (
        da.from_array(x, chunks=(chunk, 4)),
        da.from_array(bag, chunks=100),
        da.from_array(weight),
    )


@pytest.mark.parametrize("name", ["std", "pma", "gnp", "kmax"])
def test_a_dask_array_gives_what_the_whole_gives(name):
    pool = aggr.resolve(name, channels=4).double()
    x, bag, weight = (torch.from_numpy(v) for v in data())
    weight = weight.ceil() if name == "kmax" else weight
    lazy = arrays()
    state = from_dask(pool, lazy[0], lazy[1], None if name == "kmax" else lazy[2], num_bags=3)
    y = state.compute(scheduler="threads").result()
    torch.testing.assert_close(y, pool(x, bag, dim_size=3, weight=weight))
    again = from_dask(pool, lazy[0], lazy[1], None if name == "kmax" else lazy[2], num_bags=3)
    assert torch.equal(again.compute(scheduler="sync").result(), y)


@pytest.mark.slow
def test_a_local_cluster_of_processes():
    from dask.distributed import Client, LocalCluster

    pool = aggr.LogSumExp().double()
    x, bag, _ = (torch.from_numpy(v) for v in data())
    lazy = arrays()
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        state = client.compute(from_dask(pool, lazy[0], lazy[1], num_bags=3)).result()
    torch.testing.assert_close(state.result(), pool(x, bag, dim_size=3))
    assert state.pieces == 14


def test_what_does_not_fit_is_refused():
    x, bag, _ = arrays()
    with pytest.raises(TypeError, match="must be a Dask array"):
        from_dask(aggr.Mean(), torch.ones(2, 2))
    with pytest.raises(ValueError, match="chunks of whole rows"):
        from_dask(aggr.Mean(), x.rechunk((100, 2)))
    with pytest.raises(ValueError, match="`bag` must have shape"):
        from_dask(aggr.Mean(), x, bag[:10])
    with pytest.raises(TypeError, match="Median cannot"):
        from_dask(aggr.Median(), x)


def test_bags_from_arrays_and_rows_that_were_chosen():
    x, bag, weight = (torch.from_numpy(v) for v in data())
    lazy, pool = arrays()[0], aggr.Std()
    whole = pool(x, bag, dim_size=3, weight=weight)
    for b, w in ((bag, weight), data()[1:]):
        state = from_dask(pool, lazy, b, w, num_bags=3).compute(scheduler="sync")
        torch.testing.assert_close(state.result(), whole)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        from_dask(pool, lazy[lazy[:, 0] > 0], bag, num_bags=3)
