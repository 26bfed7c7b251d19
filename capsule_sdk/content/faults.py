"""What an exception says, without running its ``__str__``.

Python's own exceptions are asked for their text where all that it is made of is plain. Of the user's classes
the arguments are sealed that the exception was made of (``raise OutOfStock("no tea")``: ``no tea``), or the
text that it keeps as ``message``.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import MemberDescriptorType
from typing import Any, Final

from .inert import class_attribute, class_name, held, held_by, module_of, namespace
from .texts import is_plain_path

__all__ = ["message_of"]

#: The ``__str__`` of Python's own exceptions: C, which asks the parts and nothing else.
_OWN: Final = tuple(
    space["__str__"]
    for kind in vars(builtins).values()
    if isinstance(kind, type)
    and issubclass(kind, BaseException)
    and "__str__" in (space := namespace(kind))
)
_COMMON: Final = namespace(BaseException)["__str__"]
_GROUP: Final = namespace(BaseExceptionGroup)["__str__"]
#: Where exceptions that were made without arguments keep a text, as a rule.
_TEXTS: Final = ("message", "msg", "detail", "reason")
_PLAIN: Final = (str, int, float, bool, bytes, type(None))

_args = namespace(BaseException)["args"].__get__


def message_of(error: BaseException) -> Any:
    """Return an exception's text, or the values that it was made of where they are no plain text."""
    cls = type(error)
    own = class_attribute(cls, "__str__")
    ours = any(own is known for known in _OWN)
    if ours and all(_is_plain(part) for part in _parts(error, own)):
        return own(error)
    if _is_of_the_library(cls) and all(_is_plain(part) for part in _held(error)):
        return str.__str__(str(error))
    if class_name(cls) == "pydantic_core._pydantic_core.ValidationError":
        return _of_pydantic(error)
    args: tuple[Any, ...] = _args(error)
    if not args:
        texts = (text for name in _TEXTS if type(text := held(error, name)) is str)
        return next(texts, "")
    return args[0] if len(args) == 1 else list(args)


def _parts(error: BaseException, own: Any) -> list[Any]:
    """Return all that Python's own text of an exception may be made of."""
    if own is _GROUP:  # its text counts the exceptions, and asks none of them
        return [held(error, "message")]
    parts = _flat(_args(error))
    if own is not _COMMON:  # an OSError has a file name, a SyntaxError a line
        for member in namespace(own.__objclass__).values():
            if type(member) is MemberDescriptorType:
                with suppress(AttributeError):
                    parts.append(member.__get__(error))
    return parts


def _is_of_the_library(cls: type) -> bool:
    """Tell whether a class is of the standard library, as ``subprocess.CalledProcessError`` is."""
    return module_of(cls).partition(".")[0] in sys.stdlib_module_names


def _held(error: BaseException) -> list[Any]:
    """Return all that an exception of the standard library may make its text of."""
    return _flat([*_args(error), *dict.values(held_by(type(error))(error))])


def _flat(parts: Iterable[Any]) -> list[Any]:
    """Return parts and those of plain lists among them: a command, the place of a syntax error."""
    found: list[Any] = []
    for part in parts:
        found += part if type(part) is list or type(part) is tuple else [part]
    return found


def _is_plain(part: Any) -> bool:
    return any(type(part) is kind for kind in _PLAIN) or is_plain_path(part)


def _of_pydantic(error: Any) -> str:
    """Return where a model did not fit and why, without the input, whose ``repr`` pydantic would show."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(str(place) for place in line['loc'])}: {line['msg']}" for line in found]
    return f"{error.title}: " + "; ".join(lines)
