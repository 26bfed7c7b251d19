"""How a value of each kind is read: decided once per class, from the class, never the instance.

A reader takes a value apart by one level and no further: into a plain JSON leaf, another value to
read in its stead, or a bounded list of entries. It calls the base class's own methods where a
subclass could lie, never advances an iterator, and may raise whatever the user's object raises:
`capsule_sdk.content.policy` catches that, walks on, and knows about limits, cycles, redaction and secrets.

A leaf but for `canonical` (numbers, moments) and `secret_names`.
"""

from __future__ import annotations

import dataclasses
from collections import UserString, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, Sized, ValuesView
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import sha3_256
from itertools import islice
from numbers import Integral, Rational, Real
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final, TypeAlias
from uuid import UUID

from .canonical_json import decimal_text, fit, integer, moment, real
from .secret_names import names_secret

# What a reader gives for a value:
PLAIN: Final = "plain"  # (value) -> JSON, no content in any mode: numbers, names of types
INSTEAD: Final = "instead"  # (value) -> another value, read in its stead; a str is content
ERROR: Final = "error"  # (value) -> the message of an exception
BYTES: Final = "bytes"  # (value) -> (length, SHA3-256)
OBJECT: Final = "object"  # (value, room) -> (up to `room` pairs, how many there are)
ARRAY: Final = "array"  # (value, room) -> (up to `room` entries, how many there are)
SET: Final = "set"  # as ARRAY, in no order
CONTAINERS: Final = frozenset({OBJECT, ARRAY, SET})

Reader: TypeAlias = tuple[str, Callable[..., Any]]
Entries: TypeAlias = tuple[list[Any], int]

_SLICE = 1 << 20


class Marker(str):
    """A text of our own in the place of a value: no content, so it stays in every mode."""

    __slots__ = ()


def type_name(cls: type) -> str:
    """Return the bounded name of a class, whatever its metaclass says."""
    return fit(type.__dict__["__name__"].__get__(cls), 512)


def _first(entries: Iterable[Any], room: int) -> list[Any]:
    """Return the first entries of what another thread may be changing meanwhile."""
    for _ in range(3):
        try:
            return list(islice(entries, room))
        except RuntimeError:  # it changed between two entries
            continue
    return list(islice(entries, room))


def _dict(value: dict[Any, Any], room: int) -> Entries:
    return _first(dict.items(value), room), dict.__len__(value)


def _list(value: list[Any], room: int) -> Entries:
    return list.__getitem__(value, slice(room)), list.__len__(value)


def _tuple(value: tuple[Any, ...], room: int) -> Entries:
    return list(tuple.__getitem__(value, slice(room))), tuple.__len__(value)


def _mapping(value: Mapping[Any, Any], room: int) -> Entries:
    entries = _first(value.items(), room + 1)
    return entries[:room], _total(value, entries)


def _iterable(value: Any, room: int) -> Entries:
    entries = _first(value, room + 1)
    return entries[:room], _total(value, entries)


def _total(value: Sized, seen: list[Any]) -> int:
    """Return the length, which in the user's own classes may lie or raise."""
    try:
        return max(len(value), len(seen))
    except Exception:  # noqa: BLE001  the user's __len__ may raise anything
        return len(seen)


def _attributes(names: Sequence[str]) -> Callable[..., Entries]:
    def read(value: Any, room: int) -> Entries:
        return [(name, _attribute(value, name)) for name in names[:room]], len(names)

    return read


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except Exception as error:  # noqa: BLE001  a property may raise anything
        return Marker(f"<unreadable: {type_name(type(error))}>")


def _pydantic(value: Any, room: int) -> Entries:
    """Read what is set past pydantic's own accessors, some of which warn when they are called."""
    held = object.__getattribute__(value, "__dict__")
    fields = getattr(type(value), "__pydantic_fields__", held)
    pairs = [(name, held[name]) for name in fields if name in held]
    pairs += (getattr(value, "__pydantic_extra__", None) or {}).items()
    return pairs[:room], len(pairs)


def _bytes(value: Any) -> tuple[int, str]:
    sha3 = sha3_256()
    if issubclass(type(value), bytearray):
        # In copies: a buffer held on it would make the user's next append raise BufferError.
        size = bytearray.__len__(value)
        for start in range(0, size, _SLICE):
            sha3.update(bytes(bytearray.__getitem__(value, slice(start, start + _SLICE))))
        return size, sha3.hexdigest()
    view = memoryview(value)
    sha3.update(view if view.c_contiguous and view.ndim == 1 else view.tobytes())
    return view.nbytes, sha3.hexdigest()


def _opaque(value: Any) -> Any:
    """Read an object by its repr; by its attributes where the repr might show a secret's value."""
    cls: Any = type(value)
    if cls.__repr__ is object.__repr__:
        return _kind(cls)  # nothing but an address in memory
    held = None
    with suppress(AttributeError):  # past __getattr__: a proxy's may raise
        held = object.__getattribute__(value, "__dict__")
    if type(held) is dict and any(type(name) is str and names_secret(name) for name in list(held)):
        return held
    return repr(value)


def _kind(cls: type) -> Marker:
    return Marker(f"<{type_name(cls)} object>")


def _qualified(value: Any) -> str:
    module = value.__module__  # None for a method of a built-in value
    return fit(f"{module}.{value.__qualname__}" if module else value.__qualname__, 512)


def _text(value: Any) -> str:
    return str.__str__(str(value))


# Tried in this order; a class may inherit from several (a str-Enum, a datetime is a date).
_BASES: tuple[tuple[type | tuple[type, ...], Reader], ...] = (
    (Marker, (PLAIN, str.__str__)),
    (Enum, (INSTEAD, lambda value: object.__getattribute__(value, "_value_"))),
    (str, (INSTEAD, str.__str__)),
    (int, (PLAIN, lambda value: integer(int.__index__(value)))),
    (float, (PLAIN, lambda value: real(float.__float__(value)))),
    ((bytes, bytearray, memoryview), (BYTES, _bytes)),
    (dict, (OBJECT, _dict)),
    (list, (ARRAY, _list)),
    (tuple, (ARRAY, _tuple)),
    ((set, frozenset), (SET, _iterable)),
    (datetime, (INSTEAD, lambda value: moment(value).isoformat())),
    ((date, time), (INSTEAD, lambda value: _text(value.isoformat()))),
    (timedelta, (PLAIN, lambda value: real(timedelta.total_seconds(value)))),
    (Decimal, (PLAIN, decimal_text)),
    ((UUID, PurePath, UserString), (INSTEAD, _text)),
    (BaseException, (ERROR, _text)),
    ((type, FunctionType, BuiltinFunctionType, MethodType), (PLAIN, _qualified)),
    (ModuleType, (PLAIN, lambda value: fit(value.__name__, 512))),
    (SimpleNamespace, (INSTEAD, vars)),
)

_ABSTRACT: tuple[tuple[type | tuple[type, ...], Reader], ...] = (
    (Mapping, (OBJECT, _mapping)),
    (Set, (SET, _iterable)),
    ((Sequence, ValuesView, deque), (ARRAY, _iterable)),
    (Integral, (PLAIN, lambda value: integer(int(value)))),
    (Rational, (INSTEAD, _text)),
    (Real, (PLAIN, lambda value: real(float(value)))),
)


@lru_cache(maxsize=1024)
def reader(cls: type) -> Reader:
    """Return what a value of this class is, and the function that reads it."""
    found = _named_tuple(cls) or _among(_BASES, cls) or _with_fields(cls)
    if found:
        return found
    if any(hasattr(cls, name) for name in ("__next__", "__anext__", "__await__")):
        return PLAIN, lambda _value: str.__str__(_kind(cls))  # never consumed
    return _among(_ABSTRACT, cls) or (INSTEAD, _opaque)


def _among(kinds: tuple[tuple[type | tuple[type, ...], Reader], ...], cls: type) -> Reader | None:
    return next((found for base, found in kinds if issubclass(cls, base)), None)


def _named_tuple(cls: type) -> Reader | None:
    names = getattr(cls, "_fields", None)
    return (OBJECT, _attributes(names)) if issubclass(cls, tuple) and type(names) is tuple else None


def _with_fields(cls: Any) -> Reader | None:
    if dataclasses.is_dataclass(cls):
        return OBJECT, _attributes([field.name for field in dataclasses.fields(cls)])
    if hasattr(cls, "__pydantic_fields__") or "__fields__" in vars(cls):  # version 2, version 1
        return OBJECT, _pydantic
    if hasattr(cls, "__attrs_attrs__"):
        return OBJECT, _attributes([field.name for field in cls.__attrs_attrs__])
    return None
