"""Weights of graphs under which coordinates of their vectors no longer depend on one another."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import as_count, as_indices, check_at_least, check_one_per, what_came
from graphpool.ops import segment_second_moment, segment_sum
from graphpool.segments import Segments


def random_cosines(z: Tensor, frequencies: Tensor, phases: Tensor) -> Tensor:
    r""":math:`\sqrt 2 \cos(\omega_q z_i + \varphi_{iq})` of every coordinate, ``[N, d, q]``.

    With :math:`\omega` normal and :math:`\varphi` uniform in :math:`[0, 2\pi)`, products of them approach a
    Gaussian kernel: two coordinates are independent if no function of the one is correlated with one of the
    other.

    Args:
        z: ``[N, d]``.
        frequencies, phases: ``[d, q]``.

    Raises:
        ValueError: Shapes do not fit.

    Example:
        >>> random_cosines(torch.zeros(1, 2), torch.ones(2, 3), torch.zeros(2, 3)).shape
        torch.Size([1, 2, 3])
    """
    if z.dim() != 2 or frequencies.dim() != 2 or frequencies.size(0) != z.size(1):
        raise ValueError(
            f"`frequencies` must have shape [d, q] for `z` [N, d]; got {tuple(frequencies.shape)} for "
            f"{tuple(z.shape)}."
        )
    if phases.shape != frequencies.shape:
        raise ValueError(
            f"`phases` must have the shape of `frequencies`, {tuple(frequencies.shape)}; got "
            f"{tuple(phases.shape)}."
        )
    return math.sqrt(2) * torch.cos(z.unsqueeze(2) * frequencies + phases)


def decorrelation(u: Tensor, v: Tensor, weight: Tensor, clusters: Tensor | None = None) -> Tensor:
    r"""How far weighted coordinates of different clusters depend on one another.

    .. math::
        \sum_{i < j,\, c_i \ne c_j} \|\Sigma_{ij}\|_F^2, \quad \Sigma_{ij} = \frac{1}{N - 1} \sum_n (w_n
        u_{ni} - \overline{w u_i})(w_n v_{nj} - \overline{w v_j})^\top

    The sum over all pairs is taken as one Gram matrix.

    Args:
        u, v: Features of every coordinate ``[N, d, q]``: those of :func:`random_cosines`, drawn twice.
        weight: ``[N]``, one of each graph.
        clusters: The cluster of each coordinate ``[d]``; ``None``: each has its own, so that all pairs count.

    Returns:
        A number; 0 for fewer than two graphs, and where all coordinates are in one cluster.

    Raises:
        ValueError: Shapes do not fit.

    Example:
        >>> u = torch.tensor([[[1.0], [1.0]], [[-1.0], [-1.0]]])
        >>> decorrelation(u, u, torch.ones(2)), decorrelation(u, u, torch.ones(2), torch.tensor([0, 0]))
        (tensor(4.), tensor(0.))
    """
    if u.dim() != 3 or u.shape != v.shape:
        raise ValueError(
            f"`u` and `v` must have one shape [N, d, q]; got {tuple(u.shape)} and {tuple(v.shape)}."
        )
    count, d, q = u.shape
    check_one_per("graph", count, "weight", tuple(weight.shape))
    if count < 2:
        return weight.sum() * 0.0
    counted = torch.ones(d, d, dtype=torch.bool, device=u.device).triu(1)
    if clusters is not None:
        clusters = as_indices(clusters, "clusters")
        check_one_per("coordinate", d, "clusters", tuple(clusters.shape))
        counted = counted & (clusters[:, None] != clusters)
    left, right = (weight[:, None] * t.flatten(1) for t in (u, v))
    gram = (left - left.mean(0)).T @ (right - right.mean(0)) / (count - 1)
    return (gram.square().view(d, q, d, q).sum((1, 3)) * counted).sum()


def stable_clusters(z: Tensor, environments: Segments, num_clusters: int) -> Tensor:
    r"""Clusters of coordinates whose correlations are the same everywhere.

    .. math::
        D_{ij} = \Big(\frac{1}{S} \sum_s (r_{ij}^s - \bar r_{ij})^2\Big)^{1/2}

    with :math:`r^s` the correlation within environment ``s``, such as a mini-batch. Clusters are those of
    k-medoids, from medoids far from one another.

    Args:
        z: ``[N, d]``.
        environments: Which graph belongs to which.
        num_clusters: How many clusters, at most ``d``.

    Returns:
        ``[d]``, the cluster of each coordinate; a coordinate that is constant has correlation 0. An
        environment of fewer than two graphs says nothing, and does not count.

    Raises:
        TypeError: ``z`` is not floating point, or ``environments`` are no segments.
        ValueError: There are more clusters than coordinates, ``z`` is not finite, or sizes do not fit.

    Example:
        >>> z = torch.tensor([[0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 0, 2], [1, 1, 1], [2, 2, 0]])
        >>> stable_clusters(z.double(), Segments(ptr=torch.tensor([0, 3, 6])), 2)
        tensor([0, 0, 1])
    """
    num_clusters = as_count(num_clusters, "num_clusters")
    _checked_vectors(z, None)
    if z.size(1) < num_clusters:
        raise ValueError(
            f"`num_clusters` must be at most the number of coordinates of `z` [N, d]; got {num_clusters} for "
            f"{what_came(z)}."
        )
    if not isinstance(environments, Segments):
        raise TypeError(
            f"`environments` must be graphpool.Segments; got {what_came(environments)}."
        )
    check_one_per("graph", z.size(0), "environments", environments.num_elements)
    moment = segment_second_moment(z, environments, center=True)[environments.counts > 1]
    scale = moment.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    product = scale.unsqueeze(2) * scale.unsqueeze(1)
    correlation = torch.where(product > 0, moment / torch.where(product > 0, product, 1), 0)
    count = max(correlation.size(0), 1)
    distance = (correlation - correlation.sum(0) / count).square().sum(0).div(count).sqrt()
    medoids = [int(distance.sum(1).argmin())]
    while len(medoids) < num_clusters:
        gap = distance[:, medoids].amin(1)
        gap[medoids] = -1
        medoids.append(int(gap.argmax()))
    chosen = torch.tensor(medoids, device=z.device)
    for _ in range(20):
        cluster = _assigned(distance, chosen)
        bags = Segments(index=cluster, num_segments=num_clusters)
        # Of each cluster the coordinate with the least sum of distances to the others in it.
        cost = segment_sum(distance, bags).T.gather(1, cluster[:, None]).squeeze(1)
        cost = torch.where(
            cluster == torch.arange(num_clusters, device=z.device)[:, None], cost, math.inf
        )
        moved = cost.argmin(1)
        if torch.equal(moved, chosen):
            break
        chosen = moved
    return _assigned(distance, chosen)


def _assigned(distance: Tensor, medoids: Tensor) -> Tensor:
    """The nearest medoid of each; a medoid is its own, so that no cluster is empty."""
    cluster = distance[:, medoids].argmin(1)
    return cluster.scatter(0, medoids, torch.arange(medoids.numel(), device=medoids.device))


def _checked_vectors(z: Any, width: int | None) -> None:
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError(f"`z` must be a floating point tensor [N, d]; got {what_came(z)}.")
    if z.dim() != 2 or z.size(1) != (z.size(1) if width is None else width):
        raise ValueError(
            f"`z` must have shape [N, {'d' if width is None else width}]; got {what_came(z)}."
        )
    if not bool(z.isfinite().all()):
        row = int((~z.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"`z` must be finite; got a value that is not in row {row}.")


class GraphReweighter:
    r"""Learns weights of the graphs of a mini-batch that remove what is spurious between their coordinates.

    Called with the vectors ``[N, d]`` that a readout gives, it returns weights ``[N]``, with a mean of 1 and
    without a derivative, that lessen :func:`decorrelation` between clusters of coordinates: :math:`w =
    N\,\mathrm{softmax}(s)`, by steps of Adam from :math:`s = 0`. Coordinates whose correlation does not
    change from batch to batch (:func:`stable_clusters`) may stay correlated. Vectors and weights of the last
    ``memory`` batches count as graphs, whose weights are fixed. Train with ``(weight * cross_entropy(...,
    reduction="none")).mean()``.

    After Chen et al., "Learning to reweight for generalizable graph neural network", AAAI 2024.

    Args:
        num_clusters: How many clusters of coordinates; ``None``: each is its own (uniform decorrelation).
        features: Random cosines of each coordinate.
        steps: Steps for each batch.
        lr: Their rate.
        memory: How many past batches are kept.
        penalty: Of the variance of the weights, which keeps them from resting on a few graphs.
        generator: Source of the random cosines.

    Raises:
        TypeError: ``generator`` is none.
        ValueError: A number is too small.

    Example:
        >>> z = torch.randn(32, 4)
        >>> weights = GraphReweighter(num_clusters=None, steps=5)(z)
        >>> weights.shape, round(float(weights.mean()), 4)
        (torch.Size([32]), 1.0)
    """

    def __init__(
        self,
        num_clusters: int | None = 4,
        *,
        features: int = 5,
        steps: int = 20,
        lr: float = 0.1,
        memory: int = 4,
        penalty: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        self.num_clusters = None if num_clusters is None else as_count(num_clusters, "num_clusters")
        self.features, self.steps = (
            as_count(features, "features"),
            as_count(steps, "steps", least=0),
        )
        check_at_least(penalty, "penalty", 0)
        check_at_least(lr, "lr", 0)
        if not isinstance(generator, (torch.Generator, type(None))):
            raise TypeError(f"`generator` must be a torch.Generator; got {what_came(generator)}.")
        self.lr, self.penalty, self.generator = lr, penalty, generator
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=as_count(memory, "memory", least=0))
        self.clusters: Tensor | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """Weights of the graphs with vectors ``z`` ``[N, d]``, in their dtype; found in float32 at least.

        Raises:
            TypeError: ``z`` is not floating point.
            ValueError: ``z`` is not finite, has another shape, or another width than those before.
        """
        _checked_vectors(z, self._past[0][0].size(1) if self._past else None)
        # A copy is an ordinary tensor, even of one that came in inference mode.
        with torch.inference_mode(False), torch.autocast(z.device.type, enabled=False):
            return self._weights(
                z.detach().clone().to(torch.promote_types(z.dtype, torch.float))
            ).to(z)

    def _weights(self, z: Tensor) -> Tensor:
        before = [weight for _, weight in self._past]
        batches = [*(vectors for vectors, _ in self._past), z]
        seen = torch.cat(batches)
        sizes = torch.tensor([len(b) for b in batches], device=z.device)
        if self.num_clusters is not None:
            self.clusters = stable_clusters(seen, Segments.from_counts(sizes), self.num_clusters)
        # Frequencies of a normal are meant for coordinates of variance 1.
        seen = seen - seen.mean(0)
        scale = seen.square().mean(0).sqrt()
        seen = seen / torch.where(scale > 0, scale, 1)
        u, v = (self._features(seen) for _ in range(2))
        score = torch.zeros(len(z), dtype=z.dtype, device=z.device, requires_grad=True)
        optimizer = torch.optim.Adam([score], self.lr)
        with torch.enable_grad():
            for _ in range(self.steps):
                weight = len(z) * score.softmax(0)
                loss = decorrelation(u, v, torch.cat([*before, weight]), self.clusters)
                loss = loss + self.penalty * (weight - 1).square().mean()
                (score.grad,) = torch.autograd.grad(loss, score)
                optimizer.step()
        weight = len(z) * score.detach().softmax(0)
        self._past.append((z, weight))
        return weight

    def _features(self, z: Tensor) -> Tensor:
        shape = (z.size(1), self.features)
        draws = (
            torch.randn(shape, generator=self.generator),
            torch.rand(shape, generator=self.generator),
        )
        return random_cosines(z, draws[0].to(z), 2 * math.pi * draws[1].to(z))
