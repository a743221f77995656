from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from graphpool import Segments, aggr

SEGMENTS = Segments(index=torch.tensor([0] * 12 + [2] * 7 + [3]), num_segments=5)


def test_against_scipy():
    x = torch.randn(20, 3, dtype=torch.float64)
    values, kept = aggr.WardPool(factor=3)(x, SEGMENTS)
    assert kept.counts.tolist() == [4, 0, 2, 1, 0]
    for s in (0, 2):
        rows = x[SEGMENTS.index == s]
        labels = fcluster(linkage(rows.numpy(), "ward"), len(rows) // 3, "maxclust")
        means = np.stack([rows.numpy()[labels == k].mean(0) for k in np.unique(labels)])
        expected = means[np.lexsort(means.T[::-1])]
        np.testing.assert_allclose(values[kept.index == s], expected)


def test_released_code_clusters_rows_of_the_distance_matrix():
    x = torch.nn.functional.normalize(torch.randn(12, 4, dtype=torch.float64), dim=1)
    values, _ = aggr.WardPool(factor=2, released=True)(x)
    labels = fcluster(linkage((1 - x @ x.T).numpy(), "ward"), 6, "maxclust")
    means = np.stack([x.numpy()[labels == k].mean(0) for k in np.unique(labels)])
    np.testing.assert_allclose(values, means[np.lexsort(means.T[::-1])])


def test_gradients_are_those_of_the_means():
    x = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    pool = aggr.WardPool(factor=2)
    values, kept = pool(x, SEGMENTS)
    cluster, _ = pool.clusters(x, SEGMENTS)
    (grad,) = torch.autograd.grad(values.sum(), x)
    size = torch.bincount(cluster, minlength=kept.num_elements)[cluster]
    torch.testing.assert_close(grad, (1 / size).double()[:, None].expand(20, 3))
    assert (kept.index[cluster] == SEGMENTS.index).all()


def test_exactly_so_many_clusters_even_of_equal_elements():
    values, kept = aggr.WardPool(factor=2)(torch.ones(9, 2))
    assert kept.counts.tolist() == [4]
    assert torch.equal(values, torch.ones(4, 2))


def test_factor_1_keeps_everything():
    x = torch.randn(6, 2)
    values, _ = aggr.WardPool(factor=1)(x)
    assert torch.equal(values, x[torch.from_numpy(np.lexsort(x.T.numpy()[::-1]).copy())])


def test_protected_elements_come_last():
    x = torch.randn(7, 2)
    values, kept = aggr.WardPool(factor=3, protect=1)(x)
    assert kept.counts.tolist() == [3]
    assert torch.equal(values[-1], x[0])
    few, kept = aggr.WardPool(factor=3, protect=4)(x[:2])
    assert torch.equal(few, x[:2])


def test_bad_arguments():
    with pytest.raises(ValueError, match="`factor` must be at least 1; got 0.5"):
        aggr.WardPool(factor=0.5)
    with pytest.raises(ValueError, match="`protect`"):
        aggr.WardPool(protect=-1)
    with pytest.raises(ValueError, match="whole numbers"):
        aggr.WardPool()(torch.randn(2, 2), weight=torch.tensor([0.5, 1.0]))
