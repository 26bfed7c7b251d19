"""Workers: records checked in a process for each core, answered in the order they came.

A worker is a Python of its own that talks over a pipe: no fork, which threads make unsafe, and nothing of the
caller's program runs again in it. It imports only what one record takes (not even this package's own
``__init__``, which brings what recording takes), so that one for each core fits into little memory. Short
chains, and callers who want no other processes, have their records checked where they are.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import IO, Any, Final

from capsule_sdk.errors import EvidenceError

from ..formats.entries import Columns, Entry
from .record import Facts

__all__ = ["check_records", "cores", "serve"]

#: Entries that go to a worker at a time, and how many characters of them.
_GROUP, _GROUP_CHARACTERS = 256, 2_000_000
#: Groups that a worker has at a time, so that it need not wait for the next one.
_AT_ONCE: Final = 2
#: Records below which the start of a process takes longer than it saves.
_FEW: Final = 1_000
_START: Final = """\
import signal, sys, types
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who then ends this process
package = sys.modules["capsule_sdk"] = types.ModuleType("capsule_sdk")
package.__path__ = [sys.argv[1]]
from capsule_sdk.evidence.verifying.workers import serve
serve(sys.stdin.buffer, sys.stdout.buffer)
"""

Group = list[Entry]
#: What is done with each entry; it is sent to the workers, so it has to be of this package.
Check = Callable[[Entry], Facts]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_records(entries: Iterable[Entry], check: Check, processes: int) -> Iterator[Facts]:
    """Yield the facts of each entry, in order; memory does not grow with the number of entries.

    Args:
        entries: as they are stored.
        check: `capsule_sdk.evidence.verifying.record.check_record`, but for the entry.
        processes: how many processes to use beside this one; with 0 all is done here.

    Raises:
        EvidenceError: the entries cannot be read to their end, or a worker has died.

    """
    rest = iter(entries)
    for checked, entry in enumerate(rest):
        yield check(entry)
        if processes and checked == _FEW:
            yield from _in_processes(rest, check, processes)


def _in_processes(entries: Iterator[Entry], check: Check, processes: int) -> Iterator[Facts]:
    with ExitStack() as stack:
        workers: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(processes):
            worker = _Worker(check)
            stack.callback(worker.close)
            for _ in range(_AT_ONCE):
                workers.put(worker)
        # Threads ask the workers. They end first, so that no worker is closed while it answers.
        pool = stack.enter_context(ThreadPoolExecutor(_AT_ONCE * processes))
        answers: deque[Future[list[Facts]]] = deque()

        def ask(group: Group) -> list[Facts]:
            worker = workers.get()
            try:
                return worker.check(group)
            finally:
                workers.put(worker)

        unread: list[EvidenceError] = []
        for group in _groups(_readable(entries, unread)):
            answers.append(pool.submit(ask, group))
            if len(answers) > (_AT_ONCE + 1) * processes:
                yield from answers.popleft().result()
        for answer in answers:
            yield from answer.result()
        if unread:  # only now: all that could be read has been checked
            raise unread[0]


def _readable(entries: Iterator[Entry], unread: list[EvidenceError]) -> Iterator[Entry]:
    """Yield entries as long as they can be read, and keep the error that ended it."""
    try:
        yield from entries
    except EvidenceError as error:
        unread.append(error)


def _groups(entries: Iterator[Entry]) -> Iterator[Group]:
    group: Group = []
    characters = 0
    for entry in entries:
        group.append(entry)
        characters += len(entry.text)
        if len(group) >= _GROUP or characters >= _GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


class _Worker:
    """The near end of one process."""

    def __init__(self, check: Check) -> None:
        home = Path(__file__).parents[2]
        # -P: what lies in the directory that somebody stands in is not imported
        self._process = subprocess.Popen(  # noqa: S603 - the Python that runs this
            [sys.executable, "-P", "-c", _START, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._turn, self._answer = Lock(), Lock()
        self._send(check)

    def check(self, group: Group) -> list[Facts]:
        """Have a group checked, by one of several threads: the next group is sent while this one is checked."""
        try:
            with self._turn:
                # As plain tuples, which take half the time of named ones.
                self._send([_plain(entry) for entry in group])
                self._answer.acquire()  # before the next one sends: answers come in the order of the groups
            try:
                assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
                facts: list[Facts] = pickle.load(self._process.stdout)  # noqa: S301 - our own process
            finally:
                self._answer.release()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise EvidenceError(
                "a process that checked records has ended in the middle of it: verify again (with"
                " --processes 0 all is done in one)"
            ) from error
        return facts

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not yet written has nowhere to go
                pipe.close()  # type: ignore[union-attr]

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        pickle.dump(what, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()


def _plain(entry: Entry) -> tuple[object, ...]:
    return (entry.text, entry.seal, entry.columns and tuple(entry.columns), entry.fault)


def serve(asked: IO[bytes], answered: IO[Any]) -> None:
    """Be the far end of a worker, until the near one goes away."""
    gc.disable()  # what a record is made of has no cycles; looking for some takes a fifth of the time
    try:
        check: Check = pickle.load(asked)  # noqa: S301 - from the process that started this one
        while True:
            group = pickle.load(asked)  # noqa: S301 - see above
            facts = [
                check(Entry(text, seal, columns and Columns(*columns), fault))
                for text, seal, columns, fault in group
            ]
            pickle.dump(facts, answered, pickle.HIGHEST_PROTOCOL)
            answered.flush()
    except (EOFError, BrokenPipeError):
        return
