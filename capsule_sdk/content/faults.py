"""What an exception says, without running its ``__str__``.

Python's own exceptions are asked for their text where all that it is made of is plain and short. Of the user's
classes the arguments are sealed that the exception was made of (``raise OutOfStock("no tea")``: ``no tea``),
and what it holds beside them (``status_code: 404``): as values, by the policy.
"""

from __future__ import annotations

import builtins
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import MemberDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final

from .inert import class_attribute, class_name, held, held_by, instance, module_of, namespace
from .secret_names import names_secret
from .texts import is_plain_path

__all__ = ["Told", "told_by"]

#: The message, a text or the values that the exception was made of, and by name what it holds beside it.
Told = tuple[Any, list[tuple[str, Any]]]

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
_SYNTAX: Final = namespace(SyntaxError)["__str__"]
#: These hold what could not be encoded or decoded, and show one character of it, or count them.
_UNICODE: Final = tuple(
    namespace(kind)["__str__"]
    for kind in (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)
)
#: Where exceptions that were made without arguments keep a text, as a rule.
_TEXTS: Final = ("message", "msg", "detail", "reason", "title", "description")
#: What tells more about a failure, whatever the text says.
_TELLING: Final = (
    *_TEXTS, "details", "status", "status_code", "code", "error_code", "errno", "type", "param",
)  # fmt: skip
_PLAIN: Final = (str, int, float, bool, type(None))
_LISTS: Final = (list, tuple, dict)

_LONGEST: Final = 16_384  # characters of a text of which Python's own `str` may make another
_WIDEST: Final = 2_048  # bits of an integer, far from where `str` refuses it
_MOST: Final = 16  # parts of a text, and details beside it

_COMMAND: Final = 256  # parts of a text of the standard library: those of a command
#: What a process has said, which the text of its failure does not show.
_UNSHOWN: Final = ("output", "stderr")

_LIBRARY: Final = f"{Path(os.__file__).parent}{os.sep}"

_args = namespace(BaseException)["args"].__get__


def told_by(error: BaseException) -> Told:
    """Return what an exception says: its message, and by name what it holds beside it."""
    cls = type(error)
    if class_name(cls) == "pydantic_core._pydantic_core.ValidationError":
        return _of_pydantic(error)
    text = _text(error)
    args: tuple[Any, ...] = _args(error)
    if _made_in_c(cls):
        return (_message(args), []) if text is None else (text, [])
    if text and _is_of_the_library(cls):
        return text, []
    about = _about(error, whole=text is None or not args)
    if text:
        return text, _new(about, text, args)
    named = all(any(_is_same(arg, value) for value in about.values()) for arg in args)
    if named or not any(_is_short(arg) for arg in args):
        for (
            name
        ) in _TEXTS:  # the message is what it holds: its arguments say no more, or are no words
            said = dict.get(about, name)
            if type(said) is str and said:
                rest = [] if named else [("args", args)]
                return said, _new(about, said, ()) + rest
    said = _message(args)
    return said, _new(about, said if type(said) is str else "", args)


def _message(args: tuple[Any, ...]) -> Any:
    if len(args) == 1:
        return args[0]
    return args or ""


def _text(error: BaseException) -> str | None:
    """Return what ``str`` says where nothing but Python's own code says it, and soon; else ``None``."""
    cls = type(error)
    own = class_attribute(cls, "__str__")
    if any(own is known for known in _OWN):
        args: tuple[Any, ...] = _args(error)
        if own is _COMMON and len(args) == 1 and type(args[0]) is str:
            return args[0]  # of any length: it is the text
        if len(args) == 2 and type(args[0]) is str and names_secret(args[0]):
            return None
        parts = _parts(error, own, args)
        return str.__str__(own(error)) if _are_short(parts, _MOST) else None
    if _is_of_the_library(cls) and _are_short(_all_of(error), _COMMAND):
        return str.__str__(str(error))
    return None


def _parts(error: BaseException, own: Any, args: tuple[Any, ...]) -> list[Any]:
    """Return all that Python's own text of an exception may be made of."""
    if own is _GROUP:  # its text counts the exceptions, and asks none of them
        return [held(error, "message")]
    is_unicode = any(own is known for known in _UNICODE)
    parts = [] if own is _SYNTAX or is_unicode else list(args[: _MOST + 1])
    if own is not _COMMON:  # an OSError has a file name, a SyntaxError a line
        for name, member in namespace(own.__objclass__).items():
            if type(member) is MemberDescriptorType:
                with suppress(AttributeError):
                    part = member.__get__(error)
                    if name == "object" and is_unicode:
                        part = None if type(part) is bytes or type(part) is str else part
                    if type(part) is bytes and name.startswith("filename"):
                        part = os.fsdecode(part)
                    parts.append(part)
    return parts


def _all_of(error: BaseException) -> list[Any]:
    """Return all that an exception of the standard library may make its text of: lists are commands."""
    mine = held_by(type(error))(error)
    hidden = [found for name in _UNSHOWN if (found := dict.get(mine, name)) is not None]
    parts: list[Any] = []
    for part in [*_args(error), *dict.values(mine)]:
        if any(part is found for found in hidden):
            continue
        parts += part[: _COMMAND + 1] if type(part) is list or type(part) is tuple else [part]
    return parts


def _are_short(parts: list[Any], most: int) -> bool:
    return len(parts) <= most and all(_is_short(part) for part in parts)


def _is_short(part: Any) -> bool:
    """Tell whether Python can show a value at once, without asking code of anybody else's."""
    kind = type(part)
    if kind is str:
        return len(part) <= _LONGEST
    if kind is int:
        return int(part).bit_length() <= _WIDEST
    return any(kind is plain for plain in _PLAIN) or is_plain_path(part)


def _made_in_c(cls: type) -> bool:
    """Tell whether Python's own code makes the exceptions of a class, and says what they say."""
    own = class_attribute(cls, "__str__")
    init = class_attribute(cls, "__init__")
    return type(init) is WrapperDescriptorType and any(own is known for known in _OWN)


def _is_of_the_library(cls: type) -> bool:
    """Tell whether a class is of the standard library, as ``subprocess.CalledProcessError`` is: itself.

    That its module is called so says nothing: a user's may be called ``profile`` or ``token``.
    """
    name = module_of(cls)
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    module = dict.get(sys.modules, name)
    if (
        type(module) is not ModuleType
        or held(module, type.__dict__["__name__"].__get__(cls)) is not cls
    ):
        return False
    file = held(module, "__file__")
    if type(file) is not str:
        return name in sys.builtin_module_names
    return file.startswith(_LIBRARY) and "-packages" not in file


def _about(error: BaseException, *, whole: bool) -> dict[str, Any]:
    """Return what an exception holds under telling names, or ``whole``, all that is public and plain."""
    mine = held_by(type(error))(error)
    if not instance(mine, dict):
        return {}
    found = {}
    for name in _TELLING:
        value = dict.get(mine, name)
        if _is_short(value) or any(type(value) is kind for kind in _LISTS):
            found[name] = value
    if whole:
        for name in list(dict.keys(mine))[: 4 * _MOST]:
            if (
                type(name) is str
                and not name.startswith("_")
                and _is_short(value := dict.get(mine, name))
            ):
                found.setdefault(name, value)
    return found


def _new(about: dict[str, Any], said: str, args: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """Return what is held and not said already: by the text, or by an argument."""
    found: list[tuple[str, Any]] = []
    for name, value in about.items():
        if value is None or any(_is_same(value, arg) for arg in args[:_MOST]):
            continue
        if type(value) is str and value in said[:_LONGEST]:
            continue
        found.append((name, value))
    return found[:_MOST]


def _is_same(value: Any, other: Any) -> bool:
    if value is other:
        return True
    kind = type(value)
    return kind is type(other) and any(kind is plain for plain in _PLAIN) and value == other


def _of_pydantic(error: Any) -> Told:
    """Return where a model did not fit and why, without the input, whose ``repr`` pydantic would show.

    The words of an exception that a validator has raised are asked of it by pydantic: where they are not
    Python's own, the exceptions are sealed instead.
    """
    raised = [found for found in gc.get_referents(error) if _would_be_asked(found)]
    if raised:
        count = error.error_count()
        what = "validation error" if count == 1 else "validation errors"
        return f"{count} {what} for {error.title}", [("raised", raised[:_MOST])]
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(str(place) for place in line['loc'])}: {line['msg']}" for line in found]
    return f"{error.title}: " + "; ".join(lines), []


def _would_be_asked(found: Any) -> bool:
    return issubclass(type(found), BaseException) and _text(found) is None
