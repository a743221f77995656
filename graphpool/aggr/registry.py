"""Names of pools."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch_geometric.nn import aggr as pyg_aggr

from graphpool.aggr.base import Aggregation
from graphpool.aggr.pyg import Deferred

_REGISTRY: dict[str, type[Aggregation]] = {}
_ALIASES: dict[str, str] = {}
_Class = TypeVar("_Class", bound=type[Aggregation])


def register(name: str, *aliases: str) -> Callable[[_Class], _Class]:
    """Class decorator: makes a pool available by name, everywhere, and to the conformance suite.

    Args:
        name: The name, in lower case.
        *aliases: Other names for the same pool.

    Raises:
        ValueError: A name is taken.

    Example:
        >>> from graphpool import aggr
        >>> @aggr.register("root_mean_square")
        ... class RootMeanSquare(aggr.Aggregation):
        ...     def pool(self, x, segments, weight=None):
        ...         return graphpool.ops.segment_mean(x * x, segments, weight).sqrt()
        >>> aggr.resolve("root_mean_square")(torch.tensor([[3.0], [4.0]]))
        tensor([[3.5355]])
        >>> aggr.unregister("root_mean_square")
    """

    def decorate(cls: _Class) -> _Class:
        for each in (name, *aliases):
            if each in _REGISTRY or each in _ALIASES:
                raise ValueError(f"The name {each!r} is taken.")
        _REGISTRY[name] = cls
        _ALIASES.update(dict.fromkeys(aliases, name))
        return cls

    return decorate


def unregister(name: str) -> None:
    """Forgets a name and its aliases."""
    if name not in _REGISTRY:
        raise ValueError(_unknown(name))
    del _REGISTRY[name]
    for alias in [alias for alias, target in _ALIASES.items() if target == name]:
        del _ALIASES[alias]


def names() -> list[str]:
    """All registered names, without aliases, in alphabetical order."""
    return sorted(_REGISTRY)


def lookup(name: str) -> type[Aggregation]:
    """The class registered under a name or alias.

    Raises:
        ValueError: The name is unknown; the message lists the closest ones.
    """
    key = _key(name)
    if key is None:
        raise ValueError(_unknown(name))
    return _REGISTRY[key]


def resolve(
    query: str | torch.nn.Module | type | Sequence[Any],
    channels: int | None = None,
    **kwargs: Any,
) -> torch.nn.Module:
    """Makes a pool from whatever a user may name it by.

    Args:
        query: A registered name (:func:`names`) or one of PyG's; a module, returned as it is; a class;
            a list of these, whose results are concatenated (:class:`~graphpool.aggr.Multi`); or names
            with ``+`` between them, whose results are added (``"max+mean"``).
        channels: Number of channels of the elements, -1 to infer it; passed on to classes that take it.
            Those of PyG that take ``in_channels`` get it by that name, and keep the width where they want
            ``out_channels``, too, unless it is given; with -1 they are made at the first input.
        **kwargs: Passed on to the class.

    Raises:
        ValueError: The name is unknown, or arguments were given for a module that exists already.
        TypeError: The class does not take the arguments; the message says which ones it takes.

    Example:
        >>> from graphpool import aggr
        >>> aggr.resolve("softmax", channels=16)
        SoftPool(channels=16, t=1.0, learn=True)
        >>> aggr.resolve("lstm", channels=16)
        LSTMAggregation(16, 16)
        >>> aggr.resolve("sotfmax")
        Traceback (most recent call last):
            ...
        ValueError: Unknown aggregation 'sotfmax'. Did you mean 'softmax' or 'max'? ...
    """
    if isinstance(query, torch.nn.Module):
        if kwargs:
            raise ValueError(
                f"{type(query).__name__} is a module already; it cannot take {', '.join(sorted(kwargs))}."
            )
        return query
    if isinstance(query, (list, tuple)):
        return _make(_REGISTRY["multi"], channels, {"members": list(query), **kwargs})
    if isinstance(query, str):
        key = _key(query)
        if key is None and "+" in query:
            members = [name.strip() for name in query.split("+")]
            kwargs = {"members": members, "mode": "sum", **kwargs}
            key = "multi"
        query = _pyg_class(query) if key is None else _REGISTRY[key]
    if not (isinstance(query, type) and issubclass(query, pyg_aggr.Aggregation)):
        raise TypeError(
            f"A pool must be a name, an Aggregation or its class, or a list of these; got {query!r}."
        )
    return _make(query, channels, kwargs)


def resolve_pool(query: Any, channels: int, **kwargs: Any) -> torch.nn.Module:
    """:func:`graphpool.aggr.resolve`, for pools that give one vector per bag.

    Raises:
        ValueError: If the pool gives smaller bags or more than one result, which no layer can use.
    """
    return one_vector_per_segment(resolve(query, channels=channels, **kwargs))


def one_vector_per_segment(module: torch.nn.Module) -> torch.nn.Module:
    """``module``, if it is a pool that gives one vector per bag and nothing else.

    Raises:
        ValueError: It gives smaller bags, or more than one result.
    """
    name = type(module).__name__
    if getattr(module, "ragged", False):
        raise ValueError(
            f"{name} gives a smaller bag, not one vector, for each bag; it cannot stand for a neighbour "
            "pool, a readout or one pool of several."
        )
    if getattr(module, "return_weights", False):
        raise ValueError(
            f"{name}(return_weights=True) gives its weights beside the vectors; it cannot stand for a "
            "neighbour pool, a readout or one pool of several. Make it without, and ask "
            "graphpool.attention for the weights."
        )
    return module


def _make(cls: type, channels: int | None, kwargs: dict[str, Any]) -> torch.nn.Module:
    parameters = dict(inspect.signature(cls.__init__).parameters)  # type: ignore[misc]
    parameters.pop("self")
    found = _channels_for(cls, parameters, channels, kwargs)
    if -1 in found.values() and not issubclass(cls, Aggregation):
        return Deferred(-1, make=functools.partial(_make, cls, kwargs=kwargs))
    kwargs = {**found, **kwargs}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [] if open_ended else sorted(set(kwargs) - set(parameters))
    if unknown:
        close = difflib.get_close_matches(unknown[0], parameters, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise TypeError(
            f"{cls.__name__} does not take {', '.join(unknown)}.{hint} "
            f"It takes: {', '.join(parameters) or 'nothing'}."
        )
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and name not in kwargs
    ]
    if missing:
        raise TypeError(f"{cls.__name__} needs {', '.join(missing)}; give it by name.")
    if not open_ended:
        return cls(**kwargs)
    try:
        return cls(**kwargs)
    except TypeError as error:
        raise TypeError(f"{cls.__name__} cannot be made with {kwargs}: {error}") from error


def _channels_for(
    cls: type, parameters: Mapping[str, Any], channels: int | None, given: Mapping[str, Any]
) -> dict[str, int]:
    """What a class calls the number of channels. PyG's say ``in_channels``, and some want to be told
    what comes out; its ``channels`` with a default is something else, a number of temperatures."""
    if channels is None:
        return {}
    ours = issubclass(cls, Aggregation)
    found = [
        name
        for name in (("channels",) if ours else ("channels", "in_channels", "out_channels"))
        if name in parameters
        and name not in given
        and (ours or parameters[name].default is inspect.Parameter.empty)
    ]
    return dict.fromkeys(found, channels)


def _pyg_class(name: str) -> type:
    """The class of PyG that goes by a name, with or without ``Aggregation`` at its end."""
    found = _pyg_classes().get(_plain(name).removesuffix("aggregation"))
    if found is None:
        raise ValueError(_unknown(name))
    return found


def _pyg_classes() -> dict[str, type]:
    classes = [
        known
        for known in vars(pyg_aggr).values()
        if isinstance(known, type) and issubclass(known, pyg_aggr.Aggregation)
    ]
    classes.remove(pyg_aggr.Aggregation)
    return {_plain(known.__name__).removesuffix("aggregation"): known for known in classes}


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _key(name: str) -> str | None:
    name = name.lower()
    return name if name in _REGISTRY else _ALIASES.get(name)


def _unknown(name: str) -> str:
    known = names()
    close = difflib.get_close_matches(name.lower(), {*known, *_ALIASES, *_pyg_classes()}, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"Unknown aggregation {name!r}.{hint} Registered: {', '.join(known)}."
