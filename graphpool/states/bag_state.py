"""What is known of bags of which some pieces have been seen."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from graphpool._arguments import as_count, what_came
from graphpool.ops import align, check_elements, working
from graphpool.segments import Segments
from graphpool.states import numbers
from graphpool.states.held import Held, bags_of, check_dtype
from graphpool.states.mergeable import Mergeable, Tensors, spread


class BagState(Held):
    """Bags of which some pieces have been seen: what ``pool.begin(num_bags)`` gives.

    Pieces are added in any order, states of the same bags merged in any order, on any machine; the result is
    that of the pool of all elements at once. It holds a few numbers per bag and channel, however many
    elements there were: :attr:`reference` and :attr:`sums`, dictionaries of tensors ``[S, ...]``. It can be
    pickled, with a copy of the pool, and moved. Change no parameter between pieces: it is not noticed.

    Gradients take a second pass over the same pieces::

        state = pool.begin(num_bags)
        with torch.no_grad():
            for x, bag in pieces():
                state.add(encoder(x), bag)
        loss = criterion(head(state.result()), target)
        loss.backward()
        for x, bag in pieces():
            state.backprop(encoder(x), bag)

    :func:`graphpool.stream` is that in one call.

    Args:
        pool: A pool whose bags can be pooled in pieces.
        num_bags: The number of bags ``S``.
        dtype: Precision of the sums, float64 or float32; integers for pools that take them.
        exact: Pool each piece in the precision of the sums, too. Without it a piece of float32 is pooled
            as the pool itself would, in a fraction of the time, and only merged in float64.
        compensated: Keep with each sum what rounding took from it.
        fixed_point: Binary digits after the point of sums that are integers; only for pools without a
            reference. Others get it from :meth:`fixed_point`.

    Attributes:
        reference: What the sums refer to: maxima, means, the largest.
        sums: The sums, among them the size of each bag ``n``.
        pieces: How many pieces were added.

    Raises:
        ValueError: The arguments contradict one another.

    Example:
        >>> from graphpool import aggr
        >>> a, b = aggr.Std().begin(1), aggr.Std().begin(1)
        >>> a.add(torch.tensor([[1.0], [2.0]])).merge(b.add(torch.tensor([[6.0]]))).result().detach()
        tensor([[2.1602]])
    """

    def __init__(
        self,
        pool: Any,
        num_bags: int = 1,
        *,
        dtype: torch.dtype = torch.float64,
        exact: bool = True,
        compensated: bool = False,
        fixed_point: int | None = None,
    ) -> None:
        self.pool = pool
        self.num_bags = as_count(num_bags, "num_bags", least=0)
        self.dtype = dtype
        # A pool that awaits its first input says later how it merges, but whether it does at once.
        waits = pool.mergeable and pool.channels == -1
        form: Mergeable | None = None if waits else pool.merging()
        sums_integers = pool.accepts_integers and form is not None and form.integers
        check_dtype(dtype)
        if not dtype.is_floating_point and not sums_integers:
            raise ValueError(
                f"`dtype` must be floating point for {type(pool).__name__}; got {dtype}."
            )
        if compensated and (fixed_point is not None or not dtype.is_floating_point):
            raise ValueError("`compensated` is for floating point sums; integers lose nothing.")
        self.exact, self.compensated = exact, compensated
        self.bits = None if fixed_point is None else as_count(fixed_point, "fixed_point", least=0)
        self.reference: Tensors = {}
        self.sums: Tensors = {}
        self.pieces = 0
        self.processes = 1
        self._lost: Tensors = {}
        self._like: torch.dtype | None = None
        self._width = None if pool.channels in (None, -1) else int(pool.channels)
        self._form = form
        self._leaves: Tensors | None = None

    def add(self, x: Tensor, bag: Any = None, weight: Tensor | None = None) -> BagState:
        """Takes in a piece. No graph is kept of it.

        Args:
            x: Elements ``[E, C]``.
            bag: The bag of each, integers ``[E]``, or :class:`~graphpool.Segments`; not needed of one bag.
            weight: ``[E]``: how often each element counts.

        Returns:
            The state itself.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: Sizes or indices do not fit; in fixed point, an element lies above the reference, or
                the sums would overflow.
        """
        self._change()
        with torch.no_grad():
            self._take(*self._look(x, bag, weight, exact=self.exact or self.bits is not None))
        self.pieces += 1
        return self

    def merge(self, other: BagState) -> BagState:
        """Takes in what another state of the same bags has seen. ``a | b`` makes a new one.

        Raises:
            TypeError: It is no state.
            ValueError: It is of another pool, number of bags, width or kind of numbers.
        """
        self._change()
        self._check_alike(other)
        with torch.no_grad():
            if other.sums and not self.sums:
                self._copy(other)
            elif other.sums:
                self._check_same_sums(other)
                joined, moved = self._join(other.reference, other.sums["n"]), other.copy()
                self._move(joined)
                moved._move(joined)
                self._put(moved.sums, moved._lost)
        self.pieces += other.pieces
        self._like = self._like or other._like
        return self

    def __or__(self, other: BagState) -> BagState:
        return self.copy().merge(other)

    def remove(self, x: Tensor, bag: Any = None, weight: Tensor | None = None) -> BagState:
        """Takes elements out again that were added, to the last bit.

        Raises:
            ValueError: The sums are not exact, or what is left cannot be known: of maxima for instance. A
                :class:`~graphpool.states.Window` serves every pool.
        """
        exact = self.bits is not None or not self.dtype.is_floating_point
        if not exact or not self.form.removable:
            why = "its sums are rounded" if self.form.removable else "what lies below is not known"
            raise ValueError(
                f"Elements cannot be taken out of this state of {type(self.pool).__name__} again: {why}. "
                f"Sums in fixed point are exact (see `fixed_point`); "
                f"graphpool.states.Window serves every pool."
            )
        self._change()
        with torch.no_grad():
            self._take(*self._look(x, bag, weight), sign=-1)
        return self

    def all_reduce(self, group: Any = None) -> BagState:
        """Merges the states of all processes of a ``torch.distributed`` group, in the order of their ranks:
        each then holds the same, to the last bit. All must call it.

        :meth:`backprop` hands each process its part of the gradient, times the number of processes: *average*
        the gradients of all parameters afterwards (:func:`~graphpool.states.average_gradients`), as
        ``DistributedDataParallel`` does. Adding them would count what lies behind the pool once per process.

        Raises:
            ValueError: There is no process group.
        """
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError("There is no group: call torch.distributed.init_process_group first.")
        self._change()
        held = [*self.sums.values(), *self.pool.parameters()]
        device = held[0].device if held else torch.device("cpu")
        found: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(
            found, (self.state_dict(torch.device("cpu")), self.pieces), group=group
        )
        total = self._fresh()
        for state, pieces in found:
            part = self._fresh().load_state_dict(state)
            part.pieces = pieces
            total.merge(part)
        self._copy(total.to(device))
        self.pieces, self.processes = total.pieces, len(found)
        return self

    def result(self, dtype: torch.dtype | None = None) -> Tensor:
        """The pooled bags ``[S, out_channels]``; 0 for empty bags.

        Differentiable in the sums, for :meth:`backprop`, and in parameters that act on them.

        Args:
            dtype: That of the elements if ``None``.

        Raises:
            ValueError: Nothing was added, so that it is not known how wide the result is.
        """
        if not self.sums:
            raise ValueError(
                "Nothing was added to this state. An empty piece `x[:0]` tells the width of the elements."
            )
        if self._leaves is None:
            wanted = torch.is_grad_enabled()
            self._leaves = {
                name: value.detach().clone().requires_grad_(wanted and value.is_floating_point())
                for name, value in self.totals().items()
            }
        return self.finished(self._leaves, dtype)

    def totals(self) -> Tensors:
        """The sums as one number each, whatever they are kept in."""
        return {k: numbers.total(v, self._lost.get(k), self.bits) for k, v in self.sums.items()}

    def finished(self, totals: Tensors, dtype: torch.dtype | None = None) -> Tensor:
        """The pooled bags of sums at the reference of this state."""
        y = self.form.finish(totals, self.reference)
        y = torch.where(align(totals["n"].detach() == 0, y), 0, y)
        return y.to(dtype or self._like or self.dtype)

    def backprop(self, x: Tensor, bag: Any = None, weight: Tensor | None = None) -> None:
        """Hands the gradient of the result to the elements of a piece, and on into the graph that made them.

        To be called once for each piece that was added, after ``loss.backward()``.

        Raises:
            ValueError: There is no gradient: ``loss.backward()`` has not reached :meth:`result`.
        """
        outputs, gradients = [], []
        given = self.gradients
        for name, value in self.piece_sums(x, bag, weight).items():
            if value.requires_grad and name in given:
                outputs.append(value)
                gradients.append(given[name])
        if outputs:
            torch.autograd.backward(outputs, gradients)

    def piece_sums(self, x: Tensor, bag: Any = None, weight: Tensor | None = None) -> Tensors:
        """The sums of one piece at the reference of this state, differentiable in its elements."""
        seen, segments, weight = self._look(x, bag, weight)
        return self._sums(seen, segments, weight)

    @property
    def gradients(self) -> Tensors:
        """The derivative of the loss by each of the sums, as the pieces need it."""
        leaves = self._leaves or {}
        found = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        if not found:
            raise ValueError(
                "There is no gradient to hand on: `loss.backward()` of a loss of `result()` comes first, and "
                "nothing may be added in between."
            )
        return {name: self.processes * grad for name, grad in found.items()}

    def fixed_point(self, bits: int) -> BagState:
        """An empty state at the reference of this one, with integers for sums.

        It must see the same elements again, and gives the same bits whatever the order, the cuts and the
        number of machines. A sum of ``n`` terms of at most ``s`` needs :math:`n s < 2^{62 - bits}`; what
        would overflow is refused.

        Args:
            bits: Binary digits after the point.

        Example:
            >>> from graphpool import aggr
            >>> x = torch.tensor([[0.1], [0.2], [7.0]])
            >>> state = aggr.LogSumExp().begin(1).add(x).fixed_point(40)
            >>> once, twice = state.copy().add(x[:2]), state.copy().add(x)
            >>> torch.equal(twice.remove(x[2:]).sums["u"], once.sums["u"])
            True
        """
        bits = as_count(bits, "bits", least=0)
        if not self.sums:
            raise ValueError("Nothing was added to this state, so that it has no reference yet.")
        fixed = self._fresh()
        fixed.bits, fixed.compensated = bits, False
        with torch.no_grad():
            fixed.reference = self.form.settle(self.reference, self.sums)
        fixed.sums = {k: torch.zeros_like(v, dtype=torch.int64) for k, v in self.sums.items()}
        return fixed

    @property
    def form(self) -> Mergeable:
        """How the pool's pieces merge, with its parameters as they are now."""
        if self._form is None:
            self._form = self.pool.merging()
        return self._form

    def _change(self) -> None:
        if self.processes > 1:
            raise ValueError(
                "This state holds the elements of all processes already; begin a new one for more."
            )
        self._leaves = None

    def _look(
        self, x: Tensor, bag: Any, weight: Tensor | None, exact: bool = True
    ) -> tuple[Tensors, Segments, Tensor | None]:
        """What the pool sees of a piece, in the precision of the state, and its bags."""
        if not isinstance(x, Tensor) or x.dim() != 2:
            raise ValueError(
                f"`x` must be elements [E, C] here; got {what_came(x)}. Give further "
                "dimensions as bags of their own."
            )
        segments = bags_of(x, bag, self.num_bags)
        check_elements(x, segments, weight, integers=not self.dtype.is_floating_point)
        x = self.pool.admit(x, weight)
        if self._width is None:
            self._width = x.size(1)
        elif x.size(1) != self._width:
            raise ValueError(f"`x` must have {self._width} channels, as before; got {x.size(1)}.")
        self._like = self._like or x.dtype
        found = self.form.encode(x)
        # What several parts see is turned once.
        wide = {id(value): value for value in found.values()}
        wide = {key: v.to(self.dtype) if exact else working(v) for key, v in wide.items()}
        return {name: wide[id(value)] for name, value in found.items()}, segments, weight

    def _sums(self, seen: Tensors, segments: Segments, weight: Tensor | None) -> Tensors:
        sums = self.form.sums(seen, segments, weight, self.reference)
        return {"n": numbers.sizes(segments, weight), **sums}

    def _take(
        self, seen: Tensors, segments: Segments, weight: Tensor | None, sign: int = 1
    ) -> None:
        if self.bits is None:
            own, sums = (
                {name: value.to(self.dtype) for name, value in found.items()}
                for found in self.form.piece(seen, segments, weight)
            )
            sums = {"n": numbers.sizes(segments, weight), **sums}
            joined = self._join(own, sums["n"])
            self._move(joined)
            added = self.form.shift(sums, own, joined)
            sums = self.form.rebase(sums, own, joined)
            sums = {name: v + added[name] if name in added else v for name, v in sums.items()}
        else:
            self._check_below(self.form.reference(seen, segments, weight))
            terms = self.form.terms(seen, spread(self.reference, segments))
            sums = numbers.rounded_sums(terms, segments, weight, self.bits, self.sums)
        self._put({name: sign * v for name, v in sums.items()} if sign < 0 else sums)

    def _join(self, reference: Tensors, size: Tensor) -> Tensors:
        """The common reference; in fixed point it stays what it is."""
        if self.bits is not None:
            return self.reference
        if not self.sums:
            return reference
        return self.form.join(self.reference, reference, self.sums["n"], size)

    def _move(self, new: Tensors) -> None:
        """Carries the sums over to another reference: a linear map, so what rounding took goes along."""
        if self.sums and self.bits is None and new:
            added = self.form.shift(self.sums, self.reference, new)
            lost = self.form.shift(self._lost, self.reference, new) if self._lost else None
            self.sums = self.form.rebase(self.sums, self.reference, new)
            if self._lost:
                self._lost = self.form.rebase(self._lost, self.reference, new)
            self._put(added, lost)
        self.reference = new

    def _put(self, sums: Tensors, lost: Tensors | None = None) -> None:
        if not self.sums:
            self.sums = sums
            if self.compensated:
                self._lost = {name: torch.zeros_like(v) for name, v in sums.items()}
        elif self.compensated:
            pairs = {
                name: numbers.compensated_sum(
                    v, self._lost[name], sums[name], (lost or {}).get(name)
                )
                for name, v in self.sums.items()
                if name in sums
            }
            self.sums = {**self.sums, **{name: pair[0] for name, pair in pairs.items()}}
            self._lost = {**self._lost, **{name: pair[1] for name, pair in pairs.items()}}
        else:
            self.sums = {k: v + sums[k] if k in sums else v for k, v in self.sums.items()}

    def _check_below(self, own: Tensors) -> None:
        """Raises unless the reference of a piece in fixed point lies below that of the first pass."""
        if own and not self.reference:
            raise ValueError(
                f"`fixed_point` of {type(self.pool).__name__} needs a first pass, which finds the reference: "
                f"begin without it, `add` all pieces, and take `fixed_point(bits)` of that state."
            )
        if not self.form.covers(self.reference, own):
            raise ValueError("An element lies above the reference: the first pass has not seen it.")
