"""Schemas: an answer's format that is given as a class, told by what stands in the class.

The name of a class says little of what was asked. The provider gets the JSON Schema that the class makes of
itself; making it here would run code of the user's, and what LiteLLM makes of it differs with the provider and
is not known when a call begins. So annotations are written down instead, with all that stands beside them
(descriptions, constraints, defaults, examples, configuration), for models of pydantic's, dataclasses,
TypedDicts, named tuples and enums.

Invariant: what decides the schema and is code, or of a class that nobody knows, is named in ``untold``. Two
formats that are told alike without that word have the same schema.
"""

from __future__ import annotations

from dataclasses import MISSING as NO_DEFAULT
from enum import Enum
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin

from ..content import JSON, ContentPolicy, Limits, canonical, instance
from ..content.canonical_json import integer
from ..content.inert import (
    MISSING,
    class_attribute,
    class_name,
    derives,
    held,
    held_by,
    module_of,
    namespace,
    per_class,
    true_bases,
    type_name,
)

__all__ = ["shape_of", "shape_of_alias"]

#: Classes below one that are told; types within a type; annotations and values in all.
MOST, DEEPEST, ENTRIES = 64, 32, 20_000
_WHOLE = ContentPolicy(
    limits=Limits(text=1 << 20, items=100_000, total=100_000), find_secrets=False
)
_PLAIN = frozenset({str, int, float, bool, type(None)})
_LIBRARIES = frozenset({"annotated_types", "pydantic", "pydantic_core"})
#: What a field holds that says nothing of the schema, or stands elsewhere.
_ASIDE = frozenset(
    {
        "alias_priority", "annotation", "default", "default_factory", "evaluated", "exclude", "exclude_if",
        "frozen", "init", "init_var", "kw_only", "metadata", "repr", "serialization_alias", "validate_default",
    }
)  # fmt: skip
#: Functions that say nothing of the schema: what they make of names stands in the aliases.
_NO_MATTER = frozenset({"alias_generator", "func"})
#: Methods by which a class makes its schema itself.
_MAKING = ("__get_pydantic_core_schema__", "__get_pydantic_json_schema__", "model_json_schema")


@per_class
def shape_of(cls: type) -> dict[str, JSON] | None:
    """Return the fields of a class and of the classes in it; ``None`` for one that has none."""
    told = _Told()
    own = told.fields_of(cls)
    if own is None:
        return None
    told.known[id(cls)] = _name(cls)
    return told.shape({"class": _name(cls), "fields": own})


def shape_of_alias(alias: Any) -> dict[str, JSON] | None:
    """Return the same for a type made of others, such as ``list[Model]``; ``None`` for any other value."""
    if module_of(type(alias)) not in _TYPING or get_origin(alias) is None:
        return None
    told = _Told()
    return told.shape({"type": told.written(alias, "the format")})


class _Told:
    """One pass over a class: the classes that are still to be told, and what could not be."""

    def __init__(self) -> None:
        self.waiting: list[type] = []
        #: By the number of each class: its metaclass may define what its hash is.
        self.known: dict[int, str] = {}
        self.descriptions: dict[str, JSON] = {}
        self.configs: dict[str, JSON] = {}
        self.untold: dict[str, None] = {}
        #: Annotations and values that may still be told.
        self.left = ENTRIES

    def shape(self, shape: dict[str, JSON]) -> dict[str, JSON]:
        """Add to a format all that is found below it."""
        classes: dict[str, JSON] = {}
        while self.waiting:
            found = self.waiting.pop()
            if id(found) in self.known:
                continue
            if len(classes) >= MOST:
                self.untold[f"more than {MOST} classes"] = None
                break
            fields = self.fields_of(found)
            name = self.known[id(found)] = _name(found)
            if fields is not None:
                while name in classes:
                    name += "'"
                classes[name] = fields
        untold: list[JSON] = [*sorted(self.untold)]
        found_below: dict[str, JSON] = {
            "classes": classes,
            "descriptions": self.descriptions,
            "configs": self.configs,
            "untold": untold,
        }
        return shape | {name: more for name, more in found_below.items() if more}

    def fields_of(self, cls: type) -> dict[str, JSON] | None:
        """Return the fields of a class by their names; ``None`` for one that is known not to have any."""
        name = _name(cls)
        self._look_for_code(cls, name)
        fields: Any = class_attribute(cls, "__pydantic_fields__")
        if type(fields) is dict:
            self._describe(cls, name)
            return {str(field): self._field(name, field, held_) for field, held_ in fields.items()}
        if type(fields := class_attribute(cls, "__dataclass_fields__")) is dict:
            self._describe(cls, name)
            return {
                str(field): self._beside(
                    f"{name}.{field}",
                    held(entry, "type"),
                    _defaults_of(entry),
                )
                for field, entry in fields.items()
            }
        if derives(cls, Enum):
            members = namespace(cls).get("_member_map_")
            self._describe(cls, name)
            values = (
                [held(member, "_value_") for member in members.values()]
                if type(members) is dict
                else []
            )
            return {"values": [self._value(name, value) for value in values]}
        annotations = namespace(cls).get("__annotations__")
        if type(annotations) is dict and ("__total__" in namespace(cls) or _is_named_tuple(cls)):
            self._describe(cls, name)
            told: dict[str, JSON] = {
                str(field): self.written(kind, name) for field, kind in annotations.items()
            }
            for word in ("__required_keys__", "__total__", "__closed__", "_field_defaults"):
                more = namespace(cls).get(word)
                if more is not None and (more is False or type(more) is not bool):
                    told[word] = self._value(
                        name, sorted(more) if type(more) is frozenset else more
                    )
            return told
        if module_of(cls).partition(".")[0] not in _STANDARD:
            self.untold[name] = None
        return None

    def _look_for_code(self, cls: type, name: str) -> None:
        for base in true_bases(cls):
            if module_of(base).partition(".")[0] not in _LIBRARIES | _STANDARD:
                for method in _MAKING:
                    if method in namespace(base):
                        self.untold[f"{name}: {method}"] = None

    def _describe(self, cls: type, name: str) -> None:
        doc = namespace(cls).get("__doc__")
        if type(doc) is str and doc != "An enumeration.":
            self.descriptions[name] = doc
        for word in ("model_config", "__pydantic_config__"):
            config = class_attribute(cls, word)
            if type(config) is dict and config:
                self.configs[name] = {
                    str(key): self._value(f"{name}: {key}", value)
                    for key, value in config.items()
                    if key not in _NO_MATTER
                }
        validators = held(class_attribute(cls, "__pydantic_decorators__"), "field_validators")
        for key, entry in validators.items() if type(validators) is dict else ():
            taken = held(held(entry, "info"), "json_schema_input_type")
            if taken is not MISSING and type_name(type(taken)) != "PydanticUndefinedType":
                self.configs[f"{name}: {key} takes"] = self.written(taken, f"{name}: {key}")

    def _field(self, name: str, field: str, entry: Any) -> JSON:
        return self._beside(f"{name}.{field}", held(entry, "annotation"), self._said(entry))

    def _said(self, entry: Any) -> dict[str, Any]:
        """Return what a field of pydantic's says, but for its annotation."""
        said: dict[str, Any] = {}
        for base in reversed(true_bases(type(entry))):
            slots = namespace(base).get("__slots__", ())
            for name in slots if type(slots) is tuple else ():
                value = held(entry, name) if name[:1] != "_" and name not in _ASIDE else None
                if value is not None and value is not MISSING and value is not False:
                    said[name] = value
        default = held(entry, "default")
        if type_name(type(default)) != "PydanticUndefinedType" and default is not MISSING:
            said["default"] = default
        if held(entry, "default_factory") not in (None, MISSING):
            said["has_default"] = True
        metadata = held(entry, "metadata")
        if type(metadata) is list and metadata:
            said["constraints"] = metadata
        return said

    def _beside(self, where: str, annotation: Any, said: dict[str, Any]) -> JSON:
        """Return a field's annotation; with what stands beside it, where anything does."""
        kind = self.written(annotation, where)
        if not said:
            return kind
        beside: dict[str, JSON] = {"type": kind}
        for name, value in said.items():
            if name == "constraints":
                beside[name] = [self._constraint(entry, where) for entry in value]
            else:
                beside[name] = self._value(where, value)
        return beside

    def _is_beyond(self, where: str, depth: int) -> bool:
        """Count one more annotation or value; tell whether it lies too deep, or is one too many."""
        self.left -= 1
        if self.left >= 0 and depth <= DEEPEST:
            return False
        self.untold[where] = None
        return True

    def _value(  # noqa: PLR0911 - one for each kind
        self, where: str, value: Any, depth: int = 0
    ) -> JSON:
        """Return a default, an example or an extra of the schema; code is named, and never run."""
        kind: Any = type(value)
        if self._is_beyond(where, depth):
            return "…"
        if kind in _PLAIN:
            return _WHOLE.value(value)
        if kind is list or kind is tuple:
            return [self._value(where, entry, depth + 1) for entry in value]
        if kind is dict:
            told = _WHOLE.value(dict.fromkeys(value))
            keys = list(told) if isinstance(told, dict) else []
            return {
                key: self._value(where, entry, depth + 1)
                for key, entry in zip(keys, value.values(), strict=False)
            }
        if instance(value, type):
            return self.written(value, where)
        if instance(value, Enum):
            self.waiting.append(kind)
            return f"{_name(kind)}.{held(value, '_name_')}"
        if _is_library(kind):
            return self._constraint(value, where, depth)
        sealed = _WHOLE.value(value)
        if sealed == f"<{class_name(kind)} object>" or callable(value):
            self.untold[f"{where}: {class_name(kind)}"] = None
        return sealed

    def _constraint(self, entry: Any, where: str, depth: int = 0) -> str:
        """Return a constraint, or another entry beside an annotation, as text."""
        kind = type(entry)
        if not _is_library(kind):
            if kind not in _PLAIN:  # a text in Annotated[…] says nothing to pydantic
                self.untold[f"{where}: {class_name(kind)}"] = None
            return _name(kind)
        if type_name(kind) == "FieldInfo":
            said = self._said(entry)
            within = said.pop("constraints", ())
            constraints = [self._constraint(each, where, depth + 1) for each in within]
        else:
            names = class_attribute(kind, "__dataclass_fields__")
            own = {name: held(entry, name) for name in names} if type(names) is dict else {}
            said = own or dict(held_by(kind)(entry))
            constraints = []
        told = [
            f"{name}={self._text(value, where, depth + 1)}"
            for name, value in said.items()
            if name not in _NO_MATTER and type_name(type(value)) != "PydanticUndefinedType"
        ]
        return f"{type_name(kind)}({', '.join([*told, *constraints])})"

    def written(  # noqa: PLR0911, PLR0912 - one for each kind
        self, annotation: Any, where: str, depth: int = 0
    ) -> str:
        """Return an annotation as text; the classes in it are added to those that are to be told."""
        kind: Any = type(annotation)
        if self._is_beyond(where, depth):
            return "…"
        if kind in _PLAIN:
            if kind is str:
                self._unresolved(annotation, where)
            return self._text(annotation, where)
        if annotation is ...:
            return "..."
        if kind is ForwardRef:
            return self.written(held(annotation, "__forward_arg__"), where)
        known = module_of(kind) in _TYPING
        origin, arguments = (get_origin(annotation), get_args(annotation)) if known else (None, ())
        if origin is None and instance(annotation, type):
            self.waiting.append(annotation)
            return _name(annotation)
        if origin is None:
            if (base := held(annotation, "__supertype__")) is not MISSING:  # a NewType
                return self.written(base, where, depth + 1)
            if known and type_name(kind) in _UNRESOLVED:
                self.untold[f"{where}: {type_name(kind)}"] = None
            name = held(annotation, "_name")
            if name is MISSING:
                name = held(annotation, "__name__")
            if type(name) is str and known:
                return name
            return self._constraint(annotation, where)
        if origin is Literal:
            inner = [self._text(value, where) for value in arguments]
            return f"Literal[{', '.join(inner)}]"
        if origin is Annotated:
            inner = [self.written(first, where, depth + 1) for first in arguments[:1]]
            inner += [self._constraint(entry, where) for entry in arguments[1:]]
            return f"Annotated[{', '.join(inner)}]"
        name = self.written(origin, where, depth + 1)
        if name in {"types.UnionType", "typing.Union"}:
            name = "Union"
        inner = [
            "[" + ", ".join(self.written(each, where, depth + 1) for each in argument) + "]"
            if type(argument) is list
            else self.written(argument, where, depth + 1)
            for argument in arguments
        ]
        return f"{name}[{', '.join(inner)}]"

    def _text(self, value: Any, where: str, depth: int = 0) -> str:
        """Return a value as it stands in an annotation or a constraint."""
        if type(value) is int:
            return str(integer(value))  # `repr` refuses long ones
        return repr(value) if type(value) in _PLAIN else canonical(self._value(where, value, depth))

    def _unresolved(self, text: str, where: str) -> None:
        """Say that a name is not told further; those that mean the same everywhere need not be."""
        words = "".join(letter if letter.isalnum() else " " for letter in text).split()
        if not all(word in _EVERYWHERE for word in words):
            self.untold[f"{where}: {text}"] = None


#: Modules whose classes have a schema that is always the same.
_STANDARD = frozenset(
    {
        "abc", "annotated_types", "builtins", "collections", "datetime", "decimal", "enum", "fractions",
        "ipaddress", "numbers", "pathlib", "pydantic", "pydantic_core", "re", "types",
        "typing", "typing_extensions", "uuid",
    }
)  # fmt: skip
_TYPING = frozenset({"types", "typing", "typing_extensions"})
_UNRESOLVED = frozenset({"ParamSpec", "TypeAliasType", "TypeVar", "TypeVarTuple"})
_EVERYWHERE = frozenset(
    {
        "Any", "Dict", "List", "None", "Optional", "Set", "Tuple", "Union", "bool", "bytes", "dict", "float",
        "int", "list", "set", "str", "tuple",
    }
)  # fmt: skip


def _defaults_of(entry: Any) -> dict[str, Any]:
    """Return what a field of a dataclass has as its default."""
    default, made = held(entry, "default"), held(entry, "default_factory")
    if default is not NO_DEFAULT:
        return {"default": default}
    return {} if made is NO_DEFAULT else {"has_default": True}


def _is_library(cls: type) -> bool:
    return module_of(cls).partition(".")[0] in _LIBRARIES


def _is_named_tuple(cls: type) -> bool:
    return derives(cls, tuple) and type(namespace(cls).get("_fields")) is tuple


def _name(cls: type) -> str:
    return type_name(cls) if module_of(cls) == "builtins" else class_name(cls)
