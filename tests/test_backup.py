"""``capsuled backup``: a live chain as one file, whole, private, never over something else unasked."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from chain_support import ROOT, assert_one_unbroken_chain, capsules, finish, start

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.evidence.exporting import backup as backup_module


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    append(3)
    return tmp_path / "capsules.db"


def append(count: int) -> None:
    chain = open_chain()
    chain.append(capsules(count))
    chain.close()


def change(db: Path, statement: str) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(statement)


def test_it_is_one_private_file_that_both_verifiers_call_whole(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", "copy.db"]) == 0
    out = capsys.readouterr().out.splitlines()
    copy = Path("copy.db")
    assert out[0] == f"3 capsules, {copy.stat().st_size:,} bytes -> copy.db"
    assert out[1].startswith("WHOLE")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert not list(copy.parent.glob("copy.db-*"))
    assert not list(copy.parent.glob(".copy*"))
    assert_one_unbroken_chain(copy.absolute(), 3)


def test_a_program_goes_on_in_a_restored_copy(db: Path) -> None:
    assert main(["backup", "copy.db"]) == 0
    append(2)
    shutil.move("copy.db", db)
    append(4)
    assert_one_unbroken_chain(db, 7)


def test_a_copy_is_read_where_nothing_can_be_written(db: Path) -> None:
    """It keeps the rollback journal, which asks for nothing beside the file."""
    assert main(["backup", "copy.db"]) == 0
    header = Path("copy.db").read_bytes()[:100]
    assert (header[18], header[19]) == (1, 1)


WRITER = """
import select, sys
import capsule_sdk
from capsule_sdk import capsule_scope
capsule_sdk.configure(url=sys.argv[1], exit_timeout=60)
number = 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    with capsule_scope(f"task-{number}"):
        number += 1
print(number)
"""


@pytest.mark.load
@pytest.mark.timeout(300)
def test_twenty_backups_while_four_processes_write_are_whole_each_time(tmp_path: Path) -> None:
    db = tmp_path / "capsules.db"
    writers = [start(WRITER, db) for _ in range(4)]
    while not db.exists() or not open_count(db):
        assert not any(writer.poll() for writer in writers)
    counts = []
    for number in range(20):
        out = tmp_path / f"copy-{number}.db"
        assert main(["backup", str(out), "--db", str(db)]) == 0
        counts.append(open_count(out))
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("stop\n")
        writer.stdin.flush()
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert_one_unbroken_chain(db, sum(map(int, finish(*writers, timeout=120))))


def open_count(db: Path) -> int:
    with closing(sqlite3.connect(db)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM capsules").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


# -- where it would do harm, or cannot be done -------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["backup", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_what_is_there_is_replaced_only_when_that_is_said(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("copy.db").write_text("mine")
    assert "is there already: name another file, or say --force" in refused(capsys, "copy.db")
    assert Path("copy.db").read_text() == "mine"
    assert main(["backup", "copy.db", "--force"]) == 0
    assert_one_unbroken_chain(Path("copy.db").absolute(), 3)


@pytest.mark.parametrize(("answer", "replaced"), [(b"n", False), (b"y", True)])
def test_on_a_terminal_it_asks(db: Path, answer: bytes, replaced: bool) -> None:
    Path("copy.db").write_text("mine")
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "capsule_sdk.cli", "backup", "copy.db"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.write(keyboard, answer + b"\n")
    _, err = process.communicate(timeout=60)
    os.close(keyboard)
    os.close(terminal)
    assert b"copy.db is there already. Replace it?" in err
    assert process.returncode == (0 if replaced else 130)
    assert (Path("copy.db").read_bytes() != b"mine") is replaced


@pytest.mark.parametrize(
    "name", ["capsules.db", "./capsules.db", "link.db", "hard.db", "capsules.db-wal"]
)
def test_the_chain_itself_is_never_the_place_even_by_force(
    db: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    Path("link.db").symlink_to(db)
    Path("hard.db").hardlink_to(db)
    assert "the chain itself" in refused(capsys, name, "--force")
    assert_one_unbroken_chain(db, 3)


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_the_log_of_another_database_is_not_left_beside_the_copy(
    db: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    Path(f"copy.db{ending}").write_text("of something else")
    assert f"copy.db{ending} belongs to another database" in refused(capsys, "copy.db", "--force")
    assert not Path("copy.db").exists()


def test_places_that_are_no_files_are_refused(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("directory").mkdir()
    assert "is a directory: name a file in it" in refused(capsys, "directory")
    assert "is not a regular file" in refused(capsys, "/dev/null")
    assert "No such file or directory" in refused(capsys, "no/such/copy.db")


def test_a_disk_that_is_full_and_a_directory_that_refuses_leave_nothing() -> None:
    code = """
import os, resource, signal, sys
os.environ["QUANTUMPIPES_DATA_DIR"] = sys.argv[1]
from capsule_sdk.chain import open_chain
from chain_support import capsules
from capsule_sdk.cli import main
group = capsules(100)
if os.getuid() == 0:
    os.chown(sys.argv[1], 65534, 65534)
    os.setuid(65534)
chain = open_chain()
chain.append(group)
chain.close()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, most))
print(main(["backup", sys.argv[1] + "/copy.db"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
os.mkdir(sys.argv[1] + "/closed")
os.chmod(sys.argv[1] + "/closed", 0o500)
print(main(["backup", sys.argv[1] + "/closed/copy.db"]))
print(sorted(name for name in os.listdir(sys.argv[1]) if "copy" in name))
"""
    home = Path(tempfile.mkdtemp())
    try:
        process = start(code, home)
        out, err = process.communicate(timeout=60)
        assert out == "2\n2\n[]\n", err
        assert "the disk is full or reports an error" in err
        assert "Permission denied" in err
    finally:
        shutil.rmtree(home)


# -- what is copied ----------------------------------------------------------------------------------


def test_a_broken_chain_is_copied_and_said_to_be_broken_but_replaces_no_backup(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", "good.db"]) == 0
    change(db, "UPDATE capsules SET data = replace(data, 'task-1', 'task-9')")
    assert main(["backup", "broken.db"]) == 1
    assert "BROKEN" in capsys.readouterr().out
    assert main(["verify", "broken.db", "--quiet"]) == 1
    assert main(["backup", "good.db", "--force", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["kept"], told["verdict"], told["counts"]) == (
        False,
        "broken",
        {"hash_mismatch": 1},
    )
    assert_one_unbroken_chain(Path("good.db").absolute(), 3)


def test_without_a_key_the_copy_is_there_and_said_to_be_unchecked(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("key").rename("elsewhere")
    assert main(["backup", "copy.db"]) == 2
    assert "NOT CHECKED" in capsys.readouterr().out
    assert main(["backup", "copy2.db", "--no-signatures"]) == 0
    Path("elsewhere").rename("key")
    assert_one_unbroken_chain(Path("copy.db").absolute(), 3)


def test_postgresql_and_exported_files_are_told_what_to_do(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(capsys, "copy.db", "--db", "postgresql://ana:secret@host/audit")
    assert "pg_dump" in err
    assert "capsuled export" in err
    assert "secret" not in err
    assert main(["export", "chain.json"]) == 0
    capsys.readouterr()
    assert "copy it as any other file" in refused(capsys, "copy.db", "--db", "chain.json")


def test_a_file_of_qp_capsule_in_a_rollback_journal_is_copied(db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    assert main(["backup", "copy.db"]) == 0
    assert_one_unbroken_chain(Path("copy.db").absolute(), 3)


def test_an_interrupt_while_it_is_verified_leaves_nothing(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_module, "verify", interrupted)
    assert main(["backup", "copy.db"]) == 130
    assert not list(Path().glob("*copy*"))
    assert not list(Path().glob(".copy*"))
