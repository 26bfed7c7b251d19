"""The recorder: every record begun is one capsule, and it answers in time whatever the store does."""

from __future__ import annotations

import gc
import logging
import os
import queue
import sqlite3
import threading
import time
import weakref
from _thread import start_new_thread
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from qp_capsule import Capsule
from recording import (
    USAGE,
    FaultyChain,
    assert_children_first,
    assert_tree_is_whole,
    begin_call,
    begin_task,
    end,
    in_threads,
    make_task,
    until,
)

import capsule_sdk
from capsule_sdk import capsule_scope, capsuled, logs
from capsule_sdk.errors import CapsuleRejected, ChainUnavailable, EvidenceError, RecordingError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.settings import Settings


@pytest.fixture
def faulty(tmp_path: Path) -> FaultyChain:
    return FaultyChain(tmp_path / "faulty.db")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep everybody else from writing, as a backup or another program does."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def stored(chain: FaultyChain) -> list[dict[str, Any]]:
    try:
        return list(read_chain(chain.url))
    except EvidenceError:  # it does not exist yet
        return []


# -- one record, one capsule ----------------------------------------------------------------------


def test_eight_threads_with_500_tasks_each_give_4000_linked_capsules(chain: Any) -> None:
    @capsuled(name="leaf")
    def leaf(thread: int, number: int) -> None: ...

    def work(thread: int) -> None:
        with capsule_scope(f"root-{thread}"):
            for number in range(499):
                leaf(thread, number)

    in_threads(8, work)
    capsules = chain.capsules()
    assert len(capsules) == 4000
    assert_tree_is_whole(capsules)
    assert_children_first(capsules)
    chain.verify()


def test_nested_tasks_come_before_their_parents(chain: Any) -> None:
    with capsule_scope("a"):
        with capsule_scope("b"), capsule_scope("c"):
            pass
        with capsule_scope("d"):
            pass
    assert chain.sources() == ["c", "b", "d", "a"]
    assert_tree_is_whole(chain.capsules())


def test_of_eight_threads_that_settle_one_record_one_wins(chain: Any) -> None:
    def race() -> list[int]:
        call = begin_call(chain.recorder)
        winners: list[int] = []
        in_threads(8, lambda n: winners.append(n) if end(chain.recorder, call) else None)
        return winners

    assert [len(race()) for _ in range(50)] == [1] * 50
    assert len(chain.capsules()) == 50


def test_a_record_that_is_handed_over_twice_is_one_capsule(chain: Any) -> None:
    task = begin_task(chain.recorder)
    end(chain.recorder, task)
    chain.recorder.finish(task)
    assert len(chain.capsules()) == 1
    chain.recorder.finish(task)
    assert len(chain.capsules()) == 1
    stats = chain.recorder.stats()
    assert (stats.submitted, stats.committed, stats.pending) == (1, 1, 0)


def test_a_child_begun_while_its_task_closes_is_counted_or_hangs_higher(chain: Any) -> None:
    def race(number: int) -> None:
        with capsule_scope("outer") as outer:
            inner = begin_task(chain.recorder, "inner", outer)
            thread = threading.Thread(target=lambda: end(chain.recorder, inner))
            thread.start()
            calls = [begin_call(chain.recorder, inner) for _ in range(20)]
            thread.join()
            for call in calls:
                end(chain.recorder, call)

    in_threads(4, lambda n: [race(i) for i in range(10)] and None)
    assert_tree_is_whole(chain.capsules())


def test_a_task_of_another_recorder_is_named_as_parent_and_counts_nothing(
    chain: Any, faulty: FaultyChain
) -> None:
    other = faulty.recorder()
    with capsule_scope("here") as here:
        end(other, begin_call(other, here))
    assert other.flush() == 0
    call = stored(faulty)[0]
    assert call["parent_id"] == str(here.id)
    assert call["context"]["environment"]["counted_by_parent"] is False
    assert chain.one("here")["outcome"]["metrics"]["children"]["started"] == 0
    other.shutdown()


# -- finalizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["_rounds._lock", "_rounds.line.lock", "_outside"])
def test_a_finalizer_hands_over_while_its_thread_holds_any_lock(chain: Any, held: str) -> None:
    class Stream:
        pass

    rec: Recorder = chain.recorder
    with capsule_scope("task") as task:
        call = begin_call(rec, task)
        stream: Any = Stream()
        stream.itself = stream

        def abandoned() -> None:
            if rec.claim(call):
                call.cut_short("abandoned")
                rec.finish(call, finalizing=True)

        weakref.finalize(stream, abandoned)
        del stream
        lock: Any = threading.RLock()
        if held != "_outside":
            lock = rec
            for part in held.split("."):
                lock = getattr(lock, part)
        with lock:
            gc.collect()
    assert [c["outcome"]["metrics"].get("ended") for c in chain.capsules()] == ["abandoned", None]


def test_a_finalizer_may_run_in_the_writer_in_the_middle_of_a_commit(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    calls = [begin_call(rec) for _ in range(5)]

    def run_a_finalizer(_: Sequence[Capsule]) -> None:
        if calls:
            call = calls.pop()
            rec.claim(call)
            call.cut_short("abandoned")
            rec.finish(call, finalizing=True)

    faulty.fault = run_a_finalizer
    end(rec, begin_task(rec))
    until(lambda: len(stored(faulty)) == 6)
    assert rec.shutdown() == 0


# -- flush and its twins --------------------------------------------------------------------------


def test_flush_returns_what_is_not_durable_in_time_and_nothing_is_lost(chain: Any) -> None:
    with capsule_scope("first"):
        pass
    chain.capsules()
    with locked(chain.url):
        for number in range(3):
            with capsule_scope(f"while-locked-{number}"):
                pass
        started = time.monotonic()
        assert capsule_sdk.flush(timeout=0.3) == 3
        assert time.monotonic() - started < 2
        assert chain.recorder.stats().pending == 3
    assert len(chain.capsules()) == 4
    chain.verify()


@pytest.mark.parametrize("timeout", [-1.0, 0.0])
def test_flush_without_time_only_counts(faulty: FaultyChain, timeout: float) -> None:
    faulty.fault = store_is_away
    rec = faulty.recorder()
    end(rec, begin_task(rec))
    assert rec.flush(timeout) == 1
    faulty.fault = None
    assert rec.flush(float("inf")) == 0
    assert rec.flush(timeout) == 0
    rec.shutdown()


def test_flush_does_not_wait_for_what_ends_after_it_was_called(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    stop = threading.Event()

    def producer() -> None:
        while not stop.is_set():
            end(rec, begin_task(rec))
            time.sleep(0.0005)

    thread = threading.Thread(target=producer)
    thread.start()
    try:
        for _ in range(5):
            started = time.monotonic()
            assert rec.flush(timeout=10) == 0
            assert time.monotonic() - started < 5
    finally:
        stop.set()
        thread.join()
        rec.shutdown()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_aflush_leaves_the_event_loop_free(chain: Any, backend: str) -> None:
    ticks = 0

    async def main() -> int:
        nonlocal ticks
        async with anyio.create_task_group() as group:

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await anyio.sleep(0.01)
                    ticks += 1

            group.start_soon(tick)
            left = await capsule_sdk.aflush(0.3)
            group.cancel_scope.cancel()
        return left

    with capsule_scope("first"):
        pass
    chain.capsules()
    with locked(chain.url):
        with capsule_scope("task"):
            pass
        assert anyio.run(main, backend=backend) == 1
    assert ticks > 5
    assert anyio.run(capsule_sdk.aflush, backend=backend) == 0
    assert len(chain.capsules()) == 2


def test_flush_in_the_writer_itself_does_not_wait_for_itself(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    seen: list[int] = []
    faulty.fault = lambda _: seen.append(rec.flush())
    end(rec, begin_task(rec))
    assert rec.flush(5) == 0
    assert seen == [1]
    rec.shutdown()


def test_flush_wakes_a_writer_that_waits_for_the_store(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    faulty.fault = store_is_away
    end(rec, begin_task(rec))
    until(lambda: len(faulty.groups) >= 6)  # the pause is seconds by now
    faulty.fault = None
    started = time.monotonic()
    assert rec.flush() == 0
    assert time.monotonic() - started < 1
    rec.shutdown()


# -- shutdown and replacement ---------------------------------------------------------------------


def test_after_a_shutdown_the_next_record_starts_afresh(chain: Any) -> None:
    for round_ in range(3):
        with capsule_scope(f"round-{round_}"):
            pass
        assert chain.recorder.shutdown() == 0
        assert not [t for t in threading.enumerate() if t.name == "capsule-writer"]
    assert len(chain.stored()) == 3
    chain.verify()


def test_a_record_that_ends_after_a_shutdown_is_brought_in_without_a_flush(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder()
    task = begin_task(rec)
    assert rec.shutdown() == 0
    end(rec, task)
    until(lambda: len(stored(faulty)) == 1)
    rec.shutdown()


def test_a_store_that_is_shut_down_is_one_file(chain: Any) -> None:
    with capsule_scope("task"):
        pass
    chain.recorder.shutdown()
    assert not chain.url.with_name(chain.url.name + "-wal").exists()


def test_a_shutdown_in_the_middle_of_traffic_loses_nothing(chain: Any) -> None:
    def work(_: int) -> None:
        for _ in range(200):
            with capsule_scope("task"):
                pass

    def stop(_: int) -> None:
        for _ in range(10):
            chain.recorder.shutdown()
            time.sleep(0.005)

    in_threads(4, lambda n: stop(n) if n == 0 else work(n))
    assert len(chain.capsules()) == 600
    assert_tree_is_whole(chain.stored())


def test_a_second_configure_flushes_the_first_and_replaces_it(tmp_path: Path) -> None:
    first = capsule_sdk.configure(url=tmp_path / "a.db")
    with capsule_scope("one"):
        pass
    second = capsule_sdk.configure(url=tmp_path / "b.db")
    assert [c["trigger"]["source"] for c in read_chain(tmp_path / "a.db")] == ["one"]
    assert capsule_sdk.get_recorder() is second is not first
    with capsule_scope("two"):
        pass
    assert capsule_sdk.flush() == 0
    assert [c["trigger"]["source"] for c in read_chain(tmp_path / "b.db")] == ["two"]


def test_a_task_open_while_its_recorder_is_replaced_ends_where_it_began(tmp_path: Path) -> None:
    capsule_sdk.configure(url=tmp_path / "a.db")
    with capsule_scope("one"):
        capsule_sdk.configure(url=tmp_path / "b.db")
    assert capsule_sdk.flush() == 0
    assert [c["trigger"]["source"] for c in read_chain(tmp_path / "a.db")] == ["one"]


def test_a_shutdown_while_the_store_is_away_keeps_the_records_for_later(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder()
    faulty.fault = store_is_away
    for _ in range(3):
        end(rec, begin_task(rec))
    assert rec.shutdown(timeout=0.2) == 3
    assert rec.flush(timeout=0.1) == 3
    faulty.fault = None
    assert rec.shutdown() == 0
    assert len(stored(faulty)) == 3
    faulty.fault = store_is_away
    end(rec, begin_task(rec))
    assert rec.shutdown(timeout=0.1) == 1
    faulty.fault = None
    end(rec, begin_task(rec))
    until(lambda: len(stored(faulty)) == 5)
    rec.shutdown()


def test_records_of_a_replaced_recorder_outlive_all_references_to_it(chain: Any) -> None:
    with capsule_scope("first"):
        pass
    chain.capsules()
    with locked(chain.url):
        with capsule_scope("while-locked"):
            pass
        assert capsule_sdk.shutdown(timeout=0.1) == 1
        del chain.recorder
        gc.collect()
    assert capsule_sdk.flush() == 0
    assert [c["trigger"]["source"] for c in chain.stored()] == ["first", "while-locked"]


def test_configure_leaves_the_recorder_of_before_at_work_while_its_store_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    capsule_sdk.configure(url=tmp_path / "a.db", exit_timeout=0.1)
    with capsule_scope("first"):
        pass
    assert capsule_sdk.flush() == 0
    with locked(tmp_path / "a.db"):
        with capsule_scope("while-locked"):
            pass
        capsule_sdk.configure(url=tmp_path / "b.db")
        gc.collect()
    assert "its records are still queued" in caplog.text
    until(lambda: len(list(read_chain(tmp_path / "a.db"))) == 2)


def test_a_recorder_that_owes_nothing_is_forgotten(tmp_path: Path) -> None:
    ref = weakref.ref(capsule_sdk.configure(url=tmp_path / "a.db"))
    with capsule_scope("one"):
        pass
    capsule_sdk.configure(url=tmp_path / "b.db")
    gc.collect()
    assert ref() is None


# -- the store is away ----------------------------------------------------------------------------


def store_is_away(_: Sequence[Capsule]) -> None:
    raise ChainUnavailable("gone fishing")


def anything_at_all(_: Sequence[Capsule]) -> None:
    raise KeyError("a bug of a custom storage")


@pytest.mark.parametrize("fault", [store_is_away, anything_at_all])
def test_an_outage_is_waited_for_and_logged_once(
    faulty: FaultyChain, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    rec = faulty.recorder()
    faulty.fault = fault
    for _ in range(20):
        end(rec, begin_task(rec))
    until(lambda: len(faulty.groups) >= 4)
    for _ in range(20):
        end(rec, begin_task(rec))
    assert rec.flush(0.05) == 40
    stats = rec.stats()
    assert (stats.submitted, stats.committed, stats.pending) == (40, 0, 40)
    faulty.fault = None
    assert rec.flush() == 0
    stats = rec.stats()
    assert (stats.submitted, stats.committed, stats.pending) == (40, 40, 0)
    assert stats.failed == 0
    assert stats.errors == logs.errors.total() == 1
    assert stats.commit_lag > 0.04
    assert caplog.text.count("the store is away") == 1
    assert caplog.text.count("the store is back") == 1
    faulty.fault = fault
    end(rec, begin_task(rec))
    until(lambda: caplog.text.count("the store is away") == 2)
    faulty.fault = None
    assert rec.shutdown() == 0
    assert len(stored(faulty)) == 41


def test_tasks_held_back_are_placed_during_an_outage(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=0.05)
    faulty.fault = store_is_away
    task = begin_task(rec)
    call = begin_call(rec, task)
    end(rec, task)
    until(lambda: task.placed)
    faulty.fault = None
    assert rec.flush() == 0
    end(rec, call)
    assert rec.shutdown() == 0
    assert len(stored(faulty)) == 2


def test_a_commit_whose_outcome_was_unclear_adds_nothing_twice(faulty: FaultyChain) -> None:
    rec = faulty.recorder()

    def commit_then_fail(capsules: Sequence[Capsule]) -> None:
        faulty.fault = None
        faulty.inner.append(capsules)
        raise ChainUnavailable("the line went dead")

    faulty.fault = commit_then_fail
    task = begin_task(rec)
    end(rec, begin_call(rec, task))
    end(rec, task)
    assert rec.flush() == 0
    assert_tree_is_whole(stored(faulty))
    assert len(stored(faulty)) == 2
    rec.shutdown()


def test_a_store_that_cannot_be_opened_yet_is_opened_later(tmp_path: Path) -> None:
    directory = tmp_path / "mounted-later"
    directory.write_text("a file is in the way")
    capsule_sdk.configure(url=directory / "capsules.db")
    with capsule_scope("task"):
        pass
    assert capsule_sdk.flush(0.2) == 1
    directory.unlink()
    assert capsule_sdk.flush() == 0
    assert len(list(read_chain(directory / "capsules.db"))) == 1


def test_the_writer_outlives_an_error_of_its_own(
    faulty: FaultyChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "raised", None)
    rec = faulty.recorder()

    def cancelled(_: Sequence[Capsule]) -> None:
        faulty.fault = None
        raise SystemExit("a storage that ends its thread")

    faulty.fault = cancelled
    end(rec, begin_task(rec))
    until(lambda: logs.errors["recorder.writer"] == 1)
    assert rec.flush() == 0
    assert len(stored(faulty)) == 1
    rec.shutdown()


# -- poison ---------------------------------------------------------------------------------------


@pytest.mark.internal_errors
def test_a_record_that_cannot_be_made_into_a_capsule_leaves_a_stand_in(chain: Any) -> None:
    rec = chain.recorder
    with capsule_scope("root") as root:
        good = begin_task(rec, "good", root)
        bad = begin_task(rec, "bad", root)
        bad.capsule_type = "no such type"
        end(rec, bad)
        end(rec, good)
    bad_capsule, good_capsule, root_capsule = chain.capsules()
    assert bad_capsule["id"] == str(bad.id)
    assert bad_capsule["parent_id"] == root_capsule["id"] == good_capsule["parent_id"]
    assert bad_capsule["type"] == "system"
    assert "no such type" in bad_capsule["outcome"]["error"]
    assert bad_capsule["outcome"]["metrics"] == {"records_lost": 1, "status_of_lost": "success"}
    assert good_capsule["type"] == root_capsule["type"] == "agent"
    assert_tree_is_whole(chain.capsules())
    assert rec.stats().failed == 1
    assert logs.errors["records"] == 1
    chain.verify()


def test_a_rejected_capsule_is_replaced_and_the_others_are_not_touched(
    faulty: FaultyChain, caplog: pytest.LogCaptureFixture
) -> None:
    rec = faulty.recorder()
    gate = threading.Event()
    bad: list[str] = []

    def reject(capsules: Sequence[Capsule]) -> None:
        gate.wait()
        for capsule in capsules:
            if str(capsule.id) in bad and capsule.type != "system":
                raise CapsuleRejected(str(capsule.id), "too odd")

    faulty.fault = reject
    root = begin_task(rec, "root")
    children = [begin_task(rec, f"child-{n}", root) for n in range(6)]
    bad += [str(children[1].id), str(children[4].id)]
    for child in children:
        end(rec, child)
    end(rec, root)
    gate.set()
    assert rec.flush() == 0
    capsules = stored(faulty)
    assert [c["type"] for c in capsules].count("system") == 2
    assert [c["id"] for c in capsules if c["type"] == "system"] == bad
    assert {c["outcome"]["error"] for c in capsules if c["type"] == "system"} == {"too odd"}
    assert_tree_is_whole(capsules)
    stats = rec.stats()
    assert (stats.committed, stats.failed) == (7, 2)
    assert caplog.text.count("capsule rejected") == 2
    with pytest.raises(RecordingError, match="too odd"):
        rec.confirm(children[1])
    rec.confirm(children[0])
    rec.shutdown()


def test_a_record_that_is_lost_counts_once_however_often_it_is_tried(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    tries = 0

    def reject_then_away(capsules: Sequence[Capsule]) -> None:
        nonlocal tries
        if capsules[0].type != "system":
            raise CapsuleRejected(str(capsules[0].id), "too odd")
        tries += 1
        if tries < 4:
            raise ChainUnavailable("away")

    faulty.fault = reject_then_away
    end(rec, begin_task(rec))
    assert rec.flush() == 0
    assert rec.stats().failed == 1
    assert [c["type"] for c in stored(faulty)] == ["system"]
    rec.shutdown()


def test_a_record_whose_stand_in_is_rejected_too_does_not_stop_the_others(
    faulty: FaultyChain, caplog: pytest.LogCaptureFixture
) -> None:
    rec = faulty.recorder()
    bad = make_task("bad")
    good = make_task("good")

    def reject(capsules: Sequence[Capsule]) -> None:
        for capsule in capsules:
            if capsule.id == bad.id:
                raise CapsuleRejected(str(capsule.id), "never")

    faulty.fault = reject
    for task in (bad, good):
        rec.begin(task)
        end(rec, task)
    assert rec.flush() == 0
    assert "a record is lost" in caplog.text
    with pytest.raises(RecordingError):
        rec.confirm(bad)
    rec.shutdown()
    first, second = stored(faulty)
    assert first["id"] == str(good.id)
    assert second["outcome"]["metrics"] == {"records_lost": 1}
    stats = rec.stats()
    assert (stats.submitted, stats.committed, stats.failed, stats.lost) == (2, 1, 1, 1)


@pytest.mark.internal_errors
def test_an_answer_that_cannot_be_read_costs_neither_its_capsule_nor_the_tasks(chain: Any) -> None:
    def broken() -> Any:
        raise TypeError("no such field")

    rec = chain.recorder
    with capsule_scope("task") as task:
        call = begin_call(rec, task)
        call.read = broken
        assert rec.claim(call)
        call.settle("success")
        rec.finish(call)
        end(rec, begin_call(rec, task))
    capsules = chain.capsules()
    assert len(capsules) == 3
    assert capsules[0]["outcome"]["metrics"]["tokens_in"] is None
    assert capsules[2]["outcome"]["metrics"]["llm_calls"] == 2
    assert capsules[2]["outcome"]["metrics"]["usage_unknown"] == 1
    assert capsules[2]["outcome"]["metrics"]["tokens_in"] == USAGE.tokens_in
    assert_tree_is_whole(capsules)


# -- strict mode ----------------------------------------------------------------------------------


def test_confirm_returns_once_the_record_is_durable(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    for _ in range(10):
        task = begin_task(rec)
        end(rec, task)
        rec.confirm(task)
        assert stored(faulty)[-1]["id"] == str(task.id)
    rec.shutdown()


def test_confirm_gives_up_on_a_store_that_stays_away_and_the_record_stays_queued(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder(settle_timeout=0.1, exit_timeout=0.1)
    faulty.fault = store_is_away
    task = begin_task(rec)
    end(rec, task)
    with pytest.raises(RecordingError, match="still queued"):
        rec.confirm(task)
    faulty.fault = None
    assert rec.shutdown(5) == 0
    assert len(stored(faulty)) == 1


# -- where no thread can be started ----------------------------------------------------------------


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("no_threads")
def test_without_threads_flush_does_the_work(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=0.1)
    task = begin_task(rec)
    call = begin_call(rec, task)
    end(rec, task)
    faulty.fault = store_is_away
    assert rec.flush(0.2) == 1
    faulty.fault = None
    assert rec.flush(5) == 0
    end(rec, call)
    rec.confirm(call)
    assert rec.shutdown() == 0
    assert len(stored(faulty)) == 2


@pytest.mark.usefixtures("no_threads")
def test_a_fork_does_not_wait_for_a_thread_that_waits_for_the_store_itself(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder()
    end(rec, begin_task(rec))
    faulty.fault = store_is_away
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    began = time.monotonic()
    start_new_thread(lambda: left.put(rec.flush(3)), ())
    until(lambda: rec.stats().times_away > 0)
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert time.monotonic() - began < 2
    assert left.get(timeout=10) == 1
    assert time.monotonic() - began < 5
    faulty.fault = None
    assert rec.flush(5) == 0


# -- figures --------------------------------------------------------------------------------------


def test_figures_add_up_at_every_moment(faulty: FaultyChain) -> None:
    rec = faulty.recorder()
    stop = threading.Event()
    begun = 0
    seen: list[tuple[int, int]] = []

    def watch() -> None:
        while not stop.is_set():
            stats = rec.stats()
            seen.append((stats.submitted, stats.committed + stats.pending))

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(1500):
        end(rec, begin_task(rec))
        begun += 1
    assert rec.flush() == 0
    stop.set()
    thread.join()
    totals = [submitted for submitted, _ in seen]
    assert totals == sorted(totals)
    assert max(totals) <= begun == rec.stats().committed
    open_one = begin_task(rec)
    assert rec.stats().open == 1
    end(rec, open_one)
    rec.shutdown()


def test_a_recorder_touches_nothing_before_its_first_record(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    rec = Recorder(
        Settings(), lambda: pytest.fail("opened"), lambda: "x", lambda: pytest.fail("journaled")
    )
    assert rec.flush() == 0
    assert rec.stats().submitted == 0
    assert rec.shutdown() == 0
    assert set(threading.enumerate()) == before
    assert logging.getLogger("capsule_sdk").handlers == []
