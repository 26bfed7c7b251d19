"""Which entries of a list or an object are secrets by what stands beside them: headers, options, fields.

Leaf. Values are looked at by type alone, so that none of their code runs.
"""

from __future__ import annotations

from typing import Any, Final

from .secret_commands import flags_in
from .secret_names import names_secret
from .secret_shapes import may_be_header

__all__ = ["EXAMPLES", "is_empty", "is_named", "is_pair", "is_schema", "options_in", "values_in"]

_NAMES: Final = frozenset({"header", "key", "name"})
#: Words of JSON Schema, of which the description of a field consists; those that may hold a value of it.
_DEFINING: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf", "type"})
EXAMPLES: Final = frozenset({"const", "default", "enum", "example", "examples"})
_SCHEMA: Final = _DEFINING | EXAMPLES | {
    "deprecated", "description", "format", "items", "maxLength", "minLength", "nullable", "pattern",
    "properties", "readOnly", "required", "title", "writeOnly",
}  # fmt: skip


def is_empty(value: Any) -> bool:
    """Tell what is no secret whatever its name, and says that there is none."""
    if value is None or type(value) is bool:
        return True
    return type(value) in (str, bytes, list, tuple, dict) and not value


def is_named(name: Any) -> bool:
    """Tell whether an entry is a text, or bytes, that names a secret."""
    if type(name) is bytes and len(name) < 64:
        return names_secret(name.decode("latin-1"))
    return type(name) is str and len(name) < 64 and names_secret(name)


def is_pair(kind: type, entries: list[Any]) -> bool:
    """Tell a name and its secret from a list of two names: `["password", "email"]`."""
    if len(entries) != 2 or not is_named(entries[0]) or is_empty(entries[1]):
        return False
    if kind is tuple or type(entries[1]) is bytes:
        return True
    return type(entries[0]) is str and type(entries[1]) is str and may_be_header(*entries)


def options_in(entries: list[Any]) -> list[tuple[int, int]]:
    """Return the secrets in a command, `["mysql", "--password", "…"]`: place, and where in it it begins."""
    found = [
        (place, 0)
        for place, entry in enumerate(entries[:-1], 1)
        if type(entry) is str and entry[:1] == "-" and is_named(entry.lstrip("-"))
    ]
    if entries and type(entries[0]) is str and all(type(entry) is str for entry in entries):
        found += flags_in(entries)
    return found


def values_in(entries: list[tuple[Any, Any]]) -> list[str]:
    """Return the fields whose value another field names: `{"name": "Authorization", "value": "Bearer …"}`."""
    fields = [(name, value) for name, value in entries if type(name) is str]
    named = any(name.lower() in _NAMES and is_named(value) for name, value in fields)
    return [name for name, _ in fields if name.lower() == "value"] if named else []


def is_schema(value: Any) -> bool:
    """Tell the description of a field from its value, as tools and OpenAPI give it."""
    if type(value) is not dict or not 0 < len(value) <= len(_SCHEMA):
        return False
    names = list(value)
    described = all(type(name) is str and name in _SCHEMA for name in names)
    return described and any(name in _DEFINING for name in names)
