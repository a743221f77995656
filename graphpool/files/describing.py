"""Networks and readers as plain values, and back."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch_geometric.nn import aggr as pyg_aggr

from graphpool import aggr
from graphpool._recorded import SAVABLE, made_with

_PLAIN = (type(None), bool, int, float, str)


def to_plain(value: Any, where: str = "The network") -> Any:
    """What :func:`from_plain` makes ``value`` from again: plain values in lists, tuples and dictionaries.

    Raises:
        ValueError: It cannot be described; the message names it and says what to do.

    Example:
        >>> from graphpool.models import GraphModel
        >>> to_plain(GraphModel(5, 8, 2, readout="gnp"))["arguments"]["values"]["readout"]
        'gnp'
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic) and np.ndim(value) == 0:
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(to_plain(v, f"{where}[{i}]") for i, v in enumerate(value))
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"is": "dict", "values": {k: to_plain(v, f"{where}.{k}") for k, v in value.items()}}
    if isinstance(value, type) and issubclass(value, pyg_aggr.Aggregation):
        return {"is": "pool class", "name": _pool_name(value, where)}
    name, arguments = type(value).__name__, made_with(value)
    if isinstance(value, aggr.Aggregation):
        kind, name = "pool", _pool_name(type(value), where)
    elif SAVABLE.get(name) is type(value):
        kind = "object"
    else:
        raise ValueError(
            f"{where} is {_article(name)}, which a checkpoint cannot describe. Take a network of "
            f"graphpool.models and pools by their names; make a class of your own savable with "
            f"@graphpool.savable; or keep the weights alone, torch.save(model.state_dict(), path)."
        )
    if arguments is None:
        raise ValueError(f"{where} is {_article(name)} that was not made by its constructor.")
    return {"is": kind, "name": name, "arguments": to_plain(arguments, name)}


def _pool_name(cls: type, where: str) -> str:
    for name in aggr.names():
        if aggr.lookup(name) is cls:
            return name
    if getattr(pyg_aggr, cls.__name__, None) is cls:
        return cls.__name__
    raise ValueError(
        f"{where} is the pool {cls.__name__}, which has no name: register it with "
        f"@graphpool.aggr.register('a_name') where it is written, and import that before loading."
    )


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def from_plain(described: Any) -> Any:
    """What was given to :func:`to_plain`, made anew.

    Raises:
        ValueError: The description names what is not there, or does not fit it.
    """
    if type(described) in (list, tuple):
        return type(described)(map(from_plain, described))
    if not isinstance(described, dict):
        return described
    kind, name = described.get("is"), described.get("name", "")
    if kind == "dict":
        return {key: from_plain(value) for key, value in described["values"].items()}
    if kind == "pool class":
        # A name does what the class does, and the only names that PyTorch Geometric has are those.
        return aggr.lookup(name) if name in aggr.names() else name
    cls = aggr.lookup(name) if kind == "pool" else SAVABLE.get(name)
    if cls is None:
        raise ValueError(
            f"The checkpoint needs {name!r}, which is not known here: import the module where it is "
            f"made savable before loading."
        )
    arguments = from_plain(described["arguments"])
    unknown = sorted(set(arguments) - set(inspect.signature(cls).parameters))
    if unknown and not any(
        p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values()
    ):
        raise ValueError(f"{name} does not take {', '.join(unknown)}: is the checkpoint newer?")
    return cls(**arguments)


def changes(one: torch.nn.Module, other: torch.nn.Module) -> list[str]:
    """Plain settings, and classes of parts, in which two networks differ: a description has to hold all."""
    found = []
    theirs = dict(other.named_modules())
    for where, part in one.named_modules():
        twin = theirs.get(where)
        if type(part) is not type(twin):
            found.append(f"{where}: {type(part).__name__}, {type(twin).__name__}")
            continue
        for key, value in vars(part).items():
            plain = isinstance(value, _PLAIN) and not key.startswith("_") and key != "training"
            if plain and repr(value) != repr(vars(twin).get(key)):
                found.append(f"{where}.{key}".lstrip(".") + f": {value}, {vars(twin).get(key)}")
    return found
