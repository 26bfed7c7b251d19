"""Disks that fail more than one process, places that are taken away: recorded + counted as lost = begun.

A disk that fills at a random moment under one process is in `test_losses`.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_support import Server, Site
from disks import fill, grow, small_disk
from faulty_io import build
from postgres_support import postgres  # noqa: F401 - a fixture
from postgres_support import server as postgresql
from tallying import SEED, assert_all_is_counted, said, seed, server  # noqa: F401 - fixtures

SAFE = "they are in the journal"
LOST = "records are lost at the end of the process"
NOWHERE = "it stands here only"


def until_begun(site: Site, count: int) -> None:
    """Wait until so many records have begun, but not past a second after the first."""
    until = time.monotonic() + 30
    while not site.reported("begun"):
        assert time.monotonic() < until, site.log()
        time.sleep(0.001)
    until = time.monotonic() + 1
    while len(site.reported("begun")) < count and time.monotonic() < until:
        time.sleep(0.001)


def recovered(site: Site, luck: random.Random, **options: str) -> None:
    """Have the command, or the next process, bring in what was left."""
    if luck.random() < 0.5:
        assert site.run("recover", **options) in {0, 1}, site.log()
    else:
        assert site.run("successor", **options) == 0, site.log()


# -- more processes than one, one full disk ----------------------------------------------------------


@pytest.mark.load
@pytest.mark.timeout(120)
@pytest.mark.parametrize("ends", [("normal", "normal"), ("kill", "normal"), ("TERM", "kill")])
def test_two_processes_on_one_full_disk(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, ends: tuple[str, str],
) -> None:  # fmt: skip
    luck = random.Random(f"{SEED} {ends}")
    site = Site(server, tmp_path, seed=SEED)
    with small_disk(site.data, 4000) as disk:
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(disk))
        pids = [site.start("filling", seconds=2.0, pause=0, end=end) for end in ends]
        until_begun(site, luck.randrange(60))
        fill(disk)
        for pid in pids:
            site.wait(pid)
        code, before = said(capsys, "status", "--db", str(site.database))
        if SAFE in site.log() or LOST in site.log():
            assert code == 1, before
        grow(disk)
        recovered(site, luck)
        assert_all_is_counted(site, capsys)


@pytest.mark.load
@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["normal", "kill"])
def test_forked_children_that_end_on_a_full_disk(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, end: str,
) -> None:  # fmt: skip
    """Each ends while its parent goes on, and says by itself what became of its records."""
    luck = random.Random(f"{SEED} {end}")
    site = Site(server, tmp_path, seed=SEED)
    with small_disk(site.data, 4000) as disk:
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(disk))
        pid = site.start("filling", seconds=2.0, pause=0, end=end, children=3)
        until_begun(site, luck.randrange(100))
        fill(disk)
        site.wait(pid)
        assert site.log().count(SAFE) + site.log().count(LOST) >= 3, site.log()
        grow(disk)
        recovered(site, luck)
        assert_all_is_counted(site, capsys)


# -- the store and the journal, both away -------------------------------------------------------------


@pytest.mark.load
@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["normal", "kill"])
def test_postgresql_is_away_and_the_disk_of_the_journal_is_full(
    server: Server, postgres: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, end: str,
) -> None:  # fmt: skip
    luck = random.Random(f"{SEED} {end}")
    site = Site(server, tmp_path, seed=SEED)
    with small_disk(site.data, 4000) as disk:
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(disk))
        pid = site.start("filling", seconds=2.0, pause=0, end=end, database=postgres)
        until_begun(site, 5)
        with postgresql().stopped("immediate"):
            until_begun(site, 5 + luck.randrange(40))
            fill(disk)
            site.wait(pid)
            code, status = said(capsys, "status", "--db", postgres)
            assert code == 1
            assert not status["reachable"]
            assert any(one["lost"] for one in status["journals"]), status
            if end == "normal":
                assert LOST in site.log()
                assert NOWHERE not in site.log()
        grow(disk)
        recovered(site, luck, database=postgres)
        tally = assert_all_is_counted(site, capsys, postgres)
        assert tally.lost


# -- the journal is taken away --------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("away", [False, True], ids=["the store is there", "the store is away"])
def test_the_journal_is_removed_under_a_running_process(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, away: bool,
) -> None:  # fmt: skip
    """It makes another, also right before its end, and only then says that the journal has all."""
    site = Site(server, tmp_path, seed=SEED)
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(site.data))
    pid = site.start("removing", away=away)
    assert site.wait(pid) == 0, site.log()
    assert LOST not in site.log()
    assert (SAFE in site.log()) == away, site.log()
    assert said(capsys, "status", "--db", str(site.database))[0] == int(away)
    recovered(site, random.Random(SEED))
    assert not assert_all_is_counted(site, capsys).lost


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["normal", "kill"])
def test_all_directories_become_read_only_under_a_running_process(
    server: Server, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, end: str,
) -> None:  # fmt: skip
    if os.getuid():
        pytest.skip("only root can run a program as somebody else")
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    try:
        site = Site(server, home, seed=SEED)
        site.report.touch()
        for path in (site.report, site.output):
            path.chmod(0o666)
        os.chown(site.data, 65534, 65534)
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(site.data))
        pid = site.start("filling", seconds=2.0, pause=0, end=end, uid=65534)
        until_begun(site, 20)
        for path in [site.data, *site.data.rglob("*")]:
            if path.is_dir():
                path.chmod(0o500)
        site.wait(pid)
        for path in [site.data, *site.data.rglob("*")]:
            if path.is_dir():
                path.chmod(0o700)
        assert site.run("recover", uid=65534) in {0, 1}, site.log()
        assert_all_is_counted(site, capsys)
    finally:
        shutil.rmtree(home)


@pytest.mark.timeout(120)
def test_the_journal_becomes_read_only_under_a_running_process(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    site = Site(server, tmp_path, seed=SEED)
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(site.data))
    pid = site.start("filling", seconds=2.0, pause=0, end="normal")
    until_begun(site, 20)
    journal = str(site.data / "journal")
    for options in ("bind", "remount,bind,ro"):
        done = subprocess.run(["mount", "-o", options, journal, journal], check=False)
        if done.returncode:
            site.wait(pid)
            pytest.skip("nothing can be mounted here")
    try:
        assert site.wait(pid) == 0
        assert LOST not in site.log()
        _, status = said(capsys, "status", "--db", str(site.database))
        assert all("cannot be read" in trouble for trouble in status["trouble"]), status
    finally:
        subprocess.run(["umount", "-l", journal], check=True)
    assert said(capsys, "status", "--db", str(site.database))[0] == 0
    recovered(site, random.Random(SEED))
    assert not assert_all_is_counted(site, capsys).lost


# -- a disk that cannot sync ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    library = build(tmp_path_factory.mktemp("faulty"))
    if library is None:
        pytest.skip("there is no compiler here for the library that fails")
    server = Server(library)
    yield server
    server.stop()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("nth", [1, 4, 9])
@pytest.mark.parametrize("end", ["normal", "kill"])
def test_a_disk_that_can_sync_no_more(
    faulty: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, end: str, nth: int,
) -> None:  # fmt: skip
    """Nothing is called safe that the disk has not confirmed, and nothing lost that can still be read."""
    site = Site(faulty, tmp_path, seed=SEED)
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(site.data))
    fault = {"kinds": ["fsync"], "nth": nth, "action": "fail on", "code": "EIO"}
    pid = site.start("filling", seconds=1.0, pause=0.02, end=end, fault=fault)
    site.wait(pid)
    log = site.log()
    assert "the store is away" in log
    if end == "normal":
        assert SAFE not in log, log
        assert LOST not in log, log
        assert "the disk could not confirm it" in log, log
    assert said(capsys, "status", "--db", str(site.database))[0] == 1
    recovered(site, random.Random(SEED))
    assert_all_is_counted(site, capsys)
