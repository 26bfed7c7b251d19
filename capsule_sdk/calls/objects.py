"""Objects: the entries of what callers and client libraries hand over, dicts and models alike.

`fields` and `entries_of` read past an object's own code; `get` asks it, and so does whoever reads a mapping
that is no dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

__all__ = ["entries_of", "fields", "get", "is_model"]


def get(value: Any, name: str) -> Any:
    """Return an attribute or an entry; ``None`` where there is none or reading it fails."""
    if type(value) is dict or isinstance(value, Mapping):
        return value.get(name)
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - a property of a foreign response object may raise anything
        return None


@lru_cache(maxsize=1024)
def is_model(kind: type) -> bool:
    """Tell whether a class is a model of pydantic's. Kept: to such a class the question costs microseconds."""
    return hasattr(kind, "__pydantic_fields__")


def fields(value: Any) -> Mapping[Any, Any]:
    """Return the entries of a mapping, or what an object holds; nothing of anything else."""
    kind: Any = type(value)
    if kind is dict:
        given: dict[Any, Any] = value
        return given
    if value is None or kind is str or kind is list:
        return {}
    of_pydantic = is_model(kind)
    if not of_pydantic and isinstance(value, Mapping):
        return value
    try:
        held = object.__getattribute__(value, "__dict__")
        extra = object.__getattribute__(value, "__pydantic_extra__") if of_pydantic else None
    except AttributeError:
        return {}
    if type(held) is not dict:
        return {}
    return {**held, **extra} if type(extra) is dict and extra else held


def entries_of(value: Any) -> Mapping[Any, Any] | None:
    """Return the entries of a dict or of a model of pydantic's; ``None`` for everything else."""
    if type(value) is not dict and isinstance(value, dict):
        return dict(dict.items(value))  # past the methods of its class
    kind: Any = type(value)
    return fields(value) if kind is dict or is_model(kind) else None
