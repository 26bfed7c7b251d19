"""The SQLite file is whole without its -wal wherever a process is quiet, flushed or at its end."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from chain_support import capsules, finish, start
from conftest import Chain

import capsule_sdk
from capsule_sdk import capsule_scope
from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.recording import outbox


def copy_alone(db: Path, copy: Path) -> None:
    """Copy in another process: to close the file here would take away the locks of a writer here."""
    subprocess.run(["cp", str(db), str(copy)], check=True)


def alone(db: Path) -> int:
    """Return how many capsules a copy of the file has that was taken without anything beside it."""
    if not db.exists():
        return 0
    copy = db.with_name(f"copy-{time.monotonic_ns()}.db")
    copy_alone(db, copy)
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        try:
            count = connection.execute("SELECT count(*) FROM capsules").fetchone()
        except sqlite3.OperationalError:
            return 0
    return int(count[0])


def record(count: int) -> None:
    for number in range(count):
        with capsule_scope(f"task-{number}"):
            pass


def until(count: int, db: Path, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while alone(db) != count:
        assert time.monotonic() < deadline, f"{alone(db)} of {count}"
        time.sleep(0.05)


@contextmanager
def reading_on(db: Path) -> Iterator[None]:
    """Keep a transaction open that goes on reading what the file holds now."""
    with closing(sqlite3.connect(db, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM capsules").fetchone()
        yield
        reader.rollback()


def test_a_flushed_file_is_whole_alone(chain: Chain) -> None:
    for round_ in range(1, 6):
        record(7)
        assert capsule_sdk.flush() == 0
        assert alone(chain.url) == 7 * round_


def test_a_quiet_process_leaves_a_whole_file_and_an_empty_log(chain: Chain) -> None:
    record(5)
    until(5, chain.url)
    assert chain.url.with_name("capsules.db-wal").stat().st_size == 0


def test_a_process_that_is_never_quiet_folds_now_and_then(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FOLD_LATEST", 0.5)
    deadline, most = time.monotonic() + 2, 0
    while time.monotonic() < deadline:
        record(1)
        time.sleep(0.05)
        most = max(most, alone(chain.url))
    assert most > 5


def test_a_busy_writer_does_not_fold_for_each_group(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = []
    fold = outbox.Outbox.fold
    monkeypatch.setattr(outbox.Outbox, "fold", lambda self: (folds.append(1), fold(self)))
    began = time.monotonic()
    record(3000)
    assert len(folds) <= 1 + (time.monotonic() - began) / outbox.FOLD_QUIET / 2


def test_a_reader_in_the_way_holds_up_nobody_and_the_rest_follows_when_it_has_gone(
    chain: Chain,
) -> None:
    record(3)
    assert capsule_sdk.flush() == 0
    with reading_on(chain.url):
        record(3)
        began = time.monotonic()
        assert capsule_sdk.flush() == 0
        assert time.monotonic() - began < 2
        with closing(sqlite3.connect(chain.url, timeout=0)) as other:  # no lock is kept meanwhile
            other.execute("CREATE TABLE other_program (x)")
    until(6, chain.url)


def test_folding_waits_for_no_other_writer_and_says_that_it_is_not_done(tmp_path: Path) -> None:
    db = tmp_path / "chain.db"
    chain = open_chain(url=db)
    chain.append(capsules(2))
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert chain.fold()  # what is committed is in the file, though the log cannot be emptied
        assert time.monotonic() - began < 1
        other.rollback()
    assert alone(db) == 2
    with reading_on(db):
        chain.append(capsules(2))
        assert not chain.fold()
    assert chain.fold()
    assert alone(db) == 4
    chain.close()


PROGRAM = """
import os, sys, time
import capsule_sdk
from capsule_sdk import capsule_scope
capsule_sdk.configure(url=sys.argv[1])
for number in range(20):
    with capsule_scope(f"task-{number}"):
        pass
"""


def test_what_was_flushed_is_in_the_file_of_a_process_that_is_killed_then(tmp_path: Path) -> None:
    db = tmp_path / "chain.db"
    process = start(PROGRAM + "capsule_sdk.flush(); os.kill(os.getpid(), 9)", db)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert alone(db) == 20


def test_a_process_that_ends_folds_though_another_has_the_file_open(tmp_path: Path) -> None:
    db = tmp_path / "chain.db"
    finish(start(PROGRAM, db))
    with closing(sqlite3.connect(db)) as other:
        assert other.execute("SELECT count(*) FROM capsules").fetchone() == (20,)
        finish(start(PROGRAM, db))
        assert alone(db) == 40


def test_a_fork_hands_over_a_whole_file(tmp_path: Path) -> None:
    db = tmp_path / "chain.db"
    code = PROGRAM + (
        "from test_folding import alone\n"
        "from pathlib import Path\n"
        "while capsule_sdk.get_recorder().stats().pending: time.sleep(0.001)\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(alone(Path(sys.argv[1])) != 20)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    finish(start(code, db))


def test_what_cannot_be_folded_is_no_trouble_of_the_recording(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log holds what the file cannot take: a full disk is told of by the next commit."""
    record(1)
    assert capsule_sdk.flush() == 0
    monkeypatch.setattr("capsule_sdk.chain.sqlite.log_of", lambda path: path / "nowhere")
    record(1)
    assert capsule_sdk.flush() == 0
    assert capsule_sdk.get_recorder().stats().store_trouble is None


# -- a copy that lacks its log ----------------------------------------------------------------------


@pytest.fixture
def lacking(tmp_path: Path) -> Path:
    """A database as it is when the file alone is copied from under a program that records."""
    db = tmp_path / "live.db"
    chain = open_chain(url=db)
    chain.append(capsules(3))
    copy = tmp_path / "copy.db"
    copy_alone(db, copy)
    assert copy.stat().st_size == 4096
    chain.close()
    return copy


@pytest.mark.parametrize(
    "command",
    ["tree", "show 0", "tail", "stats", "verify", "export -", "report r.html", "backup b.db", "status"],
)  # fmt: skip
def test_each_reading_command_names_the_log_that_a_copy_lacks(
    lacking: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(lacking.parent)
    code = main([*command.split(), "--db", str(lacking)])
    printed = capsys.readouterr()
    assert code == (1 if command == "status" else 2)
    assert "copy.db-wal" in printed.out + printed.err
    assert "capsuled backup" in printed.out + printed.err


def test_in_a_directory_that_cannot_be_written_it_is_named_too(lacking: Path) -> None:
    code = """
import os, sys
from capsule_sdk.cli import main
os.setuid(65534) if os.getuid() == 0 else None
sys.exit(main(["tree", "--db", sys.argv[1]]))
"""
    home = Path("/tmp") / f"capsuled-folding-{os.getpid()}"  # others can enter it
    home.mkdir()
    try:
        copy = Path(shutil.copy(lacking, home / "copy.db"))
        copy.chmod(0o444)
        home.chmod(0o555)
        process = start(code, copy)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "copy.db-wal" in err
    finally:
        home.chmod(0o755)
        shutil.rmtree(home)


def test_a_database_of_something_else_is_not_called_a_copy_without_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "notes.db")) as other:
        other.execute("CREATE TABLE notes (x)")
    assert main(["tree", "--db", str(tmp_path / "notes.db")]) == 2
    err = capsys.readouterr().err
    assert "a database without capsules" in err
    assert "-wal" not in err
