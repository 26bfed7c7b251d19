"""What the programs of `test_shutdown` and `test_bridge` have in common: work that says what it does, and
storages that are not ours.

A line that a program has printed is a promise that the chain has to keep:

    begun ID        the first line of a task's body
    returned ID     its caller goes on
    asking TEXT     a call to a model with this prompt is made
    answered TEXT   it has returned
    failed TEXT     it has raised
    ending TIME     the end begins: so many seconds on the clock of `time.monotonic`
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from qp_capsule import Capsule, Capsules, CapsuleType

from capsule_sdk import capsule_scope, capsuled, current_task

__all__ = [
    "FileStorage",
    "astep",
    "awork",
    "daemons",
    "ending",
    "opened",
    "question",
    "say",
    "step",
    "stored_with",
    "work",
]

_numbers = itertools.count()


def say(*words: object) -> None:
    """Print at once, with one ``write``, from any thread and until the very end."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def ending() -> None:
    """Say that the end begins now."""
    say("ending", time.monotonic())


def question(words: str) -> str:
    """Return a prompt that nobody else asks, with these words in it for the provider."""
    text = f"{words} question-{os.getpid()}-{next(_numbers)}".strip()
    say("asking", text)
    return text


def begun() -> str | None:
    """Say which task has begun; the end of the process may have cut it short before its first line."""
    task = current_task()
    if not task.recording:
        return None
    say("begun", task.id)
    return str(task.id)


@capsuled(name="step")
def step(ask: Callable[[str], Any] | None = None, words: str = "") -> str | None:
    me = begun()
    if ask is not None:
        text = question(words)
        try:
            ask(text)
        except BaseException:
            say("failed", text)
            raise
        say("answered", text)
    return me


@capsuled(name="step")
async def astep(ask: Callable[[str], Any] | None = None, words: str = "") -> str | None:
    me = begun()
    if ask is not None:
        text = question(words)
        try:
            await ask(text)
        except BaseException:
            say("failed", text)
            raise
        say("answered", text)
    return me


def work(count: int = 1, ask: Callable[[str], Any] | None = None) -> None:
    """Make so many tasks, each with a call to a model under it if there is one to ``ask``."""
    for _ in range(count):
        _returned(step(ask))


async def awork(count: int = 1, ask: Callable[[str], Any] | None = None) -> None:
    """Make so many tasks at once."""
    for done in await asyncio.gather(*(astep(ask) for _ in range(count))):
        _returned(done)


def _returned(task: str | None) -> None:
    if task is not None:
        say("returned", task)


@contextmanager
def opened(name: str) -> Iterator[str]:
    """Open a task that says so."""
    with capsule_scope(name) as task:
        say("begun", task.id)
        yield str(task.id)


def daemons(*functions: Callable[[], Any]) -> None:
    """Run each of these in a daemon thread."""
    for function in functions:
        threading.Thread(target=function, daemon=True).start()


# -- storages --------------------------------------------------------------------------------------


class FileStorage:
    """A storage that outlives its process: a line for each capsule. ``mode``, a file beside it, orders faults:

    ``slow`` 20 ms for each capsule, ``raises`` always, ``sometimes`` for one of 16, ``hangs`` for ever,
    ``blocks`` its event loop for ever, ``hangs in close`` too late to harm anything but the exit.

    It refuses a second event loop or thread, and calls that overlap.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / "stored.jsonl"
        self._mode = Path(directory) / "mode"
        self._here: object = None
        self._busy = False
        self._calls = 0

    def mode(self) -> str:
        return self._mode.read_text() if self._mode.exists() else ""

    def stored(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        here = (os.getpid(), threading.get_ident(), id(asyncio.get_running_loop()))
        assert self._here in {None, here}, "called from another event loop or thread"
        assert not self._busy, "calls overlap"
        self._here, self._busy = here, True
        try:
            yield
        finally:
            self._busy = False

    async def store(self, capsule: Capsule, tenant_id: str | None = None) -> Capsule:
        with self._alone():
            await asyncio.sleep(0)
            await self._fail()
            with self.path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                stored = [json.loads(line) for line in file]
                assert capsule.sequence == len(stored)
                assert str(capsule.id) not in {one["id"] for one in stored}
                file.write(json.dumps(capsule.to_sealed_dict()).encode() + b"\n")
            return capsule

    async def _fail(self) -> None:
        self._calls += 1
        match self.mode():
            case "slow":
                await asyncio.sleep(0.02)
            case "raises":
                raise ConnectionError("no")
            case "sometimes" if self._calls % 16 == 3:
                raise ConnectionError("not now")
            case "hangs":
                await asyncio.sleep(1000)
            case "blocks":
                time.sleep(1000)

    async def get(self, capsule_id: str | UUID, tenant_id: str | None = None) -> Capsule | None:
        with self._alone():
            await asyncio.sleep(0)
            for one in self.stored():
                if one["id"] == str(capsule_id):
                    return Capsule.from_sealed_dict(one)
            return None

    async def get_latest(self, tenant_id: str | None = None) -> Capsule | None:
        with self._alone():
            await asyncio.sleep(0)
            stored = self.stored()
            return Capsule.from_sealed_dict(stored[-1]) if stored else None

    async def get_all_ordered(self, tenant_id: str | None = None) -> Sequence[Capsule]:
        return [Capsule.from_sealed_dict(one) for one in self.stored()]

    async def list(
        self,
        limit: int = 100,
        offset: int = 0,
        type_filter: CapsuleType | None = None,
        tenant_id: str | None = None,
    ) -> Sequence[Capsule]:
        raise NotImplementedError

    async def count(
        self, type_filter: CapsuleType | None = None, tenant_id: str | None = None
    ) -> int:
        return len(self.stored())

    async def close(self) -> None:
        if self.mode() == "hangs in close":
            await asyncio.sleep(1000)
        self._here = None


def stored_with(directory: str | Path) -> Capsules:
    """Return the ``Capsules`` that are kept in a `FileStorage`."""
    return Capsules(storage=FileStorage(directory))
