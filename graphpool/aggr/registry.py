"""Names of pools."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch_geometric.nn import aggr as pyg_aggr
from torch_geometric.nn.resolver import aggregation_resolver

from graphpool.aggr.base import Aggregation

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
        **kwargs: Passed on to the class.

    Raises:
        ValueError: The name is unknown, or arguments were given for a module that exists already.
        TypeError: The class does not take the arguments; the message says which ones it takes.

    Example:
        >>> from graphpool import aggr
        >>> aggr.resolve("softmax", channels=16)
        SoftPool(channels=16, t=1.0, learn=True)
        >>> aggr.resolve("sotfmax")
        Traceback (most recent call last):
            ...
        ValueError: Unknown aggregation 'sotfmax'. Did you mean 'softmax' or 'max'? ...
    """
    if isinstance(query, torch.nn.Module):
        if kwargs:
            raise ValueError(
                f"`query` is a module already; it cannot take {', '.join(sorted(kwargs))}."
            )
        return query
    if isinstance(query, (list, tuple)):
        return _make(_REGISTRY["multi"], channels, {"members": list(query), **kwargs})
    if isinstance(query, str):
        key = _key(query)
        if key is None and "+" in query:
            members = [name.strip() for name in query.split("+")]
            return _make(
                _REGISTRY["multi"], channels, {"members": members, "mode": "sum", **kwargs}
            )
        if key is None:
            return _resolve_pyg(query, kwargs)
        query = _REGISTRY[key]
    if not (isinstance(query, type) and issubclass(query, pyg_aggr.Aggregation)):
        raise TypeError(
            f"`query` must be a name, an Aggregation or its class, or a list of these; got {query!r}."
        )
    return _make(query, channels, kwargs)


def _make(cls: type, channels: int | None, kwargs: dict[str, Any]) -> torch.nn.Module:
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    if channels is not None and "channels" in parameters and "channels" not in kwargs:
        kwargs = {"channels": channels, **kwargs}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [] if open_ended else sorted(set(kwargs) - set(parameters))
    if unknown:
        taken = ", ".join(name for name in parameters if name != "self")
        raise TypeError(f"{cls.__name__} does not take {', '.join(unknown)}. It takes: {taken}.")
    missing = [
        name
        for name, p in parameters.items()
        if name != "self"
        and p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and name not in kwargs
    ]
    if missing:
        raise TypeError(f"{cls.__name__} needs {', '.join(missing)}.")
    return cls(**kwargs)


def _resolve_pyg(name: str, kwargs: dict[str, Any]) -> torch.nn.Module:
    try:
        return aggregation_resolver(name, **kwargs)
    except ValueError:
        raise ValueError(_unknown(name)) from None


def _key(name: str) -> str | None:
    name = name.lower()
    return name if name in _REGISTRY else _ALIASES.get(name)


def _unknown(name: str) -> str:
    known = names()
    close = difflib.get_close_matches(name.lower(), [*known, *_ALIASES], n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"Unknown aggregation {name!r}.{hint} Registered: {', '.join(known)}."
