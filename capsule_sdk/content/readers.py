"""How a value of each kind is read: decided once per class, from the class, never the instance.

A reader takes a value apart by one level and no further: into a plain JSON leaf, another value to read in
its stead, or a bounded list of entries. The invariants:

- No code of the user's types runs: no ``__repr__``, ``__iter__``, ``__len__``, property or ``__getattr__``,
  nor anything else that a class or its metaclass defines. A value may be a query, pages of an interface, a
  proxy.
- So only kinds that are known to be inert are looked into: built-in values and their subclasses, by the
  base's own methods in C; plain values of the standard library; models, by the fields that they hold
  (`fields`); arrays and tables (`libraries`). Everything else is sealed as its type.
- An iterator is never advanced.

A reader may raise all the same (a released buffer, a list that another thread changes):
`capsule_sdk.content.policy` catches that, walks on, and knows about limits, cycles, redaction and secrets.
"""

from __future__ import annotations

import gc
import re
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import sha3_256
from itertools import islice
from pathlib import PurePath
from re import Pattern
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, Final, TypeAlias
from uuid import UUID

from .canonical_json import decimal_text, fit, integer, real
from .faults import told_by
from .fields import UNREAD, Entries, named_tuple, of_model
from .inert import MISSING, class_name, held, held_by, true_bases
from .libraries import of_library
from .texts import moment_text, path_text, time_text

__all__ = [
    "ARRAY",
    "BYTES",
    "CONTAINERS",
    "ERROR",
    "INSTEAD",
    "OBJECT",
    "PLAIN",
    "SET",
    "Marker",
    "Reader",
    "known",
    "may_be_text",
    "reader",
]

# What a reader gives for a value:
PLAIN: Final = "plain"  # (value) -> JSON, no content in any mode: numbers, names of types
INSTEAD: Final = "instead"  # (value) -> another value, read in its stead; a str is content
ERROR: Final = "error"  # (value) -> the message, and pairs of what it holds beside it
BYTES: Final = "bytes"  # (value) -> (length, SHA3-256)
OBJECT: Final = "object"  # (value, room) -> (up to `room` pairs, how many there are)
ARRAY: Final = "array"  # (value, room) -> (up to `room` entries, how many there are)
SET: Final = "set"  # as ARRAY, in no order
CONTAINERS: Final = frozenset({OBJECT, ARRAY, SET})

Reader: TypeAlias = tuple[str, Callable[..., Any]]

_SLICE = 1 << 20
_CLASSES_KEPT = 1024
_HEAD = 1 << 16  # bytes in which what is no text says so
_NO_TEXT = re.compile(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f]")


class Marker(str):
    """A text of our own in the place of a value: no content, so it stays in every mode."""

    __slots__ = ()


def _first(iterate: Callable[[Any], Iterable[Any]], value: Any, room: int) -> list[Any]:
    """Return the first entries of what another thread may be changing meanwhile."""
    for _ in range(3):
        try:
            return list(islice(iterate(value), room))
        except RuntimeError:  # it changed between two entries
            continue
    return list(islice(iterate(value), room))


def _dict(value: dict[Any, Any], room: int) -> Entries:
    return _first(dict.items, value, room), dict.__len__(value)


def _list(value: list[Any], room: int) -> Entries:
    return list.__getitem__(value, slice(room)), list.__len__(value)


def _tuple(value: tuple[Any, ...], room: int) -> Entries:
    return list(tuple.__getitem__(value, slice(room))), tuple.__len__(value)


def _set(value: set[Any], room: int) -> Entries:
    return _first(set.__iter__, value, room), set.__len__(value)


def _frozenset(value: frozenset[Any], room: int) -> Entries:
    return _first(frozenset.__iter__, value, room), frozenset.__len__(value)


def _deque(value: deque[Any], room: int) -> Entries:
    return _first(deque.__iter__, value, room), deque.__len__(value)


def _array(value: array[Any], room: int) -> Entries:
    # A copy of the head: a buffer held on it would make the user's next append raise BufferError.
    return array.__getitem__(value, slice(room)).tolist(), array.__len__(value)


def _range(value: range, room: int) -> Entries:
    entries = list(islice(value, room + 1))
    total = len(entries)
    with suppress(OverflowError):  # longer than a list can be
        total = len(value)
    return entries[:room], total


def _view(entries: Callable[[dict[Any, Any]], Iterable[Any]]) -> Callable[..., Entries]:
    def read(value: Any, room: int) -> Entries:
        behind = _behind(value)
        return _first(entries, behind, room), dict.__len__(behind)

    return read


def _behind(value: Any) -> Any:
    """Return the mapping behind a proxy or view: its own methods would call those of a subclass."""
    return gc.get_referents(value)[0]


def _data(value: Any) -> Any:
    """Return what a UserDict, UserList or UserString wraps, past the methods of a subclass."""
    return _held_or_kind(value, "data")


def _held_or_kind(value: Any, name: str) -> Any:
    found = held(value, name)
    return kind_of(type(value)) if found is MISSING else found


def _bytes(value: Any) -> tuple[int, str]:
    """Return length and digest; of a subclass in copies, for it may define what a buffer of it is."""
    sha3 = sha3_256()
    cls: type = type(value)
    for base in (bytes, bytearray):
        if issubclass(cls, base) and cls is not bytes:
            # A bytearray in copies too: a buffer held on it would make the user's next append fail.
            size = base.__len__(value)
            for start in range(0, size, _SLICE):
                sha3.update(bytes(base.__getitem__(value, slice(start, start + _SLICE))))
            return size, sha3.hexdigest()
    view = memoryview(value)
    sha3.update(view if view.c_contiguous and view.ndim == 1 else view.tobytes())
    return view.nbytes, sha3.hexdigest()


def may_be_text(value: Any) -> bool:
    """Tell bytes that may hold a text: their head has no control character that no text has."""
    cls: type = type(value)
    for base in (bytes, bytearray):
        if issubclass(cls, base):
            head = bytes(base.__getitem__(value, slice(_HEAD)))
            break
    else:
        head = memoryview(value).tobytes()[:_HEAD]
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") or _NO_TEXT.search(head) is None


def _fraction(value: Fraction) -> Any:
    parts = held(value, "_numerator"), held(value, "_denominator")
    if type(parts[0]) is not int or type(parts[1]) is not int:
        return kind_of(type(value))
    return (
        "/".join(str(integer(part)) for part in parts) if parts[1] != 1 else str(integer(parts[0]))
    )


def _uuid(value: UUID) -> Any:
    number = held(value, "int")
    return str(UUID(int=number)) if type(number) is int else kind_of(type(value))


def _namespace(value: Any) -> Any:
    return held_by(type(value))(value)


# ── values that are known by their name ───────────────────────────────────────────────────────────


def kind_of(cls: type) -> Marker:
    """Return what stands for a value that is not looked into: its class."""
    return Marker(f"<{class_name(cls).removeprefix('builtins.')} object>")


def _class(value: type) -> str:
    return class_name(value)


def _function(value: FunctionType) -> str:
    module = value.__module__
    return _named(module if type(module) is str else "", value.__qualname__)


def _builtin(value: BuiltinFunctionType) -> str:
    owner = value.__self__
    if owner is None or type(owner) is ModuleType:
        module = value.__module__
        return _named(module if type(module) is str else "", value.__name__)
    cls: Any = owner if issubclass(type(owner), type) else type(owner)
    return _named(class_name(cls).removeprefix("builtins."), value.__name__)


def _method(value: MethodType) -> str:
    function = value.__func__
    if type(function) is FunctionType:
        return _function(function)
    return kind_of(type(function))


def _module(value: ModuleType) -> str:
    name = held(value, "__name__")
    return fit(name, 512) if type(name) is str else kind_of(type(value))


def _named(module: str, name: str) -> str:
    return fit(f"{module}.{name}" if module else name, 512)


# Tried in this order; a class may inherit from several (a str-Enum, a datetime is a date).
_BASES: tuple[tuple[type, Reader], ...] = (
    (Marker, (PLAIN, str.__str__)),
    (Enum, (INSTEAD, lambda value: _held_or_kind(value, "_value_"))),
    (str, (INSTEAD, str.__str__)),
    (int, (PLAIN, lambda value: integer(int.__index__(value)))),
    (float, (PLAIN, lambda value: real(float.__float__(value)))),
    (bytes, (BYTES, _bytes)),
    (bytearray, (BYTES, _bytes)),
    (memoryview, (BYTES, _bytes)),
    (dict, (OBJECT, _dict)),
    (list, (ARRAY, _list)),
    (tuple, (ARRAY, _tuple)),
    (set, (SET, _set)),
    (frozenset, (SET, _frozenset)),
    (deque, (ARRAY, _deque)),
    (array, (ARRAY, _array)),
    (range, (ARRAY, _range)),
    (type({}.keys()), (SET, _view(dict.keys))),
    (type({}.items()), (SET, _view(dict.items))),
    (type({}.values()), (ARRAY, _view(dict.values))),
    (MappingProxyType, (INSTEAD, _behind)),
    (UserDict, (INSTEAD, _data)),
    (UserList, (INSTEAD, _data)),
    (UserString, (INSTEAD, _data)),
    (ChainMap, (INSTEAD, lambda value: _held_or_kind(value, "maps"))),
    (slice, (INSTEAD, lambda value: [value.start, value.stop, value.step])),
    (datetime, (INSTEAD, lambda value: moment_text(value) or kind_of(type(value)))),
    (date, (INSTEAD, date.isoformat)),
    (time, (INSTEAD, time_text)),
    (timedelta, (PLAIN, lambda value: real(timedelta.total_seconds(value)))),
    (Decimal, (PLAIN, lambda value: decimal_text(Decimal(value)))),
    (Fraction, (INSTEAD, _fraction)),
    (complex, (INSTEAD, complex.__repr__)),
    (UUID, (INSTEAD, _uuid)),
    (PurePath, (INSTEAD, lambda value: path_text(value) or kind_of(type(value)))),
    (Pattern, (INSTEAD, lambda value: value.pattern)),
    (BaseException, (ERROR, told_by)),
    (type, (PLAIN, _class)),
    (FunctionType, (PLAIN, _function)),
    (BuiltinFunctionType, (PLAIN, _builtin)),
    (MethodType, (PLAIN, _method)),
    (ModuleType, (PLAIN, _module)),
    (SimpleNamespace, (INSTEAD, _namespace)),
    (type(...), (PLAIN, repr)),
    (type(NotImplemented), (PLAIN, repr)),
)

#: By exact name: small immutable values of the standard library whose text is their own.
_AS_TEXT = frozenset(
    {
        "datetime.timezone",
        "ipaddress.IPv4Address",
        "ipaddress.IPv4Interface",
        "ipaddress.IPv4Network",
        "ipaddress.IPv6Address",
        "ipaddress.IPv6Interface",
        "ipaddress.IPv6Network",
        "zoneinfo.ZoneInfo",
    }
)

#: Kept by the number of the class, and with it: hashing a class may run code of its metaclass.
known: dict[int, tuple[type, Reader]] = {}


def reader(cls: type) -> Reader:
    """Return what a value of this class is, and the function that reads it."""
    found = known.get(id(cls))
    if found is None:
        if len(known) >= _CLASSES_KEPT:
            known.clear()
        found = known[id(cls)] = (cls, _reader(cls))
    return found[1]


def _reader(cls: type) -> Reader:
    if issubclass(cls, tuple) and (read := named_tuple(cls)) is not None:
        return OBJECT, read
    bases = {id(base) for base in true_bases(cls)}
    for base, found in _BASES:
        if id(base) in bases:
            return found
    if (read := of_model(cls, Marker(UNREAD))) is not None:
        return OBJECT, read
    if class_name(cls) in _AS_TEXT:
        return INSTEAD, lambda value: str.__str__(str(value))
    kind = kind_of(cls)
    return of_library(cls, Marker) or (PLAIN, lambda _value: str.__str__(kind))
