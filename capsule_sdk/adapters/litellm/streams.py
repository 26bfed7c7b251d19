"""Streams: follow a returned stream to its end without standing between it and its reader.

An object that streams keeps its identity and its type's name: only its class is exchanged for a subclass
whose steps report. Generators, whose class cannot be exchanged, are driven by one of the same kind.

A stream may close itself in the middle of a step, before an error or its end goes out (LiteLLM's do from 1.108
on), or take another of its own steps there. Neither is its reader's doing: how the step ends is what counts.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Protocol

import wrapt

from ...scopes.confirming import Confirmation
from ...scopes.driving import drive
from .reading import FOLLOWER, derived, fetching, is_stream, look_beneath, watch_parser

__all__ = ["Follower", "follow", "is_stream"]

#: Whose stream takes a step in this context, and in those of the tasks and threads that the step starts. It
#: is the follower, never the stream: a context that is kept would keep the stream alive.
_stepping: ContextVar[object] = ContextVar("capsule_sdk_litellm_stepping", default=None)


class Follower(Protocol):
    """Who wants to know how a stream goes. None of these may raise."""

    #: Whether the stream that LiteLLM makes this one of is still to be found.
    seeking: bool

    def chunk(self, chunk: Any) -> None:
        """One chunk is on its way to the reader."""

    def made(self, raw: Any, chunk: Any) -> None:
        """LiteLLM has made ``chunk``, ``None`` for none, of one that its provider has sent."""

    def beneath(self, raw: Any) -> None:
        """LiteLLM has read ``raw`` in a stream of its own, of which it makes the one that is followed."""

    def end(self, stream: Any) -> None:
        """The stream has ended by itself."""

    def confirmation(self) -> Confirmation | None:
        """Return what the reader waits for at the end (strict mode); raises if that could not be recorded."""

    def fail(self, error: BaseException, stream: Any = None) -> None:
        """A step of a stream has raised; the error is on its way to the reader."""

    def close(self) -> None:
        """The reader has closed the stream."""

    def vanish(self) -> None:
        """Nobody can read the stream any more. Called in a finalizer: takes no lock."""

    def watched(self, finalizer: weakref.finalize[..., Any]) -> None:
        """Take what will call `vanish`, to give it up at the end."""

    def put_right(self, error: BaseException) -> None:
        """End what ``error``, out of a signal handler, has interrupted in lines of ours."""


def follow(stream: Any, follower: Follower) -> Any:
    """Return ``stream``, followed: the same object wherever Python allows it."""
    follower.seeking = not look_beneath(stream, follower)
    if isinstance(stream, types.GeneratorType | types.AsyncGeneratorType):
        driver = drive(stream, _FollowedRun(follower))
        _watch(driver, follower)
        return driver
    try:
        kind: Any = type(stream)
        stream.__class__ = _followed(kind)
        setattr(stream, FOLLOWER, follower)
        watch_parser(stream, follower)
    except (TypeError, AttributeError):  # a class with slots, or one written in C
        return _Proxy(stream, follower)
    _watch(stream, follower)
    return stream


def _watch(stream: Any, follower: Follower) -> None:
    finalizer = weakref.finalize(stream, follower.vanish)
    finalizer.atexit = False
    follower.watched(finalizer)


def _step(step: Callable[[Any], Any], stream: Any, follower: Follower) -> Any:
    """Take one step of a stream and report how it went."""
    if _stepping.get() is follower:
        return step(stream)
    told = False  # of how the step has ended
    own = _stepping.set(follower)
    try:
        try:
            chunk = step(stream)
        except StopIteration:
            _leave(own)
            follower.end(stream)
            told = True
            if (waits_for := follower.confirmation()) is not None:
                waits_for.confirm()
            raise
        except BaseException as error:
            _leave(own)
            follower.fail(error, stream)
            told = True
            raise
        _leave(own)
        follower.chunk(chunk)
        if follower.seeking:
            follower.seeking = False
            look_beneath(stream, follower)
    except BaseException as error:
        if not told:  # a signal handler has raised in a line of ours
            _leave(own)
            follower.put_right(error)
        raise
    return chunk


async def _astep(step: Callable[[Any], Any], stream: Any, follower: Follower) -> Any:
    """Do as `_step`, with a step that is awaited."""
    if _stepping.get() is follower:
        return await step(stream)
    told = False  # of how the step has ended
    own = _stepping.set(follower)
    try:
        try:
            chunk = await step(stream)
        except StopAsyncIteration:
            _leave(own)
            follower.end(stream)
            told = True
            if (waits_for := follower.confirmation()) is not None:
                await waits_for.aconfirm()
            raise
        except BaseException as error:
            _leave(own)
            follower.fail(error, stream)
            told = True
            raise
        _leave(own)
        follower.chunk(chunk)
        if follower.seeking:
            follower.seeking = False
            look_beneath(stream, follower)
    except BaseException as error:
        if not told:  # a signal handler has raised in a line of ours
            _leave(own)
            follower.put_right(error)
        raise
    return chunk


def _leave(own: Token[object]) -> None:
    try:  # noqa: SIM105 - at each chunk, and `suppress` costs more than the step
        _stepping.reset(own)
    except (ValueError, RuntimeError):
        pass  # a step that was left unfinished ends in the context of who collects it; or it was left already


def _closed(follower: Follower) -> None:
    if _stepping.get() is not follower:
        follower.close()


@functools.cache
def _followed(base: type) -> type:
    """Return the subclass of ``base`` whose steps report to the follower of each object."""

    def __next__(self: Any) -> Any:  # noqa: N807 - the name it has in the class
        return _step(base.__next__, self, self.__dict__[FOLLOWER])  # type: ignore[attr-defined]

    async def __anext__(self: Any) -> Any:  # noqa: N807 - as above
        return await _astep(base.__anext__, self, self.__dict__[FOLLOWER])  # type: ignore[attr-defined]

    async def aclose(self: Any, *args: Any, **kwargs: Any) -> Any:
        _closed(self.__dict__[FOLLOWER])
        return await base.aclose(self, *args, **kwargs)  # type: ignore[attr-defined]

    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        _closed(self.__dict__[FOLLOWER])
        return base.close(self, *args, **kwargs)  # type: ignore[attr-defined]

    def chunk_creator(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Make a chunk for the reader of one from the provider, and show both."""
        follower = self.__dict__.get(FOLLOWER)
        made = base.chunk_creator(self, *args, **kwargs)  # type: ignore[attr-defined]
        if follower is not None:
            for raw in (*args, *kwargs.values()):
                follower.made(raw, made)
        return made

    methods = {"chunk_creator": chunk_creator, **fetching(base)}
    for step in (__next__, __anext__, aclose, close):
        methods[step.__name__] = step
    return derived(base, methods)


class _Proxy(wrapt.ObjectProxy):  # type: ignore[type-arg]  # takes its argument from wrapt 2 on
    """Stands in for a stream whose class cannot be exchanged."""

    def __init__(self, stream: Any, follower: Follower) -> None:
        super().__init__(stream)
        self._self_follower = follower
        _watch(self, follower)

    def __iter__(self) -> Any:
        return self

    def __aiter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return _step(next, self.__wrapped__, self._self_follower)

    async def __anext__(self) -> Any:
        return await _astep(anext, self.__wrapped__, self._self_follower)


class _FollowedRun:
    """The run of a generator that streams: no scope is set for it, its steps are only reported."""

    __slots__ = ("_follower",)

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def start(self) -> None:
        """Nothing to do: the call that returned the generator has begun."""

    def hold(self, inner: Any) -> None:
        """Nothing to do: it belongs to LiteLLM."""

    def resume(self) -> None:
        """Nothing to do."""

    def suspend(self, outside: Any = None) -> None:
        """Nothing to do."""

    def pass_on(self, item: Any) -> None:
        self._follower.chunk(item)

    def hand_on(self, response: Any, *, followed: bool) -> None:
        """Nothing to do: a stream returns no response."""

    def succeed(self, result: Any) -> None:
        del result
        self._follower.end(None)

    def fail(self, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):
            self._follower.close()
        else:
            self._follower.fail(error)

    def confirmation(self) -> Confirmation | None:
        return self._follower.confirmation()

    def put_right(self, error: BaseException) -> None:
        if not isinstance(error, StopIteration | StopAsyncIteration | GeneratorExit):
            self._follower.put_right(error)
