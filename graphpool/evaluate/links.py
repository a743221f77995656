"""How well links are predicted, and where a graph makes that easy."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from graphpool._arguments import as_count, what_came
from graphpool.evaluate.squashing import incoming_matrix
from graphpool.ops import segment_mean, segment_sum
from graphpool.overlap import checked_edges, distinct, neighborhood_overlap
from graphpool.segments import Segments


def hits_at(positive: Tensor, negative: Tensor, k: int) -> float:
    """The share of true links that score above the ``k``-th best of the pairs that are none (HR@k).

    A true link that equals it is no hit, so that a constant score gives 0.

    Args:
        positive: Scores of links, ``[P]``.
        negative: Scores of other pairs, ``[Q]``, at least ``k``.
        k: Which of them is the bar.

    Raises:
        ValueError: There are fewer than ``k``, no positive score, a score is not a number, or they are no
            row of a tensor.

    Example:
        >>> hits_at(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([2.0, 0.0, 1.5]), k=1)
        0.3333333432674408
    """
    k = as_count(k, "k")
    for name, score in (("positive", positive), ("negative", negative)):
        if not isinstance(score, Tensor) or score.dim() != 1:
            raise ValueError(
                f"`{name}` must be a tensor of scores, in one row; got {what_came(score)}."
            )
    if negative.numel() < k or not positive.numel():
        raise ValueError(
            f"`negative` must have at least k={k} scores, and `positive` one; got {negative.numel()} and "
            f"{positive.numel()}."
        )
    if bool(positive.isnan().any() | negative.isnan().any()):
        raise ValueError("`positive` and `negative` must be numbers; got NaN among them.")
    return float((positive > negative.topk(k).values[-1]).float().mean())


def adamic_adar(edge_index: Tensor, pairs: Tensor, num_nodes: int) -> Tensor:
    r""":math:`\sum_{u \in N(i) \cap N(j)} 1 / \log |N(u)|` for each pair, in float64 ``[P]``.

    Adamic, Adar, "Friends and Neighbors on the Web", Social Networks 2003. A node in one neighbourhood alone
    counts nothing. Where edges have one direction, :math:`|N(u)|` is how many there are from ``u``.

    Example:
        >>> edges = torch.tensor([[0, 2, 1, 2], [2, 0, 2, 1]])
        >>> round(float(adamic_adar(edges, torch.tensor([[0], [1]]), num_nodes=3)), 4)
        1.4427
    """
    common = neighborhood_overlap(edge_index, pairs, num_nodes).common
    sent = (edge_index[0].long() * num_nodes + edge_index[1].long()).unique() // max(num_nodes, 1)
    degree = torch.bincount(sent, minlength=num_nodes).double()
    share = torch.where(degree > 1, degree.log().reciprocal(), 0.0)
    return segment_sum(share[common.nodes], common.segments)


def topological_concentration(
    edge_index: Tensor,
    num_nodes: int,
    targets: Tensor | None = None,
    depth: int = 1,
    beta: float | None = None,
) -> Tensor:
    r"""How much the neighbourhood of each node overlaps with those of its neighbours, ``[N]`` float64.

    .. math::
        \mathrm{TC}(i) = \frac{1}{|T(i)|} \sum_{j \in T(i)}
            \frac{\sum_{k, l \le K} \beta^{k + l} \sum_{u} w^k_{iu}\, [w^l_{ju} > 0]}
                 {\sum_{k, l \le K} \beta^{k + l} \sum_{u} w^k_{iu}}

    with :math:`w^k_{iu}` the number of walks of length ``k`` from ``i`` to ``u``. Between neighbours of one
    graph (no ``targets``) the term :math:`k = l = 1` below does not count ``j`` itself, so that a depth of 1
    is the clustering coefficient. Self-loops do not count. Nodes of a degree below 2 (or without a target)
    get 0. Wang et al., "A Topological Perspective on Demystifying GNN-Based Link Prediction Performance",
    ICLR 2024; it is not symmetric in the ends, and it is a description of the data, computed without
    derivatives.

    Args:
        edge_index: ``[2, E]``, both directions of each edge.
        num_nodes: Number of nodes N.
        targets: Other links of the nodes, such as those to be predicted, ``[2, F]``, both directions.
        depth: The longest walk K.
        beta: How much less a longer walk counts, above 0; one by the mean degree if ``None``.

    Raises:
        TypeError: An argument does not hold integers.
        ValueError: A shape does not fit, a node lies outside ``[0, num_nodes)``, or ``beta`` is not above 0.

    Example:
        >>> triangle_with_a_tail = torch.tensor([[0, 1, 1, 2, 0, 2, 2, 3], [1, 0, 2, 1, 2, 0, 3, 2]])
        >>> topological_concentration(triangle_with_a_tail, num_nodes=4)
        tensor([1.0000, 1.0000, 0.3333, 0.0000], dtype=torch.float64)
    """
    depth = as_count(depth, "depth")
    edges = distinct(checked_edges(edge_index, "edge_index", num_nodes).cpu(), num_nodes)
    edges = edges[:, edges[0] != edges[1]]
    asked = edges if targets is None else checked_edges(targets, "targets", num_nodes)
    asked = distinct(asked.cpu(), num_nodes)
    asked = asked[:, asked[0] != asked[1]]
    step = incoming_matrix(edges, num_nodes)
    walks = [step]
    for _ in range(depth - 1):
        walks.append(walks[-1] @ step)
    if beta is None:
        beta = num_nodes / max(edges.size(1), 1)
    elif not 0 < beta < math.inf:
        raise ValueError(f"`beta` must be above 0 and finite; got {beta}.")
    j, i = asked.numpy()
    above, below = np.zeros(i.size), np.zeros(num_nodes)
    for k, of_i in enumerate(walks, start=1):
        total = np.asarray(of_i.sum(1)).ravel()
        for length, of_j in enumerate(walks, start=1):
            share = beta ** (k + length)
            above += share * np.asarray(of_i[i].multiply(of_j.sign()[j]).sum(1)).ravel()
            own = targets is None and k == length == 1
            below += share * (total - own)
    degree = np.asarray(step.sum(1)).ravel()
    few = degree < 2 if targets is None else degree < 1
    share = np.divide(above, below[i], out=np.zeros(i.size), where=~few[i] & (below[i] > 0))
    bags = Segments(index=torch.from_numpy(i), num_segments=num_nodes)
    return segment_mean(torch.from_numpy(share), bags)
