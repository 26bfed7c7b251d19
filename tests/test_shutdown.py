"""Every end that a process can come to: what had returned is there, what was open says so, nothing is left.

What `shutdown_programs` says is a promise: `Ended` checks it against the chain, whatever the program.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chain_support import ROOT, assert_verified
from recording import assert_children_first, assert_tree_is_whole
from shutdown_programs import FileStorage

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.vocabulary import CUT_OFF

if TYPE_CHECKING:
    from litellm_programs import Programs

pytest_plugins = ["litellm_support", "litellm_programs"]

EXIT_TIMEOUT, GRACE = 1.0, 4.0
#: By the signal, or 1 where a thread has run something in the moment in between: Python has one flag for all.
INTERRUPTED = {-2, 1}

PREAMBLE = """
from capsule_sdk import configure, current_task, flush, get_recorder, shutdown
configure(exit_timeout=1.0)
from shutdown_programs import *

def mock(text):
    ask(text, mock_response="so be it")

async def amock(text):
    await aask(text, mock_response="so be it")

def is_open(count):
    "Wait until so many records are open."
    while get_recorder().stats().open < count:
        time.sleep(0.005)
"""

#: A task in the main thread, one in a daemon thread with a call under it, and a stream that is half read.
FOUR_OPEN = """
def hang():
    with opened("thread"):
        ask("slow30 in thread")

def read():
    stream = ask("midslow30 half read", stream=True)
    for chunk in stream:
        half.append(chunk.choices[0].delta.content or "")

half = []
work(3)
work(3, mock)
daemons(hang, read)
with opened("main"):
    is_open(4)
    patience = time.monotonic() + 20
    while "".join(half) != "hello wor" and time.monotonic() < patience:
        time.sleep(0.01)
    ending()
"""
IN_FLIGHT = {"slow30 in thread", "midslow30 half read"}


LATE_CHUNK = re.compile(
    r"^Exception in thread Thread-\d+ \(read\):\n.*?"
    r"^(?:litellm\.exceptions\.|RuntimeError: )[^\n]*after shutdown[^\n]*\n",
    re.DOTALL | re.MULTILINE,
)


class Ended:
    """A process that has ended, and what it promised."""

    def __init__(self, code: int, out: str, err: str, directory: Path) -> None:
        self.code, self.out, self.err, self.directory = code, out, err, directory
        self._ended = time.monotonic()

    @property
    def capsules(self) -> list[dict[str, Any]]:
        storage = FileStorage(self.directory)
        try:
            return storage.stored() or list(read_chain(self.directory / "capsules.db"))
        except EvidenceError:
            return []

    def said(self, word: str) -> list[str]:
        lines = (line.split(" ", 1) for line in self.out.splitlines())
        return [line[1] for line in lines if line[0] == word]

    def one(self, source: str) -> dict[str, Any]:
        found = [c for c in self.capsules if c["trigger"]["source"] == source]
        assert len(found) == 1, f"{len(found)} of {source!r}\n{self.err}"
        return found[0]

    def call(self, text: str) -> dict[str, Any]:
        found = [c for c in self.capsules if c["trigger"]["request"] == text]
        assert len(found) == 1, f"{len(found)} of {text!r}\n{self.err}"
        return found[0]

    def journal(self) -> list[Path]:
        roots = self.directory.rglob("*.records")
        return [path for root in roots for path in sorted(root.rglob("*"))]

    def assert_in_time(self) -> None:
        """It ended within the time that the end may take."""
        (began,) = self.said("ending")
        took = self._ended - float(began)
        assert took < EXIT_TIMEOUT + GRACE, f"the end took {took:.1f} s\n{self.err}"

    def assert_kept(self, *, committed: bool = True, late: int = 0) -> None:
        """All that was begun is there once, what returned as a success; the chain verifies; nothing is left.

        So many threads may have returned from a call that was cut short before by the end of the process.
        """
        capsules = self.capsules
        by_id = {capsule["id"]: capsule for capsule in capsules}
        calls = {c["trigger"]["request"]: c for c in capsules if c["type"] == "chat"}
        for one in self.said("begun"):
            assert one in by_id, f"begun {one} is lost\n{self.err}"
        ended = Counter(how(by_id[one]) for one in self.said("returned"))
        assert ended.pop(("partial", "process exit"), 0) <= late
        assert ended.keys() <= {("success", None)}
        requests = Counter(c["trigger"]["request"] for c in capsules if c["type"] == "chat")
        for text in self.said("answered"):
            assert requests[text] == 1, f"answered {text} is there {requests[text]} times"
            assert how(calls[text]) == ("success", None) or late
        for text in self.said("failed"):
            assert requests[text] == 1, f"failed {text} is there {requests[text]} times"
            assert how(calls[text]) != ("success", None)
        assert all(requests[text] <= 1 for text in self.said("asking"))
        assert_tree_is_whole(capsules)
        if (self.directory / "capsules.db").exists():
            os.environ["QUANTUMPIPES_DATA_DIR"] = str(self.directory)  # put back by conftest
            assert_verified("--db", self.directory / "capsules.db", "--signatures")
        if committed:
            assert self.journal() == [], self.err

    def assert_orderly(self) -> None:
        """It came to its end itself: all is there without a recovery, and nobody had to complain."""
        self.assert_in_time()
        self.assert_kept()
        # What LiteLLM raises in a thread of the user's, whose chunk comes too late, is no complaint of ours.
        complaints = LATE_CHUNK.sub("", self.err)
        assert "capsule_sdk" not in complaints, complaints


class Ends:
    """Runs programs to their end, one after the other, on the chain of this test."""

    def __init__(self, programs: Programs, directory: Path, base_url: str) -> None:
        self._programs, self.directory, self._base_url = programs, directory, base_url

    def __call__(self, program: str, *, code: int | set[int] = 0) -> Ended:
        for name in ("stdout", "stderr"):
            (self.directory / name).unlink(missing_ok=True)
        done = self._programs.run(self.directory, self._base_url, PREAMBLE + program, code=code)
        return Ended(*done, self.directory)

    def recover(self) -> dict[str, int]:
        """Run ``capsuled recover --json``, and return what it found."""
        printed = self("""
from capsule_sdk.cli import main
sys.exit(main(["recover", "--json", "--db", os.environ["CAPSULE_SDK_URL"]]))
""").out
        found: dict[str, int] = json.loads(printed)
        return found

    def recover_twice_at_once(self) -> list[dict[str, int]]:
        return [self._found(process) for process in [self._start_recovery() for _ in range(2)]]

    def _start_recovery(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "capsule_sdk.cli", "recover", "--json"),
                *("--db", str(self.directory / "capsules.db")),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "QUANTUMPIPES_DATA_DIR": str(self.directory),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _found(self, process: subprocess.Popen[str]) -> dict[str, int]:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, f"{out}\n{err}"
        found: dict[str, int] = json.loads(out)
        return found


@pytest.fixture
def ends(programs: Programs, provider: Any, tmp_path: Path) -> Ends:
    return Ends(programs, tmp_path, provider.base_url)


def how(capsule: dict[str, Any]) -> tuple[str, str | None]:
    return capsule["outcome"]["status"], capsule["outcome"]["metrics"].get("ended")


# -- ends that Python has no part in ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
        ("os._exit(7)", 7),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_what_a_process_had_that_was_cut_off_is_recovered_once(
    ends: Ends, end: str, code: int
) -> None:
    resource = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
    ended = ends(f"{resource}\n{FOUR_OPEN}    {end}", code=code)
    before = len(ended.capsules)
    found = ends.recover()
    after = len(ended.capsules)
    assert (found["journals"], found["unfinished"], found["left"], found["damaged"]) == (1, 4, 0, 0)
    assert after == 13
    # What was in the chain by then may lie in the journal too; it is left out.
    assert found["capsules"] >= after - before
    ended.assert_in_time()
    ended.assert_kept()
    for capsule in (ended.one("main"), ended.one("thread"), *map(ended.call, IN_FLIGHT)):
        assert how(capsule) == ("failure", None)
        assert capsule["outcome"]["error"] == CUT_OFF
    assert ended.call("slow30 in thread")["parent_id"] == ended.one("thread")["id"]
    again = ends.recover()
    assert set(again.values()) == {0}
    assert len(ended.capsules) == after


def test_two_recoveries_at_the_same_time_bring_everything_once(ends: Ends) -> None:
    for _ in range(2):
        ends(FOUR_OPEN + "    os._exit(7)", code=7)
    ended = ends(FOUR_OPEN + "    os._exit(7)", code=7)
    found = ends.recover_twice_at_once()
    assert sum(one["journals"] for one in found) in {1, 2, 3}
    ended.assert_kept()
    assert len(ended.capsules) == 39


# -- ends that Python comes to itself --------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code", "main"),
    [
        ("sys.exit(3)", 3, ("partial", "system exit")),
        ("raise KeyError('nobody handles this')", 1, ("failure", None)),
        (
            "os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
            INTERRUPTED,
            ("partial", "interrupted"),
        ),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)", 4, ("partial", "system exit")),
        ("pass", 0, ("success", None)),
    ],
    ids=["sys.exit", "exception", "SIGINT", "SIGTERM with a handler", "end of main"],
)
def test_what_an_ending_process_had_open_is_there_without_a_recovery(
    ends: Ends, end: str, code: int | set[int], main: tuple[str, str | None]
) -> None:
    ended = ends(
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))\n{FOUR_OPEN}    {end}", code=code
    )
    ended.assert_orderly()
    assert len(ended.capsules) == 13
    assert how(ended.one("main")) == main
    for capsule in (ended.one("thread"), *map(ended.call, IN_FLIGHT)):
        assert how(capsule) == ("partial", "process exit")
    assert ended.call("midslow30 half read")["outcome"]["result"] == "hello wor"
    assert_children_first(ended.capsules)


def test_sys_exit_in_a_thread_ends_that_thread_alone(ends: Ends) -> None:
    ended = ends("""
def leave():
    with opened("thread"):
        work(1, mock)
        sys.exit(3)
thread = threading.Thread(target=leave)
thread.start()
thread.join()
work(2, mock)
ending()
""")
    ended.assert_orderly()
    assert how(ended.one("thread")) == ("partial", "system exit")
    assert len(ended.said("returned")) == 3


def test_an_exit_hook_may_work_and_exit(ends: Ends) -> None:
    ended = ends(
        """
import atexit
@atexit.register
def last():
    with opened("at exit"):
        work(2)
        sys.exit(3)
work(1, mock)
ending()
"""
    )
    ended.assert_kept()
    ended.assert_in_time()
    assert how(ended.one("at exit")) == ("partial", "system exit")
    assert len(ended.said("returned")) == 3


def test_a_finalizer_that_weakref_runs_at_the_end_may_work(ends: Ends) -> None:
    ended = ends("""
import weakref
class Kept: pass
kept = Kept()
weakref.finalize(kept, work, 3)
work(1)
ending()
""")
    ended.assert_orderly()
    assert len(ended.said("returned")) == 4


def test_a_finalizer_that_works_when_modules_are_gone_does_not_hold_up_the_end(
    tmp_path: Path,
) -> None:
    """Python can open no file of ours any more by then; that is said, and what was recorded before is whole."""
    ended = plain(
        tmp_path,
        """
from shutdown_programs import *
class Last:
    def __del__(self, step=step):
        step()
last = Last()
last.itself = last
work(1)
ending()
""",
    )
    ended.assert_in_time()
    assert len(ended.said("begun")) == 2
    kept = {capsule["id"] for capsule in ended.capsules}
    assert kept >= set(ended.said("begun")[:1])
    assert kept == set(ended.said("begun")) or "the store is away" in ended.err


def test_daemon_threads_that_call_for_ever_neither_hang_the_end_nor_break_the_chain(
    ends: Ends,
) -> None:
    ended = ends("""
import itertools
def for_ever(ask=None):
    while True:
        time.sleep(0.001)
        work(1, ask)
daemons(for_ever, for_ever, lambda: for_ever(mock), lambda: for_ever(mock),
        lambda: asyncio.run(awork(100000, amock)))
time.sleep(0.7)
ending()
""")
    ended.assert_in_time()
    ends.recover()  # what a daemon thread did while the interpreter went
    ended.assert_kept(late=5)
    assert ended.said("answered")
    assert "Fatal" not in ended.err


def test_a_thread_that_outlives_main_is_waited_for(ends: Ends) -> None:
    ended = ends("""
def late():
    with opened("late"):
        time.sleep(0.3)
        work(50)
        ending()
        # LiteLLM takes no call once the main thread has ended; the user gets its error.
        work(1, mock)
threading.Thread(target=late).start()
""")
    ended.assert_in_time()
    ended.assert_kept()
    assert how(ended.one("late")) == ("failure", None)
    assert len(ended.said("returned")) == 50
    assert len(ended.said("failed")) == 1


def test_a_thread_pool_with_calls_in_flight_at_the_end_of_main_makes_all_of_them(
    ends: Ends,
) -> None:
    ended = ends("""
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(4)
delayed = lambda text: ask(text, mock_response="so be it", mock_delay=0.02)
for _ in range(40):
    pool.submit(work, 1, delayed)
ending()
""")
    ended.assert_kept()
    assert len(ended.said("begun")) == len(ended.said("asking")) == 40
    # LiteLLM raises in calls that end after the main thread: the capsules say what the user saw.
    assert len(ended.said("answered")) + len(ended.said("failed")) == 40


# -- event loops -----------------------------------------------------------------------------------


def test_a_loop_that_ends_with_calls_in_flight_and_streams_half_read(ends: Ends) -> None:
    ended = ends("""
async def read():
    with opened("reader"):
        stream = await aask("midslow30 half read", stream=True)
        async for chunk in stream:
            pass

async def main():
    global kept
    kept = [asyncio.create_task(read())]
    kept += [asyncio.create_task(astep(aask, "slow30")) for n in range(3)]
    with opened("holder"):
        left = await aask("midslow30 not read", stream=True)
        await anext(left)
    kept.append(left)
    await awork(5, amock)
    await asyncio.sleep(0.3)
    ending()

asyncio.run(main())
""")
    ended.assert_orderly()
    assert how(ended.one("reader")) == ("partial", "cancelled")
    assert how(ended.call("midslow30 half read")) == ("partial", "cancelled")
    assert len(ended.said("failed")) == 3
    assert {how(ended.call(text)) for text in ended.said("failed")} == {("partial", "cancelled")}
    assert how(ended.call("midslow30 not read")) == ("partial", "process exit")
    assert how(ended.one("holder")) == ("success", None)


def test_a_loop_that_is_closed_with_calls_in_flight(ends: Ends) -> None:
    ended = ends("""
loop = asyncio.new_event_loop()
kept = [loop.create_task(astep(aask, "slow30"))]
loop.run_until_complete(asyncio.sleep(0.5))
loop.run_until_complete(awork(3, amock))
loop.close()
ending()
""")
    ended.assert_in_time()
    ended.assert_kept()
    (pending,) = [text for text in ended.said("asking") if "slow30" in text]
    assert how(ended.call(pending)) == ("partial", "process exit")


# -- the SDK's own switches ------------------------------------------------------------------------


def test_shutdown_twice_and_more_records_after_each(ends: Ends) -> None:
    ended = ends("""
work(2, mock)
assert shutdown() == 0
assert shutdown() == 0
assert threading.active_count() == 1 or "capsule-writer" not in str(threading.enumerate())
work(2, mock)
with opened("across"):
    assert shutdown() == 0
    work(2, mock)
assert shutdown() == 0
assert flush() == 0
work(1)
ending()
""")
    ended.assert_orderly()
    assert len(ended.said("returned")) == 7
    assert how(ended.one("across")) == ("success", None)


def test_configure_while_calls_are_open_ends_each_where_it_began(ends: Ends) -> None:
    ended = ends("""
work(1)
first = get_recorder()
def slow():
    with opened("thread"):
        ask("slow0.6 ends later")
def hang():
    ask("slow30 never ends")
thread = threading.Thread(target=slow)
thread.start()
daemons(hang)
is_open(3)
second = os.path.join(os.environ["QUANTUMPIPES_DATA_DIR"], "second.db")
configure(url=second)
with capsule_scope("second"):
    pass
thread.join()
assert flush() == 0
ending()
""")
    ended.assert_orderly()
    assert how(ended.one("thread")) == ("success", None)
    assert how(ended.call("slow0.6 ends later")) == ("success", None)
    assert how(ended.call("slow30 never ends")) == ("partial", "process exit")
    second = list(read_chain(ended.directory / "second.db"))
    assert [capsule["trigger"]["source"] for capsule in second] == ["second"]


@pytest.mark.parametrize("configured", [True, False], ids=["configured", "by variable"])
def test_a_relative_store_stays_where_it_was_when_the_directory_changes(
    ends: Ends, configured: bool
) -> None:
    begin = "configure(exit_timeout=1)" if configured else "shutdown(); work(1)"
    ended = ends(f"""
os.chdir(os.environ["QUANTUMPIPES_DATA_DIR"])
os.mkdir("elsewhere")
os.environ["CAPSULE_SDK_URL"] = "capsules.db"
{begin}
recorder = get_recorder()
os.chdir("elsewhere")
with opened("open"):
    work(2)
    recorder.shutdown()  # the store is closed; what comes opens it again
    work(1)
ending()
""")
    assert list((ended.directory / "elsewhere").iterdir()) == []
    ended.assert_orderly()
    assert len(ended.capsules) == (4 if configured else 5)


def test_what_others_may_not_read_is_not_theirs_to_read_whatever_the_umask(ends: Ends) -> None:
    ended = ends("""
os.umask(0)
with opened("secret"):
    work(2)
    from pathlib import Path
    journal = Path(os.environ["QUANTUMPIPES_DATA_DIR"]) / "journal" / "capsules.db.records"
    files = [path for path in journal.rglob("*")]
    assert len(files) >= 3, files
    for path in [journal, *files]:
        say("mode", oct(path.stat().st_mode & 0o777), path.relative_to(journal))
ending()
""")
    ended.assert_orderly()
    assert {mode.split()[0] for mode in ended.said("mode")} == {"0o700", "0o600"}
    (key,) = ended.directory.rglob("key")
    assert key.stat().st_mode & 0o777 == 0o600


def plain(directory: Path, program: str, **environ: str) -> Ended:
    """Run a program in a Python of its own, which imports what it needs itself."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "QUANTUMPIPES_DATA_DIR": str(directory),
            "CAPSULE_SDK_EXIT_TIMEOUT": str(EXIT_TIMEOUT),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Ended(0, done.stdout, done.stderr, directory)


def test_disabled_there_is_no_journal_no_thread_and_no_chain(tmp_path: Path) -> None:
    ended = plain(
        tmp_path,
        """
import threading, capsule_sdk
from shutdown_programs import work
with capsule_sdk.capsule_scope("task"):
    work(2)
assert capsule_sdk.flush() == capsule_sdk.shutdown() == 0
assert threading.active_count() == 1, threading.enumerate()
""",
        CAPSULE_SDK_DISABLED="1",
    )
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


def test_disabled_calls_to_models_are_not_recorded_either(tmp_path: Path) -> None:
    plain(
        tmp_path,
        """
import threading, litellm, capsule_sdk
litellm.callbacks = [capsule_sdk.CapsuleLogger()]
message = {"role": "user", "content": "hi"}
litellm.completion("openai/gpt-4o", [message], mock_response="so be it")
assert capsule_sdk.flush() == 0
assert "capsule" not in str(threading.enumerate()), threading.enumerate()
""",
        CAPSULE_SDK_DISABLED="1",
    )
    assert list(tmp_path.iterdir()) == []


# -- a store or a journal that is away -------------------------------------------------------------


@pytest.fixture
def locked(ends: Ends) -> Iterator[sqlite3.Connection]:
    """The chain, made by one process and locked by another: this one."""
    ends("work(1)\nending()").assert_orderly()
    path = ends.directory / "capsules.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


def test_an_exit_with_the_store_locked_is_bounded_and_all_is_recovered_later(
    ends: Ends, locked: sqlite3.Connection
) -> None:
    ended = ends(FOUR_OPEN)
    ended.assert_in_time()
    assert "records=13" in ended.err
    assert ended.journal()
    locked.execute("ROLLBACK")
    found = ends.recover()
    assert (found["journals"], found["capsules"], found["unfinished"]) == (1, 13, 0)
    ended.assert_kept()
    assert how(ended.one("main")) == ("success", None)
    assert how(ended.one("thread")) == ("partial", "process exit")
    assert how(ended.call("midslow30 half read")) == ("partial", "process exit")


def test_daemon_threads_that_call_for_ever_with_the_store_locked(
    ends: Ends, locked: sqlite3.Connection
) -> None:
    ended = ends("""
def for_ever(ask=None):
    while True:
        time.sleep(0.001)
        work(1, ask)
daemons(for_ever, for_ever, lambda: for_ever(mock))
time.sleep(0.5)
ending()
""")
    ended.assert_in_time()
    locked.execute("ROLLBACK")
    ends.recover()
    ended.assert_kept(late=3)


def test_an_exit_while_the_journal_cannot_be_written_loses_nothing(ends: Ends) -> None:
    ended = ends("""
import ctypes, struct
# Root writes where nobody may, unless it gives up its privileges.
assert ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24)) == 0
work(2, mock)
root = os.path.join(os.environ["QUANTUMPIPES_DATA_DIR"], "journal", "capsules.db.records")
for directory in [os.path.join(root, name) for name in os.listdir(root)] + [root]:
    os.chmod(directory, 0o500)
work(2, mock)
with opened("open"):
    work(2, mock)
    ending()
    sys.exit()
""")
    ended.assert_in_time()
    root = ended.directory / "journal" / "capsules.db.records"
    for directory in [root, *root.iterdir()]:
        directory.chmod(0o700)
    ended.assert_kept(committed=False)
    before = ended.capsules
    ends.recover()
    assert ended.capsules == before
    ended.assert_kept()


# -- other storages --------------------------------------------------------------------------------

OTHER = """
data = os.environ["QUANTUMPIPES_DATA_DIR"]
configure(stored_with(data), exit_timeout=1.0)
"""
#: The same storage in a process where every object lies elsewhere in memory.
ANOTHER = (
    """
kept = [stored_with(os.environ["QUANTUMPIPES_DATA_DIR"]) for _ in range(100)]
"""
    + OTHER
)


@pytest.fixture
def mode(tmp_path: Path) -> Path:
    """The file that orders the faults of the storage."""
    return tmp_path / "mode"


def test_a_storage_takes_all_from_threads_and_loops_in_order(ends: Ends, mode: Path) -> None:
    mode.write_text("sometimes")
    ended = ends(
        OTHER
        + """
def thread():
    with opened("thread"):
        work(3, mock)
        asyncio.run(awork(3, amock))
threads = [threading.Thread(target=thread) for _ in range(3)]
for one in threads:
    one.start()
work(3, mock)
for one in threads:
    one.join()
assert flush() == 0
ending()
"""
    )
    ended.assert_in_time()
    ended.assert_kept()
    assert_children_first(ended.capsules)
    assert len(ended.said("returned")) == len(ended.said("answered")) == 21


@pytest.mark.parametrize("fault", ["raises", "hangs", "blocks"])
def test_a_storage_that_is_away_at_the_end_gets_all_from_the_next_process(
    ends: Ends, mode: Path, fault: str
) -> None:
    mode.write_text(fault)
    ended = ends(
        OTHER
        + """
began = time.monotonic()
work(2, mock)
left = flush(0.3)
assert left == 4, left
assert time.monotonic() - began < 3
daemons(lambda: ask("slow30 in flight"))
is_open(1)
with opened("main"):
    ending()
"""
    )
    ended.assert_in_time()
    assert ended.capsules == []
    assert {path.parts[len(ended.directory.parts)] for path in ended.journal()} == {"journal"}
    mode.unlink()
    after = ends(ANOTHER + "work(1)\ntime.sleep(0.5)\nassert flush() == 0\nending()")
    ended.assert_kept()
    after.assert_orderly()
    assert len(ended.capsules) == 7
    assert how(ended.one("main")) == ("success", None)
    assert how(ended.call("slow30 in flight")) == ("partial", "process exit")


def test_a_storage_whose_process_is_cut_off_gets_all_from_the_next_one(
    ends: Ends, mode: Path
) -> None:
    mode.write_text("slow")
    ended = ends(OTHER + FOUR_OPEN + "    os._exit(7)", code=7)
    assert ended.journal()
    after = ends(ANOTHER + "work(1)\ntime.sleep(0.8)\nassert flush() == 0\nending()")
    ended.assert_kept()
    after.assert_orderly()
    assert len(ended.capsules) == 14
    for capsule in (ended.one("main"), ended.one("thread"), *map(ended.call, IN_FLIGHT)):
        assert capsule["outcome"]["error"] == CUT_OFF


def test_two_storages_of_one_class_in_one_process_are_not_mixed_up(ends: Ends) -> None:
    ended = ends("""
data = os.environ["QUANTUMPIPES_DATA_DIR"]
for name in ("one", "other"):
    os.mkdir(os.path.join(data, name))
first = configure(stored_with(os.path.join(data, "one")), exit_timeout=1.0)
with capsule_scope("first"):
    second = configure(stored_with(os.path.join(data, "other")), exit_timeout=1.0)
    with capsule_scope("second"):
        pass
assert first.identity() != second.identity()
assert flush() == 0
ending()
""")
    ended.assert_in_time()
    assert ended.journal() == []
    stored = {name: FileStorage(ended.directory / name).stored() for name in ("one", "other")}
    assert [c["trigger"]["source"] for c in stored["one"]] == ["first"]
    assert [c["trigger"]["source"] for c in stored["other"]] == ["second"]


def test_a_storage_that_hangs_when_it_is_closed_does_not_hang_the_end(
    ends: Ends, mode: Path
) -> None:
    mode.write_text("hangs in close")
    ended = ends(OTHER + "work(2)\nassert flush() == 0\nsignal.alarm(6)\nending()", code={0, -14})
    ended.assert_kept(committed=False)
    assert ended.code == 0, "it had to be killed"
    ended.assert_in_time()
    assert ended.journal() == []


def test_a_storage_that_is_slow_at_the_end_gets_what_it_takes_in_time(
    ends: Ends, mode: Path
) -> None:
    mode.write_text("slow")
    ended = ends(OTHER + "work(200)\nending()")
    ended.assert_in_time()
    assert 5 < len(ended.capsules) < 200
    mode.unlink()
    ends(ANOTHER + "work(1)\ntime.sleep(0.5)\nassert flush() == 0\nending()").assert_orderly()
    ended.assert_kept()
    assert len(ended.capsules) == 201
