"""What is said only where it is so: recovered, well, committed, noted. Nothing is called safe that is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from chain_support import ROOT
from recording import make_task
from tallying import said

import capsule_sdk
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.journal.backlog import Backlog
from capsule_sdk.journal.files import Home
from capsule_sdk.journal.frames import Kind, encode
from capsule_sdk.journal.leftovers import Contents
from capsule_sdk.journal.unwritten import Unwritten
from capsule_sdk.recording.default import recover
from capsule_sdk.recording.recovery import Found
from capsule_sdk.recording.safekeeping import Safekeeping
from capsule_sdk.records.state import beginning, ending


def test_a_journal_that_cannot_be_removed_is_not_called_recovered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its capsules are in the chain, and counted; it is looked at again."""
    database = tmp_path / "capsules.db"
    left_behind(database)
    monkeypatch.setattr(Home, "remove", refuse)
    found = recover(database)
    assert (found.capsules, found.left) == (1, 1)
    assert "cannot be removed" in caplog.text
    assert "'recovered'" not in caplog.text
    monkeypatch.undo()
    found = recover(database)
    assert (found.capsules, found.left) == (0, 0)
    assert recover(database) == Found()


def test_what_is_noted_elsewhere_and_cannot_be_opened_is_trouble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither `status` nor `recover` says that all is well where it cannot know."""
    database = tmp_path / "capsules.db"
    with_one_record(database)
    root = tmp_path / "journal" / "capsules.db.records"
    noted = Unwritten.make_elsewhere([tmp_path], root)
    assert noted is not None
    noted.put("ab" * 16, {"id": "ab" * 16})
    noted.release()
    monkeypatch.setattr(Unwritten, "take_over", refuse)
    code, status = said(capsys, "status", "--db", str(database))
    assert code == 1
    assert any("cannot be read" in trouble for trouble in status["trouble"]), status
    assert said(capsys, "recover", "--db", str(database))[0] == 1
    monkeypatch.undo()
    assert said(capsys, "recover", "--db", str(database))[1]["lost"] == 1


@pytest.mark.parametrize("how", ["removed", "emptied", "replaced by an older copy"])
def test_a_chain_that_was_cut_under_a_running_process_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    database = tmp_path / "capsules.db"
    capsule_sdk.configure(database)
    write(3)
    older = tmp_path / "older.db"
    shutil.copy(database, older)
    write(3)
    if how == "emptied":
        with sqlite3.connect(database) as connection:
            connection.execute("DELETE FROM capsules")
        connection.close()
    else:
        for path in tmp_path.glob("capsules.db*"):
            path.unlink()
        if how == "replaced by an older copy":
            older.rename(database)
    assert "the chain ends before" not in caplog.text
    write(1)
    write(1)
    (said_so,) = [one for one in caplog.messages if "the chain ends before" in one]
    found = 3 if "older" in how else 0
    assert f"committed=6 found={found}" in said_so


def test_a_directory_for_checkpoints_that_is_not_there_is_said_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    capsule_sdk.configure(tmp_path / "capsules.db", checkpoint=tmp_path / "nope")
    (problem,) = caplog.messages
    assert f"there is no directory {tmp_path / 'nope'}" in problem
    caplog.clear()
    (tmp_path / "there").mkdir()
    capsule_sdk.configure(tmp_path / "capsules.db", checkpoint=tmp_path / "there")
    assert not caplog.messages


def test_what_a_note_did_not_take_is_noted_again(tmp_path: Path) -> None:
    """Where its own file takes nothing any more, in another place."""
    data = tmp_path / "data"
    root = data / "journal" / "capsules.db.records"
    living = [make_task("task")]
    keeping = Safekeeping(lambda: root, lambda _: [data], lambda: list(living), lambda: None)
    keeping.open()
    first = keeping._unwritten
    assert first is not None
    assert keeping._journal is not None
    keeping._journal._fd = os.open("/dev/full", os.O_WRONLY)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, first._fd)  # writing fails from here on
    keeping.begun(living[0])
    assert not first.put("x", {"id": "x"})
    keeping._take_room()
    second = keeping._unwritten
    assert second is not None
    assert second is not first
    assert [one["id"] for one in second.entries()] == [living[0].id.hex]
    os.close(null)
    keeping.forget()
    first.release()
    second.remove()


@pytest.mark.parametrize("how", ["removed", "moved", "moved with all above it"])
def test_capsules_that_wait_in_a_directory_that_was_taken_away_are_written_anew(
    tmp_path: Path, how: str
) -> None:
    first, second = Home.make(tmp_path / "one"), Home.make(tmp_path / "other")
    backlog = Backlog()
    backlog.add(first, ({"id": number} for number in range(5)), lambda document, _: document)
    assert backlog.take(2, 9999) == [{"id": 0}, {"id": 1}]
    backlog.settle(1)
    if how == "removed":
        shutil.rmtree(first.path)
    elif how == "moved":
        first.path.rename(tmp_path / "away")
    else:
        (tmp_path / "one").rename(tmp_path / "away")
    assert backlog.gone() == 4
    backlog.move(second)
    assert not list(tmp_path.rglob("away/**/backlog-*"))  # nobody brings them in a second time
    assert backlog.gone() == 0
    assert [one["id"] for one in Contents(second.directory).capsules()] == [0, 1, 2, 3, 4]
    assert backlog.take(9, 9999) == [{"id": 2}, {"id": 3}, {"id": 4}]
    backlog.settle(4)
    assert not second.backlog()
    for home in (first, second):
        home.release()


def with_one_record(database: Path) -> None:
    capsule_sdk.configure(database)
    write(1)
    assert capsule_sdk.shutdown() == 0


def write(count: int) -> None:
    for _ in range(count):
        with capsule_sdk.capsule_scope("task"):
            pass
    assert capsule_sdk.flush() == 0


def left_behind(database: Path) -> None:
    """Leave the journal of a process that is no more, with one record in it."""
    home = Home.make(database.parent / "journal" / f"{database.name}.records")
    task = make_task("task")
    task.settle("success")
    home.new_records().write_bytes(
        encode(Kind.BEGUN, beginning(task)) + encode(Kind.ENDED, ending(task))
    )
    home.release()


def refuse(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.internal_errors
def test_a_record_that_cannot_begin_counts_as_lost_and_the_chain_says_so_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun = recorded + lost, also with a broken installation. The user's code goes on."""

    def missing(_: object = None) -> None:
        raise ModuleNotFoundError("No module named 'sqlalchemy'")

    recorder = capsule_sdk.configure(tmp_path / "capsules.db")
    monkeypatch.setattr("capsule_sdk.recording.recorder.load", missing)
    for _ in range(3):
        with capsule_sdk.capsule_scope("work"):
            pass
    stats = recorder.stats()
    assert (stats.lost, stats.submitted, stats.committed, stats.pending) == (3, 3, 0, 0)
    assert stats.errors >= 3
    monkeypatch.undo()
    with capsule_sdk.capsule_scope("work"):
        pass
    assert capsule_sdk.flush() == 0
    stats = recorder.stats()
    assert (stats.lost, stats.submitted, stats.committed) == (3, 4, 1)
    capsules = list(read_chain(tmp_path / "capsules.db"))
    assert sum(one["outcome"]["metrics"].get("records_lost", 0) for one in capsules) == 3


def test_a_process_whose_installation_is_broken_says_at_its_end_how_many_are_lost(
    tmp_path: Path,
) -> None:
    program = """
import logging, sys
logging.basicConfig()
sys.modules["sqlalchemy"] = None
import capsule_sdk
for _ in range(4):
    with capsule_sdk.capsule_scope("work"):
        print("went on")
print(capsule_sdk.get_recorder().stats().lost)
"""
    environment = {**os.environ, "QUANTUMPIPES_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip
    assert done.stdout.split("\n")[-2] == "4"
    assert done.stdout.count("went on") == 4
    assert "records are lost at the end of the process" in done.stderr
    assert "lost=4" in done.stderr
