"""Values that notice any code of theirs being run: special methods, attributes, questions to the class."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import pathlib
import uuid
from typing import Any

#: What was run while the wires were armed.
hits: list[str] = []
_armed = [False]

_SPECIAL = """
repr str bytes format lt le eq ne gt ge hash bool getattr getattribute setattr delattr dir call len
length_hint getitem setitem delitem missing iter reversed contains next add sub mul matmul truediv
floordiv mod divmod pow lshift rshift and xor or radd rsub rmul rmatmul rtruediv rfloordiv rmod
rdivmod rpow rlshift rrshift rand rxor ror iadd isub imul neg pos abs invert complex int float index
round trunc floor ceil enter exit await aiter anext aenter aexit copy deepcopy reduce reduce_ex
getstate sizeof fspath buffer instancecheck subclasscheck rich_repr json html repr_html
"""
_NAMED = """
keys items values get isoformat utcoffset model_dump dict to_dict tolist item read
"""


def hit(name: str) -> None:
    """Note that code of a tripwire has run."""
    if _armed[0]:
        hits.append(name)


def disarm() -> None:
    """Stop noting, for what Python itself does from here on."""
    _armed[0] = False


class armed:  # noqa: N801 - used as a statement
    """Within the block everything that runs is noted."""

    def __enter__(self) -> None:
        hits.clear()
        _armed[0] = True

    def __exit__(self, *_: object) -> None:
        disarm()


class Meta(type):
    """A metaclass that notices what is asked of its classes."""

    def __getattribute__(cls, name: str) -> Any:
        hit(f"class.{name}")
        return type.__getattribute__(cls, name)

    def __hash__(cls) -> int:
        hit("hash(class)")
        return type.__hash__(cls)

    def __eq__(cls, other: object) -> bool:
        hit("class ==")
        return cls is other

    def __instancecheck__(cls, other: object) -> bool:
        hit("isinstance")
        return type.__instancecheck__(cls, other)

    def __subclasscheck__(cls, other: type) -> bool:
        hit("issubclass")
        return type.__subclasscheck__(cls, other)

    def __repr__(cls) -> str:
        hit("repr(class)")
        return "class"


def _special(name: str, base: type) -> Any:
    true = getattr(base, f"__{name}__", None)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        hit(f"__{name}__")
        if name == "getattr":
            raise AttributeError(*args)
        if true is None:
            return True if name == "bool" else NotImplemented
        return true(self, *args, **kwargs)

    return run


def _named(name: str, base: type) -> property:
    true = getattr(base, name, None)

    def read(self: Any) -> Any:
        hit(name)
        return true.__get__(self) if true is not None else None

    return property(read)


def wired(base: type) -> type:
    """Return a subclass of ``base`` whose every method, and every question to it, is noted."""
    space: dict[str, Any] = {f"__{name}__": _special(name, base) for name in _SPECIAL.split()}
    space["__class__"] = property(lambda self: hit("__class__") or type(self))
    space |= {name: _named(name, base) for name in _NAMED.split()}
    meta = type(base)
    if meta is not type:
        own = {
            key: value for key, value in vars(Meta).items() if callable(value) and key != "__new__"
        }
        made: type = type("Mixed", (meta,), own)(f"Wired{base.__name__}", (base,), space)
        return made
    return Meta(f"Wired{base.__name__}", (base,), space)


def tripwires() -> dict[str, Any]:
    """Return one instance of a tripwire on each base that a user's class may have."""
    made: dict[str, Any] = {"object": wired(object)()}
    for base, *arguments in (
        (str, "text"), (int, 5), (float, 0.5), (complex, 1j), (bytes, b"b"), (bytearray, b"b"), (list, [1, 2]),
        (tuple, (1, 2)), (dict, {"a": 1}), (set, {1}), (frozenset, {1}), (collections.deque, [1]),
        (collections.OrderedDict, {"a": 1}), (collections.Counter, {"a": 1}), (collections.defaultdict, None),
        (collections.UserDict, {"a": 1}), (collections.UserList, [1]), (collections.UserString, "text"),
        (collections.ChainMap, {"a": 1}), (decimal.Decimal, "1.5"), (fractions.Fraction, 1, 3),
        (datetime.datetime, 2026, 1, 1), (datetime.date, 2026, 1, 1), (datetime.time, 12),
        (datetime.timedelta, 1), (datetime.tzinfo,), (uuid.UUID, "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath, "/tmp/x"), (ValueError, "said"), (OSError, 2, "gone", "file"), (KeyError, "k"),
        (BaseException, "said"), (ExceptionGroup, "two", [ValueError("x")]),
        (collections.abc.Mapping,), (collections.abc.Sequence,), (collections.abc.Set,),
        (collections.abc.Iterator,), (collections.abc.Awaitable,), (collections.abc.Generator,),
    ):  # fmt: skip
        made[base.__name__] = wired(_concrete(base))(*arguments)
    return made


def _concrete(base: type) -> type:
    abstract = getattr(base, "__abstractmethods__", ())
    if not abstract:
        return base
    made: type = type(base)(base.__name__, (base,), dict.fromkeys(abstract, lambda *_: None))
    return made
