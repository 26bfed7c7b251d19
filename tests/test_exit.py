"""The end of the process: whatever it ends by, what was begun is recorded, without a flush."""

from __future__ import annotations

from scripts import Run, _running, run, script  # noqa: F401 - fixtures

from capsule_sdk.records.task import children_digest


def status(run: Run, source: str) -> tuple[str, str | None]:
    outcome = run.one(source)["outcome"]
    return outcome["status"], outcome["metrics"].get("ended")


@script(
    """
    for number in range(300):
        with capsule_scope("task"): pass
    """
)
def test_a_process_that_just_ends_loses_nothing(run: Run) -> None:
    run.verify(300)
    assert run.out == run.err == ""
    assert not (run.directory / "capsules.db-wal").exists()


@script("with capsule_scope('task'): sys.exit(3)", exits_with=3)
def test_sys_exit_in_a_task(run: Run) -> None:
    assert status(run, "task") == ("partial", "system exit")


@script(
    "with capsule_scope('outer'):\n  with capsule_scope('task'): raise KeyError('x')", exits_with=1
)
def test_an_exception_that_nobody_handles(run: Run) -> None:
    assert status(run, "task") == ("failure", None)
    assert run.one("task")["outcome"]["error"] == "KeyError: 'x'"
    assert run.sources == ["task", "outer"]
    assert run.err.rstrip().endswith("KeyError: 'x'")


@script(
    """
    with capsule_scope('before'): pass
    with capsule_scope('outer'):
        with capsule_scope('inner'):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
    """,
    exits_with=-2,
)
def test_a_keyboard_interrupt_leaves_partial_tasks_that_are_all_committed(run: Run) -> None:
    assert run.sources == ["before", "inner", "outer"]
    assert status(run, "inner") == status(run, "outer") == ("partial", "interrupted")


@script(
    """
    started = threading.Barrier(4)
    def work(number):
        with capsule_scope(f"outer-{number}"):
            with capsule_scope(f"inner-{number}"):
                started.wait()
                time.sleep(60)
    for number in range(3):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    started.wait()
    """
)
def test_tasks_open_in_daemon_threads_are_cut_short_innermost_first(run: Run) -> None:
    run.verify(6)
    for number in range(3):
        assert status(run, f"inner-{number}") == ("partial", "process exit")
        assert status(run, f"outer-{number}") == ("partial", "process exit")
        assert run.sources.index(f"inner-{number}") < run.sources.index(f"outer-{number}")


@script(
    """
    def work():
        with capsule_scope("long"):
            for number in range(20):
                with capsule_scope("step"): time.sleep(0.02)
    threading.Thread(target=work).start()
    """
)
def test_a_thread_that_outlives_the_main_one_is_waited_for(run: Run) -> None:
    run.verify(21)
    assert status(run, "long") == ("success", None)


@script(
    """
    import atexit
    del capsule_sdk, capsule_scope, capsuled, flush
    for name in [name for name in sys.modules if name.startswith("capsule_sdk")]:
        del sys.modules[name]
    @atexit.register
    def last():
        with capsule_sdk.capsule_scope("outer"):
            for number in range(20):
                with capsule_sdk.capsule_scope("after ours"): pass
    import capsule_sdk
    with capsule_sdk.capsule_scope("before"): pass
    """
)
def test_what_ends_after_our_own_exit_handler_is_committed_by_who_ends_it(run: Run) -> None:
    run.verify(22)
    assert run.sources == ["before", *["after ours"] * 20, "outer"]


@script(
    """
    @atexit.register
    def last():
        with capsule_scope("at exit"): pass
        print(flush())
    with capsule_scope("before"): pass
    """
)
def test_an_exit_handler_may_record_and_flush(run: Run) -> None:
    assert run.sources == ["before", "at exit"]
    assert run.out == "0\n"


@script(
    """
    @atexit.register
    def last():
        with capsule_scope("only"): pass
    """
)
def test_the_first_record_of_all_may_come_in_an_exit_handler(run: Run) -> None:
    run.verify(1)


@script(
    """
    class Stream:
        def __init__(self): self.scope = capsule_scope("stream"); self.scope.__enter__()
        def __del__(self): self.scope.__exit__(None, None, None)
    streams = [Stream() for _ in range(3)]
    cycle = streams[0]; cycle.itself = cycle
    """
)
def test_records_that_finalizers_end_at_the_very_end_are_there_once(run: Run) -> None:
    run.verify(3)


@script(
    """
    async def main(number):
        @capsuled(name="task")
        async def task(): await asyncio.sleep(0)
        async with capsule_scope(f"run"):
            await asyncio.gather(*(task() for _ in range(5)))
    for number in range(20):
        asyncio.run(main(number))
    """
)
def test_many_event_loops_one_after_the_other(run: Run) -> None:
    run.verify(120)


@script(
    """
    async def main():
        @capsuled(name="forgotten")
        async def task(): await asyncio.sleep(60)
        global kept
        kept = asyncio.create_task(task())
        await asyncio.sleep(0.01)
    asyncio.run(main())
    """
)
def test_a_task_that_asyncio_cancels_at_its_end_is_partial(run: Run) -> None:
    assert status(run, "forgotten") == ("partial", "cancelled")


@script(
    """
    from concurrent.futures import ThreadPoolExecutor
    @capsuled(name="task")
    def task(n): return n
    ThreadPoolExecutor(4).map(task, range(200))
    """
)
def test_a_thread_pool_that_nobody_shuts_down(run: Run) -> None:
    run.verify(200)


@script(
    """
    import sqlite3
    with capsule_scope("first"): pass
    flush()
    db = sqlite3.connect(os.path.join(os.environ["QUANTUMPIPES_DATA_DIR"], "capsules.db"),
                         isolation_level=None, check_same_thread=False)
    db.execute("BEGIN EXCLUSIVE")
    threading.Timer(1.0, db.execute, ("ROLLBACK",)).start()
    with capsule_scope("while locked"): pass
    os._exit(flush())
    """
)
def test_os_exit_after_a_flush_loses_nothing(run: Run) -> None:
    assert run.sources == ["first", "while locked"]


@script(
    """
    import sqlite3
    with capsule_scope("first"): pass
    flush()
    db = sqlite3.connect(os.path.join(os.environ["QUANTUMPIPES_DATA_DIR"], "capsules.db"),
                         isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    with capsule_scope("lost"): pass
    atexit.register(lambda: print(time.monotonic()))
    """,
    CAPSULE_SDK_EXIT_TIMEOUT="0.3",
)
def test_a_store_that_stays_away_ends_in_an_error_that_says_how_many_are_lost(run: Run) -> None:
    assert run.sources == ["first"]
    assert "records are not in the chain at the end of the process" in run.err
    assert "records=1" in run.err


@script(
    """
    import tracemalloc
    from capsule_sdk.records.record import Record
    import capsule_sdk.recording.recorder
    recorder = capsule_sdk.get_recorder()
    def interrupt(record): raise KeyboardInterrupt
    with capsule_scope("before"): pass
    flush()
    finish, recorder.finish = recorder.finish, interrupt
    try:
        with capsule_scope("claimed"): pass
    except KeyboardInterrupt: pass
    del recorder.finish
    """
)
def test_an_interrupt_between_claim_and_finish_costs_no_record(run: Run) -> None:
    assert run.sources == ["before", "claimed"]
    assert status(run, "claimed") == ("success", None)


@script(
    """
    import random
    def interrupt(*_): raise KeyboardInterrupt
    with capsule_scope("first"): pass
    signal.signal(signal.SIGALRM, interrupt)
    begun = interrupted = 0
    while begun < 400 or interrupted < 40:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.002))
            while True:
                with capsule_scope("task"):
                    begun += 1
        except KeyboardInterrupt:
            interrupted += 1
    print(begun)
    """
)
def test_interrupts_at_any_line_cost_no_record_that_was_begun(run: Run) -> None:
    capsules = run.capsules
    assert len({c["id"] for c in capsules}) == len(capsules) > int(run.out)
    for capsule in capsules:
        children = [c["id"] for c in capsules if c["parent_id"] == capsule["id"]]
        assert capsule["outcome"]["metrics"]["children"]["digest"] == children_digest(children)


@script(
    """
    def hammer():
        while True:
            with capsule_scope("task"): time.sleep(0.002)
    with capsule_scope("task"): pass  # the first one imports much
    for _ in range(4):
        threading.Thread(target=hammer, daemon=True).start()
    time.sleep(0.3)
    """
)
def test_daemon_threads_that_go_on_to_the_end_neither_hang_nor_break_the_chain(run: Run) -> None:
    run.verify(len(run.capsules))
    assert len(run.capsules) > 50
    assert "Traceback" not in run.err
    assert "Fatal" not in run.err


@script(
    """
    import logging
    logging.getLogger("capsule_sdk").setLevel(logging.CRITICAL)
    from capsule_sdk.records.call import LLMCall
    from capsule_sdk.records.record import Record
    def broken(self, ended): raise ValueError("broken")
    Record.cut_short = broken
    kept = [capsule_scope(f"open-{n}").__enter__() for n in range(3)]
    """
)
def test_a_record_that_cannot_be_cut_short_does_not_keep_the_others_from_ending(run: Run) -> None:
    assert sorted(run.sources) == ["open-0", "open-1", "open-2"]
