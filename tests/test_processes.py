"""Many writers, one chain: threads, event loops and processes on one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chain_support import ROOT, assert_one_unbroken_chain, capsules, finish, rows, start

from capsule_sdk.chain import open_chain, sqlite
from capsule_sdk.evidence.exporting.export import read_chain

PROGRAMS = Path(__file__).with_name("process_programs.py")


class Crowd:
    """So many processes with one program on one data directory, which begin at the same moment."""

    def __init__(self, home: Path, count: int, program: str, calls: int) -> None:
        gate, self._opener = os.pipe()
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = {
            **os.environ,
            "QUANTUMPIPES_DATA_DIR": str(home),
            "PYTHONPATH": paths,
            "PYTHONWARNINGS": "ignore",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, PROGRAMS, program, str(number), str(calls)],
                env=environment,
                stdin=gate,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]
        os.close(gate)
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def go(self) -> None:
        os.close(self._opener)

    def assert_all_went_well(self) -> None:
        """Every process ended well, with nothing left, and had nothing to complain about."""
        for process in self.processes:
            out, err = process.communicate(timeout=100)
            assert process.returncode == 0, err
            assert json.loads(out) == {"left": 0, "errors": 0, "failed": 0}
            assert "locked" not in err
            assert "the store is away" not in err

    def run(self) -> None:
        self.go()
        self.assert_all_went_well()


def requests(db: Path) -> Counter[Any]:
    return Counter(capsule["trigger"]["request"] for capsule in read_chain(db))


def test_eight_processes_with_threads_and_loops_write_4000_calls_each_once(tmp_path: Path) -> None:
    """They start on an empty directory: key, database and table come into being in the same moment."""
    Crowd(tmp_path, 8, "tasks", 500).run()
    calls = {f"{process}-{number}" for process in range(8) for number in range(500)}
    expected = calls | {f"{process}-main" for process in range(8)}
    assert requests(tmp_path / "capsules.db") == dict.fromkeys(expected, 1)
    assert_one_unbroken_chain(tmp_path / "capsules.db", 4008)
    assert len(set(rows(tmp_path / "capsules.db", "signed_by"))) == 1


def test_processes_that_call_models_write_each_call_once(tmp_path: Path) -> None:
    Crowd(tmp_path, 3, "llm", 50).run()
    calls = {f"{process}-{number}" for process in range(3) for number in range(50)}
    assert requests(tmp_path / "capsules.db") == dict.fromkeys(calls, 1)
    assert_one_unbroken_chain(tmp_path / "capsules.db", 150)


FIRST_START = """
import os, sys
from chain_support import race
import capsule_sdk, capsule_sdk.chain
from capsule_sdk import capsule_scope, flush
def work(process):
    for _ in range(3):
        with capsule_scope("task"): pass
    assert flush() == 0
    assert capsule_sdk.get_recorder().stats().errors == 0
for home in sys.argv[1:]:
    os.environ["QUANTUMPIPES_DATA_DIR"] = home
    race(8, work)
"""


def test_eight_processes_that_start_together_make_one_key_and_one_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [tmp_path / f"new-{number}" for number in range(10)]
    finish(start(FIRST_START, *homes), timeout=100)
    for home in homes:
        assert [path.name for path in home.glob("key*")] == ["key"]
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(home))
        assert_one_unbroken_chain(home / "capsules.db", 24)
        assert len(set(rows(home / "capsules.db", "signed_by"))) == 1


HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    time.sleep(float(line))
    connection.rollback()
    print(time.monotonic(), flush=True)
"""


def test_a_lock_is_taken_within_milliseconds_of_its_release(tmp_path: Path) -> None:
    """SQLite's own wait naps for 100 ms by the time that these locks are released."""
    chain = open_chain(url=tmp_path / "chain.db")
    chain.append(capsules(1))
    other = start(HOLD, tmp_path / "chain.db")
    assert other.stdin is not None
    assert other.stdout is not None
    delays = []
    for number in range(9):
        other.stdin.write(f"{0.24 + number / 100}\n")
        other.stdin.flush()
        assert other.stdout.readline() == "locked\n"
        chain.append(capsules(1))
        taken = time.monotonic()
        delays.append(taken - float(other.stdout.readline()))
    finish(other)
    chain.close()
    assert statistics.median(delays) < 0.025
    assert_one_unbroken_chain(tmp_path / "chain.db", 10)


WAITS = """
import sys, time
from capsule_sdk.chain.store import SQLiteStore
store = SQLiteStore(sys.argv[1], busy_timeout=30)
used = time.process_time()
print("ready", flush=True)
with store.transaction():
    pass
print(time.process_time() - used)
"""


def test_of_those_who_wait_for_a_lock_one_alone_keeps_trying(tmp_path: Path) -> None:
    """A hundred that all tried it left no processor time to the one that held it."""
    db = tmp_path / "capsules.db"
    finish(start("from capsule_sdk.chain.store import SQLiteStore\nimport sys\n"
                 "with SQLiteStore(sys.argv[1]).transaction(): pass", db))  # fmt: skip
    with sqlite3.connect(db, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [start(WAITS, db) for _ in range(6)]
        for process in waiting:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        time.sleep(3)
        other.execute("ROLLBACK")
    used = sorted(float(process.communicate(timeout=60)[0]) for process in waiting)
    assert sum(used[:-1]) < 0.5, f"seconds of processor time: {used}"


def test_four_writers_that_never_rest_keep_the_log_in_bounds_and_get_their_turns(
    tmp_path: Path,
) -> None:
    crowd = Crowd(tmp_path, 4, "groups", 20)
    log = tmp_path / "capsules.db-wal"
    most = 0
    crowd.go()
    while any(process.poll() is None for process in crowd.processes):
        time.sleep(0.002)
        most = max(most, log.stat().st_size if log.exists() else 0)
    crowd.assert_all_went_well()
    assert_one_unbroken_chain(tmp_path / "capsules.db", 4 * 20 * 64)
    assert 1_000_000 < most < 8_000_000
    turns = [row[0].split('"source": "')[1][0] for row in rows(tmp_path / "capsules.db", "data")]
    last_of_the_first = min(max(i for i, turn in enumerate(turns) if turn == one) for one in "0123")
    assert min(Counter(turns[: last_of_the_first + 1])[one] for one in "0123") > 5 * 64


def test_a_reader_that_stays_in_the_way_of_the_log_does_not_hold_up_the_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LOG_BOUND", 500_000)
    monkeypatch.setattr(sqlite, "_CHECKPOINT_PAGES", 50)
    chain = open_chain(url=tmp_path / "chain.db")
    chain.append(capsules(10))
    reader = sqlite3.connect(tmp_path / "chain.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM capsules").fetchone() == (10,)
    began = time.monotonic()
    for _ in range(40):
        chain.append(capsules(16))
    assert time.monotonic() - began < 40 * sqlite._EMPTYING_TIMEOUT / 2
    log = tmp_path / "chain.db-wal"
    grown = log.stat().st_size
    assert grown > 1_000_000
    reader.rollback()
    reader.close()
    for _ in range(20):
        chain.append(capsules(16))
    assert log.stat().st_size < 1_000_000
    chain.close()
    assert_one_unbroken_chain(tmp_path / "chain.db", 10 + 60 * 16)
