"""Bounded: memory stays flat while the store is away, nothing is dropped, what has ended is let go."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from recording import FaultyChain, assert_tree_is_whole, begin_call, begin_task, end, until

from capsule_sdk import capsule_scope, capsuled, flush
from capsule_sdk.errors import ChainUnavailable, RecordingError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.recording import line
from capsule_sdk.recording.exiting import close_all
from capsule_sdk.recording.recorder import Recorder

MEGABYTE = 1 << 20


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def away(chain: FaultyChain) -> Iterator[None]:
    def fault(_: Any) -> None:
        raise ChainUnavailable("away")

    chain.fault = fault
    yield
    chain.fault = None


@pytest.fixture
def faulty(tmp_path: Path) -> FaultyChain:
    return FaultyChain(tmp_path / "bounded.db")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the backlog begin early."""
    monkeypatch.setattr(line, "LENGTH", 20)
    monkeypatch.setattr(line, "GROUP", 7)


def ids(chain: FaultyChain) -> list[str]:
    return [capsule["id"] for capsule in read_chain(chain.url)]


# -- the backlog ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_what_waits_beyond_the_bound_lies_on_disk_and_comes_back_in_order(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder()
    with away(faulty):
        records = []
        for number in range(300):
            task = begin_task(rec, f"task-{number}")
            call = begin_call(rec, task)
            end(rec, call)
            end(rec, task)
            records += [call, task]
        until(lambda: len(rec._rounds.line.pending) <= 60)
        assert len(rec._rounds.line.backlog) >= 540
        assert rec.stats().pending == 600
        assert rec.flush(0.1) == 600
    assert rec.flush(30) == 0
    assert ids(faulty) == [str(record.id) for record in records]
    assert_tree_is_whole(list(read_chain(faulty.url)))
    stats = rec.stats()
    assert (stats.committed, stats.pending, stats.lost, stats.times_away) == (600, 0, 0, 1)
    assert rec.shutdown() == 0


@pytest.mark.usefixtures("short")
def test_flush_and_confirm_wait_for_what_lies_on_disk(faulty: FaultyChain) -> None:
    rec = faulty.recorder(exit_timeout=0.2, settle_timeout=0.0)
    with away(faulty):
        tasks = [begin_task(rec) for _ in range(50)]
        for task in tasks:
            end(rec, task)
        until(lambda: any(task.backlog_place for task in tasks))
        on_disk = next(task for task in tasks if task.backlog_place)
        with pytest.raises(RecordingError, match="still queued"):
            rec.confirm(on_disk)
    rec.confirm(on_disk)
    assert rec.flush(30) == 0
    for task in tasks:
        rec.confirm(task)
    assert rec.shutdown() == 0


@pytest.mark.usefixtures("short")
def test_a_forked_child_keeps_no_file_of_the_backlog(faulty: FaultyChain) -> None:
    """Or the disk would get its room back only when the child ends."""
    rec = faulty.recorder()

    def is_held() -> bool:
        links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return any("/backlog-" in str(link.readlink()) for link in links)

    with away(faulty):
        for _ in range(100):
            end(rec, begin_task(rec))
        until(lambda: len(rec._rounds.line.backlog) > 0)
        assert is_held()
        if (child := os.fork()) == 0:
            os._exit(is_held())
        assert os.waitpid(child, 0)[1] == 0
    assert rec.flush(30) == 0
    assert not is_held()


@pytest.mark.usefixtures("short")
def test_the_backlog_outlives_its_process(faulty: FaultyChain, tmp_path: Path) -> None:
    rec = faulty.recorder(exit_timeout=0.1)
    with away(faulty):
        tasks = [begin_task(rec) for _ in range(100)]
        for task in tasks:
            end(rec, task)
        until(lambda: len(rec._rounds.line.backlog) > 50)
        close_all([rec])
        rec._rounds.safekeeping.home.release()  # as the end of the process does
    other = FaultyChain(faulty.url).recorder()
    end(other, begin_task(other))
    assert other.flush() == 0
    until(lambda: len(ids(faulty)) == 101)
    assert {str(task.id) for task in tasks} < set(ids(faulty))
    assert other.shutdown() == 0


@pytest.mark.usefixtures("short")
def test_the_directory_is_empty_once_all_is_in_the_chain(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    with away(faulty):
        for _ in range(100):
            end(rec, begin_task(rec))
    assert rec.shutdown() == 0
    journals = faulty.url.parent / "journal"
    assert [path for path in journals.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("short")
@pytest.mark.internal_errors
def test_where_the_disk_takes_no_more_either_losses_are_counted_and_said_in_the_chain(
    faulty: FaultyChain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rec = faulty.recorder()
    monkeypatch.setattr(line, "LAST_RESORT", 2)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rec._rounds.line.backlog, "add", full)
    tasks = []
    with away(faulty), caplog.at_level(logging.ERROR, "capsule_sdk"):
        for _ in range(200):
            tasks.append(begin_task(rec))
            end(rec, tasks[-1])
            rec._rounds.line.take_in()
        lost = rec.stats().lost
        assert 100 < lost < 200
        assert rec.stats().submitted == 200
    assert rec.flush(30) == 0
    until(rec._rounds.line.is_empty)
    capsules = list(read_chain(faulty.url))
    said = [c["outcome"]["metrics"]["records_lost"] for c in capsules if c["type"] == "system"]
    assert sum(said) == lost
    assert len(capsules) - len(said) == 200 - lost
    assert "records are lost" in caplog.text
    with pytest.raises(RecordingError, match="neither the store nor the disk"):
        rec.confirm(next(task for task in tasks if task.lost))
    assert rec.shutdown() == 0


@pytest.mark.usefixtures("short")
@pytest.mark.internal_errors
def test_what_cannot_be_read_back_is_lost_aloud_and_what_is_behind_it_goes_on(
    faulty: FaultyChain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(line, "PATIENCE", 0)
    rec = faulty.recorder()
    with away(faulty), caplog.at_level(logging.ERROR, "capsule_sdk"):
        for _ in range(100):
            end(rec, begin_task(rec))
        until(lambda: len(rec._rounds.line.backlog) > 50)
        home = rec._rounds.safekeeping.home
        assert home is not None
        (path,) = home.backlog()
        os.truncate(path, path.stat().st_size // 2)
    assert rec.flush(30) == 0
    until(rec._rounds.line.is_empty)
    capsules = list(read_chain(faulty.url))
    said = sum(c["outcome"]["metrics"].get("records_lost", 0) for c in capsules)
    assert 20 < said == rec.stats().lost < 80
    assert sum(c["type"] != "system" for c in capsules) == 100 - said
    assert caplog.text.count("cannot be read back from disk") == 1
    end(rec, begin_task(rec))
    assert rec.shutdown() == 0


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.load
def test_an_hour_without_the_store_leaves_memory_flat(chain: Any) -> None:
    """Capsules of an hour at 200 a second would take minutes; 30,000 of them show the slope."""

    @capsuled
    def answer(question: str) -> str:
        return "y" * 300

    for _ in range(6000):
        answer("x" * 150)
    chain.capsules()
    before = resident()
    holder = sqlite3.connect(chain.url, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    sizes = []
    for number in range(30_000):
        answer("x" * 150)
        if number % 5_000 == 4_999:
            sizes.append(resident() - before)
    holder.execute("ROLLBACK")
    holder.close()
    assert max(sizes) < 40 * MEGABYTE
    assert sizes[-1] - sizes[1] < 8 * MEGABYTE
    assert flush(100) == 0
    assert resident() - before < 64 * MEGABYTE
    assert chain.recorder.stats().committed == 36_000


@pytest.mark.load
def test_tens_of_thousands_of_nested_calls_leave_the_process_as_small_as_it_began(
    chain: Any,
) -> None:
    @capsuled
    async def leaf(text: str) -> str:
        return text

    @capsuled
    async def branch(number: int) -> None:
        await asyncio.gather(*(leaf("x" * 1000) for _ in range(9)))

    async def many(branches: int) -> None:
        with capsule_scope("root"):
            for number in range(branches):
                await branch(number)

    asyncio.run(many(500))
    assert flush(60) == 0
    before = resident()
    asyncio.run(many(3_000))
    assert flush(100) == 0
    assert resident() - before < 8 * MEGABYTE
    assert chain.recorder.stats().submitted == 35_002


def test_what_is_in_the_chain_holds_no_payload(chain: Any) -> None:
    with capsule_scope("kept by the user", request="x" * 10_000) as task:
        task.tool("t", {"a": "y" * 10_000})
        task.reason("z" * 10_000)
        call = begin_call(chain.recorder, task)
        end(chain.recorder, call)
    chain.capsules()
    assert (task.request, task.tool_calls, task.reasoning) == ("", [], {})
    assert (call.request.text, call.answer.result) == ("", None)


def test_a_record_is_freed_once_it_is_in_the_chain(chain: Any) -> None:
    task = begin_task(chain.recorder)
    gone = weakref.ref(task)
    end(chain.recorder, task)
    del task
    chain.capsules()
    until(lambda: gc.collect() >= 0 and gone() is None)


def test_a_caller_that_is_faster_than_the_writer_takes_in_itself(
    faulty: FaultyChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LENGTH", 50)
    rec: Recorder = faulty.recorder()
    end(rec, begin_task(rec))
    assert rec.flush() == 0

    def slow(_: Any) -> None:
        time.sleep(0.5)

    faulty.fault = slow
    for _ in range(
        4000
    ):  # on a busy machine the writer keeps a caller off the line for some hundreds
        end(rec, begin_task(rec))
        assert len(rec._rounds.line.pending) < 2000
    faulty.fault = None
    assert len(rec._rounds.line.backlog) > 300
    assert rec.flush() == 0
    assert len(ids(faulty)) == 4001
    assert rec.shutdown() == 0
