"""Published models as settings of :class:`LabelPooling` and :class:`RelationalPooling`."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphpool._arguments import check_one_of
from graphpool.relational.encodings import Distance
from graphpool.relational.label_pooling import LabelPooling
from graphpool.relational.permutation_pooling import RelationalPooling

ESAN_POLICIES = ("node_deletion", "edge_deletion", "ego", "ego+", "node_marking")


def nested_gnn(
    gnn: nn.Module, hops: int = 3, distance: bool = False, **kwargs: Any
) -> LabelPooling:
    """NGNN (Zhang and Li, *Nested Graph Neural Networks*, NeurIPS 2021): h-hop ego nets of all nodes.

    The root is not marked; ``distance=True`` adds one-hot distances to it (hops + 2 input channels more).
    """
    return LabelPooling(
        gnn, 1, "ego", hops=hops, encoding="distance" if distance else "none", **kwargs
    )


def identity_aware_gnn(gnn: nn.Module, hops: int | None = None, **kwargs: Any) -> LabelPooling:
    """ID-GNN (You et al., *Identity-aware Graph Neural Networks*, AAAI 2021): each node is embedded in a
    copy in which it is marked.

    The mark is an input channel here, where the paper gives the marked node message weights of its own; a
    network that reads the channel can do the same. One more input channel. ``output="root"`` for nodes.
    """
    policy = "all" if hops is None else "ego"
    return LabelPooling(gnn, 1, policy, "root", kwargs.pop("outer", "sum"), hops=hops, **kwargs)


def distance_encoding_gnn(gnn: nn.Module, max_distance: int, **kwargs: Any) -> LabelPooling:
    """DE-GNN (Li et al., *Distance Encoding*, NeurIPS 2020) for single nodes: distances to the labelled
    node, max_distance + 2 input channels more, and its own embedding in each copy."""
    outer = kwargs.pop("outer", "sum")
    return LabelPooling(gnn, 1, "all", "root", outer, encoding=Distance(max_distance), **kwargs)


def i2_gnn(gnn: nn.Module, hops: int = 3, **kwargs: Any) -> LabelPooling:
    """I2-GNN (Huang et al., *Boosting the Cycle Counting Power of Graph Neural Networks*, ICLR 2023): a
    root and one of its neighbours marked, in the union of their h-hop ego nets; pooled over the
    neighbours of each root, then over the roots. Two more input channels."""
    kwargs.setdefault("group", "root")
    return LabelPooling(gnn, 2, "adjacent", hops=hops, **kwargs)


def esan(gnn: nn.Module, policy: str, hops: int = 3, **kwargs: Any) -> LabelPooling:
    """DS-GNN of ESAN (Bevilacqua et al., *Equivariant Subgraph Aggregation Networks*, ICLR 2022).

    Args:
        gnn: The network; one more input channel for ``"ego+"`` and ``"node_marking"``.
        policy: ``"node_deletion"``, ``"edge_deletion"``, ``"ego"``, ``"ego+"`` (root marked) or
            ``"node_marking"``.
        hops: Radius of the ego nets.
        **kwargs: Passed on to :class:`LabelPooling`.

    Raises:
        ValueError: If the policy is unknown.
    """
    check_one_of(policy, "policy", ESAN_POLICIES)
    if policy in ("ego", "ego+"):
        encoding = "none" if policy == "ego" else "one_hot"
        return LabelPooling(gnn, 1, "ego", hops=hops, encoding=encoding, **kwargs)
    return LabelPooling(gnn, 1, "all" if policy == "node_marking" else policy, **kwargs)


def kl_gnn(
    gnn: nn.Module, labels: int, max_distance: int | None = 3, **kwargs: Any
) -> LabelPooling:
    """1,l-GNN (Zhou, Wang and Zhang, ICML 2023): subsets of l nodes that lie close together, the mean over
    the label assignments of each, and the maximum over subsets. l more input channels."""
    kwargs.setdefault("outer", "max")
    return LabelPooling(gnn, labels, "subsets", max_distance=max_distance, **kwargs)


def rp_gin(
    gnn: nn.Module, id_dim: int = 10, num_permutations: int = 5, **kwargs: Any
) -> RelationalPooling:
    """RP-GIN (Murphy et al., ICML 2019): one-hot ids modulo ``id_dim``, one order per graph and training
    step, five at test. ``id_dim`` more input channels."""
    return RelationalPooling(gnn, num_permutations, id_dim, **kwargs)
