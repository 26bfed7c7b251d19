"""What README ("When things go wrong") and docs/operations.md tell people is done here, and comes out so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from chain_support import ROOT
from disks import fill, small_disk
from tallying import said

import capsule_sdk
from capsule_sdk.cli import main
from capsule_sdk.evidence.exporting.export import read_chain

README = (ROOT / "README.md").read_text("utf-8")
WRONG = README[README.index("## When things go wrong") : README.index("## What it costs")]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")

PREAMBLE = """
import os, signal, sys, time
from pathlib import Path
import capsule_sdk
from capsule_sdk import capsule_scope, flush
data = Path(os.environ["QUANTUMPIPES_DATA_DIR"])
def write(count, name="task"):
    for _ in range(count):
        with capsule_scope(name): pass
"""


def run(home: Path, code: str, **environ: str) -> tuple[int, list[str]]:
    """Run a program whose chain lies in a directory; return how it ended, and the lines of its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        env={
            **{key: value for key, value in os.environ.items() if "CAPSULE" not in key},
            "QUANTUMPIPES_DATA_DIR": str(home),
            "PYTHONPATH": str(ROOT),
            **environ,
        },
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory, in which the commands look too."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(path))
    return path


def quoted(text: str, sentence: str) -> None:
    """The sentence still stands there, so that this test is about it."""
    assert " ".join(sentence.split()) in " ".join(text.split())


# -- README: when things go wrong --------------------------------------------------------------------


def test_a_process_dies(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quoted(WRONG, "Its records lie in its journal, a directory under `journal/`.")
    quoted(WRONG, "or you do: `capsuled recover`. Twice is the same as once.")
    code, _ = run(home, "with capsule_scope('open'):\n    os.kill(os.getpid(), signal.SIGKILL)")
    assert code == -signal.SIGKILL
    assert list((home / "journal").glob("*/*/records-*"))
    assert said(capsys, "status")[0] == 1
    assert said(capsys, "recover") == (
        0,
        {**NOTHING, "journals": 1, "capsules": 1, "unfinished": 1},
    )
    assert said(capsys, "recover") == (0, NOTHING)
    assert said(capsys, "status")[0] == said(capsys, "verify")[0] == 0


NOTHING = dict.fromkeys(
    (
        "journals",
        "capsules",
        "unfinished",
        "lost",
        "ends_lost",
        "damaged",
        "torn",
        "left",
        "refused",
    ),
    0,
)


def test_the_store_is_full_and_everything_lands_when_it_is_back(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quoted(
        WRONG, "calls go on, capsules wait on disk, and everything lands when the store is back."
    )
    with small_disk(tmp_path / "disk", 1000) as disk:
        code, log = run(
            home,
            f"""
sys.path.insert(0, {str(ROOT / "tests")!r})
from disks import fill, grow
disk = Path({str(disk)!r})
capsule_sdk.configure(disk / "chain.db", journal=data / "journals")
write(1)
assert flush() == 0
fill(disk)
write(20)
assert flush(1) == 20
assert capsule_sdk.get_recorder().stats().journal_trouble is None
grow(disk)
assert flush() == 0
""",
        )
        assert code == 0, log
        assert len([line for line in log if "the store is away" in line]) == 1
        assert "the disk is full" in "".join(log)
        assert said(capsys, "verify", str(disk / "chain.db"))[1]["records"] == 21


def test_where_nothing_can_be_written_the_last_line_has_the_number(home: Path) -> None:
    quoted(WRONG, "Where nothing can be written at all, the last line on stderr has the number.")
    with small_disk(home, 1000) as disk:
        fill(disk)
        code, log = run(
            home,
            """
import logging, tempfile
logging.getLogger("capsule_sdk").addHandler(logging.NullHandler())  # nobody reads the log
from capsule_sdk.journal import temporary
tempfile.tempdir, temporary.COMMON[:] = "/nowhere", []
capsule_sdk.configure(exit_timeout=0.5)
write(7)
""",
        )
    assert code == 0
    assert log[-1].startswith("capsule_sdk: 7 records are lost at the end of the process")


def test_sigterm_ends_python_without_its_exit_hooks_and_aflush_leaves_nothing_behind(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quoted(WRONG, "ends Python at once, without its exit hooks; the journal keeps the rest.")
    quoted(WRONG, "can `await aflush()` in its shutdown hook to leave nothing behind.")
    code, _ = run(home, "write(5)\nos.kill(os.getpid(), signal.SIGTERM)")
    assert code == -signal.SIGTERM
    main(["recover"])
    assert said(capsys, "status")[1]["capsules"] == 5
    code, _ = run(
        home,
        """
import asyncio
async def server():
    write(5)
    await capsule_sdk.aflush()
asyncio.run(server())
os.kill(os.getpid(), signal.SIGTERM)
""",
    )
    assert code == -signal.SIGTERM
    code, status = said(capsys, "status")
    assert (code, status["capsules"], status["journals"]) == (0, 10, [])


def test_stats_tell_all_that_the_readme_names() -> None:
    quoted(
        WRONG,
        "tells submitted, committed, pending, failed, lost, recovered, the commit lag, how long the store has"
        " been away and why, and the size of the journal",
    )
    stats = capsule_sdk.get_recorder().stats()
    names = "submitted committed pending failed lost recovered commit_lag store_away store_trouble journal_size"
    assert all(hasattr(stats, name) for name in names.split())


# -- docs/operations.md --------------------------------------------------------------------------------


def test_a_backup_is_restored_as_the_page_says(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each numbered step is done; what was sealed after the backup is missing, but for what a journal has."""
    quoted(OPERATIONS, "Move the old database aside together with its `-wal` and `-shm`")
    quoted(OPERATIONS, "Leave `journal/` where it is.")
    quoted(OPERATIONS, "`checkpoint_truncated`")
    kept, backup = tmp_path / "checkpoints", tmp_path / "backup.db"
    kept.mkdir()
    assert run(home, "write(3, 'before')")[0] == 0
    assert main(["backup", str(backup)]) == 0
    code, _ = run(
        home,
        f"""
capsule_sdk.configure(checkpoint={str(kept)!r}, checkpoint_capsules=1)
write(2, "after")
assert flush() == 0
while not list(Path({str(kept)!r}).rglob("*.ckpt")) and not list(Path({str(kept)!r}).rglob("*")):
    time.sleep(0.01)
with capsule_scope("open"):
    os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    assert code == -signal.SIGKILL
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in home.glob("capsules.db*"):
        shutil.move(path, aside)
    shutil.copy(backup, home / "capsules.db")
    assert said(capsys, "verify")[0] == 0
    (directory,) = kept.iterdir()
    code, verdict = said(capsys, "verify", "--against", str(directory))
    assert code == 1
    assert "checkpoint_truncated" in json.dumps(verdict)
    assert run(home, "write(1, 'next')\nassert flush() == 0")[0] == 0
    sources = [one["trigger"]["source"] for one in read_chain(home / "capsules.db")]
    assert sources[:3] == ["before"] * 3
    assert {"next", "open"} <= {*sources} <= {"before", "after", "next", "open"}
    assert said(capsys, "verify")[0] == said(capsys, "status")[0] == 0


def test_the_file_alone_is_whole_after_each_of_the_moments_that_the_page_names(
    home: Path, tmp_path: Path
) -> None:
    quoted(
        OPERATIONS,
        "The recorder has it copied whenever it has been quiet for a quarter of a second, every five seconds"
        " while it is not, in `flush()`, before a fork and at the end of the process.",
    )
    copies = tmp_path / "copies"
    copies.mkdir()
    code, log = run(
        home,
        f"""
import shutil
def copy(name):
    shutil.copy(data / "capsules.db", Path({str(copies)!r}, name))
write(1); flush(); copy("flush")
write(1)
until = time.monotonic() + 20
while (data / "capsules.db-wal").stat().st_size and time.monotonic() < until: time.sleep(0.05)
time.sleep(1); copy("quiet")
write(1)
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
copy("fork")
write(1)
""",
    )
    assert code == 0, log
    shutil.copy(home / "capsules.db", copies / "end")
    held = {path.name: len(list(read_chain(path))) for path in copies.iterdir()}
    assert held["flush"] == 1
    assert held["quiet"] == 2
    assert held["end"] == 4
    assert held["fork"] >= 2
