"""Models by their declared fields: dataclasses, attrs, pydantic, msgspec, named tuples.

A field is read where the instance itself holds it. What only a property, a descriptor or ``__getattr__`` would
answer stays unread: that may be a query (an unloaded relationship of SQLAlchemy) or anything else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from .inert import class_attribute, held, held_by, instance, namespace, slot

__all__ = ["UNREAD", "Entries", "named_tuple", "of_model"]

Entries = tuple[list[Any], int]

#: Stands for a declared field that the instance does not hold: reading it would run code.
UNREAD: Final = "<not loaded>"


def of_model(cls: type, unread: Any) -> Callable[[Any, int], Entries] | None:
    """Return what reads the instances of a class with declared fields; ``None`` for other classes.

    Args:
        cls: the class.
        unread: stands where a declared field is not held.

    """
    declared = class_attribute(cls, "__dataclass_fields__")
    if type(declared) is dict:
        return _attributes(cls, [n for n, f in declared.items() if _is_field(f)], unread)
    declared = class_attribute(cls, "__pydantic_fields__")
    if type(declared) is dict:  # version 2
        return _pydantic(cls, list(declared))
    if type(namespace(cls).get("__fields__")) is dict:  # version 1
        return _pydantic(cls, None)
    declared = class_attribute(cls, "__attrs_attrs__")
    if instance(declared, tuple):
        names = [held(field, "name") for field in tuple.__iter__(declared)]
        return _attributes(cls, names, unread)
    declared = class_attribute(cls, "__struct_fields__")
    if type(declared) is tuple:  # msgspec
        return _attributes(cls, list(declared), unread)
    return None


def named_tuple(cls: type) -> Callable[[Any, int], Entries] | None:
    """Return what reads the instances of a named tuple's class by their names."""
    names = class_attribute(cls, "_fields")
    if type(names) is not tuple or any(type(name) is not str for name in names):
        return None

    def read(value: tuple[Any, ...], room: int) -> Entries:
        entries = list(zip(names, tuple.__iter__(value), strict=True))
        return entries[:room], len(entries)

    return read


def _is_field(field: Any) -> bool:
    """Tell a field from a class variable and from an argument of ``__init__`` alone."""
    kind = dataclasses._FIELD  # type: ignore[attr-defined]  # `fields` asks the metaclass
    return type(field) is dataclasses.Field and held(field, "_field_type") is kind


def _attributes(cls: type, names: list[Any], unread: Any) -> Callable[[Any, int], Entries]:
    texts = [name for name in names if type(name) is str]
    slots = {name: of for name in texts if (of := slot(cls, name)) is not None}
    mine = held_by(cls)

    def read(value: Any, room: int) -> Entries:
        found, entries = mine(value), []
        for name in texts[:room]:
            entry = dict.get(found, name, unread)
            if name in slots:
                with suppress(AttributeError):
                    entry = slots[name](value)
            entries.append((name, entry))
        return entries, len(texts)

    return read


def _pydantic(cls: type, names: list[Any] | None) -> Callable[[Any, int], Entries]:
    """Read what is set, past pydantic's own accessors, some of which warn when they are called."""
    mine, extra = held_by(cls), slot(cls, "__pydantic_extra__")

    def read(value: Any, room: int) -> Entries:
        found = mine(value)
        entries = [
            (name, found[name])
            for name in (list(found) if names is None else names)
            if name in found
        ]
        if extra is not None:
            with suppress(AttributeError):  # made past its own constructor
                more = extra(value)
                if instance(more, dict):
                    entries += dict.items(more)
        return entries[:room], len(entries)

    return read
