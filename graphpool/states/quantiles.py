"""Quantiles of bags in pieces: approximate ones from sketches that merge, and exact ones in two passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool import _optional
from graphpool._arguments import as_count, what_came
from graphpool.ops import check_elements
from graphpool.states.held import bags_of
from graphpool.states.streams import Pieces, parts_of


class QuantileSketch:
    """Approximate quantiles of bags in pieces, for each channel: a KLL sketch of Apache DataSketches.

    The error is one of ranks: the quantile ``q`` that is found is one of ``q`` plus or minus
    :attr:`rank_error`, in 99 of 100 cases. It depends on ``k`` and not on how many elements there are.
    Sketches are random: two of the same elements differ within that error. They hold about ``23 k`` bytes for
    each bag and channel, can be pickled, and have no derivative.

    Karnin, Lang, Liberty, "Optimal quantile approximation in streams", FOCS 2016.

    Args:
        num_bags: The number of bags ``S``.
        k: Size of a sketch, in ``[8, 65535]``.

    Attributes:
        size: How many elements each bag has, ``[S]``.

    Raises:
        ImportError: ``datasketches`` is not installed.
        ValueError: A number is out of range.

    Example::

        sketch = graphpool.states.QuantileSketch(num_bags=2)
        for x, bag in pieces():
            sketch.add(x, bag)
        print(sketch.quantile(0.9), sketch)        # QuantileSketch(num_bags=2, k=800, rank_error=0.0035)
    """

    def __init__(self, num_bags: int = 1, *, k: int = 800) -> None:
        self.num_bags = as_count(num_bags, "num_bags", least=0)
        self.k = as_count(k, "k", least=8)
        if self.k > 65535:
            raise ValueError(f"`k` must be at most 65535; got {k}.")
        _kind()
        self.size = torch.zeros(self.num_bags, dtype=torch.long)
        self._held: list[list[Any]] = []
        self._like: Tensor | None = None
        self._nan = np.zeros((self.num_bags, 0), bool)

    @property
    def rank_error(self) -> float:
        """By how much the rank of what is found may be off, as a part of all; kept in 99 of 100 cases."""
        return float(_kind().get_normalized_rank_error(self.k, False))

    def add(self, x: Tensor, bag: Any = None) -> QuantileSketch:
        """Takes in a piece.

        Args:
            x: Elements ``[E, C]``, floating point.
            bag: The bag of each; not needed of one bag.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: Sizes or indices do not fit.
        """
        if not isinstance(x, Tensor) or x.dim() != 2:
            raise ValueError(f"`x` must be elements [E, C] here; got {what_came(x)}.")
        segments = bags_of(x, bag, self.num_bags)
        check_elements(x, segments)
        self._begin(x)
        self.size += segments.counts.cpu()
        rows = segments.sort_elements(x.detach()).double().cpu().numpy()
        ptr = segments.ptr.tolist()
        for s in np.flatnonzero(np.diff(ptr)):
            part = rows[ptr[s] : ptr[s + 1]]
            self._nan[s] |= np.isnan(part).any(0)
            for sketch, column in zip(self._held[s], part.T, strict=True):
                sketch.update(np.ascontiguousarray(column))
        return self

    def merge(self, other: QuantileSketch) -> QuantileSketch:
        """Takes in what another sketch of the same bags has seen.

        Raises:
            TypeError: It is no sketch.
            ValueError: It is of another number of bags, width or size.
        """
        if not isinstance(other, QuantileSketch):
            raise TypeError(f"`other` must be a QuantileSketch; got {what_came(other)}.")
        if (self.num_bags, self.k) != (other.num_bags, other.k):
            raise ValueError(f"`other` must be as {self!r}; got {other!r}.")
        if other._like is not None:
            self._begin(other._like)
            self.size, self._nan = self.size + other.size, self._nan | other._nan
            for mine, theirs in zip(self._held, other._held, strict=True):
                for a, b in zip(mine, theirs, strict=True):
                    a.merge(b)
        return self

    def quantile(self, q: float = 0.5) -> Tensor:
        """The quantile of each bag and channel ``[S, C]``, an element of it; 0 of empty bags, NaN with a NaN.

        Raises:
            TypeError: ``q`` is no number.
            ValueError: ``q`` lies outside of ``[0, 1]``, or nothing was added.
        """
        return self._result(self._at(_as_level(q)))

    def _begin(self, x: Tensor) -> None:
        if self._like is None:
            self._like = x[:0].detach().cpu()
            self._held = [[_kind()(self.k) for _ in range(x.size(1))] for _ in range(self.num_bags)]
            self._nan = np.zeros((self.num_bags, x.size(1)), bool)
        elif x.size(1) != self._like.size(1):
            raise ValueError(
                f"`x` must have {self._like.size(1)} channels, as before; got {x.size(1)}."
            )
        # What is found is an element, also where pieces are of several precisions.
        self._like = self._like.to(torch.promote_types(self._like.dtype, x.dtype))

    def _at(self, q: float) -> np.ndarray:
        """The quantile of every sketch ``[S, C]``; NaN of empty ones."""
        if self._like is None:
            raise ValueError(
                "Nothing was added to this sketch, so that it is not known how wide it is."
            )
        found = [[_quantile(sketch, q) for sketch in sketches] for sketches in self._held]
        return np.array(found).reshape(self._nan.shape)

    def _result(self, found: np.ndarray) -> Tensor:
        assert self._like is not None
        found = np.where(self._nan, np.nan, np.where(self.size[:, None] == 0, 0, found))
        return torch.from_numpy(found).to(self._like.dtype)

    def __getstate__(self) -> dict[str, Any]:
        held = [[sketch.serialize() for sketch in sketches] for sketches in self._held]
        return {**self.__dict__, "_held": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._held = [[_kind().deserialize(v) for v in held] for held in state["_held"]]

    def __repr__(self) -> str:
        error = f"rank_error={self.rank_error:.2g}"
        return f"{type(self).__name__}(num_bags={self.num_bags}, k={self.k}, {error})"


def exact_quantile(pieces: Pieces, q: float = 0.5, num_bags: int = 1, *, k: int = 800) -> Tensor:
    """The quantile of bags that come in pieces, exactly, in two passes; at 0.5 that of
    :class:`~graphpool.aggr.Median`.

    The first pass makes a :class:`QuantileSketch`, which tells two elements with the wanted one between them.
    The second counts what lies below, and keeps what lies between: about seven times the error of the
    sketch, 2 % of the elements. Where the sketch was wrong the count shows it, and there is a further pass.

    Args:
        pieces: As in :func:`graphpool.stream`, of elements ``[E, C]`` without weights.
        q: Which, in ``[0, 1]``. Of ``n`` elements it is the one of rank :math:`q (n - 1)`, rounded down.
        num_bags: The number of bags.
        k: See :class:`QuantileSketch`.

    Returns:
        ``[S, C]``; 0 of empty bags, NaN with a NaN. There is no derivative.

    Raises:
        ImportError: ``datasketches`` is not installed.
        TypeError: ``q`` is no number.
        ValueError: ``pieces`` can be gone through once only, or differ between the passes, if by a bit; they
            have weights; ``q`` lies outside of ``[0, 1]``.
    """
    q = _as_level(q)
    if isinstance(pieces, Iterator):
        raise ValueError(
            "`pieces` can be gone through once; give a function that makes the iterator."
        )
    sketch, bits = QuantileSketch(num_bags, k=k), np.zeros(1, np.int64)
    for x, bag in _unweighted(pieces):
        sketch.add(x, bag)
        bits = bits + _bits(*_seen(x, bag, num_bags))
    margin, found = 3 * sketch.rank_error, sketch._at(q)
    rank = np.floor(q * (sketch.size.double().numpy() - 1).clip(min=0)).astype(np.int64)
    open_ = ~np.isnan(found) & ~sketch._nan
    while open_.any():
        low, high = (sketch._at(min(max(v, 0.0), 1.0)) for v in (q - margin, q + margin))
        y, hit = _between(pieces, sketch, bits, low, high, rank[:, None])
        found, open_ = np.where(open_ & hit, y, found), open_ & ~hit
        margin *= 4
    return sketch._result(found)


def _between(
    pieces: Pieces,
    sketch: QuantileSketch,
    bits: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rank: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The element of a rank where it lies between two bounds, and whether it does, ``[S, C]`` each."""
    below, at_low, at_high = np.zeros((3, *low.shape), np.int64)
    keys, values = [], []
    for x, bag in _unweighted(pieces):
        index, rows = _seen(x, bag, sketch.num_bags)
        if rows.shape[1:] != low.shape[1:]:
            raise ValueError(
                f"`pieces` were others in the second pass: elements of shape {rows.shape[1:]}, and of "
                f"{low.shape[1:]} in the first."
            )
        bits = bits - _bits(index, rows)
        a, b = low[index], high[index]
        for count, here in (
            (below, rows < a),
            (at_low, rows == a),
            (at_high, (rows == b) & (b > a)),
        ):
            np.add.at(count, index, here)
        element, channel = ((rows > a) & (rows < b)).nonzero()
        keys.append(index[element] * low.shape[1] + channel)
        values.append(rows[element, channel])
    if bits.any():
        raise ValueError(
            "`pieces` were others in the second pass: other elements, or in other bags. Shuffling them is "
            "fine; what is drawn or augmented on the way must be drawn alike."
        )
    key, value = (np.concatenate(v) for v in (keys, values))
    order = np.lexsort((value, key))
    first, last = (np.searchsorted(key[order], np.arange(low.size) + v) for v in (0, 1))
    inside = (last - first).reshape(low.shape)
    place = rank - below - at_low
    within = (place >= 0) & (place < inside)
    value = np.append(value[order], np.nan)
    y = value[np.where(within, first.reshape(low.shape) + place, -1)]
    y = np.where(within, y, np.where(place < 0, low, high))
    return y, (rank >= below) & (place < inside + at_high)


def _seen(x: Tensor, bag: Any, num_bags: int) -> tuple[np.ndarray, np.ndarray]:
    """The bag of each element ``[E]``, and the elements in float64."""
    index = bags_of(x, bag, num_bags).index.cpu().numpy()
    return index, np.ascontiguousarray(x.detach().double().cpu().numpy())


def _bits(index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What tells elements and their bags from others ``[1 + C]``, in any order: sums that wrap around."""
    of_bag = 2 * index[:, None] + 1
    return np.append((len(index),), (rows.view(np.int64) * of_bag).sum(0))


def _as_level(q: Any) -> float:
    """One quantile."""
    try:
        level = float("no number" if isinstance(q, str) else q)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"`q` must be one number; got {q!r}.") from None
    if not 0 <= level <= 1:
        raise ValueError(f"`q` must lie in [0, 1]; got {q}.")
    return level


def _unweighted(pieces: Pieces) -> Iterator[tuple[Tensor, Any]]:
    again: Iterable[Any] = pieces if isinstance(pieces, Iterable) else pieces()
    for piece in again:
        x, bag, weight = parts_of(piece)
        if weight is not None:
            raise ValueError("`pieces` must have no weights here: sketches of quantiles take none.")
        yield x, bag


def _quantile(sketch: Any, q: float) -> float:
    """A quantile of one sketch; its extrema are exact, but the items that it holds need not include them."""
    if sketch.is_empty():
        return float("nan")
    if 0 < q < 1:
        return float(sketch.get_quantile(q, True))
    return float(sketch.get_max_value() if q else sketch.get_min_value())


def _kind() -> Any:
    return _optional.require("datasketches", purpose="states.QuantileSketch").kll_doubles_sketch
