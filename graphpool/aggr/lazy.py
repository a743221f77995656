"""What a pool makes once it knows the number of channels, and how it waits for that."""

from __future__ import annotations

import functools
import inspect
from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch_geometric.nn import aggr as pyg_aggr

from graphpool._arguments import as_integer
from graphpool._recorded import remember
from graphpool.nn import reset


class Finished(ABCMeta):
    """Lets an object do what needs all of its attributes, once its ``__init__`` is through."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        handed = _modules_in((args, kwargs))
        with kept(*handed):
            made = super().__call__(*args, **kwargs)
            if handed:
                made._handed = handed
            made._finish()
        remember(made, args, kwargs)
        return made


class ChannelModule(pyg_aggr.Aggregation, metaclass=Finished):
    """A module whose parameters depend on the number of channels, which the first input may tell."""

    learnable: ClassVar[bool | None] = None
    """Whether it has parameters. Left open, a pool that writes :meth:`build` counts as one that has."""

    _handed: tuple[torch.nn.Module, ...] = ()

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        if channels is not None:
            channels = as_integer(channels, "channels", "an int or None, and all else goes by name")
            if channels < 1 and channels != -1:
                raise ValueError(f"`channels` must be positive, or -1 to infer it; got {channels}.")
        self.channels = channels
        self._built = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The metaclass would show its own.
        _, *arguments = inspect.signature(cls.__init__).parameters.values()
        cls.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
        if not hasattr(cls.reset_parameters, "_waits"):
            cls.reset_parameters = _waiting(cls.reset_parameters)  # type: ignore[method-assign, assignment]

    def build(self, channels: int) -> None:
        """Makes the parameters, once the number of channels is known. ``reset_parameters`` comes after."""

    def reset_parameters(self) -> None:
        """Restores the initial parameters. While they await the first input there is nothing to do.

        All that it contains is reset: who holds parameters of its own resets them, too.

        Modules that were handed over, such as ``phi`` of :class:`~graphpool.aggr.DeepSets`, are reset as
        far as they can be: what they held is lost. Only this call does it, never the making of a pool.
        """
        reset(*self.children())

    @property
    def needs_channels(self) -> bool:
        """Whether :meth:`build` makes anything. Override it where that depends on the arguments."""
        return type(self).build is not ChannelModule.build

    @property
    def out_channels(self) -> int | None:
        """Number of channels of the output; ``None`` if that of the input was not given."""
        return self.channels

    @property
    def _waits(self) -> bool:
        return not self._built and self.needs_channels

    def _finish(self) -> None:
        if self.channels == -1:
            self.register_buffer("num_channels", torch.tensor(-1))
            # Remembers where, and in which precision, the parameters are to be made.
            self.register_buffer("_like", torch.empty(0), persistent=False)
            if self.needs_channels and self.learnable is not False:
                self.register_parameter("_unbuilt", _Unbuilt())
        elif self.channels is not None:
            self._build(self.channels)
        elif self.needs_channels:
            raise ValueError(f"{type(self).__name__} needs `channels`; give -1 to infer them.")

    def _build(self, channels: int) -> None:
        with kept(*self._handed):
            self.build(channels)
            self._built = True
            if self.needs_channels:
                self.reset_parameters()

    def _build_now(self, channels: int) -> None:
        self.channels = channels
        try:
            # What is made in inference mode could not be trained later.
            with torch.inference_mode(False):
                self._build(channels)
        except Exception:
            self.channels = -1
            raise
        self._parameters.pop("_unbuilt", None)
        self.num_channels = torch.tensor(channels)
        like = self._buffers.pop("_like")
        if isinstance(like, Tensor):
            self.to(device=like.device, dtype=like.dtype)
        self.train(self.training)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._waits:
            destination[prefix + "num_channels"] = self.num_channels
        else:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        key = prefix + "num_channels"
        stored = int(state_dict[key]) if key in state_dict else None
        if self.channels == -1 and stored is not None and stored > 0:
            self._build_now(stored)
        if self._waits:
            if stored is None and any(name.startswith(prefix) for name in state_dict):
                raise ValueError(
                    f"This {type(self).__name__} has channels=-1 and has seen no data, and the state "
                    f"dict does not say how many there are. Give `channels`, or run one batch first."
                )
            if stored is None:
                missing_keys.append(key)
            return
        if stored not in (None, -1, self.channels) and self.channels is not None:
            error_msgs.append(
                f"The state of {prefix or type(self).__name__} is for channels={stored}; this one "
                f"has channels={self.channels}."
            )
        if "num_channels" in self._buffers:
            state_dict[key] = self.num_channels
        else:
            state_dict.pop(key, None)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class _Unbuilt(UninitializedParameter):
    """Stands for parameters that await the first input."""

    @property
    def is_leaf(self) -> bool:  # type: ignore[override]
        # Optimizers ask this of every parameter they are given.
        raise ValueError(
            "A pool with channels=-1 has no parameters before its first input: run one batch before "
            "making the optimizer, or give `channels`. A pool of your own whose `build` makes no "
            "parameters says so with `learnable = False`."
        )


@contextmanager
def kept(*given: Any) -> Iterator[None]:
    """In the end, the modules among what is given hold what they hold now.

    A module that a user hands over may be trained: who makes something of it does not initialise it.
    """
    tensors = [
        tensor
        for module in _modules_in(given)
        for tensor in chain(module.parameters(), module.buffers())
        if not is_lazy(tensor)
    ]
    before = [tensor.detach().clone() for tensor in tensors]
    yield
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)


def _modules_in(value: Any) -> tuple[torch.nn.Module, ...]:
    if isinstance(value, torch.nn.Module):
        return (value,)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return sum(map(_modules_in, value), ()) if isinstance(value, (tuple, list)) else ()


def _waiting(reset: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same method, which does nothing while there is nothing to reset."""

    @functools.wraps(reset)
    def reset_parameters(self: ChannelModule) -> None:
        if not self._waits:
            reset(self)

    reset_parameters._waits = True  # type: ignore[attr-defined]
    return reset_parameters
