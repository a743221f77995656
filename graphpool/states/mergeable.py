"""What a pool must tell so that its bags can be pooled in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping

from torch import Tensor, where

from graphpool.ops import align, segment_gather, segment_sum
from graphpool.segments import Segments

Tensors = dict[str, Tensor]
Encoder = Callable[[Tensor], Tensors]


def as_is(x: Tensor) -> Tensors:
    """Elements of which nothing is computed."""
    return {"x": x}


class Mergeable(ABC):
    r"""A pool of the form :math:`y = f\big(\sum_e w_e\, s(x_e; r),\, r\big)` whose result does not depend on
    the *reference* ``r``, which only fixes how the sums are written down.

    A reference is whatever keeps the numbers small: a maximum, a mean, the largest so far. Sums of one piece
    can be carried over to the reference of another and added, so bags may come in pieces, in any order. And
    the sums at a fixed reference are plain: a derivative by them is handed to the elements of one piece
    after the other. :class:`~graphpool.states.BagState` does all of that with these methods; a pool gives an
    object of this kind by its method ``merging``.

    All are functions of dictionaries of tensors, ``[E, ...]`` of elements and ``[S, ...]`` of bags. Sums
    hold, besides those of :meth:`terms`, the size ``"n"`` of each bag ``[S]``.
    """

    removable = True
    """Whether elements may be taken out again where sums are exact."""
    integers = False
    """Whether sums of integers are sums that the pool can use."""
    of_weight = True
    """Whether there is a derivative by the weights of the elements."""
    shares: Hashable = None
    """What pools with the same sums have in common: side by side, they keep them once."""

    _encode: Encoder = staticmethod(as_is)

    def encode(self, x: Tensor) -> Tensors:
        """What is seen of elements ``[E, C]``, in their precision or that of layers, ``[E, ...]``."""
        return self._encode(x)

    def reference(self, seen: Tensors, segments: Segments, weight: Tensor | None) -> Tensors:
        """The reference of a piece; for bags without elements what :meth:`join` passes over."""
        return {}

    def join(self, a: Tensors, b: Tensors, size_a: Tensor, size_b: Tensor) -> Tensors:
        """The reference of two pieces together, from those of each and their sizes ``[S]``."""
        return {}

    @abstractmethod
    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        """What each element adds to the sums, ``[E, ...]``, at the reference ``at`` of its bag."""

    def sums(
        self, seen: Tensors, segments: Segments, weight: Tensor | None, reference: Tensors
    ) -> Tensors:
        """The sums of a piece. Override it where they can be had without the terms."""
        if weight is not None and not self.of_weight:
            weight = weight.detach()
        terms = self.terms(seen, spread(reference, segments))
        return {name: segment_sum(term, segments, weight) for name, term in terms.items()}

    def piece(
        self, seen: Tensors, segments: Segments, weight: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        """Reference and sums of a piece, of which no derivative is asked: override it where a kernel finds
        both at once."""
        reference = self.reference(seen, segments, weight)
        return reference, self.sums(seen, segments, weight, reference)

    def covers(self, reference: Tensors, own: Tensors) -> bool:
        """Whether the reference of a whole has seen a piece whose reference is ``own``."""
        return True

    def rebase(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        """Sums at another reference, which are multiples of what they were ..."""
        return sums

    def shift(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        """... and what is added to them, linear in the sums."""
        return {}

    def settle(self, reference: Tensors, sums: Tensors) -> Tensors:
        """A reference to keep, which does not tell the last bits of the order of the pieces."""
        return reference

    @abstractmethod
    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        """The results ``[S, out_channels]``; those of empty bags must be finite, and do not matter."""


def spread(reference: Tensors, segments: Segments) -> Tensors:
    """The reference of each element's bag."""
    if segments.num_segments == 1:
        count = segments.num_elements
        return {name: r.expand(count, *r.shape[1:]) for name, r in reference.items()}
    return {name: segment_gather(r, segments) for name, r in reference.items()}


def size_of(sums: Tensors, like: Tensor) -> Tensor:
    """The sizes of the bags, 1 for empty ones, shaped to divide ``like``."""
    n = sums["n"].to(like.dtype)
    return align(where(n == 0, 1, n), like)


class Mapped(Mergeable):
    """A pool between two functions: of elements before it, and of its results.

    Args:
        inner: What pools.
        before: Maps elements ``[E, C]`` to what ``inner`` sees as elements; ``None`` for nothing.
        after: Maps results and sums, of which the sizes of the bags may be of use, to results.
    """

    def __init__(
        self,
        inner: Mergeable,
        before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor, Tensors], Tensor] | None = None,
    ) -> None:
        self.inner, self.before, self.after = inner, before, after
        self.removable = inner.removable
        for name in ("reference", "join", "sums", "piece", "covers", "rebase", "shift", "settle"):
            setattr(self, name, getattr(inner, name))

    def encode(self, x: Tensor) -> Tensors:
        return self.inner.encode(x if self.before is None else self.before(x))

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        return self.inner.terms(seen, at)

    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        y = self.inner.finish(sums, reference)
        return y if self.after is None else self.after(y, sums)


class Several(Mergeable):
    """Several pools of the same bags.

    Args:
        parts: The pools, by names without a dot.
        combine: Makes one result of theirs, by the same names, and of the sums.
    """

    def __init__(
        self, parts: Mapping[str, Mergeable], combine: Callable[[Tensors, Tensors], Tensor]
    ) -> None:
        self.parts, self.combine = dict(parts), combine
        first: dict[Hashable, str] = {}
        # Whose sums each part reads: those of the first of its kind.
        self.source = {
            name: name if part.shares is None else first.setdefault(part.shares, name)
            for name, part in self.parts.items()
        }
        self.kept = {name: part for name, part in self.parts.items() if self.source[name] == name}
        self.removable = all(part.removable for part in self.parts.values())
        self.integers = all(part.integers for part in self.parts.values())

    def _each(self, call: Callable[..., Tensors], *given: Tensors) -> Tensors:
        """``call`` of each part that keeps sums, on its share of each dictionary."""
        found = {}
        for name, part in self.kept.items():
            shares = (_share(tensors, name) for tensors in given)
            found.update({f"{name}.{key}": v for key, v in call(part, *shares).items()})
        return found

    def encode(self, x: Tensor) -> Tensors:
        return self._each(lambda part: part.encode(x))

    def reference(self, seen: Tensors, segments: Segments, weight: Tensor | None) -> Tensors:
        return self._each(lambda part, s: part.reference(s, segments, weight), seen)

    def join(self, a: Tensors, b: Tensors, size_a: Tensor, size_b: Tensor) -> Tensors:
        return self._each(lambda part, p, q: part.join(p, q, size_a, size_b), a, b)

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        return self._each(lambda part, s, r: part.terms(s, r), seen, at)

    def sums(
        self, seen: Tensors, segments: Segments, weight: Tensor | None, reference: Tensors
    ) -> Tensors:
        return self._each(lambda part, s, r: part.sums(s, segments, weight, r), seen, reference)

    def piece(
        self, seen: Tensors, segments: Segments, weight: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        found = {
            name: part.piece(_share(seen, name), segments, weight)
            for name, part in self.kept.items()
        }
        reference, sums = (
            {f"{name}.{key}": v for name, both in found.items() for key, v in both[i].items()}
            for i in range(2)
        )
        return reference, sums

    def covers(self, reference: Tensors, own: Tensors) -> bool:
        return all(
            part.covers(_share(reference, name), _share(own, name))
            for name, part in self.kept.items()
        )

    def rebase(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        moved = self._each(
            lambda part, s, p, q: _without_size(part.rebase(s, p, q)), sums, old, new
        )
        return {"n": sums["n"], **moved}

    def shift(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        return self._each(lambda part, s, p, q: part.shift(s, p, q), sums, old, new)

    def settle(self, reference: Tensors, sums: Tensors) -> Tensors:
        return self._each(lambda part, r, s: part.settle(r, s), reference, sums)

    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        results = {
            name: part.finish(*(_share(held, self.source[name]) for held in (sums, reference)))
            for name, part in self.parts.items()
        }
        return self.combine(results, sums)


def _share(tensors: Tensors, name: str) -> Tensors:
    """What belongs to a part; all of them see the sizes of the bags."""
    prefix = f"{name}."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return {"n": tensors["n"], **own} if "n" in tensors else own


def _without_size(sums: Tensors) -> Tensors:
    return {name: value for name, value in sums.items() if name != "n"}
