"""What every pool of this library is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter
from torch_geometric.nn import aggr as pyg_aggr

from graphpool.ops.inputs import Gather, gathered
from graphpool.segments import Segments


class Aggregation(pyg_aggr.Aggregation, metaclass=ABCMeta):
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

    learnable: ClassVar[bool] = False
    """Whether it has parameters."""
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

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        if channels is not None and (isinstance(channels, bool) or not isinstance(channels, int)):
            raise TypeError(f"`channels` must be an int or None; got {type(channels).__name__}.")
        if channels is not None and channels < 1 and channels != -1:
            raise ValueError(f"`channels` must be positive, or -1 to infer it; got {channels}.")
        self.channels = channels
        if channels == -1:
            self.register_parameter("_unbuilt", _Unbuilt())
            self.register_buffer("num_channels", torch.tensor(-1))

    @abstractmethod
    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Any:
        """Pools elements ``[E, ..., C]`` to bags ``[S, ..., out_channels]``.

        Args:
            x: Elements on dimension 0, at least 2-D.
            segments: The bags.
            weight: ``[E]``: how often each element counts.
        """

    def build(self, channels: int) -> None:
        """Makes the parameters, once the number of channels is known. ``reset_parameters`` comes after."""

    def reset_parameters(self) -> None:
        """Restores the initial parameters."""

    @property
    def out_channels(self) -> int | None:
        """Number of channels of the output; ``None`` if that of the input was not given."""
        return self.channels

    def finish_init(self) -> None:
        """Last line of a subclass's ``__init__``: builds the parameters if the channels are known."""
        if self.channels is not None and self.channels > 0:
            self.build(self.channels)
            self.reset_parameters()

    # PyG's own __call__ guesses the number of bags and cannot take 1-D input; forward does all of it.
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return torch.nn.Module.__call__(self, *args, **kwargs)

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
            gather: ``[E]`` int64, or :class:`~graphpool.Segments` over the rows of ``x``: element ``e`` is
                row ``gather[e]``. Pools that can (:attr:`supports_gather`) never make the elements.
            **kwargs: Whatever else :meth:`pool` of the subclass takes.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: Sizes, indices or the number of channels do not fit.
        """
        x, moved = _elements_first(x, dim)
        if not (x.is_floating_point() or self.accepts_integers):
            raise TypeError(f"{type(self).__name__} takes floating point elements; got {x.dtype}.")
        if gather is not None and not self.supports_gather:
            x, gather = gathered(x, gather), None
        if gather is not None:
            kwargs["gather"] = gather
        segments = as_segments(x, index, ptr, dim_size, gather)
        _check_bound(segments, max_num_elements)
        if self.channels == -1:
            self._build_now(x.size(-1))
        elif self.channels is not None and x.size(-1) != self.channels:
            raise ValueError(
                f"{type(self).__name__} was made for channels={self.channels}; "
                f"`x` has {x.size(-1)} in shape {tuple(x.shape)}."
            )
        return _put_back(self.pool(x, segments, weight, **kwargs), moved)

    def _build_now(self, channels: int) -> None:
        placeholder = self._parameters.pop("_unbuilt")
        self.channels = channels
        self.num_channels = torch.tensor(channels)
        self.build(channels)
        self.reset_parameters()
        if placeholder is not None:
            self.to(device=placeholder.device, dtype=placeholder.dtype)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        stored = state_dict.get(prefix + "num_channels")
        if self.channels == -1:
            if stored is None or int(stored) < 1:
                raise ValueError(
                    f"This {type(self).__name__} has channels=-1 and has seen no data, and the state "
                    f"dict does not say how many there are. Give `channels`, or run one batch first."
                )
            self._build_now(int(stored))
        elif "num_channels" not in self._buffers:
            state_dict.pop(prefix + "num_channels", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return "" if self.channels is None else f"channels={self.channels}"

    def __repr__(self) -> str:
        return torch.nn.Module.__repr__(self)


class _Unbuilt(UninitializedParameter):
    """Stands for parameters that await the first input."""

    @property
    def is_leaf(self) -> bool:  # type: ignore[override]
        # Optimizers ask this of every parameter they are given.
        raise ValueError(
            "A pool with channels=-1 has no parameters before its first input: run one batch before "
            "making the optimizer, or give `channels`."
        )


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
    if bound is None or torch.compiler.is_compiling() or segments.device.type != "cpu":
        return
    if segments.num_segments and int(segments.counts.max()) > bound:
        raise ValueError(
            f"`max_num_elements` is {bound}, but bag {int(segments.counts.argmax())} has "
            f"{int(segments.counts.max())} elements."
        )
