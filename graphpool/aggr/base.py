"""What every pool of this library is."""

from __future__ import annotations

import difflib
import inspect
import types
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_indices, as_integer
from graphpool.aggr.absent import absent_as_zero, some_may_be_absent
from graphpool.aggr.lazy import ChannelModule
from graphpool.ops import Gather, check_elements, gathered
from graphpool.segments import Segments
from graphpool.states import BagState, Mergeable


class Aggregation(ChannelModule):
    """A function of a bag of vectors, computed for many bags at once.

    A PyG aggregation, so that it works wherever one does, with more guarantees: any order of elements,
    ``index`` and ``ptr`` alike, empty bags (which give 0), zero rows, 1-, 2- and 3-D input, weights, half
    precision, two derivatives, and a result for each bag that depends on nothing outside it.

    A subclass writes :meth:`pool`, says in class attributes what it can do, and builds its parameters in
    :meth:`build`::

        @register("rms")
        class RMS(Aggregation):
            multiplicity_aware = False

            def pool(self, x, segments, weight=None):
                return segment_mean(x * x, segments, weight).sqrt()

    Args:
        channels: Number of channels of the elements; -1 to read it off the first input (run one batch
            before making the optimizer); ``None`` where it does not matter.

    Shapes:
        - **x**: ``[..., E, ..., C]`` with its elements on dimension ``dim``, or ``[E]``
        - **index**: ``[E]``, or :class:`~graphpool.Segments`
        - **output**: like ``x``, with ``S`` bags in place of the elements and :attr:`out_channels`
          in place of ``C``
    """

    invariant: ClassVar[bool] = True
    """Whether the order of the elements does not matter."""
    multiplicity_aware: ClassVar[bool] = False
    """Whether a bag with every element doubled can give another result."""
    needs_positions: ClassVar[bool] = False
    """Whether elements must come with coordinates."""
    accepts_integers: ClassVar[bool] = False
    """Whether integer elements are pooled exactly; otherwise they are refused."""
    ragged: ClassVar[bool] = False
    """Whether a bag gives several rows, as many as befits it: ``(values, Segments)``."""
    supports_gather: ClassVar[bool] = False
    """Whether :meth:`pool` takes ``gather``."""
    complexity: ClassVar[str] = "E C"
    """Time in the numbers of elements ``E`` and channels ``C``."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """Points of the conformance suite that cannot hold, with the reason."""
    example_arguments: ClassVar[Mapping[str, Any]] = {}
    """Arguments, besides ``channels``, that make a small instance for the tests and the catalogue."""
    mergeable: ClassVar[bool] = False
    """Whether bags can be pooled in pieces: a class that writes :meth:`merging` can."""
    whole_bag: ClassVar[str] = "it does not say how pieces of a bag merge, by a method `merging`"
    """Why a pool that is not :attr:`mergeable` must see a bag at once."""

    formula: ClassVar[str] = "pool"
    """The method whose further arguments a call may give by name."""
    _arguments: ClassVar[tuple[str, ...] | None] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._arguments = _names(getattr(cls, cls.formula))
        cls.mergeable = cls.merging is not Aggregation.merging
        # torch.compile counts the variants of a piece of code, and gives up at the ninth: one for each class.
        cls.forward = _copy(cls.forward)  # type: ignore[method-assign]

    @abstractmethod
    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Any:
        """Pools elements ``[E, ..., C]`` to bags ``[S, ..., out_channels]``.

        Args:
            x: Elements on dimension 0, at least 2-D.
            segments: The bags.
            weight: ``[E]``: how often each element counts.
        """

    # PyG's own __call__ guesses the number of bags and cannot take 1-D input; forward does all of it.
    __call__ = torch.nn.Module.__call__

    def forward(
        self,
        x: Tensor,
        index: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
        max_num_elements: int | None = None,
        weight: Tensor | None = None,
        gather: Gather | None = None,
        **kwargs: Any,
    ) -> Any:
        """Pools ``x``.

        Args:
            x: The elements.
            index: The bag of each element, in any order; or the bags themselves.
            ptr: CSR offsets. Without ``index`` and ``ptr`` all elements form one bag.
            dim_size: The number of bags. When it is missing, PyG's convention holds: the largest index
                plus one, so that empty bags at the end are lost. Give it.
            dim: The dimension that counts the elements.
            max_num_elements: An upper bound on the size of a bag, which PyG's layers pass along; it is
                checked, not needed.
            weight: ``[E]``: how often each element counts.
            gather: ``[E]``, integers, or :class:`~graphpool.Segments` over the rows of ``x``: element ``e``
                is row ``gather[e]``. Pools that can (:attr:`supports_gather`) never make the elements.
            **kwargs: Whatever else :meth:`pool` of the subclass takes.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: Sizes, indices or the number of channels do not fit.
        """
        if kwargs:
            self._check_names(kwargs)
        if isinstance(gather, Tensor):
            gather = as_indices(gather, "gather", "an integer tensor [E] or graphpool.Segments")
        x, moved = _elements_first(x, as_integer(dim, "dim"))
        self._check_kind(x)
        segments = as_segments(x, index, ptr, dim_size, gather)
        _check_bound(segments, max_num_elements)
        self._check_width(x)
        if weight is not None:
            check_elements(x, segments, weight, gather, integers=self.accepts_integers)
        if gather is not None and not self.supports_gather:
            x, gather = gathered(x, gather), None
        if weight is not None and some_may_be_absent(weight):
            x = absent_as_zero(x, weight, gather)
        if gather is not None:
            kwargs["gather"] = gather
        return _put_back(self.pool(x, segments, weight, **kwargs), moved)

    def merging(self) -> Mergeable:
        """How pieces of a bag merge: what :class:`~graphpool.states.BagState` needs to know.

        It may refer to parameters, which are read when they are needed.

        Raises:
            TypeError: The pool must see a bag at once.
        """
        raise TypeError(
            f"{type(self).__name__} cannot pool a bag in pieces: {self.whole_bag}. "
            f"The catalogue tells which pools can."
        )

    def begin(self, num_bags: int = 1, **kind: Any) -> BagState:
        """A :class:`~graphpool.states.BagState` of ``num_bags`` bags of which nothing has been seen.

        Args:
            num_bags: The number of bags.
            **kind: ``dtype``, ``exact``, ``compensated`` or ``fixed_point``: in which numbers sums are kept.

        Raises:
            TypeError: The pool must see a bag at once.

        Example:
            >>> from graphpool import aggr
            >>> state = aggr.Mean().begin(2)
            >>> _ = state.add(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
            >>> state.add(torch.tensor([[5.0]]), torch.tensor([1])).result().detach()
            tensor([[1.0000],
                    [3.5000]])
        """
        return BagState(self, num_bags, **kind)

    def admit(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Elements ``[E, C]`` as :meth:`pool` gets them: checked, and those of weight 0 as zeros.

        Raises:
            TypeError: They have the wrong dtype.
            ValueError: They have another width.
        """
        self._check_kind(x)
        self._check_width(x)
        if weight is not None and some_may_be_absent(weight):
            x = absent_as_zero(x, weight)
        return x

    def _check_kind(self, x: Tensor) -> None:
        if not (x.is_floating_point() or self.accepts_integers):
            raise TypeError(f"{type(self).__name__} takes floating point elements; got {x.dtype}.")

    def _check_width(self, x: Tensor) -> None:
        if self.channels == -1:
            self._build_now(x.size(-1))
        elif self.channels is not None and x.size(-1) != self.channels:
            raise ValueError(
                f"{type(self).__name__} was made for channels={self.channels}; "
                f"`x` has {x.size(-1)} in shape {tuple(x.shape)}."
            )

    def _check_names(self, given: Mapping[str, Any]) -> None:
        known = self._arguments
        unknown = [] if known is None else [name for name in given if name not in known]
        if unknown:
            taken = [name for name in _COMMON if name != "kwargs"] + list(known or ())
            close = difflib.get_close_matches(unknown[0], taken, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            raise TypeError(
                f"{type(self).__name__} takes no argument `{unknown[0]}`.{hint} "
                f"It takes: {', '.join(taken)}."
            )

    def extra_repr(self) -> str:
        """The arguments that it was made with, as far as it keeps them by their names."""
        kept = {
            name: getattr(self, name, None) for name in inspect.signature(type(self)).parameters
        }
        return ", ".join(
            f"{name}={value!r}"
            for name, value in kept.items()
            if isinstance(value, (int, float, str))
        )

    def __repr__(self) -> str:
        return torch.nn.Module.__repr__(self)


_COMMON = tuple(inspect.signature(Aggregation.forward).parameters)[1:]


def _names(formula: Callable[..., Any]) -> tuple[str, ...] | None:
    """What a formula takes by name besides elements, bags and weight; ``None`` if it takes anything."""
    parameters = inspect.signature(formula).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return tuple(name for name in parameters if name not in ("self", "x", "segments", "weight"))


def _copy(function: Any) -> Any:
    """The same function with a code object of its own."""
    copy = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, function.__annotations__
    copy.__doc__, copy.__qualname__ = function.__doc__, function.__qualname__
    copy.copied_from = function  # type: ignore[attr-defined]
    return copy


def as_segments(
    x: Tensor,
    index: Tensor | Segments | None,
    ptr: Tensor | None = None,
    dim_size: int | None = None,
    gather: Gather | None = None,
) -> Segments:
    """The bags that PyG's arguments describe, for elements on dimension 0 of ``x``, or rows of it that
    ``gather`` names.

    Raises:
        ValueError: ``index``, ``ptr``, ``dim_size`` and ``x`` contradict one another.
    """
    if dim_size is not None:
        dim_size = as_integer(dim_size, "dim_size")
    if gather is None:
        elements = x.size(0)
    else:
        elements = gather.num_elements if isinstance(gather, Segments) else gather.numel()
    if isinstance(index, Segments):
        if dim_size is not None and dim_size != index.num_segments:
            raise ValueError(f"`dim_size` is {dim_size}, but there are {index.num_segments} bags.")
        if ptr is not None:
            raise ValueError("`ptr` must be absent where `index` is a graphpool.Segments.")
        if index.num_elements != elements:
            raise ValueError(
                f"`index` is a Segments over {index.num_elements} elements; "
                f"`{'x' if gather is None else 'gather'}` has {elements}."
            )
        return index
    if index is None and ptr is None:
        if dim_size not in (None, 1):
            raise ValueError(f"`dim_size` is {dim_size}, but without `index` there is one bag.")
        index, dim_size = torch.zeros(elements, dtype=torch.long, device=x.device), 1
    if index is not None and ptr is None and dim_size is None:
        if _debug.is_vectorized(index):
            raise ValueError(
                "`dim_size` must be given where `index` is vectorised by torch.vmap: the largest index may "
                "differ from one to the next."
            )
        index = as_indices(index, "index")
        dim_size = int(index.max()) + 1 if index.numel() else 0
    return Segments(index=index, ptr=ptr, num_segments=dim_size, num_elements=elements)


def _elements_first(x: Tensor, dim: int) -> tuple[Tensor, int | None]:
    """``x`` as ``[E, ..., C]``, and what it takes to undo that: the dimension, or ``None`` for 1-D."""
    if not isinstance(x, Tensor):
        raise TypeError(f"`x` must be a tensor; got {type(x).__name__}.")
    if x.dim() == 0:
        raise ValueError("`x` must have at least one dimension; got a scalar.")
    if x.dim() == 1:
        if dim not in (-2, -1, 0):
            raise ValueError(f"`dim` must be 0 for one-dimensional `x`; got {dim}.")
        return x.unsqueeze(-1), None
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"`dim` must lie in [{-x.dim()}, {x.dim()}); got {dim}.")
    dim = dim % x.dim()
    if dim == x.dim() - 1:
        raise ValueError(
            f"`dim` must not be the last dimension, which holds the channels; got {dim} for shape "
            f"{tuple(x.shape)}."
        )
    return (x if dim == 0 else x.movedim(dim, 0)), dim


def _put_back(y: Any, dim: int | None) -> Any:
    if isinstance(y, tuple):
        # Extra results (attention weights, ...) keep their elements on dimension 0.
        return (_put_back(y[0], dim), *y[1:])
    if dim is None:
        return y.squeeze(-1) if y.size(-1) == 1 else y
    return y if dim == 0 else y.movedim(0, dim)


def _check_bound(segments: Segments, bound: int | None) -> None:
    bound = None if bound is None else as_integer(bound, "max_num_elements")
    if bound is None or not _debug.values_are_checked(segments.device):
        return
    if segments.num_segments and int(segments.counts.max()) > bound:
        raise ValueError(
            f"`max_num_elements` is {bound}, but bag {int(segments.counts.argmax())} has "
            f"{int(segments.counts.max())} elements."
        )
