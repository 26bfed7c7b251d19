"""Reading: what LiteLLM reads of a provider's stream, seen before it is translated.

LiteLLM ends each stream that it translates as if its provider had said so, and keeps only those reasons to stop
that it knows. So its parsers show each event, and a stream that it makes another of shows each piece. A
class is exchanged for a subclass that looks like it; nothing is read that LiteLLM does not read.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Final, Protocol

from ...content.inert import per_class

__all__ = ["FOLLOWER", "derived", "fetching", "is_stream", "look_beneath", "watch_parser"]

FOLLOWER: Final = "_capsule_sdk_follower"
_LOOKED_AT: Final = "_capsule_sdk_looked_at"

#: The method that LiteLLM runs in its threads, by which these keep a stream alive.
_LATER = "run_success_logging_and_cache_storage"

#: So many streams may stand in one another: interactions over responses over chat.
_DEEPEST: Final = 4


class Reader(Protocol):
    """Who wants to know what LiteLLM reads. Neither may raise."""

    def made(self, raw: Any, chunk: Any) -> None:
        """LiteLLM has made ``chunk``, ``None`` for none, of one that its provider has sent."""

    def beneath(self, raw: Any) -> None:
        """LiteLLM has read ``raw`` in a stream of its own, of which it makes the one that is followed."""


def is_stream(value: Any) -> bool:
    """Tell whether ``value`` is read step by step."""
    kind: Any = type(value)
    return _has_steps(kind)


@per_class
def _has_steps(kind: type) -> bool:
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


def fetching(base: Any) -> dict[str, Any]:
    """Return the methods that send the request of a stream, and then see to its parser."""

    def fetch_sync_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Send the request, and watch the parser before the first event."""
        fetched = base.fetch_sync_stream(self, *args, **kwargs)
        _begun(self)
        return fetched

    async def fetch_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        fetched = await base.fetch_stream(self, *args, **kwargs)
        _begun(self)
        return fetched

    return {"fetch_sync_stream": fetch_sync_stream, "fetch_stream": fetch_stream}


def derived(base: type, given: dict[str, Any]) -> type:
    """Return a subclass that looks like ``base``, with those of these methods that it has."""
    methods = {name: method for name, method in given.items() if hasattr(base, name)}
    for name, method in methods.items():
        functools.update_wrapper(method, getattr(base, name))
    if hasattr(base, _LATER):
        methods[_LATER] = property(lambda self: getattr(_twin(self, base), _LATER))
    names = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    return type(base.__name__, (base,), {**methods, **names})


def _twin(stream: Any, base: type) -> Any:
    """Return an object that knows what a stream knows, for who outlives it.

    LiteLLM's threads log each chunk of a stream by a method of it, and take their time: the first of them
    imports half of LiteLLM, and one that raises stays in a cycle. The stream would live as long.
    """
    twin: Any = object.__new__(_without_finalizer(base))
    twin.__dict__.update(stream.__dict__)
    return twin


@functools.cache
def _without_finalizer(base: type) -> type:
    return type(
        base.__name__, (base,), {"__module__": base.__module__, "__del__": lambda self: None}
    )


def _begun(stream: Any) -> None:
    follower = stream.__dict__.get(FOLLOWER)
    if follower is not None:
        watch_parser(stream, follower)


def watch_parser(stream: Any, follower: Reader) -> None:
    """Have the parser of a provider's events, where a stream reads from one, show them to the follower.

    LiteLLM's chunks take only the reasons to stop that it knows; what the provider said stands in the event.
    """
    source = stream.__dict__.get("completion_stream")
    if type(source) is types.GeneratorType or type(source) is types.AsyncGeneratorType:
        if stream.__dict__.get(_LOOKED_AT) is True:
            return
        stream.__dict__[_LOOKED_AT] = True
        source = _whose(source)
    own = getattr(source, "__dict__", None)
    if type(own) is not dict or FOLLOWER in own:
        return
    base: Any = type(source)
    try:
        if (kind := _parsing(base)) is None:
            return
        source.__class__ = kind
    except TypeError:  # a class with slots, or one that lets nobody derive from it
        return
    own[FOLLOWER] = follower


def _whose(generator: Any) -> Any:
    """Return the object whose method a generator is, such as Bedrock's decoder; ``None`` if it is no method."""
    frame = getattr(generator, "gi_frame", None) or getattr(generator, "ag_frame", None)
    return frame.f_locals.get("self") if frame is not None else None


@functools.cache
def _parsing(base: type) -> type | None:
    """Return the subclass of a parser's class that shows each event; ``None`` where it is no parser."""
    for name in ("chunk_parser", "_chunk_parser"):
        parser = getattr(base, name, None)
        if inspect.isfunction(parser):
            break
    else:
        return None

    @functools.wraps(parser)
    def chunk_parser(self: Any, *args: Any, **kwargs: Any) -> Any:
        follower = self.__dict__.get(FOLLOWER)
        if follower is not None:
            for event in (*args, *kwargs.values())[:1]:
                follower.made(event, event)  # only what it tells itself: the rest is compared later
        return parser(self, *args, **kwargs)

    names = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        name: chunk_parser,
    }
    return type(base.__name__, (base,), names)


class _Beneath:
    """Follows the stream that another is made of: only what LiteLLM reads there counts."""

    __slots__ = ("_follower",)

    def __init__(self, follower: Reader) -> None:
        self._follower = follower

    def made(self, raw: Any, _: Any) -> None:
        """LiteLLM has read this."""
        self._follower.beneath(raw)


def look_beneath(stream: Any, follower: Reader) -> bool:
    """Watch the stream that LiteLLM translates, where another is made of it.

    The one above ends as that does, and LiteLLM ends that as if its provider had said so.

    Returns:
        Whether it is there: some are made when the first chunk is read.

    """
    streams, depth = [stream], 0
    while streams and depth < _DEEPEST:
        for one in streams:
            if hasattr(type(one), "chunk_creator"):
                if one is not stream:
                    _watch_beneath(one, follower)
                return True
        streams = [within for one in streams for within in _within(one)]
        depth += 1
    return False


def _within(stream: Any) -> list[Any]:
    frame = getattr(stream, "gi_frame", None) or getattr(stream, "ag_frame", None)
    held = frame.f_locals if frame is not None else getattr(stream, "__dict__", None)
    if not isinstance(held, dict):
        return []
    found = [value for value in held.values() if is_stream(value) and value is not stream]
    return found + [value for name, value in held.items() if frame and name == "self"]


def _watch_beneath(stream: Any, follower: Reader) -> None:
    held = stream.__dict__
    if held.get("custom_llm_provider") == "cached_response" or FOLLOWER in held:
        return
    kind: Any = type(stream)
    stream.__class__ = _read_from(kind)
    held[FOLLOWER] = _Beneath(follower)
    # Where the first chunk has been read by now, this is what LiteLLM has read there of an end:
    follower.beneath({"finish_reason": held.get("received_finish_reason")})
    watch_parser(stream, held[FOLLOWER])


@functools.cache
def _read_from(base: type) -> type:
    def chunk_creator(self: Any, *args: Any, **kwargs: Any) -> Any:
        for raw in (*args, *kwargs.values()):
            self.__dict__[FOLLOWER].made(raw, None)
        return base.chunk_creator(self, *args, **kwargs)  # type: ignore[attr-defined]

    return derived(base, {"chunk_creator": chunk_creator, **fetching(base)})
