"""Objects that remember the arguments they were made with, so that a file can say how to make them again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

#: What a checkpoint may name: classes by their names.
SAVABLE: dict[str, type] = {}
_Class = TypeVar("_Class", bound=type)


def savable(cls: _Class) -> _Class:
    """Class decorator: :func:`graphpool.save` can describe objects of this class, and load them again.

    Every object remembers the arguments it was made with. They must be numbers, strings, pools by name,
    class or module, objects of savable classes, or lists, tuples and dictionaries of these. The networks of
    :mod:`graphpool.models` are savable.

    Raises:
        ValueError: Another class of that name is savable already.

    Example:
        >>> @savable
        ... class Twice(torch.nn.Module):
        ...     def __init__(self, factor=2.0):
        ...         super().__init__()
        ...         self.factor = factor
        >>> made_with(Twice(3.0))
        {'factor': 3.0}
    """
    name, known = cls.__name__, SAVABLE.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (
        cls.__module__, cls.__qualname__,
    ):  # fmt: skip
        raise ValueError(f"The name {name!r} is taken by {known.__module__}.{known.__qualname__}.")
    SAVABLE[name] = cls
    init: Callable[..., None] = cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def remembering(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        # A subclass takes other arguments, and may do other things.
        if type(self) is cls:
            remember(self, args, kwargs)

    cls.__init__ = remembering  # type: ignore[misc]
    return cls


def remember(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Notes the arguments by which ``made`` was made, under the names its class gives them."""
    signature = inspect.signature(type(made).__init__)
    arguments = dict(list(signature.bind(made, *args, **kwargs).arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(name, {}))
    # Past the guards of modules and of frozen dataclasses.
    object.__setattr__(made, "_made_with", {k: _copied(v) for k, v in arguments.items()})


def made_with(made: Any) -> dict[str, Any] | None:
    """The arguments by which an object was made, ``None`` where nobody noted them."""
    return vars(made).get("_made_with")


def _copied(value: Any) -> Any:
    """Containers may be written to later; what is in them is kept as it is."""
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return {k: _copied(v) for k, v in value.items()} if type(value) is dict else value
