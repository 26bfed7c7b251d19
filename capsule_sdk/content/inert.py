"""Looking at a value without running any code of its class.

Python asks an object's own code nearly everything: `isinstance` asks ``__class__``, `getattr` asks
properties and ``__getattribute__``, `in` asks ``__eq__``, an abstract base class asks ``__subclasshook__``,
and a metaclass can answer for its classes in the same way. The functions here read past all of that: what
the interpreter itself holds of a class (its bases, its namespace, its name), and what an instance holds in
slots and in its ``__dict__``.

A leaf: standard library only. Nothing here decides what a value is (`readers`) or how much of it is kept
(`policy`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, TypeVar
from weakref import ReferenceType, ref

from .canonical_json import fit

__all__ = [
    "MISSING",
    "class_attribute",
    "class_name",
    "derives",
    "held",
    "held_by",
    "instance",
    "is_builtin",
    "module_of",
    "namespace",
    "per_class",
    "slot",
    "true_bases",
    "type_name",
]

MISSING: Final[Any] = object()

T = TypeVar("T")

_NAME_LIMIT: Final = 512  # bytes; a class may be called anything

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__
_name = type.__dict__["__name__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_module = type.__dict__["__module__"].__get__


def instance(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Tell whether a value is of one of these classes, whatever it says itself.

    The classes must be plain ones: an abstract base class decides by code of its own; for those there is
    `derives`.
    """
    return issubclass(type(value), kinds)


def is_builtin(value: object) -> bool:
    """Tell whether a value is of one of Python's own classes itself, not of a subclass."""
    return module_of(type(value)) == "builtins"


def derives(cls: type, base: type) -> bool:
    """Tell whether a class has ``base`` among its true bases; that it is registered there does not count."""
    return any(found is base for found in _mro(cls))


def true_bases(cls: type) -> tuple[type, ...]:
    """Return a class and all its bases, in the order in which Python looks things up."""
    found: tuple[type, ...] = _mro(cls)
    return found


def namespace(cls: type) -> Mapping[str, Any]:
    """Return what stands in the body of a class itself."""
    found: Mapping[str, Any] = _namespace(cls)
    return found


def class_attribute(cls: type, name: str) -> Any:
    """Return an attribute of a class as it stands in the body of it or of a base: no descriptor is run."""
    for base in _mro(cls):
        space = _namespace(base)
        if name in space:
            return space[name]
    return MISSING


def slot(cls: type, name: str) -> Callable[[Any], Any] | None:
    """Return what reads a slot (``__slots__``, or a member of a class in C); it raises where that is empty."""
    found = class_attribute(cls, name)
    return found.__get__ if type(found) is MemberDescriptorType else None


def held_by(cls: type) -> Callable[[Any], dict[str, Any]]:
    """Return what reads the true ``__dict__`` of this class's instances; empty for those that have none."""
    for base in _mro(cls):
        found = _namespace(base).get("__dict__")
        # And not of a property of that name.
        if type(found) is GetSetDescriptorType or type(found) is MemberDescriptorType:
            return found.__get__
    return lambda _: {}


def held(value: object, name: str) -> Any:
    """Return what an instance itself holds under a name, in a slot or in its ``__dict__``, or `MISSING`."""
    cls = type(value)
    read = slot(cls, name)
    if read is not None:
        with suppress(AttributeError):
            return read(value)
    mine = held_by(cls)(value)
    return dict.get(mine, name, MISSING) if instance(mine, dict) else MISSING


def per_class(ask: Callable[[type], T]) -> Callable[[type], T]:
    """Return ``ask`` with its answers kept, each as long as its class lives. An answer must not hold the class.

    Not `functools.lru_cache`: it hashes a class, which may run code of its metaclass, and keeps it alive.
    """
    known: dict[int, tuple[ReferenceType[type], T]] = {}

    def kept(cls: type) -> T:
        number = id(cls)
        found = known.get(number)
        if found is None:
            found = known[number] = (ref(cls, lambda _: known.pop(number, None)), ask(cls))
        return found[1]

    return kept


def type_name(cls: type) -> str:
    """Return the bounded name of a class, whatever its metaclass says."""
    return fit(_name(cls), _NAME_LIMIT)


def module_of(cls: type) -> str:
    """Return the name of the module that a class says it comes from; ``""`` where it says no text."""
    with suppress(AttributeError):
        found = _module(cls)
        if type(found) is str:
            return found
    return ""


def class_name(cls: type) -> str:
    """Return module and qualified name of a class, bounded: ``django.db.models.query.QuerySet``."""
    module, name = module_of(cls), _qualname(cls)
    return fit(f"{module}.{name}" if module else name, _NAME_LIMIT)
