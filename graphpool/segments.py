"""Which element belongs to which bag."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, as_indices, check_one_per, what_came
from graphpool.ragged import ragged_offsets


def _kept(compute: Callable[[Segments], Any]) -> Callable[[Segments], Any]:
    """What is kept must be of use when a transform is over; but for bags that differ under it."""
    outside = _debug.on_values(compute)

    @functools.wraps(compute)
    def get(self: Segments) -> Any:
        if not _debug.inside_functorch():  # by far the most often, and many times in a layer
            return compute(self)
        return compute(self) if _debug.is_vectorized(self) else outside(self)

    return get


class Segments:
    r"""A partition of :math:`E` elements into :math:`S` bags, some of them possibly empty.

    Three ways to say the same thing:

    * ``index`` ``[E]``: element ``e`` lies in bag ``index[e]``; any order.
    * ``ptr`` ``[S + 1]`` (CSR): bag ``s`` holds the elements ``ptr[s], ..., ptr[s + 1] - 1``.
    * :meth:`from_padded`: a boolean mask ``[S, N]`` of a padded tensor.

    What follows from them (:attr:`counts`, :attr:`perm`, the other form) is computed on first use and
    kept, so that one object can serve every layer of a network, in training what was first used under
    ``torch.inference_mode()`` too; a compiled program keeps nothing where gradients are off. The object
    copies ``index`` and ``ptr``: what is written to them later changes nothing here. Do not write to what its
    properties return.

    Args:
        index: The bag of each element, a tensor ``[E]`` of integers of any kind, with values in
            ``[0, num_segments)``.
        ptr: The offsets of the bags, integers ``[S + 1]`` that start at 0 and never fall.
        num_segments: The number of bags ``S``, an integer of any kind (Python's, NumPy's, a tensor with
            one element). Required with ``index``: it is never guessed from the largest value, because
            empty bags at the end would vanish.
        num_elements: The number of elements, where it is known without reading ``ptr``.
        is_sorted: States that ``index`` is sorted; found out when ``None``.
        name: What messages call ``index``: the argument that it came as.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The arguments contradict one another, or a value is out of range; the message names
            the first bad position. Values are checked on the CPU, and on other devices only inside
            :func:`graphpool.debug`, because looking at them would stall the device.

    Example:
        >>> segments = Segments(index=torch.tensor([2, 0, 2]), num_segments=4)
        >>> segments
        Segments(num_segments=4, num_elements=3, sorted=False)
        >>> segments.counts.tolist(), segments.ptr.tolist(), segments.perm.tolist()
        ([1, 0, 2, 0], [0, 1, 1, 3, 3], [1, 0, 2])
    """

    def __init__(
        self,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        num_segments: int | None = None,
        *,
        num_elements: int | None = None,
        is_sorted: bool | None = None,
        name: str = "index",
    ) -> None:
        if index is None and ptr is None:
            raise ValueError("Segments needs `index` (with `num_segments`) or `ptr`; got neither.")
        self._index = None if index is None else _as_integers(index, name)
        self._ptr = None if ptr is None else _as_integers(ptr, "ptr")
        self._counts: Tensor | None = None
        self._perm: Tensor | None = None
        self._sorted = True if ptr is not None else is_sorted
        self._own_of_program = torch.compiler.is_compiling()
        if num_segments is not None:
            num_segments = as_count(num_segments, "num_segments", least=0)
        if num_elements is not None:
            num_elements = as_count(num_elements, "num_elements", least=0)
        if self._ptr is not None:
            if self._ptr.numel() == 0:
                raise ValueError("`ptr` must have num_segments + 1 >= 1 entries; got none.")
            size = self._ptr.numel() - 1
            if num_segments is not None and num_segments != size:
                raise ValueError(
                    f"`num_segments` is {num_segments}, but `ptr` has {size + 1} entries, "
                    f"which makes {size} bags."
                )
            self.num_segments = size
        else:
            if num_segments is None:
                raise ValueError(
                    "`num_segments` is required with `index`: the largest index does not tell how many "
                    "bags there are, because the last ones may be empty."
                )
            self.num_segments = num_segments
        self._num_elements = self._index.numel() if self._index is not None else num_elements
        if (
            num_elements is not None
            and self._index is not None
            and self._index.numel() != num_elements
        ):
            raise ValueError(
                f"`{name}` has {self._index.numel()} entries, but there are {num_elements} elements."
            )
        if _debug.values_are_checked(self.device):
            self._check_values(name)

    @classmethod
    def from_padded(cls, mask: Tensor) -> Segments:
        """Bags given as the rows of a padded tensor.

        Args:
            mask: Boolean tensor ``[S, N]``, true where there is an element. The elements of a padded
                ``x`` of shape ``[S, N, ...]`` are ``x[mask]``, in that order.

        Example:
            >>> Segments.from_padded(torch.tensor([[True, True], [False, False], [False, True]])).ptr
            tensor([0, 2, 2, 3])
        """
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.dim() != 2:
            raise TypeError(f"`mask` must be a boolean tensor [S, N]; got {what_came(mask)}.")
        return cls(ptr=ragged_offsets(mask.sum(1)))

    @classmethod
    def from_counts(cls, counts: Tensor) -> Segments:
        """Bags given by their sizes: ``counts`` ``[S]``, elements in the order of the bags.

        Example:
            >>> Segments.from_counts(torch.tensor([2, 0, 1])).index
            tensor([0, 0, 2])
        """
        return cls(ptr=ragged_offsets(_as_integers(counts, "counts")))

    @property
    def device(self) -> torch.device:
        return (self._index if self._index is not None else self._pointer).device

    @property
    def _pointer(self) -> Tensor:
        if self._ptr is None:
            raise RuntimeError("`ptr` has not been computed yet.")
        return self._ptr

    @property
    def num_elements(self) -> int:
        """The number of elements :math:`E`."""
        if self._num_elements is None:
            self._num_elements = int(self._pointer[-1])
        return self._num_elements

    @property
    @_kept
    def index(self) -> Tensor:
        """The bag of each element, ``[E]`` int64, in the order of the elements."""
        if _is_missing(self._index):
            counts = self.counts
            with _outlives_inference_mode():
                bags = torch.arange(self.num_segments, device=self.device)
                index = bags.repeat_interleave(counts, output_size=self.num_elements)
            return self._keep(_index=index)
        return self._index  # type: ignore[return-value]

    @property
    @_kept
    def ptr(self) -> Tensor:
        """The offsets of the bags in sorted order, ``[S + 1]`` int64."""
        if _is_missing(self._ptr):
            traced = _debug.being_traced()
            if self.is_sorted and not traced:
                with _outlives_inference_mode():
                    ptr = torch._convert_indices_from_coo_to_csr(self.index, self.num_segments)
                return self._keep(_ptr=ptr)
            return self._sort()[0]
        return self._pointer

    @property
    @_kept
    def counts(self) -> Tensor:
        """The number of elements of each bag, ``[S]`` int64."""
        if _is_missing(self._counts):
            with _outlives_inference_mode():
                if self._ptr is not None:
                    counts = self._ptr[1:] - self._ptr[:-1]
                else:
                    zeros = self.index.new_zeros(self.num_segments)
                    counts = zeros.scatter_add(0, self.index, torch.ones_like(self.index))
            return self._keep(_counts=counts)
        return self._counts  # type: ignore[return-value]

    @property
    def is_sorted(self) -> bool:
        """Whether the elements lie in the order of their bags."""
        if self._sorted is None:
            if _debug.being_traced() or _debug.is_vectorized(self):
                # Such a program may not depend on values: sorting what is sorted does no harm.
                return False
            index = self.index
            self._sorted = bool((index[1:] >= index[:-1]).all())
        return self._sorted

    @property
    @_kept
    def perm(self) -> Tensor | None:
        """``[E]`` such that ``index[perm]`` is sorted (a stable sort), or ``None`` if it is already."""
        if self.is_sorted:
            return None
        return self._sort()[1] if _is_missing(self._perm) else self._perm

    def _sort(self) -> tuple[Tensor, Tensor]:
        _debug.refuse_older_onnx("sorting the bags")
        from graphpool.sorting import sort_index

        with _outlives_inference_mode():
            ptr, perm = sort_index(self.index, self.num_segments)
        self._keep(_ptr=ptr, _perm=perm)
        return ptr, perm

    def _keep(self, **found: Tensor) -> Tensor:
        """Keeps what was found, and returns the first of it.

        Not what a compiled program makes without gradients: it may run in inference mode, which it cannot
        ask, and a compiled program that trains could not tell what came of that. Bags that are made in the
        program are its own.
        """
        if self._own_of_program or not torch.compiler.is_compiling() or torch.is_grad_enabled():
            for name, value in found.items():
                setattr(self, name, value)
        return next(iter(found.values()))

    def sort_elements(self, x: Tensor) -> Tensor:
        """The elements ``x`` ``[E, ...]`` in the order of their bags."""
        perm = self.perm
        return x if perm is None else x.index_select(0, perm)

    def to(self, device: torch.device | str) -> Segments:
        """The same bags on another device, with all that has been computed so far."""
        moved = object.__new__(type(self))
        with _outlives_inference_mode():
            for name, value in self.__dict__.items():
                setattr(moved, name, value.to(device) if isinstance(value, Tensor) else value)
        return moved

    def held_tensors(self) -> list[Tensor]:
        return [t for t in (self._index, self._ptr) if t is not None]

    def __len__(self) -> int:
        return self.num_segments

    def __repr__(self) -> str:
        order = "unknown" if self._sorted is None and self.device.type != "cpu" else self.is_sorted
        device = "" if self.device.type == "cpu" else f", device={str(self.device)!r}"
        return (
            f"{type(self).__name__}(num_segments={self.num_segments}, "
            f"num_elements={self.num_elements}, sorted={order}{device})"
        )

    def _check_values(self, name: str) -> None:
        if self._index is not None and self._index.numel() > 0:
            low, high = (int(v) for v in self._index.aminmax())
            if low < 0 or high >= self.num_segments:
                bad = (self._index < 0) | (self._index >= self.num_segments)
                first = int(bad.nonzero()[0])
                raise ValueError(
                    f"`{name}` must lie in [0, {self.num_segments}); "
                    f"got {int(self._index[first])} at position {first}."
                )
            if self._sorted and self._ptr is None:
                falls = (self._index[1:] < self._index[:-1]).nonzero()
                if falls.numel():
                    first = int(falls[0]) + 1
                    raise ValueError(
                        f"`{name}` was said to be sorted, but it falls at position {first}."
                    )
        if self._ptr is None:
            return
        if int(self._ptr[0]) != 0:
            raise ValueError(f"`ptr` must start at 0; got {int(self._ptr[0])} at position 0.")
        falls = (self._ptr[1:] < self._ptr[:-1]).nonzero()
        if falls.numel():
            first = int(falls[0]) + 1
            raise ValueError(
                f"`ptr` must never fall; got {int(self._ptr[first])} after "
                f"{int(self._ptr[first - 1])} at position {first}."
            )
        total = int(self._ptr[-1])
        if self._num_elements is not None and total != self._num_elements:
            raise ValueError(
                f"`ptr` must end at the number of elements, {self._num_elements}; got {total}."
            )
        if self._index is not None:
            bags = torch.arange(self.num_segments, device=self.device)
            expected = bags.repeat_interleave(self.counts, output_size=total)
            differ = (expected != self._index).nonzero()
            if differ.numel():
                first = int(differ[0])
                raise ValueError(
                    f"`{name}` and `ptr` disagree at position {first}: `{name}` says bag "
                    f"{int(self._index[first])}, `ptr` says bag {int(expected[first])}."
                )


def _is_missing(kept: Tensor | None) -> bool:
    """Whether a kept tensor must be made (again): what a compiled program made under inference mode
    is of no use to autograd."""
    if kept is None or torch.compiler.is_compiling():
        return kept is None
    return kept.is_inference() and not torch.is_inference_mode_enabled()


def _outlives_inference_mode() -> AbstractContextManager[None]:
    """Inside, tensors are made that autograd may use later, whatever mode the caller is in."""
    # A traced program cannot ask which mode it runs in.
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return nullcontext()
    return torch.inference_mode(False)


def _as_integers(value: Any, name: str) -> Tensor:
    value = as_indices(value, name)
    if value.dim() != 1:
        raise ValueError(f"`{name}` must have one dimension; got shape {tuple(value.shape)}.")
    # Kernels read the storage in order: a column of a matrix would be read across.
    with _outlives_inference_mode():
        value = value.to(torch.int64, copy=True, memory_format=torch.contiguous_format)
    return value if _debug.is_vectorized(value) else _debug.unwrapped(value)


def graph_segments(
    batch: Tensor | Segments | None,
    batch_size: Any,
    num_nodes: int,
    device: torch.device,
) -> Segments:
    """The graph of each node, from ``batch`` and ``batch_size``: one rule for all that takes them.

    No ``batch`` is one graph, :class:`Segments` know their number, and a tensor comes with ``batch_size``:
    the largest entry does not tell it, because the last graphs may be empty.

    Raises:
        TypeError: ``batch`` does not hold integers.
        ValueError: ``batch_size`` is missing, or sizes or values do not fit.

    Example:
        >>> graph_segments(torch.tensor([0, 0, 2]), 4, 3, torch.device("cpu"))
        Segments(num_segments=4, num_elements=3, sorted=True)
    """
    size = None if batch_size is None else as_count(batch_size, "batch_size", least=0)
    if batch is None:
        if size is not None and size != 1:
            raise ValueError(f"`batch_size` is {size}, but without `batch` there is one graph.")
        return Segments(ptr=torch.tensor([0, num_nodes], device=device), num_elements=num_nodes)
    if not isinstance(batch, Segments):
        if size is None:
            raise ValueError(
                "`batch_size`, the number of graphs, must be given with `batch`: the largest entry does "
                "not tell how many there are, because the last may be empty. A mini-batch of PyTorch "
                "Geometric knows it: `batch_size=data.num_graphs`."
            )
        batch = Segments(index=batch, num_segments=size, name="batch")
    elif size is not None and size != batch.num_segments:
        raise ValueError(f"`batch_size` is {size}, but `batch` has {batch.num_segments} graphs.")
    check_one_per("node", num_nodes, "batch", batch.num_elements)
    return batch
