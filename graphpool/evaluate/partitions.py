"""How well bags are found that nobody has named."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from graphpool._arguments import as_count, as_indices, check_one_per


class MatchedBags(NamedTuple):
    """How many bags were found, how many there are, and how many of both match."""

    matched: int
    found: int
    true: int

    @property
    def efficiency(self) -> float:
        """The share of the true bags that were found; NaN where there is none."""
        return self.matched / self.true if self.true else float("nan")

    @property
    def purity(self) -> float:
        """The share of the found bags that are there; NaN where none was found."""
        return self.matched / self.found if self.found else float("nan")


def double_majority(found: Tensor, true: Tensor, least: int = 4) -> MatchedBags:
    """Two partitions of the same elements: a bag of one matches one of the other if they share more than
    half of both.

    Each bag matches one at most. Bags of fewer than ``least`` elements count for nothing.

    Args:
        found: The bag of each element, ``[N]``, any integers.
        true: The bag that it belongs to.
        least: Elements of the smallest bag that counts.

    Raises:
        TypeError: An argument does not hold integers.
        ValueError: Sizes do not fit.

    Example:
        >>> counts = double_majority(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([5, 5, 5, 5, 6]), least=2)
        >>> counts, counts.efficiency, counts.purity
        (MatchedBags(matched=1, found=2, true=1), 1.0, 0.5)
    """
    least = as_count(least, "least")
    mine, theirs = as_indices(found, "found"), as_indices(true, "true")
    check_one_per("element", mine.numel(), "found", tuple(mine.shape))
    check_one_per("element", mine.numel(), "true", tuple(theirs.shape))
    sizes, bags = [], []
    for label in (mine, theirs):
        _, bag, size = label.unique(return_inverse=True, return_counts=True)
        bags.append(bag)
        sizes.append(size)
    width = max(sizes[1].numel(), 1)
    keys, shared = (bags[0] * width + bags[1]).unique(return_counts=True)
    n = sizes[0][keys // width], sizes[1][keys % width]
    fits = [(2 * shared > size) & (size >= least) for size in n]
    return MatchedBags(int((fits[0] & fits[1]).sum()), *(int((s >= least).sum()) for s in sizes))
