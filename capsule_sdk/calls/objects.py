"""Objects: the entries of what callers and client libraries hand over, dicts and models alike.

`fields`, `entries_of` and `items_of` read past an object's own code, and so does `get` of a dict or a model; of
any other object it asks that, and so does whoever reads a mapping that is no dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..content.inert import MISSING, class_attribute, held_by, per_class, slot

__all__ = ["entries_of", "fields", "get", "is_model", "items_of"]


class _Model(NamedTuple):
    """How the instances of one class of pydantic's are read."""

    held: Callable[[Any], dict[str, Any]]
    #: What reads the entries that the class does not declare, and those that begin with an underscore.
    extra: Callable[[Any], Any] | None
    private: Callable[[Any], Any] | None
    #: Names that the class itself says nothing of.
    unsaid: set[str]


@per_class
def _reading(cls: type) -> _Model | bool:
    """Return how a model is read; of every other class, whether it is one of mappings."""
    if type(class_attribute(cls, "__pydantic_fields__")) is not dict:
        return issubclass(cls, dict) or issubclass(cls, Mapping)  # the second asks its metaclass
    extra, private = slot(cls, "__pydantic_extra__"), slot(cls, "__pydantic_private__")
    return _Model(held_by(cls), extra, private, set())


def is_model(kind: type) -> bool:
    """Tell whether a class is a model of pydantic's."""
    return type(_reading(kind)) is _Model


def get(value: Any, name: str) -> Any:
    """Return an attribute or an entry; ``None`` where there is none or reading it fails."""
    kind: Any = type(value)
    if kind is dict:
        return value.get(name)
    if value is None:
        return None
    reading = _reading(kind)
    if type(reading) is _Model:
        found = _of_model(reading, value, name)
        if found is not MISSING:
            return found
    elif reading:
        return dict.get(value, name) if issubclass(kind, dict) else value.get(name)
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - a property of a foreign response object may raise anything
        return None


def _of_model(model: _Model, value: Any, name: str) -> Any:
    """Return what an instance holds, ``None`` where there is nothing, `MISSING` where its class must be asked.

    pydantic's own ``__getattr__`` takes microseconds to find nothing.
    """
    held = model.held(value)
    if name in held:
        return held[name]
    for read in (model.extra, model.private):
        more = _read(read, value)
        if more is not None and name in more:
            return more[name]
    if name not in model.unsaid:
        kind: Any = type(value)
        if class_attribute(kind, name) is not MISSING:
            return MISSING
        model.unsaid.add(name)
    return None


def _read(read: Callable[[Any], Any] | None, value: Any) -> dict[str, Any] | None:
    if read is None:
        return None
    try:
        found = read(value)
    except AttributeError:  # made past its own constructor
        return None
    return found if type(found) is dict else None


def fields(value: Any) -> Mapping[Any, Any]:
    """Return the entries of a mapping, or what an object holds; nothing of anything else."""
    kind: Any = type(value)
    if kind is dict:
        given: dict[Any, Any] = value
        return given
    if value is None or kind is str or kind is list:
        return {}
    reading = _reading(kind)
    if type(reading) is _Model:
        own = reading.held(value)
        extra = _read(reading.extra, value)
        return {**own, **extra} if extra else own
    if reading:
        entries: Mapping[Any, Any] = value
        return dict(dict.items(value)) if issubclass(kind, dict) else entries
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return held if type(held) is dict else {}


def entries_of(value: Any) -> Mapping[Any, Any] | None:
    """Return the entries of a dict or of a model of pydantic's; ``None`` for everything else."""
    kind: Any = type(value)
    return fields(value) if issubclass(kind, dict) or is_model(kind) else None


def items_of(value: Any) -> Sequence[Any] | None:
    """Return the items of a list or a tuple; ``None`` for everything else."""
    kind: Any = type(value)
    if kind is list or kind is tuple:
        plain: Sequence[Any] = value
        return plain
    if issubclass(kind, list):
        return list(list.__iter__(value))
    return tuple(tuple.__iter__(value)) if issubclass(kind, tuple) else None
