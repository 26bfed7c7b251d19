"""Programs that get killed, or whose disk fails them. `crash_server` runs each in a process of its own.

A program reports to a file, with one ``write`` a line, what has started and what has returned; a line that
is there is a promise that the chain has to keep:

    started ID PARENT      the first line of a task's body, and what it runs under
    noted ID COUNT         that many side effects have been written to it
    returned ID            its caller goes on
    answered TEXT PARENT   a call to a model with this prompt has returned, or its stream was read to the end
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faulty_io
import litellm

import capsule_sdk
from capsule_sdk import bind_scope, capsule_scope, capsuled, current_task
from capsule_sdk.cli import main as command

HI: dict[str, Any] = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hi"}]}

__all__ = ["HI", "PROGRAMS", "begin"]


class Reporter:
    """Writes what has happened to a file outside of the data directory, at once."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._asked = 0
        self._lock = threading.Lock()

    def say(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())

    def prompt(self) -> str:
        with self._lock:
            self._asked += 1
            return f"question-{os.getpid()}-{self._asked}"


reporter: Reporter
luck: random.Random


def begin(job: dict[str, Any]) -> None:
    """Make ready for a program."""
    global reporter, luck  # noqa: PLW0603 - there is one program in a process
    reporter = Reporter(Path(job["report"]))
    luck = random.Random(job["seed"])


# -- the user's code -------------------------------------------------------------------------------


@capsuled
def step(above: str, depth: int, ask: bool = True) -> str:
    me = _started(above)
    _note(me, 2)
    if ask:
        _ask(me, stream=luck.random() < 0.3)
    for _ in range(2 if depth else 0):
        _returned(step(me, depth - 1, ask))
    return me


@capsuled
async def astep(above: str, depth: int) -> str:
    me = _started(above)
    await _aask(me, stream=luck.random() < 0.3)
    if depth:
        for done in await asyncio.gather(*(astep(me, depth - 1) for _ in range(3))):
            _returned(done)
    _note(me, 1)
    return me


def blocks(above: str, count: int) -> None:
    for _ in range(count):
        with capsule_scope("block", authority="human-approved", approver="ana"):
            me = _started(above)
            with capsule_scope("inner"):
                inner = _started(me)
            _returned(inner)
            _note(me, 2)
        _returned(me)


def in_threads(above: str, work: Callable[[str], None], count: int) -> None:
    threads = [
        threading.Thread(target=bind_scope(work), args=(above,), name=f"thread-{number}")
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _started(above: str) -> str:
    me = str(current_task().id)
    reporter.say("started", me, above)
    return me


def _returned(task: str) -> None:
    reporter.say("returned", task)


def _note(me: str, count: int) -> None:
    task = current_task()
    for number in range(1, count + 1):
        task.side_effect(f"effect {number}")
        reporter.say("noted", me, number)
    task.tool("lookup", {"key": me}, result=[1, 2, 3])
    task.metric("figure", count)


def _question() -> tuple[str, dict[str, Any]]:
    text = reporter.prompt()
    return text, {
        **HI,
        "messages": [{"role": "user", "content": text}],
        "mock_response": "so be it",
    }


def _ask(me: str, *, stream: bool) -> None:
    text, options = _question()
    answer: Any = litellm.completion(**options, stream=stream)
    if stream:
        list(answer)
    reporter.say("answered", text, me)


async def _aask(me: str, *, stream: bool) -> None:
    text, options = _question()
    answer: Any = await litellm.acompletion(**options, stream=stream)
    if stream:
        async for _ in answer:
            pass
    reporter.say("answered", text, me)


# -- programs --------------------------------------------------------------------------------------


def busy(job: dict[str, Any]) -> None:
    """Do a bit of everything until the end comes, which may be Python's own."""
    until = time.monotonic() + job.get("seconds", 0.3)
    works: list[Callable[[], None]] = [
        lambda: _returned(step("-", 1)),
        lambda: _returned(asyncio.run(astep("-", 1))),
        lambda: blocks("-", 5),
        lambda: in_threads("-", lambda above: blocks(above, 4), 3),
        lambda: in_threads("-", lambda above: _returned(step(above, 1)), 2),
    ]
    while time.monotonic() < until:
        luck.choice(works)()
        if luck.random() < 0.1:
            capsule_sdk.flush()


def brief(job: dict[str, Any]) -> None:
    """Do little, so that most of the time is spent on opening and closing."""
    if job.get("ask"):
        _returned(step("-", 1))
    blocks("-", 2)
    if luck.random() < 0.3:
        capsule_sdk.shutdown()


def orderly(job: dict[str, Any]) -> None:
    """Do the same each time, and report how much input and output that was."""
    blocks("-", 2)
    _returned(step("-", 0))
    assert capsule_sdk.flush(30) == 0
    blocks("-", 2)
    assert capsule_sdk.shutdown(30) == 0
    if "fault" in job:
        reporter.say("counted", json.dumps(faulty_io.counts(), separators=(",", ":")))
    os._exit(0)  # as above


def cut_off(job: dict[str, Any]) -> None:
    """Leave a journal in which much has ended, and some has not."""
    with capsule_scope("cut off"):
        me = _started("-")
        blocks(me, 3)
        _returned(step(me, 1))
        with capsule_scope("below"):
            _note(_started(me), 2)
            os.kill(os.getpid(), signal.SIGKILL)


def in_trouble(job: dict[str, Any]) -> None:
    """Go on while the disk takes nothing; once it does again, be killed."""
    until = time.monotonic() + job["seconds"]
    recorder = capsule_sdk.get_recorder()
    while time.monotonic() < until:
        blocks("-", 1)
        _returned(step("-", 0, ask=luck.random() < 0.1))
        time.sleep(0.005)
    with capsule_scope("long"):
        me = _started("-")
        stats = recorder.stats()
        journal = Path(job["directory"], "journal")
        files = sum(path.name.startswith("records-") for path in journal.rglob("*"))
        reporter.say(
            "trouble", stats.journal_trouble is not None, stats.store_away is not None, files
        )
        if "fault" in job:
            faulty_io.heal()
        else:
            time.sleep(1)  # somebody else does
        assert capsule_sdk.flush(30) == 0
        while (stats := recorder.stats()).journal_trouble is not None or not stats.journal_size:
            time.sleep(0.01)
        reporter.say("well", stats.lost, stats.failed)
        blocks(me, 2)
        os.kill(os.getpid(), signal.SIGKILL)


def _report_begins() -> None:
    from capsule_sdk.recording.recorder import Recorder

    begin = Recorder.begin

    def reported(self: Recorder, record: Any) -> None:
        reporter.say("begins", record.id)
        begin(self, record)
        reporter.say("begun", record.id)

    Recorder.begin = reported  # type: ignore[method-assign]


def filling(job: dict[str, Any]) -> None:
    """Do a bit of everything on a disk that somebody else fills meanwhile, and report each record begun."""
    _report_begins()
    capsule_sdk.configure(url=job["database"], exit_timeout=job.get("exit_timeout", 0.5))
    until = time.monotonic() + job["seconds"]
    works: list[Callable[[], object]] = [
        lambda: step("-", 1),
        lambda: blocks("-", 3),
        lambda: in_threads("-", lambda above: blocks(above, 3), 3),
        lambda: in_threads("-", lambda above: step(above, 0) and None, 2),
    ]

    def child() -> None:
        while time.monotonic() < until:
            luck.choice(works)()

    with capsule_scope("outermost"):
        me = _started("-")
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=child) for _ in range(job.get("children", 0))]
        for one in children:
            one.start()
        while time.monotonic() < until:
            luck.choice(works)()
            time.sleep(luck.random() * job["pause"])
        for one in children:
            one.join()
        _note(me, 1)
    if job["end"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if job["end"] == "TERM":
        os.kill(os.getpid(), signal.SIGTERM)


def removing(job: dict[str, Any]) -> None:
    """Have the journal removed in the middle, and again at the end; the store may be locked meanwhile."""
    _report_begins()
    capsule_sdk.configure(url=job["database"], exit_timeout=0.5)
    journal = Path(job["directory"], "journal")
    blocks("-", 3)
    assert capsule_sdk.flush(30) == 0
    with sqlite3.connect(job["database"], isolation_level=None) as other:
        if job["away"]:
            other.execute("BEGIN IMMEDIATE")
        with capsule_scope("outermost"):
            blocks(_started("-"), 3)
            shutil.rmtree(journal)
            until = time.monotonic() + 20
            while not list(journal.glob("*/*/records-*")) and time.monotonic() < until:
                time.sleep(0.01)
            blocks("-", 3)
        shutil.rmtree(journal)
        capsule_sdk.recording.exiting._at_exit()
    os._exit(0)


def held(job: dict[str, Any]) -> None:
    """Have a task open over many others, whose journal is begun anew meanwhile, and never end it."""
    from capsule_sdk.recording import safekeeping

    safekeeping.LOOK, safekeeping.SIZE = 0.002, 2000

    def work(above: str) -> None:
        for _ in range(job["count"]):
            blocks(above, 1)
            if job["pause"]:
                time.sleep(job["pause"])

    with capsule_scope("held"):
        me = _started("-")
        _note(me, 2)
        in_threads(me, work, 2)


def waiting(job: dict[str, Any]) -> None:
    """Have more capsules wait for the store than memory takes; somebody else has locked it."""
    from capsule_sdk.recording import line

    line.LENGTH = 8
    blocks("-", job["count"])
    reporter.say("ready")
    time.sleep(job["seconds"])
    blocks("-", 1)
    reporter.say("left", capsule_sdk.flush(15))
    os._exit(0)


def reopened(job: dict[str, Any]) -> None:
    """Close a recorder, go on with it at once, and be killed."""
    recorder = capsule_sdk.get_recorder()
    blocks("-", 1)
    assert recorder.shutdown(30) == 0
    blocks("-", 1)
    with capsule_scope("open"):
        _started("-")
        os.kill(os.getpid(), signal.SIGKILL)


def unlucky(job: dict[str, Any]) -> None:
    """Begin a long task while the writer sleeps, and just then the disk fails once; be killed in it."""
    blocks("-", 1)
    assert capsule_sdk.flush(30) == 0
    time.sleep(1.5)
    faulty_io.arm(job["directory"], kinds=["write"], nth=1, action="fail once")
    with capsule_scope("long"):
        _started("-")
        assert faulty_io.counts()["write"] == 1
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGKILL)


def crowd(job: dict[str, Any]) -> None:
    """Have several threads write to one task at once, and be killed when they are done."""
    sys.setswitchinterval(1e-6)
    with capsule_scope("crowd"):
        me, task = _started("-"), current_task()

        def write(above: str) -> None:
            for number in range(500):
                task.side_effect(f"{threading.current_thread().name}-{number}")

        in_threads(me, write, 8)
        for text in task.side_effects:
            reporter.say("effect", me, text)
        os.kill(os.getpid(), signal.SIGKILL)


def recover(job: dict[str, Any]) -> None:
    """Run ``capsuled recover``."""
    code = command(["recover", "--db", str(job["database"])])
    sys.stdout.flush()
    os._exit(code)  # Python's own end takes longer than all else here


def successor(job: dict[str, Any]) -> None:
    """Be the next process on the store: its writer brings in what others have left."""
    left = list(Path(job["directory"], "journal").glob("*/[!.d]*"))
    blocks("-", 1)
    until = time.monotonic() + 20
    while any(path.exists() for path in left) and time.monotonic() < until:
        time.sleep(0.002)  # it does not end later for the sake of others
    os._exit(capsule_sdk.shutdown(60))


PROGRAMS: dict[str, Callable[[dict[str, Any]], None]] = {
    work.__name__: work
    for work in (
        busy, brief, orderly, cut_off, in_trouble, filling, removing, held, waiting, reopened, unlucky, crowd,
        recover, successor,
    )
}  # fmt: skip
