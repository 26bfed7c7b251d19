"""Bodies: what web frameworks still have to run of a response that was returned, told by its class alone.

A response is known by the name of its class and the package that this comes from, and read and changed in its
own ``__dict__``: no framework is imported, and no attribute, iteration or truth of a foreign object is asked
for. What is not named here is not looked into: an object that happens to hold an iterator belongs to its user.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from types import BuiltinMethodType, MethodType
from typing import Any, NamedTuple

from ..content.inert import held_by, module_of, namespace, true_bases, type_name

__all__ = [
    "Body",
    "background_in",
    "background_of",
    "bind_added",
    "body_of",
    "bound_background",
    "is_response",
    "put_background",
    "tasks_in",
]


class _Shape(NamedTuple):
    """Where a response keeps the iterator of its body: a field, or a field of a field."""

    path: tuple[str, ...] = ()
    #: The field with what closes the iterator.
    closers: str = ""
    #: The field that says that the server may send the body without iterating.
    passed_through: str = ""


_STARLETTE = _Shape(("body_iterator",))
_NO_BODY = _Shape()

#: By the package and the name of a class; the nearest one counts.
SHAPES: dict[tuple[str, str], _Shape] = {
    ("starlette", "StreamingResponse"): _STARLETTE,  # FastAPI's are subclasses
    ("starlette", "_StreamingResponse"): _STARLETTE,  # what a middleware gets of `call_next`
    ("sse_starlette", "EventSourceResponse"): _STARLETTE,
    ("django", "StreamingHttpResponse"): _Shape(("_iterator",), closers="_resource_closers"),
    ("django", "FileResponse"): _NO_BODY,  # of which a server may send the file by itself
    # Flask's is a subclass of it.
    ("werkzeug", "Response"): _Shape(("response",), passed_through="direct_passthrough"),
    ("quart", "Response"): _Shape(("response", "iter")),
    ("aiohttp", "Response"): _Shape(("_body", "_iter")),
}
BACKGROUND = ("starlette", "BackgroundTask")
RESPONSE = ("starlette", "Response")

#: Iterators over what is there already.
_EMPTY: tuple[Iterable[Any], ...] = (
    [], (), "", b"", bytearray(), {}, {}.items(), {}.values(), set(), range(0),
)  # fmt: skip
_AT_HAND = tuple(type(iter(collection)) for collection in _EMPTY)


class Body(NamedTuple):
    """The iterator of a body that is still to be sent, and how to put another in its place."""

    iterator: Any
    replace: Callable[[Any], None]


def is_response(value: Any) -> bool:
    """Tell whether a value is a response of one of these frameworks."""
    return bool(_names(type(value)))


def body_of(response: Any) -> Body | None:
    """Return the body of a response that is read step by step; ``None`` for everything else."""
    shape = next((SHAPES[name] for name in _names(type(response)) if name in SHAPES), _NO_BODY)
    fields = _fields(response) if shape.path else {}
    if not fields or fields.get(shape.passed_through):
        return None
    for name in shape.path[:-1]:
        fields = _fields(fields.get(name))
    iterator = fields.get(shape.path[-1])
    if iterator is None or not _is_read_in_steps(iterator):
        return None
    closers = fields.get(shape.closers)

    def replace(new: Any) -> None:
        for name in [name for name, value in fields.items() if value is iterator]:
            fields[name] = new
        if type(closers) is list:
            closers[:] = [new.close if _closes(closer, iterator) else closer for closer in closers]

    return Body(iterator, replace)


def _is_read_in_steps(value: Any) -> bool:
    """Tell whether a body comes into being while it is sent; a collection or a file is there already."""
    kind = type(value)
    if issubclass(kind, (io.IOBase, *_AT_HAND)):
        return False
    has = {name for base in true_bases(kind) for name in namespace(base)}
    return "__len__" not in has and not has.isdisjoint(("__iter__", "__aiter__"))


def background_of(response: Any) -> Any:
    """Return the background tasks of a response, or ``None``."""
    found = _fields(response).get("background")
    return found if BACKGROUND in _names(type(found)) else None


def background_in(arguments: Iterable[Any]) -> Any:
    """Return the background tasks that a call may add to, among its arguments, or ``None``."""
    if "starlette.background" not in sys.modules:
        return None
    for argument in arguments:
        if BACKGROUND in _names(type(argument)):
            return argument
    return None


def tasks_in(background: Any) -> list[Any]:
    """Return the single background tasks that stand in ``background``, itself if it is one."""
    tasks = _fields(background).get("tasks")
    if type(tasks) is not list:
        return [background]
    return [single for task in tasks for single in tasks_in(task)]


def bound_background(background: Any, bind: Callable[[Any], Any]) -> Any:
    """Return the background tasks of one response so that they run bound; ``background`` stays as it is.

    It may stand in other responses too, which are other calls', and may still be added to: a copy takes the
    place of a single task, and all else is bound as a whole.
    """
    fields = _fields(background)
    if "func" not in fields or any(
        "__slots__" in namespace(base) for base in true_bases(type(background))
    ):
        return bind(background)
    func = bind(fields["func"])
    if func is fields["func"]:
        return background
    copied = object.__new__(type(background))
    _fields(copied).update(fields, func=func)
    return copied


def bind_added(background: Any, bind: Callable[[Any], Any], others: Sequence[Any]) -> None:
    """Bind the tasks that were added to a list of background tasks, all but ``others``."""
    tasks = _fields(background).get("tasks")
    if type(tasks) is not list:
        return
    for place, task in enumerate(tasks):
        if type(_fields(task).get("tasks")) is list:
            bind_added(task, bind, others)
        elif not any(task is other for other in others):
            tasks[place] = bound_background(task, bind)


def put_background(response: Any, background: Any) -> None:
    """Let a response have these background tasks."""
    _fields(response)["background"] = background


def _names(kind: type) -> tuple[tuple[str, str], ...]:
    """Return package and name of a class and its bases, as far as they are known here."""
    # A metaclass with a hash of its own would be foreign code.
    return _known(kind) if type(kind).__hash__ is type.__hash__ else ()


@lru_cache(maxsize=256)
def _known(kind: type) -> tuple[tuple[str, str], ...]:
    found = []
    for base in true_bases(kind):
        name = module_of(base).partition(".")[0], type_name(base)
        if name in SHAPES or name in (BACKGROUND, RESPONSE):
            found.append(name)
    return tuple(found)


def _fields(value: Any) -> dict[str, Any]:
    fields = held_by(type(value))(value)
    return fields if type(fields) is dict else {}


def _closes(closer: Any, iterator: Any) -> bool:
    bound = isinstance(closer, BuiltinMethodType | MethodType)
    return bound and closer.__self__ is iterator and closer.__name__ == "close"
