"""What a state holds, and how it is copied, moved and stored."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graphpool._arguments import as_indices, what_came
from graphpool.segments import Segments
from graphpool.states.mergeable import Tensors

_State = TypeVar("_State", bound="Held")


class Held:
    """Tensors of a state, ``[S, ...]`` each, which are replaced and never written to."""

    pool: Any
    num_bags: int
    dtype: torch.dtype
    compensated: bool
    bits: int | None
    reference: Tensors
    sums: Tensors
    pieces: int
    processes: int
    _lost: Tensors
    _like: torch.dtype | None
    _width: int | None
    _leaves: Tensors | None

    def copy(self: _State) -> _State:
        """Another state that knows the same; tensors are never written to, so that they are shared."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _leaves=None)
        return other

    def to(self: _State, device: Any) -> _State:
        """The same state on another device; the pool stays where it is."""
        moved = self.copy()
        for held in ("reference", "sums", "_lost"):
            setattr(moved, held, {k: v.to(device) for k, v in getattr(self, held).items()})
        return moved

    def state_dict(self, device: Any = None) -> dict[str, Any]:
        """Tensors and nothing else, by name, for ``torch.save``; what :meth:`load_state_dict` takes."""
        held = self if device is None else self.to(device)
        kinds = {"reference": held.reference, "sums": held.sums, "lost": held._lost}
        state = {f"{kind}.{k}": v for kind, tensors in kinds.items() for k, v in tensors.items()}
        state["pool"] = torch.tensor(list(type(self.pool).__name__.encode()), dtype=torch.uint8)
        if self._like is not None:
            state["like"] = torch.empty(0, self._width or 0, dtype=self._like)
        return state

    def load_state_dict(self: _State, state: dict[str, Any]) -> _State:
        """Takes what :meth:`state_dict` gave, into a state that was begun alike.

        The parameters of the pool are not in it: load those beside it.

        Raises:
            ValueError: It is of another pool, number of bags or kind of numbers, or no state at all.
        """
        named = state.get("pool")
        name = None if named is None else bytes(named.tolist()).decode()
        if name != type(self.pool).__name__:
            raise ValueError(
                f"`state` must be what state_dict() of a state of {type(self.pool).__name__} gave; got "
                f"{'no state' if name is None else 'one of ' + name}."
            )
        kinds: dict[str, Tensors] = {"reference": {}, "sums": {}, "lost": {}}
        for name, value in state.items():
            kind, _, key = name.partition(".")
            if kind in kinds:
                kinds[kind][key] = value
                if value.size(0) != self.num_bags:
                    raise ValueError(
                        f"`state` is of {value.size(0)} bags; this one has num_bags={self.num_bags}."
                    )
        sums = {key: v for key, v in kinds["sums"].items() if key != "n"}
        dtype = self.dtype if self.bits is None else torch.int64
        for v in sums.values():
            if v.dtype != dtype or bool(kinds["lost"]) != self.compensated:
                raise ValueError(
                    f"`state` must hold sums as this one was begun, {dtype} and compensated="
                    f"{self.compensated}; got {v.dtype} and compensated={bool(kinds['lost'])}."
                )
        self._leaves = None
        self.reference, self.sums, self._lost = kinds["reference"], kinds["sums"], kinds["lost"]
        if "like" in state:
            self._like, self._width = state["like"].dtype, state["like"].size(1) or self._width
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_form": None, "_leaves": None}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({type(self.pool).__name__}, num_bags={self.num_bags}, "
            f"pieces={self.pieces})"
        )

    def _fresh(self: _State) -> _State:
        """An empty state of the same kind; in fixed point, at the same reference."""
        other = self.copy()
        other.pieces, other.processes, other._lost = 0, 1, {}
        if self.bits is None:
            other.reference, other.sums = {}, {}
        else:
            other.sums = {name: torch.zeros_like(v) for name, v in self.sums.items()}
        return other

    def _copy(self, other: Held) -> None:
        self.reference, self.sums, self._lost = other.reference, other.sums, other._lost
        self._like, self._width = self._like or other._like, self._width or other._width

    def _check_alike(self, other: Any) -> None:
        if not isinstance(other, Held):
            raise TypeError(f"`other` must be a BagState; got {what_came(other)}.")
        for what, a, b in (
            ("pool", type(self.pool).__name__, type(other.pool).__name__),
            ("num_bags", self.num_bags, other.num_bags),
            ("dtype", self.dtype, other.dtype),
            ("compensated", self.compensated, other.compensated),
            ("fixed_point", self.bits, other.bits),
        ):
            if a != b:
                raise ValueError(f"`other` must have the {what} of this state, {a}; got {b}.")
        if self.pool is not other.pool and not _same(self.pool, other.pool):
            raise ValueError(
                f"`other` must be of a {type(self.pool).__name__} with the arguments and parameters of this "
                "state's; what they pool cannot be merged."
            )

    def _check_same_sums(self, other: Held) -> None:
        shapes, found = ({k: tuple(v.shape) for k, v in s.sums.items()} for s in (self, other))
        if shapes != found:
            raise ValueError(f"`other` must hold sums of shapes {shapes}; got {found}.")
        theirs = other.reference
        if self.bits is not None and any(
            not torch.equal(v, theirs[k]) for k, v in self.reference.items()
        ):
            raise ValueError("`other` must have the same reference where sums are in fixed point.")


def begin(pool: Any, num_bags: int, kind: dict[str, Any]) -> Any:
    """A new state of a pool.

    Raises:
        TypeError: ``pool`` is no pool that can be asked for one.
    """
    if not hasattr(pool, "begin"):
        raise TypeError(
            "`pool` must be a pool of graphpool, made once so that what it learns is kept, such as "
            f"graphpool.aggr.resolve(['mean', 'std'], channels=64); got {what_came(pool)}."
        )
    return pool.begin(num_bags, **kind)


def check_dtype(dtype: Any) -> None:
    """Raises unless sums can be kept in numbers of this kind."""
    if not isinstance(dtype, torch.dtype) or dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            "`dtype` must be torch.float64, torch.float32 or of integers, as sums of half precision stop "
            f"growing (elements may be of it); got {dtype}."
        )


def _same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two pools have the same arguments and parameters."""
    one, two = a.state_dict(), b.state_dict()
    return (
        repr(a) == repr(b)
        and one.keys() == two.keys()
        and all(torch.equal(v, two[k].to(v.device)) for k, v in one.items())
    )


def bags_of(x: Tensor, bag: Any, num_bags: int) -> Segments:
    """The bags of the elements of a piece.

    Raises:
        ValueError: They are not told, or not of as many bags.
    """
    if isinstance(bag, Segments):
        if bag.num_segments != num_bags:
            raise ValueError(f"`bag` must be of {num_bags} bags; got {bag.num_segments}.")
        return bag
    if bag is None:
        if num_bags != 1:
            raise ValueError(f"`bag` must tell the bag of each element, as there are {num_bags}.")
        return Segments(ptr=torch.tensor([0, x.size(0)], device=x.device), num_elements=x.size(0))
    return Segments(index=as_indices(bag, "bag"), num_segments=num_bags, name="bag")
