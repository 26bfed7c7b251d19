"""Schemas: an answer's format that is given as a class of pydantic's, told by its fields.

The name of a class says little of what was asked. The provider gets the JSON Schema that the class makes of
itself; making it here would run code of the user's, so the annotations are written down instead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args, get_origin

from ..content import JSON, label

__all__ = ["shape_of"]

#: Classes below one that are told.
MOST = 64


@lru_cache(maxsize=256)
def shape_of(cls: type) -> dict[str, JSON] | None:
    """Return the fields of a model and of the models in it; ``None`` for any other class."""
    if _fields(cls) is None:
        return None
    waiting, told = [cls], dict[type, dict[str, JSON]]()
    while waiting and len(told) < MOST:
        found = waiting.pop()
        if found not in told and (fields := _fields(found)) is not None:
            told[found] = {label(name): _written(kind, waiting) for name, kind in fields.items()}
    shape: dict[str, JSON] = {"class": _name(cls), "fields": told.pop(cls)}
    if told:
        shape["classes"] = {_name(below): fields for below, fields in told.items()}
    return shape


def _fields(cls: type) -> dict[str, Any] | None:
    """Return the annotations of a model by the names of its fields."""
    fields = next((vars(base)[_FIELDS] for base in cls.__mro__ if _FIELDS in vars(base)), None)
    if type(fields) is not dict:
        return None
    return {name: getattr(field, "annotation", None) for name, field in fields.items()}


_FIELDS = "__pydantic_fields__"


def _written(annotation: Any, classes: list[type]) -> str:
    """Return an annotation as text; the classes in it are added to ``classes``."""
    if isinstance(annotation, type) and not get_args(annotation):
        classes.append(annotation)
        return _name(annotation)
    if isinstance(annotation, str | int | bool | None):
        return repr(annotation) if type(annotation) in _PLAIN else _name(type(annotation))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return label(getattr(annotation, "__name__", None) or _name(type(annotation)))
    name = _name(origin) if isinstance(origin, type) else getattr(origin, "_name", None)
    if name in {None, "types.UnionType"}:
        name = "Union"
    inner = ", ".join(_written(argument, classes) for argument in arguments)
    return label(f"{name}[{inner}]", limit=2048)


_PLAIN = frozenset({str, int, bool, type(None)})


def _name(cls: type) -> str:
    module = cls.__module__
    return label(cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}")
