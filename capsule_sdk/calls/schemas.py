"""Schemas: an answer's format that is given as a class of pydantic's, told by its fields.

The name of a class says little of what was asked. The provider gets the JSON Schema that the class makes of
itself; making it here would run code of the user's. So the annotations are written down instead, with the
descriptions and constraints that stand beside them, the description of the class, and the values of enums.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, get_args, get_origin

from ..content import JSON, label
from ..content.inert import class_attribute, per_class

__all__ = ["shape_of"]

#: Classes below one that are told.
MOST = 64


@per_class
def shape_of(cls: type) -> dict[str, JSON] | None:
    """Return the fields of a model and of the models in it; ``None`` for any other class."""
    if _fields(cls) is None:
        return None
    # By the number of each class: its metaclass may define what its hash is.
    waiting, told, docs = [cls], dict[int, tuple[str, dict[str, JSON]]](), dict[str, JSON]()
    while waiting and len(told) < MOST:
        found = waiting.pop()
        if id(found) in told:
            continue
        if (fields := _fields(found)) is not None:
            told[id(found)] = (
                _name(found),
                {label(name): _field(field, waiting) for name, field in fields.items()},
            )
            if type(doc := vars(found).get("__doc__")) is str:
                docs[_name(found)] = doc
        elif issubclass(found, Enum):
            told[id(found)] = _name(found), {"values": _values(found)}
    name, own = told.pop(id(cls))
    shape: dict[str, JSON] = {"class": name, "fields": own}
    if told:
        shape["classes"] = dict(told.values())
    if docs:
        shape["descriptions"] = docs
    return shape


def _fields(cls: type) -> dict[str, Any] | None:
    """Return what pydantic knows of the fields of a model, by their names."""
    fields = class_attribute(cls, "__pydantic_fields__")
    return fields if type(fields) is dict else None


def _field(field: Any, classes: list[type]) -> JSON:
    """Return a field's annotation; with what stands beside it, where anything does."""
    kind = _written(getattr(field, "annotation", None), classes)
    beside: dict[str, JSON] = {
        name: value
        for name in _BESIDE
        if type(value := getattr(field, name, None)) in _PLAIN and value is not None
    }
    metadata = getattr(field, "metadata", None)
    if type(metadata) is list and metadata:
        beside["constraints"] = [_constraint(entry) for entry in metadata]
    return {"type": kind, **beside} if beside else kind


#: What a field's definition adds to the schema, where it is a plain value.
_BESIDE = ("alias", "validation_alias", "default", "description", "title")


def _constraint(entry: Any) -> str:
    """Return a constraint of pydantic's as text; of anybody else's only its class."""
    kind = type(entry)
    if kind.__module__.partition(".")[0] not in {"annotated_types", "pydantic"}:
        return _name(kind)
    names = getattr(kind, "__dataclass_fields__", None) or getattr(entry, "__dict__", None)
    held = {name: getattr(entry, name, None) for name in names or ()}
    told = (f"{name}={value!r}" for name, value in held.items() if type(value) in _PLAIN)
    return label(f"{kind.__name__}({', '.join(told)})", limit=2048)


def _values(cls: type[Enum]) -> list[JSON]:
    members = vars(cls).get("_value2member_map_")
    values = members if isinstance(members, Mapping) else ()
    return [value if type(value) in _PLAIN else label(type(value).__name__) for value in values]


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


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _name(cls: type) -> str:
    module = cls.__module__
    return label(cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}")
