"""Modes: the ways in which our code runs in a caller's thread, each as one small piece of work.

A piece is called with the text that its records are found by, and notes that text once its body has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import capsule_sdk
from capsule_sdk import capsule_scope, capsuled, configure, flush

__all__ = ["EVERY", "Note", "Work", "work_of"]

Work = Callable[[str], None]
Note = Callable[[str], None]

EVERY = (
    "function", "coroutine", "generator", "async generator", "scope", "scope that fails", "async scope",
    "unrecorded scope", "call", "async call", "stream", "flush", "configure", "shutdown",
)  # fmt: skip


def by_hand(driven: Any) -> None:
    """Run a coroutine to its end: an event loop has moments of its own at which it may be interrupted."""
    with suppress(StopIteration):
        while True:
            driven.send(None)


def work_of(mode: str, note: Note, store: Path) -> Work:
    """Return the work of a mode.

    Args:
        mode: one of `EVERY`.
        note: is told what has begun, and so has to be sealed exactly once.
        store: where the chain is.

    """
    if mode in ("call", "async call", "stream"):
        return _model(mode, note)
    made: dict[str, Work] = {
        "function": _function(note),
        "coroutine": _coroutine(note),
        "generator": _generator(note),
        "async generator": _async_generator(note),
        "scope": _scope(note),
        "scope that fails": _failing(note),
        "async scope": _async_scope(note),
        "unrecorded scope": _unrecorded(note),
        "flush": _flushing(note),
        "configure": _configuring(note, store),
        "shutdown": _shutting_down(note, store),
    }
    return made[mode]


def _function(note: Note) -> Work:
    @capsuled(request_from="number")
    def function(number: str) -> None:
        note(number)

    return function


def _coroutine(note: Note) -> Work:
    @capsuled(request_from="number")
    async def coroutine(number: str) -> None:
        note(number)
        await asyncio.sleep(0)

    return lambda number: by_hand(coroutine(number))


def _generator(note: Note) -> Work:
    @capsuled(request_from="number")
    def generator(number: str) -> Iterator[int]:
        note(number)
        yield 1
        yield 2

    def read(number: str) -> None:
        for _ in generator(number):
            pass

    return read


def _async_generator(note: Note) -> Work:
    @capsuled(request_from="number")
    async def generator(number: str) -> AsyncIterator[int]:
        note(number)
        yield 1
        await asyncio.sleep(0)
        yield 2

    async def read(number: str) -> None:
        async for _ in generator(number):
            pass

    return lambda number: by_hand(read(number))


def _scope(note: Note) -> Work:
    def scope(number: str) -> None:
        with capsule_scope("scope", request=number):
            note(number)

    return scope


def _failing(note: Note) -> Work:
    def scope(number: str) -> None:
        with suppress(ArithmeticError), capsule_scope("scope", request=number):
            note(number)
            raise ArithmeticError

    return scope


def _async_scope(note: Note) -> Work:
    async def scope(number: str) -> None:
        async with capsule_scope("scope", request=number):
            note(number)
            await asyncio.sleep(0)

    return lambda number: by_hand(scope(number))


def _unrecorded(note: Note) -> Work:
    def scope(number: str) -> None:
        with (
            capsule_scope("outer", request=number),
            capsule_scope(session_id="s", record=False) as task,
        ):
            task.reason("why")
            task.tool("tool", arguments={"a": 1}, result=2)
            note(number)

    return scope


def _flushing(note: Note) -> Work:
    def flushing(number: str) -> None:
        with capsule_scope("flushed", request=number):
            note(number)
        flush(5)

    return flushing


def _configuring(note: Note, store: Path) -> Work:
    def configuring(number: str) -> None:
        configure(store)
        with capsule_scope("configured", request=number):
            note(number)

    return configuring


def _shutting_down(note: Note, store: Path) -> Work:
    def shutting_down(number: str) -> None:
        with capsule_scope("shut down", request=number):
            note(number)
        capsule_sdk.shutdown(5)
        configure(store)

    return shutting_down


def _model(mode: str, note: Note) -> Work:
    import litellm

    litellm.callbacks = [capsule_sdk.CapsuleLogger()]

    def asked(number: str) -> dict[str, Any]:
        return {
            "model": "gpt-4o", "messages": [{"role": "user", "content": number}], "mock_response": "hi there",
        }  # fmt: skip

    def call(number: str) -> None:
        litellm.completion(**asked(number))
        note(number)  # what returned has to be there

    def acall(number: str) -> None:
        asyncio.run(_acall(number))

    async def _acall(number: str) -> None:
        await litellm.acompletion(**asked(number))
        note(number)

    def stream(number: str) -> None:
        answer = litellm.completion(**asked(number), stream=True)
        note(number)
        for _ in answer:
            pass

    return {"call": call, "async call": acall, "stream": stream}[mode]
