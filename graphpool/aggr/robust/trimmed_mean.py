"""The mean without the extremes."""

from __future__ import annotations

from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.ops import Gather, segment_trimmed_mean
from graphpool.segments import Segments

TIES = "equal elements take up different parts of the order, so their derivatives differ"


@register("trimmed_mean")
class TrimmedMean(Aggregation):
    r"""Mean per channel of what lies between two quantiles, :math:`\alpha` and :math:`1 - \alpha`:

    .. math:: y_s = \frac{1}{1 - 2 \alpha} \int_\alpha^{1 - \alpha} Q_s(u)\, du

    An element that one of the two cuts counts for the part that lies inside, so that weights may be any.
    ``trim = 0`` is the mean, ``trim -> 1/2`` the median. Less than a share :math:`\alpha` of the bag, however
    far away, cannot move the result out of the range of the rest.

    Tukey, McLaughlin, "Less vulnerable confidence and significance procedures for location based on a single
    sample", Sankhya A, 1963.

    Args:
        channels: See :class:`Aggregation`.
        trim: The share :math:`\alpha` that is left out on either side, in [0, 1/2).

    Raises:
        ValueError: ``trim`` is out of range.

    Example:
        >>> from graphpool import aggr
        >>> aggr.TrimmedMean(trim=0.25)(torch.tensor([[1.0], [2.0], [4.0], [1e6]]))
        tensor([[3.]])
    """

    supports_gather = True
    complexity = "E C log E"
    exempt = {"ties": TIES}
    whole_bag = "an element of any rank may be needed, whatever comes later"

    def __init__(self, channels: int | None = None, *, trim: float = 0.1) -> None:
        super().__init__(channels)
        if not 0 <= trim < 0.5:
            raise ValueError(f"`trim` must lie in [0, 1/2); got {trim}.")
        self.trim = float(trim)

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        return segment_trimmed_mean(x, segments, self.trim, weight, gather)
