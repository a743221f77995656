"""The largest elements of a bag, sorted."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, check_one_of
from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.ops import Gather, check_elements, segment_sort, segment_topk
from graphpool.segments import Segments
from graphpool.states import Largest, Mergeable

ORDERS = ("value", "original")
_TIES = "equal elements are told apart by their place: the first of them is taken"


@register("kmax")
class KMax(Aggregation):
    r"""The ``k`` largest elements of each channel, largest first, side by side.

    ``k = 1`` is the maximum; with ``k`` the size of the bag nothing is lost (a linear layer on top is
    FSPool). Bags of fewer than ``k`` elements are filled up with 0.

    Kalchbrenner, Grefenstette, Blunsom, "A convolutional neural network for modelling sentences", ACL
    2014, for sequences; values are sorted here, because a bag has no order to keep.

    Args:
        channels: See :class:`Aggregation`.
        k: How many, at least 1.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., k * C]``; the ``C`` largest values come first.

    Raises:
        ValueError: ``k`` is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> aggr.KMax(k=2)(torch.tensor([[1.0], [3.0], [2.0]]))
        tensor([[3., 2.]])
    """

    multiplicity_aware = True
    supports_gather = True
    complexity = "E C log E"
    example_arguments = {"k": 2}
    exempt = {"ties": _TIES}

    def __init__(self, channels: int | None = None, *, k: int = 1) -> None:
        super().__init__(channels)
        self.k = as_count(k, "k")

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else self.k * self.channels

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        values, _ = segment_topk(x, segments, self.k, weight=weight, gather=gather)
        return values.movedim(1, -2).flatten(-2)

    def merging(self) -> Mergeable:
        return Largest(self.k)

    def extra_repr(self) -> str:
        channels = "" if self.channels is None else f", channels={self.channels}"
        return f"k={self.k}{channels}"


@register("dynamic_kmax")
class DynamicKMax(Aggregation):
    r"""The largest elements of each channel, as many as befits the bag:
    :math:`k_s = \min(n_s, \max(k, \lceil r n_s \rceil))`.

    A bag becomes a smaller bag, so what comes out is ragged: ``(values, Segments)``. Values of one row
    may come from different elements. In a stack of ``L`` layers the paper lets layer ``l`` keep the
    share ``ratio = (L - l) / L``.

    Kalchbrenner, Grefenstette, Blunsom, "A convolutional neural network for modelling sentences", ACL
    2014.

    Args:
        channels: See :class:`Aggregation`.
        ratio: Share of the bag that is kept, in (0, 1].
        k: How many to keep at least, where there are so many.
        order: ``"value"``, largest first; or ``"original"``, as in the paper, which makes the result
            depend on the order of the elements.

    Raises:
        ValueError: ``ratio``, ``k`` or ``order`` is out of range; or weights are given that are not
            whole numbers, of which no share can be counted.

    Example:
        >>> from graphpool import aggr
        >>> values, bags = aggr.DynamicKMax(ratio=0.5)(torch.tensor([[1.0], [3.0], [2.0]]))
        >>> values.T, bags.counts
        (tensor([[3., 2.]]), tensor([2]))
    """

    multiplicity_aware = True
    ragged = True
    whole_bag = "it keeps a share of the elements, so it must hold as many"
    complexity = "E C log E"
    exempt = {
        "ties": _TIES,
        "compile": "the number of rows depends on the data",
        "duplicates": "ragged results cannot be concatenated",
        "ndim": "rows of a ragged result lie on the pooled dimension, not on a dimension of bags",
    }

    def __init__(
        self, channels: int | None = None, *, ratio: float = 0.5, k: int = 1, order: str = "value"
    ) -> None:
        super().__init__(channels)
        if not 0 < ratio <= 1:
            raise ValueError(f"`ratio` must lie in (0, 1]; got {ratio}.")
        check_one_of(order, "order", ORDERS)
        self.ratio = float(ratio)
        self.k = as_count(k, "k")
        self.order = order

    def keep(self, counts: Tensor) -> Tensor:
        """How many elements are kept of bags of the given sizes."""
        # The product may come out a little above a whole number.
        share = (self.ratio * counts.double() - 1e-9).ceil().long()
        return torch.minimum(counts, share.clamp(min=self.k))

    def pool(
        self, x: Tensor, segments: Segments, weight: Tensor | None = None
    ) -> tuple[Tensor, Segments]:
        check_elements(x, segments, weight)
        _debug.refuse_vectorized(segments.counts, "index")
        if weight is not None:
            x, segments = repeat_elements(x, segments, weight)
        values, order = segment_sort(x, segments, descending=True)
        kept = Segments.from_counts(self.keep(segments.counts))
        place = torch.arange(kept.num_elements, device=x.device)
        rows = segments.ptr[kept.index] + place - kept.ptr[kept.index]
        values = values.index_select(0, rows)
        if self.order == "original":
            values = values.gather(0, _order_within(order.index_select(0, rows), kept))
        return values, kept

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, k={self.k}, order={self.order!r}"


def repeat_elements(x: Tensor, segments: Segments, weight: Tensor) -> tuple[Tensor, Segments]:
    """Elements and bags with each element as often as its weight says.

    Raises:
        ValueError: A weight is not a whole number.
    """
    times = weight.detach().round().long()
    if not bool((times == weight).all()):
        first = int((times != weight).nonzero()[0])
        raise ValueError(
            "`weight` must hold whole numbers here, because elements are counted; "
            f"got {float(weight[first])} at position {first}."
        )
    rows = torch.arange(times.numel(), device=x.device).repeat_interleave(times)
    return x.index_select(0, rows), Segments(
        index=segments.index[rows], num_segments=segments.num_segments
    )


def _order_within(order: Tensor, kept: Segments) -> Tensor:
    """The rows of each bag by ascending ``order``, per channel."""
    by_order = order.argsort(dim=0, stable=True)
    bag = kept.index[by_order]
    return by_order.gather(0, bag.argsort(dim=0, stable=True))
