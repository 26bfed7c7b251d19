"""Forks: the parent's records are the parent's, the child's are the child's, and both write one chain."""

from __future__ import annotations

from typing import Any

import pytest
from recording import assert_tree_is_whole
from scripts import Run, _running, run, script  # noqa: F401 - fixtures

WAIT = """
def wait(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


def below(run: Run, source: str) -> list[dict[str, Any]]:
    parent = run.one(source)["id"]
    return [capsule for capsule in run.capsules if capsule["parent_id"] == parent]


@script(
    WAIT
    + """
for _ in range(50):
    with capsule_scope("before"): pass
with capsule_scope("parent"):
    with capsule_scope("inner"): pass
    pid = os.fork()
    with capsule_scope("child" if pid == 0 else "after"): pass
    if pid == 0:
        os._exit(flush())
    wait(pid)
"""
)
def test_records_queued_or_open_at_a_fork_are_recorded_once_by_the_parent(run: Run) -> None:
    run.verify(54)
    assert run.sources.count("before") == 50
    assert run.one("parent")["outcome"]["status"] == "success"
    assert run.one("parent")["outcome"]["metrics"]["children"]["started"] == 2
    child = run.one("child")
    assert child["parent_id"] == run.one("parent")["id"]
    assert child["context"]["environment"] == {"counted_by_parent": False}
    assert run.one("after")["context"]["environment"] == {}


@script(
    WAIT
    + """
pid = os.fork()
with capsule_scope("child" if pid == 0 else "parent"):
    for _ in range(20):
        with capsule_scope("step"): pass
if pid == 0:
    sys.exit()
wait(pid)
"""
)
def test_a_fork_before_the_first_record_of_all(run: Run) -> None:
    run.verify(42)
    assert len(below(run, "child")) == len(below(run, "parent")) == 20


@script(
    WAIT
    + """
with capsule_scope("parent"):
    pid = os.fork()
    if pid == 0:
        with capsule_scope("child"):
            pid = os.fork()
            with capsule_scope("grandchild" if pid == 0 else "child after"): pass
            if pid == 0:
                sys.exit()
            wait(pid)
        sys.exit()
    wait(pid)
"""
)
def test_a_child_that_leaves_by_sys_exit_through_the_parents_scope_ends_only_its_own(
    run: Run,
) -> None:
    run.verify(4)
    assert {c["trigger"]["source"] for c in below(run, "parent")} == {"child"}
    assert {c["trigger"]["source"] for c in below(run, "child")} == {"grandchild", "child after"}
    assert run.one("child")["outcome"]["metrics"]["children"]["started"] == 1
    assert run.one("child")["outcome"]["status"] == "success"
    assert run.one("parent")["outcome"]["status"] == "success"


@script(
    WAIT
    + """
def hammer(number):
    while not stop.is_set():
        counts[number] += 1
        if counts[number] > 150:
            stop.wait(0.05)
        with capsule_scope("load"):
            with capsule_scope("load"): pass
        if number: capsule_sdk.get_recorder().stats()
        time.sleep(0.005)
stop, counts = threading.Event(), [0, 0, 0]
threads = [threading.Thread(target=hammer, args=(n,)) for n in range(3)]
for thread in threads: thread.start()
slowest = 0.0
for number in range(30):
    with capsule_scope(f"parent"):
        started = time.monotonic()
        pid = os.fork()
        slowest = max(slowest, time.monotonic() - started)
        if pid == 0:
            for _ in range(3):
                with capsule_scope("child"): pass
            os._exit(flush())
    wait(pid)
stop.set()
for thread in threads: thread.join()
print(slowest)
"""
)
def test_thirty_forks_under_load_neither_hang_nor_lose_nor_double_a_record(run: Run) -> None:
    run.verify(len(run.capsules))
    assert run.sources.count("child") == 90
    assert run.sources.count("parent") == 30
    assert float(run.out) < 5


@script(
    WAIT
    + '''
import subprocess
with capsule_scope("first"): pass
flush()
other = subprocess.Popen([sys.executable, "-c", """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print(flush=True)
time.sleep(1)
""", os.path.join(os.environ["QUANTUMPIPES_DATA_DIR"], "capsules.db")], stdout=subprocess.PIPE)
other.stdout.read(1)
for _ in range(5):
    with capsule_scope("while locked"): pass
pid = os.fork()
if pid == 0:
    with capsule_scope("child"): pass
    os._exit(flush())
wait(pid)
'''
)
def test_a_fork_while_the_store_is_away(run: Run) -> None:
    run.verify(7)


@script(
    WAIT
    + """
import pathlib
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.settings import Settings
class Slow:
    identity = "slow"
    busy = False
    def append(self, capsules):
        self.busy = True
        begun.set()
        time.sleep(0.5)
        self.busy = False
    def fold(self): return True
    def close(self): pass
begun, chain = threading.Event(), Slow()
root = pathlib.Path(os.environ["QUANTUMPIPES_DATA_DIR"], "slow-journal")
recorder = Recorder(Settings(), lambda: chain, lambda: "slow", lambda: root)
import capsule_sdk.recording.default
capsule_sdk.recording.default._default = recorder
with capsule_scope("task"): pass
begun.wait()
pid = os.fork()
if pid == 0:
    os._exit(chain.busy)
wait(pid)
"""
)
def test_a_fork_waits_for_the_commit_under_way_of_any_storage(run: Run) -> None:
    assert "Traceback" not in run.err


POOL = """
@capsuled(name="task")
def task(number):
    with capsule_scope("inner"): pass
    return number

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with capsule_scope("root"):
        {body}
"""
MAP = """pool = context.Pool(4)
        assert pool.map(task, range(100)) == list(range(100))
        pool.close()
        pool.join()"""
EXECUTOR = """from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(4, mp_context=context) as pool:
            assert list(pool.map(task, range(100))) == list(range(100))"""
PROCESSES = """processes = [context.Process(target=task, args=(n,)) for n in range(6)]
        for process in processes: process.start()
        for process in processes: process.join()
        assert [process.exitcode for process in processes] == [0] * 6"""


@script(POOL.format(method="fork", body=MAP), file=True)
def test_a_pool_of_forked_workers(run: Run) -> None:
    run.verify(201)
    assert run.sources.count("task") == 100
    assert len(below(run, "root")) == 100


@script(POOL.format(method="spawn", body=MAP), file=True)
def test_a_pool_of_spawned_workers(run: Run) -> None:
    run.verify(201)
    assert len(below(run, "root")) == 0


@script(POOL.format(method="fork", body=EXECUTOR), file=True)
def test_a_process_pool_executor(run: Run) -> None:
    run.verify(201)


@script(POOL.format(method="spawn", body=EXECUTOR), file=True)
def test_a_process_pool_executor_that_spawns(run: Run) -> None:
    run.verify(201)


@script(POOL.format(method="forkserver", body=MAP), file=True)
def test_a_pool_of_workers_from_a_fork_server(run: Run) -> None:
    run.verify(201)
    assert run.sources.count("task") == 100


@script(POOL.format(method="forkserver", body=EXECUTOR), file=True)
def test_a_process_pool_executor_with_a_fork_server(run: Run) -> None:
    run.verify(201)


@script(POOL.format(method="fork", body=PROCESSES), file=True)
def test_single_processes_that_end_right_after_their_task(run: Run) -> None:
    run.verify(13)


@script(
    WAIT
    + """
import tempfile
looks, find = threading.Event(), tempfile._get_default_tempdir
def slow(*arguments):
    looks.set()
    time.sleep(0.5)
    return find(*arguments)
tempfile._get_default_tempdir = slow
with capsule_scope("parent"):
    looks.wait()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        tempfile.gettempdir()
        with capsule_scope("child"): pass
        os._exit(flush(20))
    assert time.monotonic() - began > 0.3
    wait(pid)
"""
)
def test_a_fork_waits_for_the_look_at_what_others_have_left(run: Run) -> None:
    """The child would wait for ever for the lock of `tempfile` that the parent's writer held in it."""
    run.verify(2)


@script(
    """
    from multiprocessing.util import Finalize
    def work():
        Finalize(None, late, exitpriority=-1)
        with capsule_scope("task"): pass
        threading.Thread(target=stay_open, daemon=True).start()
        opened.wait()
    def late():
        with capsule_scope("late"): pass
    def stay_open():
        with capsule_scope("open"):
            opened.set()
            time.sleep(60)
    opened = threading.Event()
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    """
)
def test_a_forked_worker_ends_like_a_process(run: Run) -> None:
    run.verify(3)
    assert run.one("open")["outcome"]["metrics"]["ended"] == "process exit"


@script(
    WAIT
    + """
import sqlite3
from pathlib import Path
data = Path(os.environ["QUANTUMPIPES_DATA_DIR"])
with capsule_scope("first"): pass
pids = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        for _ in range(50):
            with capsule_scope(f"child-{number}"): pass
        os._exit(flush())
    pids.append(pid)
for _ in range(50):
    with capsule_scope("parent"): pass
for pid in pids: wait(pid)
assert flush() == 0
"""
)
def test_five_processes_write_one_chain_at_the_same_time(run: Run) -> None:
    run.verify(251)


@script(
    WAIT
    + """
def work(number):
    with capsule_scope("thread"):
        with capsule_scope("before"): pass
        pid = os.fork()
        if pid == 0:
            with capsule_scope("child"): pass
            os._exit(flush(20))
        wait(pid)
with capsule_scope("main"):
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
assert flush(20) == 0
"""
)
def test_forks_in_threads_while_others_fork_and_record(run: Run) -> None:
    run.verify(19)
    assert run.sources.count("child") == run.sources.count("before") == 6
    threads = {c["id"] for c in run.capsules if c["trigger"]["source"] == "thread"}
    children = [c for c in run.capsules if c["trigger"]["source"] == "child"]
    assert {child["parent_id"] for child in children} == threads


@script(
    """
import subprocess
with capsule_scope("parent"):
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            with capsule_scope("flushed"): pass
        assert flush(20) == 0
        with capsule_scope("open"):
            with capsule_scope("ended"): pass
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    with capsule_scope("after"): pass
    assert flush(20) == 0
db = os.path.join(os.environ["QUANTUMPIPES_DATA_DIR"], "capsules.db")
subprocess.run([sys.executable, "-m", "capsule_sdk.cli", "recover", "--db", db], check=True)
"""
)
def test_a_child_that_is_killed_leaves_its_records_and_a_parent_that_goes_on(run: Run) -> None:
    """The journal has what it had not committed."""
    run.verify(24)
    assert run.sources.count("flushed") == 20
    assert run.one("ended")["outcome"]["status"] == "success"
    assert run.one("open")["outcome"]["status"] == "failure"
    assert run.one("parent")["outcome"]["status"] == "success"


@script(
    WAIT
    + """
capsule_sdk.configure(swallow_errors=False)
with capsule_scope("parent"):
    pid = os.fork()
    if pid == 0:
        with capsule_scope("child"): pass
        os._exit(0)
    wait(pid)
"""
)
def test_in_strict_mode_a_child_needs_no_flush(run: Run) -> None:
    run.verify(2)


def test_the_mark_of_a_forked_child_is_what_keeps_the_commitment_provable() -> None:
    """`assert_tree_is_whole` would reject a chain with a child that the parent does not name."""
    parent = {
        "id": "p",
        "sequence": 0,
        "previous_hash": None,
        "hash": "h",
        "parent_id": None,
        "context": {"environment": {}},
        "outcome": {
            "metrics": {
                "children": {
                    "started": 0,
                    "ended": 0,
                    "digest": "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a",
                }
            }
        },
    }
    child: dict[str, Any] = {
        "id": "c",
        "sequence": 1,
        "previous_hash": "h",
        "hash": "i",
        "parent_id": "p",
        "context": {"environment": {"counted_by_parent": False}},
        "outcome": {"metrics": {}},
    }
    assert_tree_is_whole([parent, child])
    child["context"]["environment"] = {}
    with pytest.raises(AssertionError):
        assert_tree_is_whole([parent, child])
